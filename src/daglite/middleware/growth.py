"""Carries out ``ResourceLimits.grow``: after a breach, the next attempt may use more."""

from __future__ import annotations

from typing import final

from daglite.core.call import Call, Outcome
from daglite.core.protocols import Next
from daglite.exceptions import CpuTimeLimitError, MemoryLimitError

__all__ = ["Growth"]


@final
class Growth:
    """Multiplies the limit that an attempt has passed by *factor*, for the next one."""

    def __init__(self, factor: float) -> None:
        self._factor = factor

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        outcome = await call_next(call)
        memory, cpu = call.growth
        if isinstance(outcome.error, MemoryLimitError):
            call.growth = memory * self._factor, cpu
        elif isinstance(outcome.error, CpuTimeLimitError):
            call.growth = memory, cpu * self._factor
        return outcome
