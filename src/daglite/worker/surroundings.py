"""What a call may change around it, and the next call shall find as it was."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, final

__all__ = ["Surroundings", "tell_stack"]

# What is behind `signal`, and plain numbers: they are asked after each call, and to make enums of
# the answers, or to look into one, takes longer than asking.
_plain: Final[Any] = sys.modules.get("_signal", signal)
_handler_of: Final[Callable[[int], Any]] = _plain.getsignal
_mask: Final[Callable[[int, Iterable[int]], set[int]]] = _plain.pthread_sigmask

_WATCHED: Final = tuple(
    map(
        int,
        (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGQUIT,
            signal.SIGALRM,
            signal.SIGPIPE,
            signal.SIGCHLD,
            signal.SIGUSR2,
            signal.SIGPROF,
            signal.SIGVTALRM,
            signal.SIGXCPU,
        ),
    )
)
_OUTPUTS: Final = (1, 2)
_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_PROF, signal.ITIMER_VIRTUAL)
_USR1: Final = int(signal.SIGUSR1)
_BLOCK: Final = int(signal.SIG_BLOCK)


@final
class Surroundings:
    """
    The folder, the environment, the signals and the timers of this process, as they are now.

    Args:
        faults: Where Python writes its stack when it is asked for it by ``SIGUSR1``.
    """

    def __init__(self, faults: int) -> None:
        self._faults = faults
        self._asked = _handler_of(_USR1)
        self._folder: str | None = None
        with contextlib.suppress(OSError):
            self._folder = os.getcwd()
        self._environ = dict(_raw_environ())
        self._handlers = [(which, _handler_of(which)) for which in _WATCHED]
        self._mask = _mask(_BLOCK, ())
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._streams = sys.stdout, sys.stderr

    def restore(self) -> None:
        """
        Have all be as it was.

        Raises:
            Exception: That can't be.
        """
        if (sys.stdout, sys.stderr) != self._streams:
            sys.stdout, sys.stderr = self._streams
        for stream, number in zip(self._streams, _OUTPUTS, strict=True):
            if stream is not None and stream.closed:
                raise ValueError("an output is closed")
            # Raises, if it is.
            os.get_inheritable(number)
        if self._folder is not None:
            try:
                moved = os.getcwd() != self._folder
            except OSError:
                moved = True
            if moved:
                # It may be gone by now.
                with contextlib.suppress(OSError):
                    os.chdir(self._folder)
        if _raw_environ() != self._environ:
            os.environb.clear()
            os.environb.update(self._environ)
        for which, handler in self._handlers:
            if _handler_of(which) is not handler and handler is not None:
                signal.signal(which, handler)
        if _handler_of(_USR1) is not self._asked:
            faulthandler.unregister(signal.SIGUSR1)
            tell_stack(self._faults)
            self._asked = _handler_of(_USR1)
        if _mask(_BLOCK, ()) != self._mask:
            _mask(signal.SIG_SETMASK, self._mask)
        for timer in _TIMERS:
            if signal.getitimer(timer)[0]:
                signal.setitimer(timer, 0)
        os.umask(self._umask)


def tell_stack(faults: int) -> None:
    """Have Python write its stack into the file *faults* when it is asked for it by ``SIGUSR1``."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    faulthandler.register(signal.SIGUSR1, faults, all_threads=True, chain=False)


def _raw_environ() -> dict[bytes, bytes]:
    """The environment as bytes; not a copy, where that can be had."""
    raw: dict[bytes, bytes] | None = getattr(os.environb, "_data", None)
    return dict(os.environb) if raw is None else raw
