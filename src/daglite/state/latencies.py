"""How long calls usually take: what a hedge by quantile goes by."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable
from typing import final

__all__ = ["ENOUGH", "Latencies"]

_KEPT = 200
"""Calls that are remembered, the latest ones."""

ENOUGH = 20
"""Calls after which a quantile says something."""


@final
class Latencies:
    """Seconds that the latest calls took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []
        self._waiting: dict[Hashable, None] = {}

    def add(self, seconds: float) -> tuple[Hashable, ...]:
        """
        Remember a call that took *seconds*.

        Returns:
            Who waits for a quantile, if there is one now.
        """
        with self._lock:
            if len(self._latest) == _KEPT:
                oldest = self._latest.popleft()
                del self._sorted[bisect_left(self._sorted, oldest)]
            self._latest.append(seconds)
            insort(self._sorted, seconds)
            if not self._waiting or len(self._sorted) < ENOUGH:
                return ()
            woken = tuple(self._waiting)
            self._waiting.clear()
            return woken

    def enter(self, waiter: Hashable) -> bool:
        """Have *waiter* named by the `add` after which there is a quantile; False: there is one."""
        with self._lock:
            if len(self._sorted) >= ENOUGH:
                return False
            self._waiting[waiter] = None
            return True

    def leave(self, waiter: Hashable) -> None:
        """Stop waiting for a quantile."""
        with self._lock:
            self._waiting.pop(waiter, None)

    def quantile(self, share: float) -> float | None:
        """
        Seconds within which *share* of the calls were done, above 0 and below 1.

        Returns:
            None as long as too few are known.
        """
        with self._lock:
            count = len(self._sorted)
            if count < ENOUGH:
                return None
            return self._sorted[math.ceil(share * count) - 1]
