"""Carries out ``TimeoutPolicy.attempt``: a limit that begins when the function starts to run."""

from __future__ import annotations

from functools import partial
from typing import final

from daglite.core.call import Call, Outcome
from daglite.core.protocols import Next
from daglite.exceptions import TaskTimeoutError

__all__ = ["AttemptTimeout"]


@final
class AttemptTimeout:
    """Ends each attempt *limit* seconds after it has started."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        kernel, limit = call.run.kernel, self._limit
        # Nobody tells when a queued call starts: the timer asks. Not started by then means
        # that it can't be late before another whole limit has passed.
        with kernel.moving_deadline(partial(_left, call, limit), first=_left(call, limit)):
            return await call_next(call)
        started = kernel.now() if call.started is None else call.started
        elapsed = kernel.now() - started
        error = TaskTimeoutError(
            f"ran longer than its timeout of {limit:g} s",
            limit=limit,
            elapsed=elapsed,
            kind="attempt",
            stack=call.stack,
        )
        return Outcome(error=error, started=started, ran=elapsed, worker=call.worker)


def _left(call: Call, limit: float) -> float:
    if call.answered:
        # In time, though the run was kept from looking.
        return limit
    if call.started is None and call.look is not None:
        call.look(call)
    if call.started is None:
        return limit
    return call.started + limit - call.run.kernel.now()
