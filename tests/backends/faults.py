"""
What calls can do to their process, as functions of a module that loads nothing of daglite.

Each is given a `Mark`, to say when the fault begins.  Most never return.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import mmap
import os
import signal
import subprocess
import sys
import termios
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
        return float(self.file.read_text()) if self.file.exists() else None

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


# -- deaths ---------------------------------------------------------------------------


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


# -- hangs ----------------------------------------------------------------------------


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


# -- memory ---------------------------------------------------------------------------


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


# -- CPU time -------------------------------------------------------------------------


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


# -- other limits ---------------------------------------------------------------------


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


# -- what it raises -------------------------------------------------------------------


class Unhappy(BaseException):
    """No `Exception`."""


class Particular(Exception):
    """Can't be made again from its `args`."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code


class Held(Exception):
    """Holds something that can't be pickled."""

    def __init__(self, message: str) -> None:
        super().__init__(message, threading.Lock())


class Mute(Exception):
    """Can't even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class BadToLoad:
    """Raises *error* where it is loaded; `SystemExit` among others."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Callable[..., object], tuple[type[BaseException]]]:
        return _raise, (self.error,)


class DeadlyToLoad:
    """Ends the process that loads it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[int]]:
        return os._exit, (7,)


class LateTrap(Exception):
    """Can be loaded only where it was made."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.process = os.getpid()

    def __reduce__(self) -> tuple[Callable[..., object], tuple[int, str]]:
        return _at_home, (self.process, str(self))


def _at_home(process: int, message: str) -> LateTrap:
    if os.getpid() != process:
        raise SystemExit("not here")
    return LateTrap(message)


def _raise(error: type[BaseException]) -> None:
    raise error("while it was loaded")


def exits_politely(mark: Mark) -> None:
    mark()
    sys.exit(4)


def interrupts(mark: Mark) -> None:
    mark()
    raise KeyboardInterrupt


def raises_what_is_no_exception(mark: Mark) -> None:
    mark()
    raise Unhappy("unhappy")


def raises_what_is_particular(mark: Mark) -> None:
    mark()
    raise Particular(7, reason="peculiar")


def raises_what_cannot_be_pickled(mark: Mark) -> None:
    mark()
    raise Held("held")


def raises_what_cannot_speak(mark: Mark) -> None:
    mark()
    raise Mute


def raises_what_cannot_be_loaded(mark: Mark) -> None:
    mark()
    raise LateTrap("trap")


def returns_what_cannot_be_pickled(mark: Mark) -> object:
    mark()
    return threading.Lock()


def returns_what_raises(mark: Mark) -> object:
    mark()
    return BadToLoad(ValueError)


def returns_what_exits(mark: Mark) -> object:
    mark()
    return BadToLoad(SystemExit)


def dies_while_it_answers(mark: Mark) -> object:
    """Its answer is large, and something else ends the process before all is sent."""

    def strike() -> None:
        while not any(map(_is_filled, os.listdir("/proc/self/fd"))):
            time.sleep(0.0005)
        mark()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=strike, daemon=True).start()
    return b"x" * (100 * MB)


def _is_filled(number: str) -> bool:
    """Whether this is a pipe that holds much at the moment."""
    size = bytearray(4)
    try:
        fcntl.ioctl(int(number), termios.FIONREAD, size)
    except OSError:
        return False
    return int.from_bytes(size, "little") > 100_000


# -- what it leaves behind ------------------------------------------------------------


def leaves_a_child(mark: Mark) -> str:
    mark.tell(subprocess.Popen(["sleep", "1000"]).pid)
    mark()
    return "left"


def leaves_a_daemon(mark: Mark) -> str:
    """Double-forked, in a session of its own, with no way back to who made it."""
    child = os.fork()
    if not child:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.closerange(0, 256)
        mark.tell(os.getpid())
        mark()
        time.sleep(1000)
    os.waitpid(child, 0)
    while mark.moment is None:
        time.sleep(0.001)
    return "left"


def dies_with_its_pipes_held(mark: Mark) -> None:
    """By a child of which Python wasn't told: it has all our pipes."""
    child = ctypes.PyDLL(None).fork()
    if not child:
        mark.tell(os.getpid())
        mark()
        time.sleep(1000)
    while mark.moment is None:
        time.sleep(0.001)
    os._exit(5)


def leaves_a_thread(mark: Mark) -> str:
    threading.Thread(target=time.sleep, args=(1000,), name="left").start()
    mark()
    return "left"


def returns_twice(mark: Mark) -> str:
    """Once more in a child."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    mark()
    return "parent" if child else "child"


def raises_in_a_child(mark: Mark) -> str:
    child = os.fork()
    if not child:
        raise ValueError("in the child")
    os.waitpid(child, 0)
    mark()
    return "parent"


def floods(mark: Mark) -> str:
    line = "x" * 99
    for _ in range(20_000):
        print(line)
    mark()
    return "flooded"


def closes_its_output(mark: Mark) -> str:
    mark()
    os.close(1)
    os.close(2)
    return "closed"


def moves_house(mark: Mark) -> str:
    """Another folder, environment, handlers, mask, timer."""
    os.chdir("/")
    os.environ["DAGLITE_FAULT"] = "1"
    os.environ.pop("HOME", None)
    os.umask(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    mark()
    return "moved"


def house() -> dict[str, object]:
    """What `moves_house` changes."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "folder": os.getcwd(),
        "environ": dict(os.environ),
        "umask": mask,
        "term": signal.getsignal(signal.SIGTERM),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "timer": signal.getitimer(signal.ITIMER_REAL),
    }
