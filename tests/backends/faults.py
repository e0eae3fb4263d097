"""
What calls can do to their process, as functions of a module that loads nothing of daglite.

Each is given a `Mark`, to say when the fault begins.  Most never return.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MB = 1_000_000
MEMORY = 150 * MB
"""The limit of those that grow, in bytes."""

PIECE = 5 * MB
NEARLY_ALL = 120 * MB
"""What a call may have for certain, besides what its process has without it."""

GUILTY = 10
"""Which element of a map has the fault."""

CATCHABLE = [
    which
    for which in signal.valid_signals()
    if which not in (signal.SIGKILL, signal.SIGSTOP) and which < signal.SIGRTMIN
]


@dataclass(frozen=True)
class Mark:
    """A file with the moment of a fault, on the monotonic clock that all processes share."""

    file: Path

    def __call__(self) -> None:
        """The fault begins now."""
        self.file.write_text(repr(time.monotonic()))

    @property
    def moment(self) -> float | None:
        """When that was; None: it never began."""
        text = self.file.read_text() if self.file.exists() else ""
        # It may be empty, on its way.
        return float(text) if text else None

    def tell(self, process: int) -> None:
        """Remember a process that the fault has made."""
        with open(f"{self.file}.processes", "a") as file:
            file.write(f"{process}\n")

    @property
    def processes(self) -> list[int]:
        """Those."""
        file = Path(f"{self.file}.processes")
        return [int(line) for line in file.read_text().split()] if file.exists() else []


def struck(x: int, fault: Callable[[Mark], object], mark: Mark) -> object:
    """What each element of a map runs."""
    return fault(mark) if x == GUILTY else x


def same(x: int) -> int:
    return x


# -- deaths --------------------------------------------------------------------------


def exits(mark: Mark) -> None:
    mark()
    os._exit(3)


def is_killed(mark: Mark) -> None:
    mark()
    os.kill(os.getpid(), signal.SIGKILL)


def crashes(mark: Mark) -> None:
    mark()
    ctypes.string_at(0)


def aborts(mark: Mark) -> None:
    mark()
    os.abort()


def overflows_its_stack(mark: Mark) -> None:
    """In C, where no limit of Python's counts: on a thread with a small stack."""
    mark()
    sys.setrecursionlimit(1_000_000)
    threading.stack_size(64 * 1024)

    def deeper(depth: int) -> int:
        return max([depth], key=lambda _: deeper(depth + 1))

    thread = threading.Thread(target=deeper, args=(0,))
    thread.start()
    thread.join()


def recurses(mark: Mark) -> None:
    def deeper() -> None:
        deeper()

    mark()
    deeper()


def closes_all_files(mark: Mark) -> None:
    mark()
    os.closerange(3, 256)


# -- hangs ---------------------------------------------------------------------------


def loops_in_python(mark: Mark) -> None:
    mark()
    while True:
        pass


def loops_in_c(mark: Mark) -> None:
    """And holds the GIL."""
    mark()
    sum(itertools.repeat(1, 10**12))


def waits_for_ever(mark: Mark) -> None:
    heard, told = os.pipe()
    mark()
    os.read(heard, 1)
    os.close(told)


def stops_itself(mark: Mark) -> None:
    mark()
    os.kill(os.getpid(), signal.SIGSTOP)


def ignores_signals(mark: Mark) -> None:
    for which in CATCHABLE:
        signal.signal(which, signal.SIG_IGN)
    mark()
    while True:
        time.sleep(1)


def blocks_signals(mark: Mark) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, CATCHABLE)
    mark()
    while True:
        time.sleep(1)


def hangs_with_children(mark: Mark) -> None:
    """A child, its child, and one that has a session of its own."""
    mark()
    child = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    apart = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    for process in (child.pid, int(child.stdout.readline()), apart.pid):
        mark.tell(process)
    time.sleep(1000)
