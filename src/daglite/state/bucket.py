"""When the next call may start: the token bucket of a rate limit."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Mapping
from typing import Any, final

from daglite.state.needs import BucketPolicy
from daglite.state.plain import read_list, read_number, read_whole
from daglite.state.waits import until

__all__ = ["Bucket", "Reservation"]


@final
class Reservation:
    """
    One call's turn.

    Attributes:
        wait: Seconds until the call may start, from 0.
        again: None: the turn is taken.  Else it is too far ahead to be taken now, *wait* is a guess
            at it, and whoever wants it reserves again after so many seconds.
    """

    __slots__ = ("_era", "_slot", "again", "wait")

    def __init__(self, wait: float, era: int, slot: int, again: float | None = None) -> None:
        self.wait = wait
        self.again = again
        self._era = era
        self._slot = slot


@final
class Bucket:
    """
    Turns for calls: in any T seconds no more than ``rate / per * T + burst``.

    Each call gets a slot, and is told when to go.  Slots follow each other every ``per / rate``
    seconds from the moment when the bucket was last full:

        slot k:   earliest = full + (k - burst) * interval     latest = full + (k - 1) * interval

    Whoever goes between the two keeps the limit, in whatever order: the latest moments of all
    slots are an interval apart.  So a slot that is given back goes to the one who asks next, as
    long as its latest moment isn't past.  Nobody's turn is put off or moved forward by that.

    Limits: what is metered is the moments handed out; a caller who wakes late goes late.

    Source: the generic cell rate algorithm (ITU-T I.371), with slots that can be given back.
    """

    def __init__(self, policy: BucketPolicy) -> None:
        self._interval = policy.per / policy.rate
        self._burst = policy.burst
        self._lock = threading.Lock()
        self._full_at = -math.inf
        self._slots = 0
        # Each time the bucket has become full a new era begins, with slot 1.
        self._era = 0
        self._free: set[int] = set()
        self._first_free: list[int] = []

    def reserve(self, now: float) -> Reservation:
        """Take the next turn; a caller that won't use it must give it back."""
        with self._lock:
            slot = self._free_slot(now) if self._first_free else None
            if slot is None:
                slot = self._new_slot(now)
            earliest = self._full_at + (slot - self._burst) * self._interval
            wait = 0.0 if earliest <= now else until(now, earliest)
            return Reservation(wait, self._era, slot)

    def give_back(self, reservation: Reservation) -> None:
        """Give back a turn that wasn't used; a second time does nothing."""
        with self._lock:
            slot, reservation._slot = reservation._slot, 0
            if not slot or reservation._era != self._era:
                return
            self._free.add(slot)
            heapq.heappush(self._first_free, slot)
            # The last slots go as if they had never been.
            while self._slots in self._free:
                self._free.remove(self._slots)
                self._slots -= 1

    def dump(self, now: float) -> dict[str, Any]:
        """What it remembers, as plain data; times are seconds from *now*."""
        with self._lock:
            return {
                "full": None if self._full_at == -math.inf else self._full_at - now,
                "slots": self._slots,
                "era": self._era,
                "free": sorted(self._free),
                "interval": self._interval,
            }

    def load(self, data: Mapping[str, Any], now: float) -> None:
        """
        Remember what `dump` said at *now*, in place of all else.

        If a bucket with another rate has written it, as many calls are ahead as there were there.

        Raises:
            ValueError: *data* makes no sense; nothing has changed.
        """
        full, interval = data.get("full"), read_number(data.get("interval"))
        slots, era = read_whole(data.get("slots")), read_whole(data.get("era"))
        free = {read_whole(slot) for slot in read_list(data.get("free"))}
        if interval <= 0 or not all(0 < slot < slots for slot in free):
            raise ValueError(f"{data!r:.60} is no bucket")
        full_at = -math.inf if full is None else now + min(read_number(full), 0.0)
        if interval != self._interval:
            ahead = read_number(max(full_at + slots * interval - now, 0.0) / interval)
            slots, free, era = read_whole(math.ceil(ahead)), set(), era + 1
            full_at = now - (slots - ahead) * self._interval
        with self._lock:
            self._full_at, self._slots, self._era = full_at, slots, era
            self._free, self._first_free = free, sorted(free)

    def _free_slot(self, now: float) -> int | None:
        """The first slot that was given back and isn't past."""
        while self._first_free:
            slot = heapq.heappop(self._first_free)
            if slot in self._free:
                self._free.remove(slot)
                if now <= self._full_at + (slot - 1) * self._interval:
                    return slot
        return None

    def _new_slot(self, now: float) -> int:
        if now >= self._full_at + self._slots * self._interval:
            # All that was given back was past, and is dropped.
            self._full_at, self._slots = now, 0
            self._era += 1
        self._slots += 1
        return self._slots
