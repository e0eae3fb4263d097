"""
When a thread may be interrupted: not between taking something and the block that gives it back.

    pool ─► send ──► the thread lets interrupts in ─► exception set in it
              └────► it holds them off ─► due, and raised by itself as soon as it lets them in
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

__all__ = [
    "Interrupted",
    "Interrupts",
    "held_off",
    "holding_off",
    "interruptible",
    "of_this_thread",
]


@final
class Interrupted(BaseException):
    """Set in a thread whose call isn't wanted any more: not a failure of what runs there."""


@final
class Interrupts:
    """
    Those of one thread, which is interrupted once at most.

    All but `send` is for the thread itself.
    """

    __slots__ = ("_due", "_held_off", "_lock")

    def __init__(self) -> None:
        # Held while an exception is being set: so either it is there before the thread has held
        # off, or the one who interrupts sees that it did.
        self._lock = threading.Lock()
        self._held_off = False
        self._due = False

    def send(self, interrupt: Callable[[], None]) -> None:
        """From any thread: `interrupt` this one, or have it do that when it lets interrupts in."""
        with self._lock:
            if self._held_off:
                self._due = True
            else:
                interrupt()

    def hold_off(self) -> bool:
        """
        Let none in, until `restore`; return whether that was so before.

        Raises:
            Interrupted: One came before.
        """
        with self._lock:
            before, self._held_off = self._held_off, True
        # One that was set already is raised at the end of a loop's turn.
        for _ in range(2):
            pass
        return before

    def restore(self, held_off: bool) -> None:
        """
        Hold them off or let them in, as `hold_off` said that it was.

        Raises:
            Interrupted: One came meanwhile, and they are let in.
        """
        with self._lock:
            self._held_off = held_off
            due = self._due and not held_off
        if due:
            self._due = False
            raise Interrupted


class _OfThisThread(threading.local):
    interrupts: Interrupts | None = None


of_this_thread = _OfThisThread()
"""Set by a pool in its threads; others are never interrupted."""


@contextmanager
def held_off() -> Iterator[None]:
    """Hold off what would interrupt this thread in the block."""
    interrupts = of_this_thread.interrupts
    if interrupts is None:
        yield
        return
    before = interrupts.hold_off()
    try:
        yield
    finally:
        interrupts.restore(before)


def holding_off(func: Callable[..., Any]) -> Callable[..., Any]:
    """*func*, which holds them off."""

    def holding(*args: Any, **kwargs: Any) -> Any:
        if of_this_thread.interrupts is None:
            return func(*args, **kwargs)
        with held_off():
            return func(*args, **kwargs)

    return holding


def interruptible(func: Callable[..., Any]) -> Callable[..., Any]:
    """*func*, which may be interrupted though those who call it may not."""

    def let_in(*args: Any, **kwargs: Any) -> Any:
        interrupts = of_this_thread.interrupts
        if interrupts is None:
            return func(*args, **kwargs)
        interrupts.restore(False)
        try:
            return func(*args, **kwargs)
        finally:
            interrupts.hold_off()

    return let_in
