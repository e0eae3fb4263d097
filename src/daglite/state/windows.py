"""How many of the last calls failed or were slow: of the last so many, or the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, final

from daglite.state.plain import read_list, read_number, read_whole

__all__ = ["CountWindow", "TimeWindow"]


@final
class CountWindow:
    """
    The last *size* calls, in a ring of one byte each.

    Attributes:
        calls: How many there are, up to *size*.
        failures: How many of them failed.
        slows: How many of them were slow, failed or not.
    """

    __slots__ = ("_next", "_ring", "calls", "failures", "slows")

    def __init__(self, size: int) -> None:
        self._ring = bytearray(size)
        self.clear()

    def clear(self) -> None:
        """Forget all calls."""
        self._next = self.calls = self.failures = self.slows = 0

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Count a call; the oldest one leaves when the ring is full."""
        ring, at = self._ring, self._next
        if self.calls < len(ring):
            self.calls += 1
        elif ring[at]:
            self.failures -= ring[at] & 1
            self.slows -= ring[at] >> 1
        if failed or slow:
            self.failures += failed
            self.slows += slow
            ring[at] = failed | slow << 1
        else:
            ring[at] = 0
        at += 1
        self._next = at if at < len(ring) else 0

    def add_well(self, now: float) -> bool:
        """
        Count a call that was well, as were all that are here.

        Returns:
            Whether there is nothing more to count, as long as all are well.
        """
        calls = self.calls
        if calls < len(self._ring):
            # Where in a ring of zeros the next one goes says nothing.
            self.calls = calls = calls + 1
        return calls == len(self._ring)

    @property
    def full(self) -> bool:
        """Whether a call more makes the oldest one leave."""
        return self.calls == len(self._ring)

    def trim(self, now: float) -> None:
        """Nothing leaves by time."""

    def dump(self, now: float) -> str:
        """The calls, oldest first: a digit for each, 1 if it failed, plus 2 if it was slow."""
        ring, at = self._ring, self._next
        ordered = ring[at:] + ring[:at]
        return ordered[len(ring) - self.calls :].translate(_DIGITS).decode()

    def load(self, data: Any, now: float) -> None:
        """
        Take the calls that `dump` said, as many as there is room for; none from another window.

        Raises:
            ValueError: *data* makes no sense; nothing has changed.
        """
        text = data if isinstance(data, str) else ""
        if text.strip("0123") or not isinstance(data, (str, list)):
            raise ValueError(f"{data!r:.60} is no window")
        size = len(self._ring)
        text = text[-size:]
        self._ring = bytearray(text.encode().translate(_VALUES).ljust(size, b"\0"))
        self.calls = len(text)
        self.failures = text.count("1") + text.count("3")
        self.slows = text.count("2") + text.count("3")
        self._next = self.calls % size


_DIGITS = bytes.maketrans(b"\0\1\2\3", b"0123")
_VALUES = bytes.maketrans(b"0123", b"\0\1\2\3")


@final
class _Slot:
    """Calls that came close together, and leave together."""

    __slots__ = ("calls", "failures", "slows", "start")

    def __init__(self, start: float) -> None:
        self.start = start
        self.calls = self.failures = self.slows = 0


@final
class TimeWindow:
    """
    The calls of the last *seconds*.

    Calls that come within ``seconds / slots`` of the first of them share a slot, and leave with
    it, *seconds* after that first one.  So memory is bounded, a lone call leaves on time, and
    no call leaves earlier than that by more than the width of a slot.

    Args:
        seconds: The length of the window.
        slots: How many parts it has.

    Attributes:
        calls: How many there were when time was last looked at.
        failures: How many of them failed.
        slows: How many of them were slow, failed or not.
    """

    __slots__ = ("_seconds", "_slots", "calls", "failures", "slows", "width")

    full = False
    """A call makes none leave: time does."""

    def __init__(self, seconds: float, slots: int) -> None:
        self._seconds = seconds
        self.width = seconds / slots
        self._slots: deque[_Slot] = deque()
        self.clear()

    def clear(self) -> None:
        """Forget all calls."""
        self._slots.clear()
        self.calls = self.failures = self.slows = 0

    def add(self, now: float, failed: bool = False, slow: bool = False) -> None:
        """Count a call that ended at *now*."""
        self.trim(now)
        slots = self._slots
        if slots and now < slots[-1].start + self.width:
            slot = slots[-1]
        else:
            slot = _Slot(now)
            slots.append(slot)
        slot.calls += 1
        slot.failures += failed
        slot.slows += slow
        self.calls += 1
        self.failures += failed
        self.slows += slow

    def add_well(self, now: float) -> bool:
        """Count a call that was well, as were all that are here; there is always more to count."""
        self.add(now)
        return False

    def trim(self, now: float) -> None:
        """Let go of what is too old."""
        slots = self._slots
        while slots and slots[0].start + self._seconds <= now:
            slot = slots.popleft()
            self.calls -= slot.calls
            self.failures -= slot.failures
            self.slows -= slot.slows

    def leaving(self) -> Iterator[tuple[float, int]]:
        """When calls will leave, oldest first: the moment, and how many of them."""
        for slot in self._slots:
            yield slot.start + self._seconds, slot.calls

    def dump(self, now: float) -> list[list[float]]:
        """The slots, oldest first: seconds since each began, its calls, its failures, its slows."""
        return [[now - s.start, s.calls, s.failures, s.slows] for s in self._slots]

    def load(self, data: Any, now: float) -> None:
        """
        Take the calls that `dump` said at *now*; none from another kind of window.

        Raises:
            ValueError: *data* makes no sense; nothing has changed.
        """
        slots: list[_Slot] = []
        for age, *counts in read_list([] if isinstance(data, str) else data, 4):
            # Nothing comes from the future.
            slot = _Slot(now - max(read_number(age), 0.0))
            slot.calls, slot.failures, slot.slows = map(read_whole, counts)
            if slots and slot.start < slots[-1].start:
                raise ValueError(f"{data!r:.60} isn't in order")
            slots.append(slot)
        self._slots = deque(slots)
        self.calls = sum(slot.calls for slot in slots)
        self.failures = sum(slot.failures for slot in slots)
        self.slows = sum(slot.slows for slot in slots)
