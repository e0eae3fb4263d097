"""How long calls usually take: what a hedge by quantile goes by."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, insort
from collections import deque
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

    def add(self, seconds: float) -> None:
        """Remember a call that took *seconds*."""
        with self._lock:
            if len(self._latest) == _KEPT:
                oldest = self._latest.popleft()
                del self._sorted[bisect_left(self._sorted, oldest)]
            self._latest.append(seconds)
            insort(self._sorted, seconds)

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
