"""Carries out `CircuitBreaker`: calls wait, or fail, while what they call seems to be down."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, final

from daglite.core.call import Call, Outcome
from daglite.core.events import CircuitChanged
from daglite.core.kernel import Cancelled, Completion, Kernel
from daglite.core.no_waits import no_waits
from daglite.core.parking import park
from daglite.core.protocols import Next
from daglite.core.run import Run
from daglite.exceptions import (
    BulkheadFullError,
    CircuitOpenError,
    RateLimitedError,
    TaskTimeoutError,
)
from daglite.policies import CircuitBreaker
from daglite.state.answers import Permit, Transition
from daglite.state.shared import LOOK_EVERY, AnyBreaker, SharedBreaker

__all__ = ["Circuit", "CircuitOfCalls", "Leave", "tell", "wake"]


def wake(tokens: Iterable[Hashable | None]) -> None:
    """Tell those who wait that it may be their turn; a token is a function of no arguments."""
    for token in tokens:
        if token is not None:
            call: Any = token
            call()


def tell(run: Run, transition: Transition) -> None:
    """Tell the listeners of *run*, and those who wait, of a transition."""
    run.emit(
        CircuitChanged,
        transition.key,
        transition.before,
        transition.after,
        transition.reason,
        transition.retry_in,
    )
    wake(transition.wake)


_HELD_UP = (RateLimitedError, BulkheadFullError)
"""What ends a call that hasn't started: no news of the other side."""


@final
class Leave:
    """The permit of a call; another one, if the breaker has moved on before the call started."""

    __slots__ = ("permit",)

    def __init__(self, permit: Permit) -> None:
        self.permit = permit


class Permitted(Protocol):
    """What is asked to make the call, once there is a permit."""

    async def __call__(self, call: Call, *, leave: Leave) -> Outcome: ...


class _OpenedMeanwhileError(Exception):
    """The permit is worth nothing any more, and there is none now."""


@final
class Circuit:
    """
    The breaker of a task, as calls go through it.

    An open one costs no attempt: the call is parked, or refused.  Neither does a failed probe,
    which the breaker asked for, not the task: its call is parked again.
    """

    def __init__(self, policy: CircuitBreaker) -> None:
        self._policy = policy

    async def through(self, call: Call, permitted: Permitted, *, again: bool) -> Outcome:
        """
        Let a call go when the breaker does, and tell the breaker how it ended.

        Args:
            call: The call.
            permitted: Makes it.
            again: Whether a failed probe waits and goes again, where calls are parked.
        """
        policy, kernel, name = self._policy, call.run.kernel, call.node_name
        breaker: AnyBreaker = call.run.states.breaker(
            policy, policy.key or name, name, policy.scope
        )
        parks = policy.on_open == "park"
        again = again and parks
        until = kernel.now() + (policy.max_park if parks else 0.0)
        while True:
            # What was made already needs no other permit than the one that it was made with.
            granted, call.granted = call.granted, None
            permit = granted or await self._permit(call, breaker, until)
            if isinstance(permit, CircuitOpenError):
                return Outcome(error=permit)
            leave = Leave(permit)
            try:
                outcome = await permitted(call, leave=leave)
            except _OpenedMeanwhileError:
                wake(breaker.give_back(leave.permit))
                continue
            except BaseException as error:
                if isinstance(error, Cancelled) and call.overdue:
                    self._record(call, breaker, leave.permit, _cut_off(call))
                else:
                    wake(breaker.give_back(leave.permit))
                raise
            failed = self._record(call, breaker, leave.permit, outcome)
            if not (failed and leave.permit.is_probe and again):
                return outcome
            now = kernel.now()
            if now >= until:
                # Not asked for a permit: a breaker with room for more probes would give one.
                left = breaker.snapshot(now).retry_in
                return outcome if left is None else Outcome(error=_refused(breaker, left, call))
            call = call.repeated()

    def confirm(self, call: Call, leave: Leave) -> None:
        """
        Look whether *leave* is still good, in the moment before the call starts.

        If the breaker has opened and closed, or wants a probe now, the call needn't wait for its
        turn once more: its leave gets the new permit.

        Raises:
            _OpenedMeanwhileError: It isn't; `through` waits for another, or refuses the call.
        """
        policy, name = self._policy, call.node_name
        if leave.permit.is_probe:
            return
        breaker: AnyBreaker = call.run.states.breaker(
            policy, policy.key or name, name, policy.scope
        )
        now = breaker.permit(call.run.kernel.now())
        if not isinstance(now, Permit):
            raise _OpenedMeanwhileError
        leave.permit = now
        self._tell(call, now.transition)

    async def _permit(
        self, call: Call, breaker: AnyBreaker, until: float
    ) -> Permit | CircuitOpenError:
        """Wait for a permit, up to the moment *until* on the kernel's clock."""
        kernel = call.run.kernel
        while True:
            awaited: Completion[bool] = Completion(kernel)
            token = partial(kernel.post, awaited.set, True)
            answer = breaker.permit(kernel.now(), token)
            if isinstance(answer, Permit):
                self._tell(call, answer.transition)
                return answer
            try:
                left = until - kernel.now()
                if left <= 0:
                    return _refused(breaker, answer, call)
                with _looking(kernel, breaker):
                    await park(call, min(answer, left), "circuit breaker", awaited)
            finally:
                breaker.leave(token)

    def _record(self, call: Call, breaker: AnyBreaker, permit: Permit, outcome: Outcome) -> bool:
        """Say how *call* ended; return whether it counts as a failure."""
        error = outcome.error
        held_up = outcome.started is None and isinstance(error, _HELD_UP)
        if error is not None and (held_up or isinstance(error, self._policy.ignore)):
            wake(breaker.give_back(permit))
            return False
        failed = error is not None
        now = call.run.kernel.now()
        self._tell(call, breaker.record(permit, now, failed=failed, took=outcome.ran))
        return failed

    def _tell(self, call: Call, transition: Transition | None) -> None:
        if transition is not None:
            tell(call.run, transition)


@final
class CircuitOfCalls:
    """A circuit that counts how whole calls end, retries included."""

    def __init__(self, policy: CircuitBreaker) -> None:
        self._circuit = Circuit(policy)

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        if no_waits:
            return await call_next(call)

        async def permitted(call: Call, *, leave: Leave) -> Outcome:
            return await call_next(call)

        return await self._circuit.through(call, permitted, again=False)


@contextmanager
def _looking(kernel: Kernel, breaker: AnyBreaker) -> Iterator[None]:
    """Meanwhile look now and then what other processes do with *breaker*: they can't wake us."""
    if not isinstance(breaker, SharedBreaker):
        yield
        return

    def look() -> None:
        timers[0] = kernel.call_later(LOOK_EVERY, look)
        wake(breaker.look())

    timers = [kernel.call_later(LOOK_EVERY, look)]
    try:
        yield
    finally:
        kernel.forget(timers[0])


def _cut_off(call: Call) -> Outcome:
    """How *call*, which is cancelled because its total is over, has ended for the breaker."""
    started = call.latest.started
    ran = 0.0 if started is None else call.now() - started
    error = TaskTimeoutError("its total is over", limit=ran, elapsed=ran, kind="total")
    return Outcome(error=error, started=started, ran=ran)


def _refused(breaker: AnyBreaker, answer: float, call: Call) -> CircuitOpenError:
    state = breaker.snapshot(call.run.kernel.now()).state.replace("_", " ")
    forever = answer == math.inf
    when = "until somebody resets it" if forever else f"a probe may go in {answer:g} s"
    return CircuitOpenError(
        f"the circuit {breaker.key!r} is {state}; {when}",
        retry_in=None if forever else answer,
        key=breaker.key,
    )
