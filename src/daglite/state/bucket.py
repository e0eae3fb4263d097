"""When the next call may start: the token bucket of a rate limit."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Hashable, Mapping
from typing import Any, final

from daglite.state.needs import BucketPolicy
from daglite.state.plain import read_number, read_whole
from daglite.state.waits import until

__all__ = ["Bucket"]


@final
class Bucket:
    """
    Tokens for calls: in any T seconds no more than ``rate / per * T + burst`` are taken.

    A token is taken in the moment when a call starts, and nobody holds one while he waits:

        ask ─► 0.0 ─► on its way ─► take ─► 0.0 ─► the call starts
         ▲ waits         │            │ another was quicker
         └───────────────┴────────────┘ forgo

    Those who wait stand in a line, first come, first served.  For one that is on its way a
    token is kept, but only for as long as the next one takes to grow: one that is held up
    elsewhere holds nobody up.

    Source: the generic cell rate algorithm (ITU-T I.371).
    """

    def __init__(self, policy: BucketPolicy) -> None:
        self._interval = policy.per / policy.rate
        self._burst = policy.burst
        self._lock = threading.Lock()
        # When it was last full, and how many were taken since: as a product of the two, the
        # ten-thousandth token is where it should be.
        self._full_at = -math.inf
        self._taken = 0
        # Until when a token is kept for each of those on their way.
        self._kept: deque[float] = deque()
        # Who waits, and the moment that each was told to ask again.
        self._line: dict[Hashable, float] = {}

    def take(self, now: float) -> float:
        """
        Take a token for a call that starts *now*.

        Returns:
            0.0: It is taken.  More: there is none for so many seconds, and nothing was done.
        """
        with self._lock:
            if not self._take(now):
                return until(now, self._due(now, 0))
            if self._kept:
                self._kept.popleft()
            return 0.0

    def take_at_once(self, now: float) -> bool:
        """The same for a call that didn't ask; it goes before nobody who did."""
        with self._lock:
            return not (self._line or self._kept) and self._take(now)

    def ask(self, now: float, token: Hashable | None = None) -> float:
        """
        Ask to go.

        Args:
            now: Seconds.
            token: Who asks, and stands in the line from the first time on until `leave`; None:
                whoever goes only if nobody waits.

        Returns:
            0.0: Go, and `take` a token when the call starts, or `forgo` it.  More: ask again in
            so many seconds, or when `leave` or `forgo` names you.
        """
        with self._lock:
            while self._kept and self._kept[0] <= now:
                self._kept.popleft()
            ahead = self._ahead(now, token) if self._line else 0
            due = self._due(now, len(self._kept) + ahead)
            if due <= now:
                self._kept.append(now + self._interval)
                return 0.0
            # What is kept for others may become free before.
            wait = until(now, min(due, self._kept[0]) if self._kept and not ahead else due)
            if token is not None:
                self._line[token] = now + wait
            return wait

    def leave(self, token: Hashable) -> Hashable | None:
        """Leave the line, to go or to give up; return who should ask now, if anybody."""
        with self._lock:
            was_first = next(iter(self._line), None) == token
            self._line.pop(token, None)
            return next(iter(self._line), None) if was_first else None

    def forgo(self) -> Hashable | None:
        """Of one who may go, and doesn't; return who should ask now, if anybody."""
        with self._lock:
            if self._kept:
                self._kept.pop()
            return next(iter(self._line), None)

    def wait(self, now: float, ahead: int = 0) -> float:
        """Seconds until one who comes now may go, behind the line and *ahead* more."""
        with self._lock:
            ahead += self._ahead(now, None) + sum(end > now for end in self._kept)
            return until(now, self._due(now, ahead))

    def dump(self, now: float) -> dict[str, Any]:
        """What was taken, but not who waits, as plain data; times are seconds from *now*."""
        with self._lock:
            return {
                "full": None if self._full_at == -math.inf else self._full_at - now,
                "taken": self._taken,
                "interval": self._interval,
            }

    def load(self, data: Mapping[str, Any], now: float) -> None:
        """
        Remember what `dump` said at *now*, in place of what was taken; who waits goes on waiting.

        If a bucket with another rate has written it, as many tokens are missing as were there.

        Raises:
            ValueError: *data* makes no sense; nothing has changed.
        """
        full, interval = data.get("full"), read_number(data.get("interval"))
        taken = read_whole(data.get("taken"))
        if interval <= 0:
            raise ValueError(f"{data!r:.60} is no bucket")
        full_at = -math.inf if full is None else now + min(read_number(full), 0.0)
        if interval != self._interval:
            missing = read_number(max(full_at + taken * interval - now, 0.0) / interval)
            taken = read_whole(math.ceil(missing))
            full_at = now - (taken - missing) * self._interval
        with self._lock:
            self._full_at, self._taken = full_at, taken

    # Everything below runs under the lock.

    def _due(self, now: float, ahead: int) -> float:
        """The moment from which there is a token, if *ahead* others are taken now."""
        full_at, taken = self._full_at, self._taken
        if now >= full_at + taken * self._interval:
            full_at, taken = now, 0
        return full_at + (taken + ahead + 1 - self._burst) * self._interval

    def _take(self, now: float) -> bool:
        """Take a token if there is one, and say whether."""
        full_at, taken, interval = self._full_at, self._taken, self._interval
        if now >= full_at + taken * interval:
            self._full_at, self._taken = now, 1
            return True
        if now < full_at + (taken + 1 - self._burst) * interval:
            return False
        self._taken = taken + 1
        return True

    def _ahead(self, now: float, token: Hashable | None) -> int:
        """How many are before *token* in the line; whoever missed his moment holds nobody up."""
        ahead = 0
        for each, moment in self._line.items():
            if each == token:
                break
            ahead += moment > now
        return ahead
