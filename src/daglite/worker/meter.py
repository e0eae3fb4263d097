"""
What a call uses, and how far it may go: measured and limited inside the worker.

Only soft limits are moved: whoever lowers a hard one can't raise it again.  Memory is limited by
``RLIMIT_DATA``, which doesn't see shared mappings, nor child processes; those are the driver's to
watch.  ``RLIMIT_AS`` would refuse reservations that cost nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
from typing import final

from daglite._clock import process_time

__all__ = ["Meter"]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_NONE = resource.RLIM_INFINITY
_LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_DATA, resource.RLIMIT_CPU)


def _first_beyond(files: int) -> int:
    """From which number on a file has none, so that *files* more can be opened."""
    beyond = files
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        # One of them was the folder.
        with contextlib.suppress(OSError):
            os.get_inheritable(number)
            beyond += number < beyond
    return beyond


@final
class Meter:
    """Of the process that it is made in, and of one call at a time."""

    def __init__(self) -> None:
        self._sizes = os.open("/proc/self/statm", os.O_RDONLY)
        self._refs: int | None = None
        # Not everywhere may a process reset its own peak: it is then the highest so far.
        with contextlib.suppress(OSError):
            self._refs = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._usual = {which: resource.getrlimit(which) for which in _LIMITS}
        self._limited: list[int] = []
        self._cpu = 0.0

    def close(self) -> None:
        """Give back what it reads from."""
        os.close(self._sizes)
        if self._refs is not None:
            os.close(self._refs)

    def begin(self, with_children: bool) -> float:
        """
        Start to measure.

        Args:
            with_children: Whether CPU time of children that have ended counts, too.

        Returns:
            Seconds of CPU time that were used before.
        """
        if self._refs is not None:
            os.pwrite(self._refs, b"5", 0)
        self._cpu = process_time()
        if with_children:
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return self._cpu + used.ru_utime + used.ru_stime
        return self._cpu

    def end(self) -> tuple[float, int]:
        """CPU time in seconds and most memory in bytes since `begin`, of this process alone."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime - self._cpu, used.ru_maxrss * 1024

    def resting(self) -> int:
        """Bytes that this process holds now."""
        return int(os.pread(self._sizes, 128, 0).split()[1]) * _PAGE

    def limit(self, files: int, memory: int, cpu: float) -> None:
        """
        Limit what the call may use from now on; 0 is no limit.

        Args:
            files: Files that it may have open.
            memory: Bytes that this process may hold, with those that it holds already.
            cpu: Seconds of CPU time.
        """
        if files:
            self._set(resource.RLIMIT_NOFILE, _first_beyond(files))
        if memory:
            sizes = os.pread(self._sizes, 128, 0).split()
            data, resident = int(sizes[5]) * _PAGE, int(sizes[1]) * _PAGE
            self._set(resource.RLIMIT_DATA, data + max(0, memory - resident))
        if cpu:
            # What the driver's look didn't stop, the kernel does.
            self._set(resource.RLIMIT_CPU, math.ceil(self._cpu + cpu) + 1)

    def lift(self) -> bool:
        """Lift all limits; return whether that was possible."""
        lifted = True
        for which in self._limited:
            try:
                resource.setrlimit(which, self._usual[which])
            except (OSError, ValueError):
                lifted = False
        self._limited.clear()
        return lifted

    def _set(self, which: int, soft: int) -> None:
        usual, hard = self._usual[which]
        if usual == _NONE or soft < usual:
            resource.setrlimit(which, (soft, hard))
            self._limited.append(which)
