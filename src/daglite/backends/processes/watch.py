"""
What a worker and its child processes use, as seen from outside.

A child process that an earlier call has left behind is none of the present one's.

Memory is what they hold for themselves: anonymous and shared, not files that are mapped.  The
pages that a child shares with its parent after a fork are counted once, but finding that out is
slow, so it is done only when the quick sum is above the limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, final

from daglite._clock import time_asleep
from daglite.backends.processes.channel import Channel
from daglite.backends.processes.deaths import Death
from daglite.backends.processes.job import Job

__all__ = ["Watch", "memory_of", "tree_of"]

_TICK: Final = os.sysconf("SC_CLK_TCK")
_BORN: Final = 19
_CPU: Final = slice(11, 15)
"""User and system time, its own and that of its ended children."""


@final
class Watch:
    """Looks at running calls, each as often as its limits ask for."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def look(self, job: Job, process: int, channel: Channel, now: float) -> Death | None:
        """
        What *job*, which runs in *process*, is to be ended for; None: nothing.

        Args:
            job: The call.
            process: Its worker.
            channel: That worker's.
            now: Seconds, on the monotonic clock.
        """
        limits = job.limits
        # A little early is better than a whole interval late.
        if now - self._last.get(process, -limits.interval) < 0.9 * limits.interval:
            return None
        self._last[process] = now
        try:
            since = channel.running[1]
            tree = [member for member in tree_of(process) if _belongs(member, process, since)]
            if limits.memory:
                held = memory_of(tree)
                job.peak = max(job.peak, held)
                if held > limits.memory:
                    return Death("memory", limits.memory, held)
            if limits.cpu:
                used = sum(map(_cpu_of, tree)) - channel.cpu_before
                if used > limits.cpu:
                    return Death("cpu", limits.cpu, used)
            if limits.processes is not None and len(tree) - 1 > limits.processes:
                return Death("processes", limits.processes, len(tree) - 1)
        except OSError:
            # It is gone.
            self._last.pop(process, None)
        return None


def tree_of(process: int) -> Iterator[int]:
    """*process* and all that descends from it."""
    left = [process]
    while left:
        member = left.pop()
        yield member
        try:
            for thread in os.listdir(f"/proc/{member}/task"):
                with open(f"/proc/{member}/task/{thread}/children", encoding="ascii") as file:
                    left += map(int, file.read().split())
        except OSError:
            # It is gone, and what it had has gone to somebody else.
            continue


def _belongs(member: int, process: int, since: float) -> bool:
    """Whether *member* is the worker *process*, or was made after *since* (monotonic clock)."""
    if member == process:
        return True
    try:
        born = int(_stat_of(member)[_BORN]) / _TICK
    except OSError:
        return False
    # The kernel cuts it off to a tick.
    return born + 1 / _TICK > since + time_asleep()


def memory_of(tree: list[int]) -> int:
    """Bytes that the processes of *tree* hold for themselves."""
    held = _resident(tree[0])
    for member in tree[1:]:
        try:
            held += _proportional(member)
        except OSError:
            continue
    return held


def _resident(process: int) -> int:
    total = 0
    with open(f"/proc/{process}/status", "rb") as file:
        for line in file:
            if line.startswith((b"RssAnon:", b"RssShmem:")):
                total += int(line.split()[1])
    return total * 1024


def _proportional(process: int) -> int:
    """The same of a child, where each page that is shared counts in part."""
    total = 0
    with open(f"/proc/{process}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
                total += int(line.split()[1])
    return total * 1024


def _cpu_of(process: int) -> float:
    """Seconds of CPU time that *process* and its ended children have used."""
    try:
        return sum(map(int, _stat_of(process)[_CPU])) / _TICK
    except OSError:
        return 0.0


def _stat_of(process: int) -> list[bytes]:
    """What the kernel tells of *process*, after its name, which may hold anything."""
    with open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
