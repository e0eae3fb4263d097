"""A store of states in memory, some processes that share it, and clocks that can be set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from daglite.state.shared import News, Said

R = TypeVar("R")


@dataclass
class Store:
    """
    One state's text, as all processes see it.

    Attributes:
        away: It can't be reached.
        full: It can't be written.
        writes: How often it was written.
        complaints: What made no sense.
    """

    text: str | None = None
    version: int = 0
    away: bool = False
    full: bool = False
    writes: int = 0
    complaints: list[str] = field(default_factory=list)

    def put(self, text: str) -> None:
        """Write, as another process does."""
        self.text, self.version = text, self.version + 1


class MemoryCell:
    """The cell of one process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: int | None = None

    def peek(self, take: Callable[[News], R]) -> R:
        return take(self._news())

    def change(self, work: Callable[[News], tuple[R, str | None]]) -> R:
        store = self._store
        answer, text = work(self._news())
        if text is not None:
            assert not store.away
            if store.full:
                self._known = None
            else:
                store.put(text)
                store.writes += 1
                self._known = store.version
        return answer

    def alone(self, act: Callable[[], R]) -> R:
        return act()

    def complain(self, reason: str) -> None:
        self._store.complaints.append(reason)

    def _news(self) -> News:
        store, known = self._store, self._known
        self._known = None
        if store.away:
            return Said.AWAY
        if store.text is None:
            return Said.NOTHING
        self._known = store.version
        return Said.SAME if known == store.version else store.text


class Machine:
    """
    Some processes on one machine.

    Each has a clock of its own for what it measures, and all see the clock on the wall.
    """

    def __init__(self, processes: int = 3) -> None:
        self.store = Store()
        self.cells = [MemoryCell(self.store) for _ in range(processes)]
        self.passed = 0.0
        self.wall = 1.7e9

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.passed += seconds
        self.wall += seconds

    def now(self, process: int) -> float:
        """What that process calls now."""
        return self.passed + process * 1024.0

    def each(self, make: Callable[[Any, Any], Any]) -> list[Any]:
        """What *make* makes of a cell and the times of each process."""
        return [
            make(cell, lambda number=number: (self.now(number), self.wall))
            for number, cell in enumerate(self.cells)
        ]
