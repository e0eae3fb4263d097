"""
Carries out `CircuitBreaker`, `RateLimit` and `Bulkhead`: when an attempt may start.

    circuit ─► turn ─► place ─► gate ─► free worker ─► Start ─► attempt
       ▲ parked  ▲ parked  parked                        │ no
       └─────────┴───────────────────────────────────────┘

Whoever waits holds no worker, and no token of the rate limit: `Start` has the last word, on the
worker.  What isn't good any more then sends the call back to where it has to wait.  The gate
lets no more calls of a run in than its backend has workers, so that few are sent back.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, final

from daglite.core.call import Call, Outcome
from daglite.core.events import ProbeFailed
from daglite.core.kernel import Completion
from daglite.core.no_waits import no_waits
from daglite.core.parking import Bell, Parked, park
from daglite.core.protocols import Backend, Next
from daglite.exceptions import BackendError, BulkheadFullError, RateLimitedError
from daglite.middleware.circuit import Circuit, Waited, late, settle_flown, tell
from daglite.middleware.start import Start, wake
from daglite.policies import Bulkhead, CircuitBreaker, RateLimit
from daglite.state.permits import Permits
from daglite.state.shared import AnyBreaker, AnyBucket
from daglite.state.waits import until

__all__ = ["Admission"]


@final
class Admission:
    """
    Lets attempts start when circuit, rate and bulkhead allow it and a worker is free.

    Args:
        backend: Whose workers they are.
        breaker: Counts attempts; None: there is no such circuit breaker here.
        rate: How many may start in a time.
        bulkhead: How many may run at a time.
        early: Whether the outcome that the worker has is that of the attempt: nothing further
            in changes it, but to a failure for being late.
    """

    def __init__(
        self,
        backend: Backend,
        breaker: CircuitBreaker | None,
        rate: RateLimit | None,
        bulkhead: Bulkhead | None,
        *,
        early: bool = True,
    ) -> None:
        self._backend = backend
        self._circuit = None if breaker is None else Circuit(breaker)
        self._rate = rate
        self._bulkhead = bulkhead
        self._early = early

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        if call.begun or call.done_before is not None:
            return await self._made_before(call, call_next)
        if self._circuit is None or no_waits:
            if self._rate is None and call.start_by is None:
                return await self._placed(call, call_next, None, Waited())
            return await self._sent(call, call_next, self._start(call), Waited())
        return await self._through(self._circuit, call, call_next)

    async def _made_before(self, call: Call, call_next: Next) -> Outcome:
        """An attempt that was made, or begun, with all it needed before the chain was entered."""
        circuit, permit = None if no_waits else self._circuit, call.granted
        breaker = None if circuit is None else circuit.breaker_of(call)
        ignored = () if circuit is None else circuit.policy.ignore
        held = call.held if call.begun else None
        call.granted = None
        start = Start(call, None, breaker, permit, ignored=ignored)
        try:
            outcome = await call_next(call)
            start.record(outcome, outcome.ran)
            return outcome
        except BaseException as flown:
            settle_flown(start, call, flown)
            raise
        finally:
            if held is not None:
                held()
            tell(call.run, start.transition)

    async def _through(self, circuit: Circuit, call: Call, call_next: Next) -> Outcome:
        """
        Send *call* when the breaker lets it, and tell the breaker how it ended.

        A failed probe, which the breaker asked for, not the task, is parked and goes again.
        """
        breaker, waited = circuit.breaker_of(call), Waited()
        failure: BaseException | None = None
        while True:
            permit = await circuit.permit(call, breaker, waited)
            if isinstance(permit, Outcome):
                return _caused(permit, failure)
            start = self._start(call, breaker, permit)
            try:
                outcome = await self._sent(call, call_next, start, waited)
            except BaseException as flown:
                settle_flown(start, call, flown)
                tell(call.run, start.transition)
                raise
            if start.opened_by is not None:
                tell(call.run, start.opened_by)
            if outcome.away:
                start.give_up()
                continue
            if not start.admitted:
                start.give_up()
                return _caused(outcome, failure)
            failed = start.record(outcome, outcome.ran)
            tell(call.run, start.transition)
            if not (failed and start.is_probe and circuit.parks_again(waited, breaker)):
                return outcome
            failure = outcome.error
            run, name, element = call.run, call.node_name, call.element
            run.emit(ProbeFailed, call.node_id, name, element, call.attempt, failure, outcome.ran)
            if waited.parked >= circuit.policy.max_park:
                return _caused(Outcome(error=circuit.refused(breaker, call)), failure)
            call = call.repeated()
            waited.run_again()

    def _start(self, call: Call, breaker: AnyBreaker | None = None, permit: Any = None) -> Start:
        ignored = () if self._circuit is None else self._circuit.policy.ignore
        bucket = self._bucket_of(call)
        return Start(call, bucket, breaker, permit, ignored=ignored, early=self._early)

    def _bucket_of(self, call: Call) -> AnyBucket | None:
        policy, name = self._rate, call.node_name
        if policy is None or no_waits:
            return None
        bucket: AnyBucket = call.run.states.bucket(policy, policy.key or name, name, policy.scope)
        return bucket

    async def _sent(self, call: Call, call_next: Next, start: Start, waited: Waited) -> Outcome:
        """How *call* ended; turned away, if the circuit doesn't let it go any more."""
        while True:
            bucket = start.bucket
            if bucket is not None:
                held_up = await self._turn(call, bucket, waited)
                if held_up is not None:
                    return held_up
            try:
                outcome = await self._placed(call, call_next, start, waited)
            finally:
                if bucket is not None and not start.admitted:
                    wake([bucket.forgo()])
            if not outcome.away or start.held_by == "circuit breaker":
                return outcome
            if start.held_by == "max_elapsed":
                return late("no worker was free before")

    async def _placed(
        self, call: Call, call_next: Next, start: Start | None, waited: Waited
    ) -> Outcome:
        """Wait for place and worker, and make *call*."""
        places = await self._place(call, waited)
        if isinstance(places, Outcome):
            return places
        backend = self._backend
        gate = call.run.gate(backend, backend.slots)
        try:
            await gate.enter(call.run.kernel)
            try:
                call.admit = start
                outcome = await call_next(call)
                if not call.cancelled:
                    # It leads back to the call; a worker that is late may still ask it.
                    call.admit = None
            finally:
                gate.leave()
        finally:
            if places is not None:
                wake([places.release()])
        if start is None or start.admitted or outcome.away or outcome.started is None:
            return outcome
        # Too late for this one, but whoever writes a backend sees it at the first try.
        told = f"backend {backend.name!r} started a call of {call.node_name!r} without asking"
        return Outcome(error=BackendError(f"{told} Call.may_start; see Backend.submit"))

    async def _turn(self, call: Call, bucket: AnyBucket, waited: Waited) -> Outcome | None:
        """Wait until *call* may go to take a token; or say why it can't."""
        policy, kernel = self._rate, call.run.kernel
        assert policy is not None
        line, now = call.run.gate(self, 1), kernel.now()
        if line.free and bucket.ask(now) == 0.0:
            return None
        key = policy.key or call.node_name
        left = math.inf if policy.max_wait is None else policy.max_wait - waited.turn
        by = math.inf if call.start_by is None else call.start_by
        # One that was turned away goes before those that came after it.
        wait = bucket.wait(now, 0 if waited.number is not None else line.waiting)
        if wait > left:
            return Outcome(error=_no_turn(key, wait, policy.max_wait))
        if now + wait > by:
            return late(f"its turn under the rate limit {key!r} doesn't come before")
        until_then = until(now, min(now + left, by))
        told = waited.told("rate limit")
        with Parked(call, wait, "rate limit", told), _within(call, until_then):
            try:
                await self._in_line(call, bucket, waited)
                return None
            finally:
                waited.turn += kernel.now() - now
        # Its turn may come just then.
        now, over = kernel.now(), kernel.now() >= now + left
        if bucket.ask(now) == 0.0:
            return None
        if over:
            return Outcome(error=_no_turn(key, bucket.wait(now), policy.max_wait))
        return late(f"its turn under the rate limit {key!r} doesn't come before")

    async def _in_line(self, call: Call, bucket: AnyBucket, waited: Waited) -> None:
        """Only the first of the calls that are alike waits for time, the others for that one."""
        kernel, line = call.run.kernel, call.run.gate(self, 1)
        waited.number = await line.enter(kernel, waited.number)
        bell = Bell(kernel)
        try:
            while wait := bucket.ask(kernel.now(), bell):
                await bell.wait(wait)
        finally:
            wake([bucket.leave(bell)])
            line.leave()

    async def _place(self, call: Call, waited: Waited) -> Permits | Outcome | None:
        """Wait for a place of the bulkhead; return where it is given back, or why there is none."""
        policy, kernel, name = self._bulkhead, call.run.kernel, call.node_name
        if policy is None:
            return None
        key = policy.key or name
        permits: Permits = call.run.states.permits(policy, key, name)
        if permits.take():
            return permits
        awaited: Completion[bool] = Completion(kernel)
        token = partial(kernel.post, awaited.set, True)
        answer = permits.acquire(token)
        if answer == "full":
            told = f"the bulkhead {key!r} is full: {policy.max_concurrent} run and "
            told += f"{policy.max_queue} wait; raise max_concurrent, or max_queue to let more wait"
            return Outcome(error=BulkheadFullError(told, key=key))
        if answer == "go":
            return permits
        now, came = kernel.now(), False
        left = math.inf if policy.max_wait is None else policy.max_wait - waited.place
        by = math.inf if call.start_by is None else call.start_by
        longest, known = min(left, by - now), waited.told("bulkhead")
        try:
            came = await park(call, longest, "bulkhead", awaited, known)
        finally:
            waited.place += kernel.now() - now
            if not came:
                wake([permits.leave(token)])
        if came:
            return permits
        if kernel.now() >= now + left:
            told = f"the bulkhead {key!r} had no place within max_wait={policy.max_wait:g} s"
            return Outcome(error=BulkheadFullError(f"{told}; raise it to wait longer", key=key))
        return late(f"the bulkhead {key!r} has no place before")


def _within(call: Call, seconds: float) -> AbstractContextManager[object]:
    """Ends what waits in the block after so many seconds; ``inf``: never."""
    return nullcontext() if seconds == math.inf else call.run.kernel.deadline(seconds)


def _no_turn(key: str, wait: float, max_wait: float | None) -> RateLimitedError:
    return RateLimitedError(
        f"its turn under the rate limit {key!r} is in {wait:g} s, later than "
        f"max_wait={max_wait:g} s allows; raise it to wait longer",
        retry_in=wait,
        key=key,
    )


def _caused(outcome: Outcome, failure: BaseException | None) -> Outcome:
    """*outcome* of a call that didn't start, with what made it wait last."""
    if failure is not None and outcome.error is not None:
        outcome.error.__cause__ = failure
    return outcome
