"""What calls can use too much of: memory, CPU time, files, processes."""

from __future__ import annotations

import mmap
import os
import subprocess
import threading
import time
from collections.abc import Callable

from tests.backends.faults import MB, NEARLY_ALL, PIECE, Mark, loops_in_c

# -- memory --------------------------------------------------------------------------


def grows_in_pieces(mark: Mark) -> None:
    hoard = _Hoard(mark)
    while True:
        hoard.add(_private())


def grows_at_once(mark: Mark) -> int:
    mark()
    return len(b"x" * (2_000 * MB))


def grows_in_a_child(mark: Mark) -> None:
    child = os.fork()
    if not child:
        _resist(mark, _private)
    mark.tell(child)
    os.waitpid(child, 0)
    raise AssertionError("the child has ended by itself")


def grows_in_shared_memory(mark: Mark) -> None:
    _resist(mark, _shared)


def swallows_memory_errors(mark: Mark) -> None:
    _resist(mark, _private)


def lives_with_memory_errors(mark: Mark) -> str:
    """Takes what it can get, and does without the rest."""
    hoard, refused = _Hoard(mark), 0
    while refused < 3:
        try:
            hoard.add(_private())
        except MemoryError:
            refused += 1
    return "lived"


class _Hoard:
    """Memory that is kept."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark
        self._kept: list[object] = []

    def add(self, piece: object) -> None:
        self._kept.append(piece)
        if len(self._kept) * PIECE == NEARLY_ALL:
            self._mark()


def _resist(mark: Mark, make: Callable[[], object]) -> None:
    """Take all that there is, and after that what isn't limited in here."""
    hoard = _Hoard(mark)
    while True:
        try:
            hoard.add(make())
        except MemoryError:
            hoard.add(_shared())


def _private() -> bytes:
    return b"x" * PIECE


def _shared() -> mmap.mmap:
    made = mmap.mmap(-1, PIECE)
    for start in range(0, PIECE, mmap.PAGESIZE):
        made[start] = 1
    return made


# -- CPU time ------------------------------------------------------------------------


def burns_in_c(mark: Mark) -> None:
    loops_in_c(mark)


def burns_in_threads(mark: Mark) -> None:
    mark()
    threads = [threading.Thread(target=_spin, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def burns_in_children(mark: Mark) -> None:
    mark()
    for _ in range(2):
        child = os.fork()
        if not child:
            _spin()
        mark.tell(child)
    os.wait()


def _spin() -> None:
    while True:
        pass


# -- other limits --------------------------------------------------------------------


def opens_files(mark: Mark) -> None:
    mark()
    kept = []
    while True:
        kept.append(open(os.devnull))  # noqa: SIM115


def makes_children(mark: Mark) -> None:
    mark()
    for _ in range(5):
        mark.tell(subprocess.Popen(["sleep", "1000"]).pid)
    time.sleep(1000)
