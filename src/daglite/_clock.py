"""
Clocks: what time it is, and how to wait for the next thing to happen.

The one module that reads the system's time.
A kernel asks its clock for both, so a run on a `VirtualClock` never sleeps.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Protocol, final

__all__ = [
    "GLANCE",
    "Clock",
    "SystemClock",
    "VirtualClock",
    "nap",
    "now_and_wall_time",
    "process_time",
    "time_asleep",
    "wall_time",
]

process_time = time.process_time
"""CPU time that this process has used, in seconds."""


def time_asleep() -> float:
    """Seconds that this machine has slept: Linux counts from its start with, `Clock` without."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


Inbox = SimpleQueue[Any]
"""Where other threads leave messages for a kernel."""


GLANCE = 0.2
"""
Seconds after which a wait looks up, though nothing has happened.

A Ctrl-C that comes in the instant before Python's thread falls asleep doesn't wake it.
"""


class Clock(Protocol):
    """What a kernel needs of time."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    def wait(self, inbox: Inbox, until: float | None, outstanding: int) -> Any:
        """
        Wait for a message or a moment, whichever comes first.

        Args:
            inbox: Where messages arrive.
            until: The moment, on this clock; None waits for a message alone.
            outstanding: How many calls are under way that will send a message.

        Returns:
            The message, or None when the moment came first.
        """
        ...


@final
class SystemClock:
    """Real time, from the monotonic clock of the system."""

    now = staticmethod(time.monotonic)

    def wait(self, inbox: Inbox, until: float | None, outstanding: int) -> Any:
        while True:
            seconds = GLANCE if until is None else until - self.now()
            try:
                if seconds <= 0:
                    return inbox.get_nowait()
                return inbox.get(timeout=min(seconds, GLANCE))
            except Empty:
                if seconds <= 0:
                    return None


@final
class VirtualClock:
    """
    Time that passes only when everybody waits: an hour of back-off costs nothing.

    While real calls are under way (on threads, say) virtual time stands still.

    Args:
        start: What `now` says at first, in seconds.

    Example:
        >>> clock = VirtualClock()
        >>> clock.advance(90)
        >>> clock.now()
        90.0
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = float(start)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._held = 0

    def now(self) -> float:
        """Virtual seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass, as a task that takes that long would."""
        if not seconds >= 0:
            raise ValueError(f"time can't go back: advance({seconds!r})")
        self._now += seconds

    def hold(self, calls: int) -> None:
        """Count *calls* (may be negative) as simulated: they don't make time stand still."""
        self._held += calls

    def call_at(self, when: float, action: Callable[[], None]) -> None:
        """Do *action* when virtual time reaches *when* while a kernel waits."""
        heapq.heappush(self._events, (when, next(self._order), action))

    def wait(self, inbox: Inbox, until: float | None, outstanding: int) -> Any:
        while True:
            if not inbox.empty() or outstanding > self._held:
                return inbox.get()
            event = self._events[0] if self._events else None
            if event is not None and (until is None or event[0] <= until):
                self._now = max(self._now, event[0])
                self._do_all_until(event[0])
                continue
            if until is None:
                raise RuntimeError("nothing is left that could end this wait: virtual time stops")
            self._now = max(self._now, until)
            return None

    def _do_all_until(self, moment: float) -> None:
        """Do all that was planned up to *moment*, but not what is planned meanwhile."""
        events, later = self._events, next(self._order)
        while events and events[0][0] <= moment and events[0][1] < later:
            heapq.heappop(events)[2]()


def wall_time(clock: Clock) -> float:
    """Seconds since the begin of 1970 UTC, which may go back; on other clocks, what they say."""
    return time.time() if isinstance(clock, SystemClock) else clock.now()


_APART = 1e-4
"""Seconds between two looks at a clock, from which something has come between."""


def now_and_wall_time() -> tuple[float, float]:
    """
    What `SystemClock.now` says, and the seconds since 1970, at one moment.

    The second one jumps when somebody sets the clock, but means the same in all processes.
    """
    before, wall = SystemClock.now(), time.time()
    for _ in range(3):
        if SystemClock.now() - before < _APART:
            break
        before, wall = SystemClock.now(), time.time()
    return before, wall


def nap(seconds: float) -> None:
    """Let the thread sleep, for a moment in which there is nothing better to do."""
    time.sleep(seconds)
