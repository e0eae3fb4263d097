"""What a pool may leave behind, and mustn't: processes, threads, open files, temporary files."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import psutil

from tests.backends.journal import eventually

VARIABLE = "DAGLITE_LEFTOVERS"
"""An environment variable that all inherit who descend from this process."""


class Leftovers:
    """
    What there is now; `check` tells what there is more.

    Args:
        temporary: The folder for temporary files, with none.
    """

    def __init__(self, temporary: Path) -> None:
        self.token = uuid.uuid4().hex
        self._files = _open_files()
        self._threads = set(threading.enumerate())
        self._temporary = temporary

    @property
    def processes(self) -> list[int]:
        """Whoever has the token in its environment: also what was adopted by somebody else."""
        token = self.token.encode()
        found: list[int] = []
        for process in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                environ = Path(f"/proc/{process}/environ").read_bytes()
            except OSError:
                continue
            if token in environ and is_alive(process):
                found.append(process)
        return found

    def check(self) -> None:
        """
        Say what is left.

        Raises:
            AssertionError: Something is.
        """
        assert self.processes == []
        threads = set(threading.enumerate()) - self._threads
        assert eventually(lambda: not any(thread.is_alive() for thread in threads), 1), threads
        # Ordinary threads of a run may be on their way.
        assert eventually(lambda: _open_files() <= self._files, 1), _open_files() - self._files
        assert list(self._temporary.iterdir()) == []


def is_alive(process: int) -> bool:
    """Whether it runs, or could."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _open_files() -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
        except OSError:
            # That of the listing itself.
            continue
    return found
