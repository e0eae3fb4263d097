"""Carries out `RetryPolicy`: runs a failed call again, after a wait that holds nothing."""

from __future__ import annotations

import math
from typing import final

from daglite.core.attempts import draw, record_failure
from daglite.core.call import Call, Outcome
from daglite.core.no_waits import no_waits
from daglite.core.parking import park
from daglite.core.protocols import Next
from daglite.exceptions import DagliteError, ExecutionError
from daglite.policies import RetryPolicy
from daglite.state.shared import AnyBudget

__all__ = ["Retry"]


@final
class Retry:
    """
    Retries as `RetryPolicy` says.

    Losses of the infrastructure (`DagliteError.infrastructure`) and failures of the task are
    counted apart.

    Args:
        policy: What is wanted.
        losses: Whether the backend can lose a worker; else an error that tells of one is the
            task's own: that of a run inside it.
    """

    def __init__(self, policy: RetryPolicy, *, losses: bool = True) -> None:
        self._policy = policy
        self._losses = losses

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        policy, kernel = self._policy, call.run.kernel
        began: float | None = None
        last: Outcome | None = None
        failures = losses = 0
        budget = self._budget_of(call)
        if budget is not None:
            budget.first_call(kernel.now())
        while True:
            entered = kernel.now()
            outcome = await call_next(call)
            if outcome.too_late and last is not None:
                last.note = f"{outcome.note} max_elapsed={policy.max_elapsed:g} s is over"
                return last
            if began is None:
                # The first attempt's start; one that never started counts from here.
                began = entered if outcome.started is None else outcome.started
            error, why = outcome.error, ""
            if error is None:
                if not policy.rejects(outcome.value):
                    return outcome
                why = f"retry_on_result refused {outcome.value!r:.80}"
                record_failure(call, outcome, why=why)
                if failures == policy.max_retries:
                    return _refused(outcome, why)
            else:
                record_failure(call, outcome)
            if self._losses and isinstance(error, DagliteError) and error.infrastructure:
                losses += 1
                if losses > policy.infrastructure_retries:
                    return outcome
            else:
                failures += 1
                if failures > policy.max_retries:
                    return outcome
            if error is not None and not policy.retries(error):
                return outcome
            elapsed = kernel.now() - began
            wait, note = self._next_wait(call, error, failures + losses, elapsed)
            if note is None:
                note = await self._back_off(call, budget, wait, began)
            if note is not None:
                if error is None:
                    outcome = _refused(outcome, why)
                outcome.note = note
                return outcome
            last = outcome if error is not None else _refused(outcome, why)
            call = call.again(wait)
            call.start_by = None if policy.max_elapsed is None else began + policy.max_elapsed

    async def _back_off(
        self, call: Call, budget: AnyBudget | None, wait: float, began: float
    ) -> str | None:
        """Wait until the next attempt; or say why there is none."""
        if budget is None:
            await park(call, wait, "retry")
            return None
        longest = math.inf if self._policy.max_elapsed is None else self._policy.max_elapsed
        note = await self._reserve(call, budget, began + longest - wait)
        if note is not None:
            return note
        try:
            await park(call, wait, "retry")
        except BaseException:
            budget.give_back()
            raise
        budget.spend(call.run.kernel.now())
        return None

    def _budget_of(self, call: Call) -> AnyBudget | None:
        policy, name = self._policy.budget, call.node_name
        if policy is None or no_waits:
            return None
        budget: AnyBudget = call.run.states.budget(policy, policy.key or name, name, policy.scope)
        return budget

    async def _reserve(self, call: Call, budget: AnyBudget, until: float) -> str | None:
        """Reserve a retry, however long that takes; or say why there is none."""
        kernel, policy = call.run.kernel, self._policy.budget
        assert policy is not None
        key = policy.key or call.node_name
        while True:
            seconds = budget.reserve(kernel.now())
            if seconds == 0.0:
                return None
            if seconds is None:
                return f"the retry budget {key!r} is exhausted"
            # New first calls of others allow more, too.
            seconds = min(seconds, policy.window)
            if kernel.now() + seconds > until:
                return (
                    f"the retry budget {key!r} allows none before "
                    f"max_elapsed={self._policy.max_elapsed:g} s"
                )
            await park(call, seconds, "retry budget")

    def _next_wait(
        self, call: Call, error: BaseException | None, retry: int, elapsed: float
    ) -> tuple[float, str | None]:
        """Seconds until the next attempt, or why there is none."""
        policy = self._policy
        hinted = None if error is None else policy.hinted(error)
        if hinted is None:
            wait = policy.delay_before(
                retry, draw=self._draw(call), previous=call.waited, error=error, elapsed=elapsed
            )
        else:
            wait, asked = hinted, f"{policy.hint} asks for a wait of {hinted:g} s"
            if hinted > policy.max_hint:
                return 0.0, f"{asked}, more than max_hint={policy.max_hint:g} s allows"
            remaining = call.remaining()
            if remaining is not None and hinted > remaining:
                return 0.0, f"{asked}, but only {max(remaining, 0):g} s of the total are left"
        if no_waits:
            wait = 0.0
        if policy.max_elapsed is not None and elapsed + wait > policy.max_elapsed:
            return 0.0, (
                f"the next attempt would start {elapsed + wait:g} s after the first, "
                f"later than max_elapsed={policy.max_elapsed:g} s allows"
            )
        return wait, None

    def _draw(self, call: Call) -> float:
        return draw(call, call.run.seed if self._policy.seed is None else self._policy.seed)


def _refused(outcome: Outcome, why: str) -> Outcome:
    return Outcome(
        error=ExecutionError(why),
        started=outcome.started,
        ran=outcome.ran,
        worker=outcome.worker,
    )
