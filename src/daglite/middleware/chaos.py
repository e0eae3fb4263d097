"""Carries out `Chaos`: breaks a share of the attempts, in runs that ask for it."""

from __future__ import annotations

from functools import partial
from typing import final

from daglite.core.attempts import draw
from daglite.core.call import Call, Outcome
from daglite.core.events import FaultInjected
from daglite.core.parking import park
from daglite.core.protocols import Next
from daglite.exceptions import PolicyError, WorkerDiedError, describe
from daglite.policies import Chaos

__all__ = ["FaultInjection"]

_LOOK_EVERY = 0.01
"""Seconds between two looks whether a call that shall be killed has started."""


@final
class FaultInjection:
    """
    Strikes attempts as `Chaos` says; which ones depends on the seed alone.

    Raises:
        PolicyError: An error of the policy can't be made.
    """

    def __init__(self, policy: Chaos) -> None:
        self._policy = policy
        self._faults = tuple(policy.faults)
        for kind in policy.error:
            _made(kind, "")

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        policy = self._policy
        if self._draw(call, "struck") >= policy.rate:
            return await call_next(call)
        fault = self._faults[int(self._draw(call, "fault") * len(self._faults))]
        if fault == "error" and not call.may_start():
            return Outcome.turned_away()
        if not call.struck:
            # Once, however often it is turned away before it starts.
            call.struck = True
            call.run.emit(
                FaultInjected, call.node_id, call.node_name, call.element, call.attempt, fault
            )
        if fault == "error":
            return self._failed(call)
        if fault == "kill":
            return await _killed(call, call_next)
        outcome = await call_next(call)
        if fault == "corrupt":
            return self._corrupted(outcome)
        return outcome if outcome.away else await self._late(call, outcome)

    def _failed(self, call: Call) -> Outcome:
        """Instead of the call: the function isn't run."""
        kinds = self._policy.error
        kind = kinds[int(self._draw(call, "error") * len(kinds))]
        call.started = now = call.run.kernel.now()
        error = _made(kind, f"chaos struck attempt {call.attempt} of {call.node_name!r}")
        return Outcome(error=error, started=now)

    def _corrupted(self, outcome: Outcome) -> Outcome:
        corrupt = self._policy.corrupt
        if outcome.error is None and not outcome.away and corrupt is not None:
            try:
                outcome.value = corrupt(outcome.value)
            except Exception as error:
                outcome.error = error
        return outcome

    async def _late(self, call: Call, outcome: Outcome) -> Outcome:
        # After the call, as its attempt's limit counts from when the function has started.
        seconds = self._policy.latency
        assert seconds is not None
        await park(call, seconds, "chaos")
        outcome.ran += seconds
        return outcome

    def _draw(self, call: Call, purpose: str) -> float:
        seed = call.run.seed if self._policy.seed is None else self._policy.seed
        # An attempt that a circuit starts again, as its probe, isn't bound to be struck again.
        return draw(call, seed, f"|chaos|{purpose}|{call.repeats}")


async def _killed(call: Call, call_next: Next) -> Outcome:
    """Have the backend end the call once it runs; of one that is quicker the result is lost."""
    kernel = call.run.kernel
    with kernel.moving_deadline(partial(_left, call), first=_LOOK_EVERY):
        outcome = await call_next(call)
        if outcome.away:
            return outcome
    started, now = call.started, kernel.now()
    return Outcome(
        error=WorkerDiedError("chaos killed its worker"),
        started=started,
        ran=0.0 if started is None else now - started,
        worker=call.worker,
    )


def _left(call: Call) -> float:
    return _LOOK_EVERY if call.started is None else 0.0


def _made(kind: type[Exception], text: str) -> Exception:
    try:
        return kind(text)
    except Exception as error:
        raise PolicyError(
            f"chaos can't raise {kind.__name__}, as {kind.__name__}('some text') fails "
            f"({describe(error)})",
            fix="give a class that can be made of a text alone",
        ) from error
