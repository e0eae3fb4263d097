"""Carries out `Hedge`: a second call beside an attempt that takes long."""

from __future__ import annotations

from functools import partial
from typing import Any, final

from daglite.core.call import Call, Outcome
from daglite.core.events import CallHedged
from daglite.core.kernel import Activity, Completion, Kernel
from daglite.core.protocols import Next
from daglite.policies import Hedge
from daglite.state.latencies import Latencies

__all__ = ["Hedging"]

_LONGER = 1 + 1e-6
"""A call that takes as long as the quantile isn't late, whatever is lost by rounding."""

_LOOK = 0.001
"""Seconds after which a call that hasn't started is looked at again, at least."""


@final
class Hedging:
    """
    Makes further calls of an attempt, and takes the first result.

    Each is made when the one before it has run for the delay: what waits for a worker, a turn or
    a place isn't slow.

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
        running: list[Activity[Outcome]] = [kernel.spawn(_made(call, call_next))]
        failed: list[Outcome] = []
        left, last = self._policy.max_hedges, call
        try:
            while True:
                for activity in [each for each in running if each.done]:
                    running.remove(activity)
                    outcome = _outcome_of(activity)
                    if outcome.ok:
                        outcome = outcome if last is call else _since_the_first(call, outcome)
                        self._remember(outcome)
                        return outcome
                    failed.append(outcome)
                    if outcome.started is None:
                        # Another one would be refused, too.
                        left = 0
                if not running:
                    started = (each for each in failed if each.started is not None)
                    outcome = next(started, failed[0])
                    return outcome if last is call else _since_the_first(call, outcome)
                if not left:
                    await kernel.first_of(*running)
                elif await self._due(last, running):
                    left, last = left - 1, last.latest.beside()
                    running.append(kernel.spawn(_made(last, call_next)))
        finally:
            for activity in running:
                kernel.cancel(activity)

    async def _due(self, last: Call, running: list[Activity[Outcome]]) -> bool:
        """Wait until a call beside *last* is due, or until one of those *running* has ended."""
        kernel = last.run.kernel
        delay = self._delay()
        if delay is None:
            known = kernel.spawn(self._known(kernel))
            either: list[Activity[Any]] = [*running, known]
            try:
                await kernel.first_of(*either)
            finally:
                kernel.cancel(known)
            return False
        left = partial(_left, last, delay)
        with kernel.moving_deadline(left, first=left()) as due:
            await kernel.first_of(*running)
        if due.expired:
            last.run.emit(
                CallHedged, last.node_id, last.node_name, last.element, last.attempt, delay
            )
        return due.expired

    async def _known(self, kernel: Kernel) -> None:
        """Wait until the delay is known."""
        awaited: Completion[bool] = Completion(kernel)
        token = partial(kernel.post, awaited.set, True)
        if self._latencies.enter(token):
            try:
                await awaited
            finally:
                self._latencies.leave(token)

    def _remember(self, outcome: Outcome) -> None:
        """
        Keep how long an attempt took.

        Of one that a hedge has rescued it is the time up to then: it would have taken longer, and
        a quantile asks no more.
        """
        for token in self._latencies.add(outcome.ran):
            wake: Any = token
            wake()

    def _delay(self) -> float | None:
        """Seconds that a call may run before another one is made; None: nobody knows yet."""
        policy = self._policy
        if policy.quantile is None:
            return policy.delay
        longest = self._latencies.quantile(policy.quantile)
        return None if longest is None else longest * _LONGER


def _left(call: Call, delay: float) -> float:
    """Seconds until *call* has run for *delay*, or until it is to be looked at again."""
    started = call.latest.started
    if started is None:
        # Nobody tells when it starts; by then it can't have run for longer.
        return max(delay, _LOOK)
    return started + delay - call.run.kernel.now()


async def _made(call: Call, call_next: Next) -> Outcome:
    return await call_next(call)


def _since_the_first(call: Call, outcome: Outcome) -> Outcome:
    """Let the attempt begin when its first *call* did: limits on all attempts count from there."""
    first = call.latest.started
    if first is not None and outcome.started is not None:
        began = min(first, outcome.started)
        outcome.started, outcome.ran = began, call.run.kernel.now() - began
    return outcome


def _outcome_of(activity: Activity[Outcome]) -> Outcome:
    if activity.error is not None:
        # A middleware within raised: its fault, but this call's failure.
        return Outcome(error=activity.error)
    return activity.value
