"""How long to wait for a moment."""

from __future__ import annotations

import math

__all__ = ["until"]


def until(now: float, moment: float) -> float:
    """
    Seconds from *now* to *moment*, from 0.

    Rounded so that ``now + until(now, moment)`` is never before *moment*: who wakes then needn't
    wait a second time.
    """
    seconds = max(moment - now, 0.0)
    while now + seconds < moment:
        seconds = math.nextafter(seconds, math.inf)
    return seconds
