"""Carries out `FallbackPolicy`: a value in the place of a failure."""

from __future__ import annotations

from typing import final

from daglite.core.call import Call, Outcome
from daglite.core.events import FallbackUsed
from daglite.core.protocols import Next
from daglite.policies import FallbackPolicy

__all__ = ["Fallback"]


@final
class Fallback:
    """
    Gives what the policy says instead of a failure that it names.

    A ``func`` that raises fails the call with its own error, of which the first is the cause.
    """

    def __init__(self, policy: FallbackPolicy) -> None:
        self._policy = policy

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        policy = self._policy
        outcome = await call_next(call)
        error = outcome.error
        if error is None or not isinstance(error, policy.on):
            return outcome
        call.run.emit(FallbackUsed, call.node_id, call.node_name, call.element, error)
        value = policy.value
        if policy.func is not None:
            try:
                value = policy.func(error)
            except Exception as second:
                second.__cause__ = error
                outcome.error = second
                return outcome
        return Outcome(value, None, outcome.started, outcome.ran, outcome.worker)
