"""Carries out ``TimeoutPolicy.total``: a limit over queueing, attempts and back-off together."""

from __future__ import annotations

from typing import final

from daglite.core.attempts import record_failure
from daglite.core.call import Call, Outcome
from daglite.core.protocols import Next
from daglite.exceptions import TaskTimeoutError

__all__ = ["TotalTimeout"]


@final
class TotalTimeout:
    """Ends the whole call *limit* seconds after it was due; never retried."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        kernel, limit = call.run.kernel, self._limit
        now = kernel.now()
        began = now if call.due is None else call.due
        call.expires = began + limit
        with kernel.deadline(began + limit - now):
            return await call_next(call)
        now, latest = kernel.now(), call.latest
        elapsed = now - began
        error = TaskTimeoutError(
            f"wasn't done within its total of {limit:g} s",
            limit=limit,
            elapsed=elapsed,
            kind="total",
            stack=latest.stack,
        )
        started = latest.started
        ran = 0.0 if started is None else now - started
        history = latest.history
        if history and history[-1].number == latest.attempt:
            # It had ended by itself, and the call was waiting for the next one.
            ran = history[-1].ran
        outcome = Outcome(error=error, started=started, ran=ran, worker=latest.worker)
        # The attempt under way; one that has failed by itself is recorded already.
        record_failure(latest, outcome)
        return outcome
