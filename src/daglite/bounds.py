"""
How long one call of a task can take at most, as its policies say.

    call = attempts × (wait for the circuit + probes × (waits for leave + run)) + back-off + hints,
           at most total + grace

What a call waits for a free worker stands beside that: it depends on the graph, and the total
alone limits it.  The overhead of daglite and of the system isn't counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, final

from daglite._units import format_duration
from daglite.core.protocols import Backend
from daglite.policies import (
    CircuitBreaker,
    PolicySet,
    RetryPolicy,
    TimeoutPolicy,
)
from daglite.policies.middlewares import Middleware, longest_wait

__all__ = ["Bound", "CallBounds", "Wait", "attempts_of", "back_off_of", "bounds_of", "total_of"]

_COUNTED = 1_000
"""Retries whose waits are added up one by one."""


@final
@dataclass(frozen=True)
class Bound:
    """
    The longest time that something can take.

    Attributes:
        seconds: From 0; ``inf``: there is no limit.
        reasons: Why there is no limit; empty where there is one.
    """

    seconds: float
    reasons: tuple[str, ...] = ()

    @property
    def unbounded(self) -> bool:
        """Whether there is no limit."""
        return self.seconds == math.inf

    def plus(self, other: Bound) -> Bound:
        """One after the other."""
        reasons = tuple(dict.fromkeys((*self.reasons, *other.reasons)))
        return Bound(self.seconds + other.seconds, reasons)

    def times(self, number: float) -> Bound:
        """So many times, from 0."""
        return Bound(self.seconds * number, self.reasons) if number else Bound(0.0)

    def cut(self, other: Bound) -> Bound:
        """The lower one."""
        return other if other.seconds < self.seconds else self

    def named(self, name: str) -> Bound:
        """With *name* before each reason."""
        return Bound(self.seconds, tuple(f"{name}: {reason}" for reason in self.reasons))

    def __str__(self) -> str:
        if self.unbounded:
            return "unbounded"
        return format_duration(self.seconds)


def total_of(bounds: Iterable[Bound]) -> Bound:
    """All of *bounds*, one after the other."""
    total = Bound(0.0)
    for bound in bounds:
        total = total.plus(bound)
    return total


@final
@dataclass(frozen=True)
class Wait:
    """
    What a call can wait for besides its back-off and a free worker.

    Attributes:
        what: "circuit breaker", "rate limit", "bulkhead", "retry budget", "around_call" or
            "around_attempt".
        each: Whether each attempt can wait so long, or the call as a whole.
        bound: How long.
        again: Whether an attempt can wait so long each time that its breaker has it run as a
            probe; else once over all of them.
    """

    what: str
    each: Literal["attempt", "call"]
    bound: Bound
    again: bool = False


@final
@dataclass(frozen=True)
class CallBounds:
    """
    The parts of the bound of one call.

    Attributes:
        attempts: How many attempts there can be on behalf of the task, from 1: retries after losses
            of the infrastructure too, where the backend can lose a worker; hedges and a breaker's
            own probes not.
        run: One run of the function, with the time that an expired one may take to end.
        waits: What else it can wait for.
        back_off: Seconds that it can wait between its attempts, hints aside.
        hints: Seconds that hints of errors can add to that.
        call: All of it, from the moment the call is due.
        work: The part of it in which it can keep a worker busy.
        notes: What the bound doesn't count.
    """

    attempts: int
    run: Bound
    waits: tuple[Wait, ...]
    back_off: float
    hints: float
    call: Bound
    work: Bound
    notes: tuple[str, ...]


def bounds_of(policies: PolicySet, backend: Backend) -> CallBounds:
    """
    The bound of one call with the resolved *policies* on *backend*.

    A hint is counted at `RetryPolicy.max_hint` before each retry, unless the policy has
    ``hint=None``: any error may bring one.  What a call waits while `RetryPolicy.max_elapsed`
    runs is counted no further than that.
    """
    retry, timeout, breaker = policies.retry, policies.timeout, _working(policies)
    attempts = attempts_of(retry, backend)
    run = _run_of(timeout)
    waits = tuple(_waits_of(policies, breaker))
    back_off = back_off_of(retry, backend)
    hinted = _sum_of_waits(retry, attempts - 1, _hinted)
    # A hedge is made while a call before it still runs, so they are as if one after the other.
    calls = 1 if policies.hedge is None else 1 + policies.hedge.max_hedges
    ran = run.plus(total_of(w.bound for w in waits if w.each == "attempt" and w.again))
    once = ran.times(1 + _repeated_probes(breaker))
    once = once.plus(total_of(w.bound for w in waits if w.each == "attempt" and not w.again))
    once = once.times(calls)
    call = once.times(attempts).plus(Bound(max(back_off, hinted)))
    call = call.plus(total_of(w.bound for w in waits if w.what == "retry budget"))
    if retry is not None and retry.max_elapsed is not None:
        # From the start of the first attempt to that of the last.
        call = call.cut(once.times(2).plus(Bound(retry.max_elapsed)))
    outside = [w for w in waits if w.each == "call" and w.what == "circuit breaker"]
    call = call.plus(total_of(wait.bound for wait in outside))
    again = _repeats(waits, "around_attempt")
    work = run.times(1 + _repeated_probes(breaker)).plus(again).times(attempts * calls)
    if timeout is not None and timeout.total is not None:
        whole = Bound(timeout.total + timeout.grace)
        call, work = call.cut(whole), work.cut(whole)
    anything = total_of(w.bound for w in waits if w.what == "around_call")
    call, work = call.plus(anything), work.plus(_repeats(waits, "around_call"))
    notes = tuple(_notes_of(policies))
    return CallBounds(
        attempts, run, waits, back_off, max(hinted - back_off, 0.0), call, work, notes
    )


def attempts_of(retry: RetryPolicy | None, backend: Backend) -> int:
    """How often *backend* can start the function at most, from 1."""
    if retry is None:
        return 1
    losses = retry.infrastructure_retries if backend.capabilities.loses_workers else 0
    return retry.max_attempts + losses


def back_off_of(retry: RetryPolicy | None, backend: Backend) -> float:
    """Seconds that a call can wait between its attempts at most, hints aside."""
    retries = attempts_of(retry, backend) - 1
    return _sum_of_waits(retry, retries, lambda policy, number: policy.ceiling(number))


def _run_of(timeout: TimeoutPolicy | None) -> Bound:
    if timeout is None:
        return Bound(math.inf, ("nothing limits how long an attempt runs; give it a timeout",))
    limit = timeout.total if timeout.attempt is None else timeout.attempt
    assert limit is not None
    return Bound(limit + timeout.grace)


def _sum_of_waits(
    retry: RetryPolicy | None, retries: int, longest: Callable[[RetryPolicy, int], float]
) -> float:
    if retry is None:
        return 0.0
    delays = len(retry.backoff) if isinstance(retry.backoff, tuple) else 0
    counted = min(retries, max(_COUNTED, delays))
    waits = math.fsum(longest(retry, number) for number in range(1, counted + 1))
    # From there on they only grow, so that the last one is the longest.
    return waits + (retries - counted) * longest(retry, retries) if retries else 0.0


def _hinted(retry: RetryPolicy, number: int) -> float:
    ceiling = retry.ceiling(number)
    return ceiling if retry.hint is None else max(ceiling, retry.max_hint)


def _working(policies: PolicySet) -> CircuitBreaker | None:
    """The breaker, if it can hold anybody up."""
    breaker = policies.circuit_breaker
    if breaker is None or breaker.mode in ("disabled", "metrics_only"):
        return None
    return breaker


def _waits_of(policies: PolicySet, breaker: CircuitBreaker | None) -> Iterable[Wait]:
    rate, bulkhead, retry = policies.rate_limit, policies.bulkhead, policies.retry
    if policies.around_call:
        yield Wait("around_call", "call", _by(policies.around_call, "around_call"))
    if breaker is not None and breaker.on_open == "park":
        yield Wait("circuit breaker", breaker.counts, Bound(breaker.max_park))
    budget = None if retry is None else retry.budget
    if retry is not None and budget is not None and budget.on_exhausted == "pace":
        limit = retry.max_elapsed
        why = "a retry waits for its budget as long as it takes; give max_elapsed or a total"
        bound = Bound(math.inf, (why,)) if limit is None else Bound(limit)
        yield Wait("retry budget", "call", bound)
    if policies.around_attempt:
        yield Wait("around_attempt", "attempt", _by(policies.around_attempt, "around_attempt"))
    if rate is not None:
        yield Wait("rate limit", "attempt", _limited(rate.max_wait, "rate limit"), again=True)
    if bulkhead is not None and bulkhead.max_queue != 0:
        yield Wait("bulkhead", "attempt", _limited(bulkhead.max_wait, "bulkhead"), again=True)


def _limited(seconds: float | None, what: str) -> Bound:
    if seconds is not None:
        return Bound(seconds)
    why = f"the {what} makes calls wait as long as it takes; give max_wait or a total"
    return Bound(math.inf, (why,))


def _by(middlewares: Iterable[Middleware], slot: str) -> Bound:
    """What *middlewares* say of their longest waits; nothing at all if one of them is silent."""
    total = 0.0
    for middleware in middlewares:
        seconds = longest_wait(middleware)
        if seconds is None:
            why = (
                f"middlewares in {slot} may take any time, and call any number of times; "
                "give them a longest_wait"
            )
            return Bound(math.inf, (why,))
        total += seconds
    return Bound(total)


def _repeats(waits: Iterable[Wait], slot: str) -> Bound:
    """Runs that middlewares may add: one with a longest wait calls no more than once."""
    return total_of(w.bound for w in waits if w.what == slot and w.bound.unbounded)


def _repeated_probes(breaker: CircuitBreaker | None) -> int:
    """Runs that cost an attempt nothing: probes of its breaker that failed."""
    if breaker is None or breaker.counts != "attempt" or breaker.on_open != "park":
        return 0
    return 0 if breaker.mode == "forced_open" else breaker.most_probes


def _notes_of(policies: PolicySet) -> Iterable[str]:
    fallback = policies.fallback
    if policies.chaos is not None:
        yield "the latency of chaos isn't counted"
    if fallback is not None and fallback.func is not None:
        yield "the function of the fallback has no limit, and isn't counted"
