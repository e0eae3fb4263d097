"""Carries out `Hedge`: a second call beside an attempt that takes long."""

from __future__ import annotations

from typing import TypeAlias, final

from daglite.core.call import Call, Outcome
from daglite.core.events import CallHedged
from daglite.core.kernel import Activity
from daglite.core.protocols import Next
from daglite.policies import Hedge
from daglite.state.latencies import Latencies

__all__ = ["Hedging"]


_Ended: TypeAlias = tuple[Outcome, float]
"""How a call ended, and how many seconds after it was made."""


@final
class Hedging:
    """
    Makes further calls of an attempt, and takes the first result.

    The others are cancelled then.  A call that fails doesn't end the attempt as long as another
    one is under way; if all fail, the first failure of those that started is the attempt's: that
    a hedge was refused by a rate limit, say, tells nothing of the first call.  Whichever counts,
    the attempt has run since the first call started.
    """

    def __init__(self, policy: Hedge) -> None:
        self._policy = policy
        self._latencies = Latencies()

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        kernel = call.run.kernel
        running: list[Activity[_Ended]] = [kernel.spawn(_made(call, call_next))]
        failed: list[Outcome] = []
        hedges, latest = 0, kernel.now()
        try:
            while True:
                for activity in [each for each in running if each.done]:
                    running.remove(activity)
                    outcome, took = _end_of(activity)
                    if outcome.ok:
                        self._latencies.add(took)
                        return _since_the_first(call, outcome) if hedges else outcome
                    failed.append(outcome)
                if not running:
                    started = (each for each in failed if each.started is not None)
                    outcome = next(started, failed[0])
                    return _since_the_first(call, outcome) if hedges else outcome
                delay = self._delay() if hedges < self._policy.max_hedges else None
                if delay is None:
                    await kernel.first_of(*running)
                    continue
                with kernel.deadline(latest + delay - kernel.now()) as due:
                    await kernel.first_of(*running)
                if due.expired:
                    hedges, latest = hedges + 1, kernel.now()
                    call.run.emit(
                        CallHedged, call.node_id, call.node_name, call.element, call.attempt, delay
                    )
                    running.append(kernel.spawn(_made(call.latest.repeated(), call_next)))
        finally:
            for activity in running:
                kernel.cancel(activity)

    def _delay(self) -> float | None:
        """Seconds before another call is made; None: nobody knows yet."""
        policy = self._policy
        if policy.quantile is not None:
            return self._latencies.quantile(policy.quantile)
        return policy.delay


async def _made(call: Call, call_next: Next) -> _Ended:
    kernel = call.run.kernel
    began = kernel.now()
    # What it waits counts as what it runs does: a delay passes in both.
    return await call_next(call), kernel.now() - began


def _since_the_first(call: Call, outcome: Outcome) -> Outcome:
    """Let the attempt begin when its first *call* did: limits on all attempts count from there."""
    if call.started is not None and outcome.started is not None:
        began = min(call.started, outcome.started)
        outcome.started, outcome.ran = began, call.run.kernel.now() - began
    return outcome


def _end_of(activity: Activity[_Ended]) -> _Ended:
    if activity.error is not None:
        # A middleware within raised: its fault, but this call's failure.
        return Outcome(error=activity.error), 0.0
    return activity.value
