"""
Carries out `RateLimit` and `Bulkhead`, and asks a `Circuit` last: when an attempt may start.

    circuit ─► turn ─► place ─► free worker ─► circuit once more ─► attempt
       ▲ parked  parked  parked                      │ it has opened meanwhile
       └─────────────────────────────────────────────┘

The circuit is asked again when a worker is free to start the attempt, so that an outage is met
by those alone that were under way when it was noticed.  Whoever waits holds no worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import final

from daglite.core.call import Call, Outcome
from daglite.core.kernel import Completion
from daglite.core.no_waits import no_waits
from daglite.core.parking import park
from daglite.core.protocols import Backend, Next
from daglite.exceptions import BulkheadFullError, ExecutionError, RateLimitedError
from daglite.middleware.circuit import Circuit, Leave, wake
from daglite.policies import Bulkhead, RateLimit
from daglite.state.shared import AnyBucket

__all__ = ["Admission"]


@final
class Admission:
    """
    Lets attempts start when circuit, rate and bulkhead allow it and a worker is free.

    Args:
        backend: Whose workers they are.
        circuit: Counts attempts; None: there is no circuit breaker here.
        rate: How many may start in a time.
        bulkhead: How many may run at a time.
    """

    def __init__(
        self,
        backend: Backend,
        circuit: Circuit | None,
        rate: RateLimit | None,
        bulkhead: Bulkhead | None,
    ) -> None:
        self._backend = backend
        self._circuit = circuit
        self._rate = rate
        self._bulkhead = bulkhead

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        if self._circuit is None or no_waits:
            return await self._paced(call, call_next)
        paced = partial(self._paced, call_next=call_next)
        return await self._circuit.through(call, paced, again=True)

    async def _paced(self, call: Call, call_next: Next, leave: Leave | None = None) -> Outcome:
        if call.done_before is not None:
            # It had its turn and its place.
            return await call_next(call)
        begun = call.begun
        if begun:
            give_back = _nothing if call.held is None else call.held
        else:
            refused = await self._turn(call)
            if refused is not None:
                return Outcome(error=refused)
            place = await self._place(call)
            if isinstance(place, ExecutionError):
                return Outcome(error=place)
            give_back = place
        try:
            gate = call.run.gate(self._backend, self._backend.slots)
            await gate.enter(call.run.kernel)
            try:
                if self._circuit is not None and leave is not None and not begun:
                    self._circuit.confirm(call, leave)
                return await call_next(call)
            finally:
                gate.leave()
        finally:
            give_back()

    async def _turn(self, call: Call) -> ExecutionError | None:
        """Wait for the turn of *call*, or say why it has none."""
        policy, run, name = self._rate, call.run, call.node_name
        if policy is None or no_waits:
            return None
        key = policy.key or name
        bucket: AnyBucket = run.states.bucket(policy, key, name, policy.scope)
        began = run.kernel.now()
        while True:
            turn = bucket.reserve(run.kernel.now())
            waited = run.kernel.now() - began
            if policy.max_wait is not None and turn.wait > policy.max_wait - waited:
                bucket.give_back(turn)
                return RateLimitedError(
                    f"its turn under the rate limit {key!r} is in {turn.wait:g} s, "
                    f"later than max_wait={policy.max_wait:g} s allows",
                    retry_in=turn.wait,
                    key=key,
                )
            try:
                await park(call, turn.wait if turn.again is None else turn.again, "rate limit")
            except BaseException:
                bucket.give_back(turn)
                raise
            if turn.again is None:
                return None

    async def _place(self, call: Call) -> Callable[[], None] | ExecutionError:
        """Wait for a place of the bulkhead; return what gives it back, or why there is none."""
        policy, kernel, name = self._bulkhead, call.run.kernel, call.node_name
        if policy is None:
            return _nothing
        key = policy.key or name
        permits = call.run.states.permits(policy, key, name)
        awaited: Completion[bool] = Completion(kernel)
        token = partial(kernel.post, awaited.set, True)
        answer = permits.acquire(token)
        if answer == "full":
            return BulkheadFullError(
                f"the bulkhead {key!r} is full: {policy.max_concurrent} run and "
                f"{policy.max_queue} wait",
                key=key,
            )
        if answer == "wait":
            longest = math.inf if policy.max_wait is None else policy.max_wait
            came = False
            try:
                came = await park(call, longest, "bulkhead", awaited)
            finally:
                if not came:
                    wake([permits.leave(token)])
            if not came:
                return BulkheadFullError(
                    f"the bulkhead {key!r} had no place within max_wait={longest:g} s", key=key
                )
        return lambda: wake([permits.release()])


def _nothing() -> None:
    """There is no place to give back."""
