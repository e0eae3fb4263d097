"""What `explain` says a call or a graph takes at most is never exceeded, in virtual time."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest

from daglite import (
    Bulkhead,
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    MapTaskFuture,
    Next,
    Outcome,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    evaluate,
    task,
)
from daglite.callbacks import CallHedged
from daglite.core.call import Call
from daglite.exceptions import ExecutionError, PolicyError, WorkerDiedError
from daglite.explanation import Explanation, explain
from daglite.testing import Fails, Hangs, RecordedEvents, ScriptedBackend, Takes, VirtualClock

ROUNDING = 1 + 1e-9
MOST_HEDGES = 2


class Parks:
    """
    Makes calls wait, for no longer than it says.

    Args:
        longest_wait: Seconds; None: it says nothing, and waits for a minute.
        draws: Decide how long.
    """

    def __init__(self, longest_wait: float | None, draws: random.Random) -> None:
        self.longest_wait = longest_wait
        self._random = draws

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        longest = 60.0 if self.longest_wait is None else self.longest_wait
        await call.park(longest * self._random.choice([0.0, 0.5, 1.0]), "a middleware")
        return await call_next(call)


class Stacks:
    """
    Random policies, and random ends of the calls that have them.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._number = seed
        self.bad = self.random.choice([0.2, 0.6, 0.9, 1.0])
        self.worst = self.random.random() < 0.4
        self.events = RecordedEvents()

    def maybe(self, value: Any, share: float = 0.5) -> Any:
        return value() if self.random.random() < share else None

    def seconds(self, longest: float = 20.0) -> float:
        return round(self.random.uniform(0.1, longest), 2)

    def policies(self, *without: str) -> dict[str, Any]:
        """Most of them have a bound."""
        given = {
            "retry": self.maybe(self.retry, 0.8),
            "timeout": self.maybe(self.timeout, 0.95),
            "circuit_breaker": self.maybe(self.breaker),
            "rate_limit": self.maybe(self.rate, 0.35),
            "bulkhead": self.maybe(self.bulkhead, 0.35),
            "fallback": self.maybe(lambda: FallbackPolicy(0), 0.7),
            "around_call": self.maybe(self.parking, 0.15),
            "around_attempt": self.maybe(self.parking, 0.15),
            "hedge": self.maybe(self.hedge, 0.35),
        }
        if given["hedge"] is not None:
            given["idempotent"] = True
        return {slot: p for slot, p in given.items() if p is not None and slot not in without}

    def parking(self) -> Any:
        """A middleware of one's own."""
        return Parks(self.random.choice([self.seconds(), None]), self.random)

    def timeout(self) -> TimeoutPolicy:
        attempt, more = self.seconds(), self.seconds(60)
        grace = self.random.choice([0.0, 0.0, 1.0])
        kind = self.random.randrange(4)
        if kind == 0:
            return TimeoutPolicy(total=more, grace=grace)
        if kind == 1:
            return TimeoutPolicy(attempt, total=attempt + more, grace=grace)
        return TimeoutPolicy(attempt, grace=grace)

    def retry(self) -> RetryPolicy:
        draw, jitter = self.random, self.random.choice(["none", "equal", "full"])
        given: dict[str, Any] = {
            "infrastructure_retries": draw.randrange(3),
            "max_elapsed": self.maybe(lambda: self.seconds(60), 0.3),
            "hint": draw.choice(["retry_after", None]),
            "budget": self.maybe(self.budget, 0.15),
        }
        if given["hint"]:
            given["max_hint"] = self.seconds()
        backoff: Any = draw.choice(
            ["none", "constant", "linear", "exponential", "fibonacci", "decorrelated", (2, 1, 3)]
        )
        if backoff not in ("none", (2, 1, 3)):
            given["delay"] = draw.choice([0.0, 0.1, 1.0])
            given["max_delay"] = given["delay"] + self.seconds()
        if backoff not in ("none", "decorrelated"):
            given["jitter"] = jitter
        return RetryPolicy(draw.randrange(5), backoff, **given)

    def budget(self) -> RetryBudget:
        return RetryBudget(
            self.random.choice([0.0, 0.5]),
            min_per_second=self.random.choice([0.1, 1.0]),
            on_exhausted=self.random.choice(["pace", "fail"]),
        )

    def breaker(self) -> CircuitBreaker:
        draw = self.random
        parks = draw.random() < 0.7
        given: dict[str, Any] = {"max_park": self.seconds(40)} if parks else {"on_open": "fail"}
        rule: dict[str, Any] = draw.choice(
            [{"consecutive": draw.randrange(1, 4)}, {"failure_rate": 0.5, "min_calls": 2}]
        )
        return CircuitBreaker(
            **rule,
            **given,
            break_for=self.seconds(8),
            break_factor=draw.choice([1.0, 2.0]),
            probes=draw.randrange(1, 4),
            counts=draw.choice(["attempt", "attempt", "call"]),
            mode=draw.choice(["on", "on", "on", "on", "metrics_only", "forced_open"]),
            probe_lease=self.maybe(self.seconds),
        )

    def rate(self) -> RateLimit:
        draw = self.random
        return RateLimit(
            draw.choice([0.1, 0.5, 2.0]), burst=draw.randrange(1, 4), max_wait=self.seconds()
        )

    def bulkhead(self) -> Bulkhead:
        return Bulkhead(self.random.randrange(1, 4), max_wait=self.seconds())

    def hedge(self) -> Hedge:
        draw = self.random
        most = draw.randrange(1, MOST_HEDGES + 1)
        if draw.random() < 0.2:
            return Hedge(quantile=0.5, max_hedges=most)
        return Hedge(draw.choice([0.0, self.seconds(5), self.seconds()]), max_hedges=most)

    def task(self, slots: int = 4, **shared: Any) -> Any:
        """One whose policies don't contradict each other, and that *slots* workers can run."""
        self._number += 1
        made = task(lambda x=0, after=(): 0, name=f"t{self._number}")
        try:
            made = made.with_options(**self.policies(*shared), **shared)
            explain(made.bind(), default_backend=ScriptedBackend(VirtualClock(), slots=slots))
        except PolicyError:
            return self.task(slots, **shared)
        return made

    def ending(self, call: Call) -> Any:
        """How an attempt ends."""
        draw = self.random
        if self.worst:
            return self.worst_ending(call)
        if draw.random() >= self.bad:
            return Takes(draw.choice([0.0, self.seconds()]), 0)
        kind = draw.randrange(6)
        if kind == 0:
            return Hangs()
        if kind == 1:
            return Takes(self.seconds(60), 0)
        error: Exception = WorkerDiedError("lost") if kind == 2 else OSError("down")
        if kind == 3:
            error.retry_after = self.seconds(30)  # type: ignore[attr-defined]
        return Fails(error, draw.choice([0.0, self.seconds()]))

    def worst_ending(self, call: Call) -> Fails:
        """A failure as late as can be, with the longest hint; after all retries, losses."""
        policies = call.target.policies  # type: ignore[attr-defined]
        retry, timeout = policies.retry, policies.timeout
        retries = 0 if retry is None else retry.max_retries
        error: Exception = OSError("down") if call.attempt <= retries else WorkerDiedError("lost")
        if retry is not None and retry.hint is not None and retry.max_hint > 1:
            error.retry_after = retry.max_hint  # type: ignore[attr-defined]
        limit = 20.0 if timeout is None else timeout.attempt or timeout.total
        return Fails(error, 0.999 * limit)

    def took(self, expr: Any, slots: int) -> tuple[float, Explanation]:
        """How long *expr* took, and what was said of it."""
        clock = VirtualClock()
        backend = ScriptedBackend(clock, self.ending, slots=slots)
        explained = explain(expr, default_backend=backend)
        if explained.bound.unbounded:
            return 0.0, explained
        going_on = self.random.choice(["stop", "continue"])
        with evaluate.context(clock=clock, default_backend=backend, callbacks=[self.events]) as ctx:
            try:
                ctx.evaluate(expr, on_failure=going_on)
            except ExecutionError:
                pass
        return clock.now(), explained


class Took(NamedTuple):
    """
    How a call kept to its bound.

    Attributes:
        part: Which part of its bound it took.
        hedges: How often it was hedged.
    """

    part: float
    hedges: int


def check_one_call(seed: int) -> Took | None:
    """Return how a call kept to its bound; None: it has none."""
    stacks = Stacks(seed)
    made = stacks.task()
    took, explained = stacks.took(made.bind(), slots=4)
    bound = explained.tasks[0].bounds.call
    assert (bound.seconds == float("inf")) == bool(bound.reasons)
    if bound.unbounded:
        return None
    assert took <= bound.seconds * ROUNDING, f"seed {seed}: {took} s\n{explained}"
    hedges = len(stacks.events.of(CallHedged))
    return Took(took / bound.seconds if bound.seconds else 1.0, hedges)


def check_calls_together(seed: int) -> None:
    """Calls that share all states, with a worker for each, keep to the bound of one."""
    stacks = Stacks(seed)
    made = stacks.task()
    number = stacks.random.randrange(2, 12)
    calls = number * (1 + MOST_HEDGES)
    took, explained = stacks.took([made.bind() for _ in range(number)], slots=calls)
    bound = explained.tasks[0].bounds.call
    if not bound.unbounded:
        assert took <= bound.seconds * ROUNDING, f"seed {seed}: {took} s\n{explained}"


def check_graph(seed: int) -> None:
    """A random graph, with maps, on few workers."""
    stacks = Stacks(seed)
    draw = stacks.random
    breaker = stacks.breaker().model_copy(update={"key": "shared"})
    shared = {"circuit_breaker": breaker} if draw.random() < 0.4 else {}
    slots = draw.randrange(1, 5)
    tasks = [stacks.task(slots, **shared) for _ in range(draw.randrange(1, 4))]
    futures: list[Any] = []
    for _ in range(draw.randrange(1, 10)):
        made = draw.choice(tasks)
        needs = draw.sample(futures, min(len(futures), draw.randrange(3)))
        kind = draw.randrange(4)
        if kind == 0:
            futures.append(made.fix(after=needs).extend(x=range(draw.randrange(6))))
        elif kind == 1 and needs and isinstance(needs[0], MapTaskFuture):
            futures.append(made.extend(x=needs[0]))
        else:
            futures.append(made.bind(after=needs))
    took, explained = stacks.took(futures, slots)
    if not explained.bound.unbounded:
        assert took <= explained.bound.seconds * ROUNDING, f"seed {seed}: {took} s\n{explained}"


def test_calls_keep_to_their_bound() -> None:
    """A call took longer than `explain` said, or the bounds are so high that they say nothing."""
    calls = [check_one_call(seed) for seed in range(300)]
    bounded = [call for call in calls if call is not None]
    assert len(bounded) > 200
    assert sum(call.part > 0.5 for call in bounded) > 20
    assert sum(call.hedges > 0 for call in bounded) > 20
    assert sum(call.hedges > 0 and call.part > 0.5 for call in bounded) > 5


def test_calls_that_share_states_keep_to_their_bound() -> None:
    """What others do to a breaker, a rate limit, a bulkhead or a budget holds a call up longer."""
    for seed in range(150):
        check_calls_together(seed)


def test_graphs_keep_to_their_bound() -> None:
    """A graph took longer than `explain` said."""
    for seed in range(150):
        check_graph(seed)


@pytest.mark.parametrize(
    "options",
    [
        {"rate_limit": RateLimit(1, per=10)},
        {"rate_limit": RateLimit(1, per=10, max_wait=15)},
        {"bulkhead": Bulkhead(1)},
        {"bulkhead": Bulkhead(1, max_wait=15)},
        {"around_attempt": Parks(9, random.Random(2))},
        {"around_call": Parks(9, random.Random(2))},
        {"retry": RetryPolicy(3, "constant", delay=4, jitter="none", hint=None)},
    ],
)
@pytest.mark.parametrize("total", [None, 30])
def test_maps_of_many_keep_to_their_bound(options: dict[str, Any], total: float | None) -> None:
    """Elements that aren't started while others queue wait for those, one after the other."""
    clock = VirtualClock()
    backend = ScriptedBackend(clock, {"t": [Fails(OSError("down"), 1), Takes(2, 0)]}, slots=4)
    timeout = TimeoutPolicy(3, total=total, grace=0)
    made = task(lambda x: x, name="t", timeout=timeout, fallback=FallbackPolicy(0))
    expr = made.with_options(**options).extend(x=range(100))
    bound = explain(expr, default_backend=backend).bound
    with evaluate.context(clock=clock, default_backend=backend) as ctx:
        assert ctx.evaluate(expr) == [0] * 100
    assert clock.now() <= bound.seconds * ROUNDING


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(0, 10_000, 500))
def test_10_000_stacks(first: int) -> None:
    """The same, 10,000 times, alone and with others."""
    for seed in range(first, first + 500):
        check_one_call(seed)
        check_calls_together(seed)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(0, 2_000, 200))
def test_2_000_graphs(first: int) -> None:
    """The same, 2,000 times."""
    for seed in range(first, first + 200):
        check_graph(seed)
