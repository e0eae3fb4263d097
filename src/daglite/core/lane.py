"""Who runs next where places are few."""

from __future__ import annotations

import heapq
from itertools import count
from typing import final

from daglite.core.kernel import Cancelled, Completion, Kernel

__all__ = ["Lane"]


@final
class Lane:
    """
    Places to run, first come, first served: the caller's thread, or the workers of a backend.

    A call with a timeout runs on a helper thread, but keeps its place all the same.

    Attributes:
        free: Places that nobody has.
        waiting: How many wait for one.
    """

    __slots__ = ("_line", "_numbers", "free", "waiting")

    def __init__(self, places: int = 1) -> None:
        self.free = places
        self.waiting = 0
        self._numbers = count()
        self._line: list[tuple[int, Completion[bool]]] = []

    async def enter(self, kernel: Kernel, number: int | None = None) -> int:
        """
        Wait for a place.

        Args:
            kernel: Whose activity waits.
            number: What was returned to the same call when it last entered: it goes before all
                that came after it.  None: it comes for the first time.
        """
        if number is None:
            number = next(self._numbers)
        if self.free:
            self.free -= 1
            return number
        turn: Completion[bool] = Completion(kernel)
        heapq.heappush(self._line, (number, turn))
        self.waiting += 1
        try:
            await turn
        except Cancelled:
            if turn.done:
                self.leave()
            else:
                # Whoever gives a place on passes it by.
                turn.set(False)
                self.waiting -= 1
            raise
        return number

    def leave(self) -> None:
        """Give the place to the next in line, or free it."""
        while self._line:
            turn = heapq.heappop(self._line)[1]
            if not turn.done:
                self.waiting -= 1
                turn.set(True)
                return
        self.free += 1
