"""What calls can return and raise that doesn't travel well."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable

from tests.backends.faults import MB, Mark


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
