"""Who may run at the same time, and who waits for a place: the state of a bulkhead."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Literal, final

from daglite.state.needs import PermitsPolicy

__all__ = ["Answer", "Permits"]

Answer = Literal["go", "wait", "full"]
"""What one who asks is told: run, wait to be woken, or there isn't even room to wait."""


@final
class Permits:
    """
    A number of places, and a line of those who wait for one: first come, first served.

    A place that becomes free is handed to the first in the line at once: nobody else can take
    it before the one who is woken.
    """

    def __init__(self, policy: PermitsPolicy) -> None:
        self._places = policy.max_concurrent
        self._room = policy.max_queue
        self._lock = threading.Lock()
        self._taken = 0
        self._inherited = 0
        self._line: dict[Hashable, None] = {}

    def acquire(self, token: Hashable) -> Answer:
        """
        Ask for a place.

        Args:
            token: Who asks: what `release` returns when it is this one's turn.

        Returns:
            "go": the place is taken, and owes a `release`.  "wait": *token* is in the line,
            until a `release` or `leave` returns it (it has the place then, and doesn't ask
            again) or it leaves.  "full": nothing was done.
        """
        with self._lock:
            if self._taken < self._places:
                self._taken += 1
                return "go"
            if self._room is not None and len(self._line) >= self._room:
                return "full"
            if token in self._line:
                raise RuntimeError(f"{token!r} waits already")
            self._line[token] = None
            return "wait"

    def take(self) -> bool:
        """Take a place if one is free, and say whether; it owes a `release` then."""
        with self._lock:
            if self._taken < self._places:
                self._taken += 1
                return True
            return False

    def release(self) -> Hashable | None:
        """Give a place back; return whom to wake, who has it now, or None if nobody waits."""
        with self._lock:
            if self._line or not self._taken:
                return self._pass_on()
            self._taken -= 1
            return None

    def leave(self, token: Hashable) -> Hashable | None:
        """
        Stop waiting: for one who was told "wait" and hasn't begun to run.

        One that was handed a place in the same moment, and hasn't heard of it yet, gives it
        back by this.

        Returns:
            Whom to wake, as `release` does.
        """
        with self._lock:
            if token in self._line:
                del self._line[token]
                return None
            return self._pass_on()

    def inherit(self, places: int) -> None:
        """In a forked child, whose places are free: *places* may yet be given back once more."""
        self._inherited = places

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line)

    def _pass_on(self) -> Hashable | None:
        if not self._taken:
            if self._inherited:
                self._inherited -= 1
                return None
            raise RuntimeError("a place was given back that nobody had taken")
        if not self._line:
            self._taken -= 1
            return None
        first = next(iter(self._line))
        del self._line[first]
        return first
