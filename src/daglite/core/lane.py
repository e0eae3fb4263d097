"""Who runs next where places are few."""

from __future__ import annotations

from collections import deque
from typing import final

from daglite.core.kernel import Cancelled, Completion, Kernel

__all__ = ["Lane"]


@final
class Lane:
    """
    Places to run, first come, first served: the caller's thread, or the workers of a backend.

    A call with a timeout runs on a helper thread, but keeps its place all the same.
    """

    __slots__ = ("_waiting", "free")

    def __init__(self, places: int = 1) -> None:
        self.free = places
        self._waiting: deque[Completion[None]] = deque()

    async def enter(self, kernel: Kernel) -> None:
        if self.free:
            self.free -= 1
            return
        turn: Completion[None] = Completion(kernel)
        self._waiting.append(turn)
        try:
            await turn
        except Cancelled:
            if turn.done:
                self.leave()
            else:
                self._waiting.remove(turn)
            raise

    def leave(self) -> None:
        """Give the place to the next in line, or free it."""
        if self._waiting:
            self._waiting.popleft().set(None)
        else:
            self.free += 1
