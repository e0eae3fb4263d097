"""Carries out `CircuitBreaker`: calls wait, or fail, while what they call seems to be down."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from daglite.core.call import Call, Outcome
from daglite.core.events import CircuitChanged
from daglite.core.kernel import Cancelled, Kernel
from daglite.core.no_waits import no_waits
from daglite.core.parking import Bell, Parked
from daglite.core.protocols import Next
from daglite.core.run import Run
from daglite.exceptions import (
    BulkheadFullError,
    CircuitOpenError,
    RateLimitedError,
    TaskTimeoutError,
)
from daglite.middleware.start import Start, wake
from daglite.policies import CircuitBreaker
from daglite.state.answers import Permit, Transition
from daglite.state.shared import LOOK_EVERY, AnyBreaker, SharedBreaker
from daglite.state.waits import until

__all__ = ["Circuit", "CircuitOfCalls", "Waited", "late", "settle_flown", "tell", "wake"]


def tell(run: Run, transition: Transition | None) -> None:
    """Tell the listeners of *run*, and those who wait, of a transition; once."""
    if transition is None:
        return
    which = transition.key, transition.generation
    if which not in run.heard:
        run.heard.add(which)
        run.emit(
            CircuitChanged,
            transition.key,
            transition.before,
            transition.after,
            transition.reason,
            transition.retry_in,
        )
        wake(transition.wake)


@final
class Waited:
    """
    What one attempt has waited for so far.

    Attributes:
        parked: Seconds at the circuit, over all probes.
        probes: How often it went as a probe, and failed.
        turn: Seconds for its turn under the rate limit, since it last ran.
        place: Seconds for a place of the bulkhead, since it last ran.
        number: Its number in the line for turns; None: it wasn't in it.
    """

    __slots__ = ("_told", "number", "parked", "place", "probes", "turn")

    def __init__(self) -> None:
        self.parked = 0.0
        self.probes = 0
        self.run_again()

    def run_again(self) -> None:
        """It ran, and is to run again."""
        self.turn = self.place = 0.0
        self.number: int | None = None
        self._told: tuple[str, ...] = ()

    def told(self, what: str) -> bool:
        """Whether it was told since it last ran that it waits for *what*; from now on it was."""
        if what in self._told:
            return True
        self._told += (what,)
        return False


@final
class Circuit:
    """
    The breaker of a task, as calls wait for it.

    Of each run as many calls as there may be probes ask it when its break is over; the others
    stand behind them, and go on as those do.
    """

    def __init__(self, policy: CircuitBreaker) -> None:
        self.policy = policy

    def breaker_of(self, call: Call) -> AnyBreaker:
        policy, name = self.policy, call.node_name
        breaker: AnyBreaker = call.run.states.breaker(
            policy, policy.key or name, name, policy.scope
        )
        return breaker

    async def permit(self, call: Call, breaker: AnyBreaker, waited: Waited) -> Permit | Outcome:
        """Wait for a permit; or say, as the outcome of the call, why there is none."""
        permit = breaker.passing
        if permit is not None:
            return permit
        kernel, policy = call.run.kernel, self.policy
        now, known = kernel.now(), _generation(breaker)
        if call.run.gate(breaker, policy.probes).free:
            answer = breaker.permit(now)
            if isinstance(answer, Permit):
                tell(call.run, answer.transition)
                return answer
        left = policy.max_park - waited.parked if policy.on_open == "park" else 0.0
        retry_in = breaker.snapshot(now).retry_in or 0.0
        if left <= 0:
            # What opened it may be among the messages: that is told first.
            await kernel.sleep(0)
            return Outcome(error=self.refused(breaker, call))
        by = math.inf if call.start_by is None else call.start_by
        if now + min(retry_in, left) > by:
            return _late(breaker)
        with (
            Parked(call, min(retry_in, left), "circuit breaker", waited.told("circuit breaker")),
            kernel.deadline(until(now, min(now + left, by))),
            _looking(kernel, breaker),
        ):
            try:
                return await self._in_line(call, breaker, known)
            finally:
                waited.parked += kernel.now() - now
        now, over = kernel.now(), kernel.now() >= now + left
        if over:
            waited.parked = policy.max_park
        # A break may end just then.
        answer = breaker.permit(now)
        if isinstance(answer, Permit):
            tell(call.run, answer.transition)
            return answer
        return Outcome(error=self.refused(breaker, call)) if over else _late(breaker)

    async def _in_line(self, call: Call, breaker: AnyBreaker, known: int) -> Permit:
        kernel = call.run.kernel
        line = call.run.gate(breaker, self.policy.probes)
        await line.enter(kernel)
        bell = Bell(kernel)
        try:
            while True:
                answer = breaker.permit(kernel.now(), bell)
                if _generation(breaker) > known:
                    # Somebody else's doing: another run's, or `force_open` and `reset`.
                    tell(call.run, breaker.last)
                if isinstance(answer, Permit):
                    tell(call.run, answer.transition)
                    return answer
                await bell.wait(answer)
        finally:
            breaker.leave(bell)
            line.leave()

    def parks_again(self, waited: Waited, breaker: AnyBreaker) -> bool:
        """
        Whether a probe that failed costs its call no attempt.

        Not the one above all that a call parked for so long can have been, nor one whose round
        went well all the same, when it has been parked for as long as it may.
        """
        policy = self.policy
        waited.probes += 1
        if policy.on_open != "park" or waited.probes > policy.most_probes:
            return False
        # Not asked for a permit: a breaker with room for more probes would give one.
        return waited.parked < policy.max_park or breaker.passing is None

    def refused(self, breaker: AnyBreaker, call: Call) -> CircuitOpenError:
        """The error of a call that the breaker doesn't let go."""
        policy, now = self.policy, breaker.snapshot(call.run.kernel.now())
        told, retry_in = (
            f"the circuit {breaker.key!r} is {now.state.replace('_', ' ')}",
            now.retry_in,
        )
        if policy.on_open == "park":
            told += f", and the call has waited max_park={policy.max_park:g} s for it"
        if retry_in == math.inf:
            told, retry_in = f"{told}; until somebody resets it", None
        elif retry_in is not None:
            told += f"; a probe may go in {retry_in:g} s"
        return CircuitOpenError(told, retry_in=retry_in, key=breaker.key)


@final
class CircuitOfCalls:
    """A circuit that counts how whole calls end, retries included."""

    def __init__(self, policy: CircuitBreaker) -> None:
        self._circuit = Circuit(policy)

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        if no_waits:
            return await call_next(call)
        circuit, kernel = self._circuit, call.run.kernel
        breaker = circuit.breaker_of(call)
        permit = await circuit.permit(call, breaker, Waited())
        if isinstance(permit, Outcome):
            return permit
        ignored, made = circuit.policy.ignore, call.done_before
        start = Start(call, breaker=breaker, permit=permit, ignored=ignored)
        try:
            outcome = await call_next(call)
        except BaseException as flown:
            settle_flown(start, call, flown)
            tell(call.run, start.transition)
            raise
        if outcome.started is None and isinstance(outcome.error, _HELD_UP):
            start.give_up()
        else:
            began = call.started if made is None else made.started
            start.record(outcome, outcome.ran if began is None else kernel.now() - began)
        tell(call.run, start.transition)
        return outcome


_HELD_UP = (RateLimitedError, BulkheadFullError)
"""What ends a call that hasn't started: no news of the other side."""


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


def settle_flown(start: Start, call: Call, flown: BaseException) -> None:
    """*call* was ended from further out: by its total, which is a failure, or as not wanted."""
    if isinstance(flown, Cancelled) and call.overdue:
        outcome = _cut_off(call)
        start.record(outcome, outcome.ran)
    else:
        start.give_up()


def _cut_off(call: Call) -> Outcome:
    """How *call*, which is cancelled because its total is over, has ended for the breaker."""
    started = call.latest.started
    ran = 0.0 if started is None else call.now() - started
    error = TaskTimeoutError("its total is over", limit=ran, elapsed=ran, kind="total")
    return Outcome(error=error, started=started, ran=ran)


def _late(breaker: AnyBreaker) -> Outcome:
    return late(f"the circuit {breaker.key!r} lets none start before")


def late(why: str) -> Outcome:
    """The outcome of a retry that can't start as soon as it would have to."""
    outcome = Outcome(error=TimeoutError(why))
    outcome.note, outcome.too_late = why, True
    return outcome


def _generation(breaker: AnyBreaker) -> int:
    return 0 if breaker.last is None else breaker.last.generation
