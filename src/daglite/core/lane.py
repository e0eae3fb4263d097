"""Who runs next on the caller's thread."""

from __future__ import annotations

from collections import deque
from typing import final

from daglite.core.kernel import Cancelled, Completion, Kernel

__all__ = ["Lane"]


@final
class Lane:
    """
    The caller's thread as a place to run: one call at a time, first come, first served.

    A call with a timeout runs on a helper thread, but keeps the lane all the same.
    """

    __slots__ = ("_waiting", "busy")

    def __init__(self) -> None:
        self.busy = False
        self._waiting: deque[Completion[None]] = deque()

    async def enter(self, kernel: Kernel) -> None:
        if not self.busy:
            self.busy = True
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
        """Give the lane to the next in line, or free it."""
        if self._waiting:
            self._waiting.popleft().set(None)
        else:
            self.busy = False
