"""The order of the chain, and what middlewares of users may do."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from daglite import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    FallbackPolicy,
    PolicySet,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    SequentialBackend,
    TimeoutPolicy,
    task,
)
from daglite.core.call import Call, Outcome
from daglite.core.kernel import Cancelled
from daglite.exceptions import ExecutionError, PolicyError, TaskTimeoutError
from daglite.middleware.build import build_chain
from daglite.testing import Fails, Hangs, Takes
from tests.unit.lab import Lab


@task
def work(x: int = 0) -> int:
    return x


async def innermost(call: Call) -> Outcome:
    return Outcome()


async def through(call: Call, call_next: Any) -> Outcome:
    outcome: Outcome = await call_next(call)
    return outcome


def rejects_nothing(value: object) -> bool:
    return False


def test_nothing_asked_for() -> None:
    """There is no chain then, nor where all that is asked for is off."""
    off = PolicySet(circuit_breaker=CircuitBreaker(mode="disabled"), chaos=Chaos(1, error=OSError))
    for policies in (PolicySet(), off):
        assert build_chain(policies, innermost, SequentialBackend()) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"circuit_breaker": CircuitBreaker("k")},
            {"circuit_breaker": CircuitBreaker("k", window=99)},
        ),
        ({"rate_limit": RateLimit(1, key="k")}, {"rate_limit": RateLimit(2, key="k")}),
        ({"bulkhead": Bulkhead(1, key="k")}, {"bulkhead": Bulkhead(2, key="k")}),
        (
            {"retry": RetryPolicy(1, budget=RetryBudget(0.1, key="k"))},
            {"retry": RetryPolicy(1, budget=RetryBudget(0.2, key="k"))},
        ),
    ],
)
def test_a_key_with_two_meanings(lab: Lab, one: dict[str, Any], other: dict[str, Any]) -> None:
    """It is refused before anything runs."""
    both = [work.with_options(name="one", **one), work.with_options(name="other", **other)]
    with pytest.raises(PolicyError, match=r"'one' and 'other' share the .* 'k', but not"):
        lab([each.bind() for each in both])
    assert lab.backend.calls == []


@pytest.mark.parametrize(
    "make",
    [
        lambda n: {"circuit_breaker": CircuitBreaker(window=10 + n)},
        lambda n: {"rate_limit": RateLimit(n)},
        lambda n: {"bulkhead": Bulkhead(n)},
        lambda n: {"retry": RetryPolicy(1, budget=RetryBudget(n / 10))},
        lambda n: {"circuit_breaker": CircuitBreaker("k", window=10 + n, mode="disabled")},
    ],
)
def test_no_key(lab: Lab, make: Any) -> None:
    """Tasks of different names share nothing then; nor do circuits that are off."""
    both = [work.with_options(name=f"work {n}", **make(n)) for n in (1, 2)]
    assert lab([each.bind(x=3) for each in both]) == [3, 3]


@pytest.mark.parametrize(
    ("policies", "passive"),
    [
        (PolicySet(retry=3), True),
        (PolicySet(retry=RetryPolicy(3, retry_on_result=rejects_nothing)), False),
        (PolicySet(timeout=3), False),
        (PolicySet(timeout=TimeoutPolicy(total=3)), False),
        (PolicySet(retry=3, timeout=3), False),
        (PolicySet(retry=3, around_call=through), False),
        (PolicySet(around_attempt=through), False),
    ],
)
def test_passive(policies: PolicySet, passive: bool) -> None:
    """Only a retry that looks at no results does nothing before and after a success."""
    chain = build_chain(policies, innermost, SequentialBackend())
    assert chain is not None
    assert chain.passive is passive


class Noting:
    """Writes down when a call comes in and goes out."""

    def __init__(self, lab: Lab, name: str, notes: list[str]) -> None:
        self.lab = lab
        self.name = name
        self.notes = notes

    async def __call__(self, call: Call, call_next: Any, /) -> Outcome:
        self.notes.append(f"{self.lab.clock.now():g} > {self.name} {call.attempt}")
        try:
            outcome: Outcome = await call_next(call)
        except Cancelled:
            self.notes.append(f"{self.lab.clock.now():g} x {self.name}")
            raise
        how = "ok" if outcome.ok else type(outcome.error).__name__
        self.notes.append(f"{self.lab.clock.now():g} < {self.name} {how}")
        return outcome


def test_the_order(lab: Lab) -> None:
    """Around the call is outside of total and retry, around the attempt inside of the retry."""
    notes: list[str] = []
    made = work.with_options(
        around_call=[Noting(lab, "A", notes), Noting(lab, "B", notes)],
        around_attempt=[Noting(lab, "a", notes), Noting(lab, "b", notes)],
        retry=RetryPolicy(2, "constant", delay=10, jitter="none"),
        timeout=TimeoutPolicy(5, total=100),
    )
    assert lab(made.bind(x=1), {"work": [Hangs(), Fails(OSError(), 1), Takes(2)]}) == 1
    assert notes == [
        "0 > A 1",
        "0 > B 1",
        "0 > a 1",
        "0 > b 1",
        "5 < b TaskTimeoutError",
        "5 < a TaskTimeoutError",
        "15 > a 2",
        "15 > b 2",
        "16 < b OSError",
        "16 < a OSError",
        "26 > a 3",
        "26 > b 3",
        "28 < b ok",
        "28 < a ok",
        "28 < B ok",
        "28 < A ok",
    ]


def test_layers_add_up(lab: Lab) -> None:
    """Middlewares of weaker layers are further out."""
    notes: list[str] = []
    made = work.with_options(around_call=Noting(lab, "task", notes))
    lab(
        made.bind(),
        policies=PolicySet(around_call=Noting(lab, "policies", notes)),
        overrides=PolicySet(around_call=Noting(lab, "overrides", notes)),
    )
    assert [note.split()[2] for note in notes[:3]] == ["policies", "task", "overrides"]


def test_a_total_cancels_what_is_inside(lab: Lab) -> None:
    """Cancellation flies through middlewares within the total, and stops at it."""
    notes: list[str] = []
    made = work.with_options(
        around_call=Noting(lab, "A", notes),
        around_attempt=Noting(lab, "a", notes),
        timeout=TimeoutPolicy(total=7),
    )
    with pytest.raises(TaskTimeoutError):
        lab(made.bind(), {"work": Hangs()})
    assert notes == ["0 > A 1", "0 > a 1", "7 x a", "7 < A TaskTimeoutError"]


def test_the_end_of_a_run_cancels_all(lab: Lab) -> None:
    """When another node fails, each middleware may give back what it holds."""
    notes: list[str] = []
    made = work.with_options(
        around_call=Noting(lab, "A", notes), around_attempt=Noting(lab, "a", notes)
    )
    bad = task(lambda: 0, name="bad")
    with pytest.raises(OSError, match="failed"):
        lab([made.bind(), bad.bind()], {"work": Hangs(), "bad": Fails(OSError(), 3)})
    assert notes == ["0 > A 1", "0 > a 1", "3 x a", "3 x A"]


@pytest.mark.parametrize(
    ("place", "attempts", "told"),
    [
        ("around_call", [0], "failed: RuntimeError: broken"),
        ("around_attempt", [0, 2, 4], "failed after 3 attempts: RuntimeError: broken"),
    ],
)
def test_one_that_raises(lab: Lab, place: str, attempts: list[float], told: str) -> None:
    """Its error is the failure of what it was around, a call or an attempt, in the history too."""

    async def broken(call: Call, call_next: Any) -> Outcome:
        await call_next(call)
        raise RuntimeError("broken middleware")

    options: dict[str, Any] = {place: broken, "retry": RetryPolicy(2, "none")}
    with pytest.raises(RuntimeError, match=f"task 'work' {told}") as caught:
        lab(work.with_options(**options).bind(), {"work": Takes(2)})
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.node_name == "work"
    assert [(each.started, each.ran, each.worker) for each in caught.value.attempts] == [
        (started, 2, "scripted") for started in attempts
    ]
    assert len(lab.backend.calls) == len(attempts)


def test_one_that_raises_before_the_attempt(lab: Lab) -> None:
    """The record says that nothing ran; only errors that `retry_on` has are tried again."""
    errors = [ConnectionError("no ticket"), KeyError("ticket")]

    async def broken(call: Call, call_next: Any) -> Outcome:
        raise errors[call.attempt - 1]

    retry = RetryPolicy(5, "none", retry_on=ConnectionError)
    with pytest.raises(KeyError, match="ticket") as caught:
        lab(work.with_options(around_attempt=broken, retry=retry).bind())
    assert isinstance(caught.value, ExecutionError)
    assert [(each.error, each.started) for each in caught.value.attempts] == [
        ("ConnectionError: no ticket", None),
        ("KeyError: 'ticket'", None),
    ]
    assert lab.backend.calls == []


def test_one_that_raises_inside_a_fallback(lab: Lab) -> None:
    """What it raises is rescued by what is around it, as any error."""

    async def broken(call: Call, call_next: Any) -> Outcome:
        raise OSError("broken middleware")

    made = work.with_options(around_attempt=broken, fallback=FallbackPolicy(7, on=OSError))
    assert lab(made.bind()) == 7


@pytest.mark.parametrize("place", ["around_call", "around_attempt"])
def test_one_that_waits_by_asyncio(lab: Lab, place: str) -> None:
    """The error says how to wait; it isn't tried again."""

    async def sleeps(call: Call, call_next: Any) -> Outcome:
        await asyncio.sleep(0)
        outcome: Outcome = await call_next(call)
        return outcome

    options: dict[str, Any] = {place: sleeps, "retry": RetryPolicy(2, "none")}
    with pytest.raises(PolicyError, match=r"await call\.park\(seconds, reason\)") as caught:
        lab(work.with_options(**options).bind())
    assert isinstance(caught.value, ExecutionError)
    assert len(caught.value.attempts) == 1
    assert lab.backend.calls == []


def test_one_that_raises_leaves_the_others_alone(lab: Lab) -> None:
    """With on_failure="continue" the rest of the graph is finished."""

    async def broken(call: Call, call_next: Any) -> Outcome:
        raise RuntimeError("broken middleware")

    other = task(lambda: 0, name="other")
    with pytest.raises(RuntimeError, match="broken"):
        lab(
            [work.with_options(around_call=broken).bind(), other.bind()],
            {"other": Takes(9, 0)},
            on_failure="continue",
        )
    assert lab.clock.now() == 9


def test_one_that_answers_itself(lab: Lab) -> None:
    """What it returns is the outcome; an error is retried like any other."""
    answers = iter([Outcome(error=OSError("mine")), Outcome(value="mine")])

    async def answer(call: Call, call_next: Any) -> Outcome:
        return next(answers)

    made = work.with_options(around_attempt=answer, retry=RetryPolicy(1, "none"))
    assert lab(made.bind()) == "mine"
    assert lab.backend.calls == []


def test_one_that_changes_the_outcome(lab: Lab) -> None:
    """Outside of the retry it may turn a failure into a value."""

    async def rescue(call: Call, call_next: Any) -> Outcome:
        outcome: Outcome = await call_next(call)
        return outcome if outcome.ok else Outcome(value=len(call.history))

    made = work.with_options(around_call=rescue, retry=RetryPolicy(2, "none"))
    assert lab(made.bind(), {"work": Fails(OSError())}) == 3


def test_one_that_waits(lab: Lab) -> None:
    """It holds no place meanwhile."""

    async def slowly(call: Call, call_next: Any) -> Outcome:
        await call.park(10, "nothing")
        outcome: Outcome = await call_next(call)
        return outcome

    assert lab(work.with_options(around_attempt=slowly).extend(x=[1, 2, 3]), slots=1) == [1, 2, 3]
    assert lab.clock.now() <= 20


def test_no_coroutine_is_left_behind(lab: Lab) -> None:
    """Whatever ends a run, what was under way is closed: no warning comes later."""
    made = work.with_options(around_call=through, around_attempt=through, retry=3, timeout=50)
    bad = task(lambda: 0, name="bad")
    with pytest.raises(OSError, match="failed"):
        lab([made.extend(x=range(9)), bad.bind()], {"work": Hangs(), "bad": Fails(OSError(), 3)})
    gc.collect()


async def forgets(call: Call, call_next: Any) -> None:
    await call_next(call)


async def makes_up(call: Call, call_next: Any) -> int:
    await call_next(call)
    return 3


def plain(call: Call, call_next: Any) -> Outcome:
    return Outcome(value=1)


@pytest.mark.parametrize("place", ["around_call", "around_attempt"])
@pytest.mark.parametrize("middleware", [forgets, makes_up, plain])
def test_one_that_gives_no_outcome_back(lab: Lab, place: str, middleware: Any) -> None:
    """The run ends with an error that names the middleware and says how to write it."""
    options: dict[str, Any] = {place: middleware}
    with pytest.raises(PolicyError, match="return await call_next") as caught:
        lab(work.with_options(**options).extend(x=[1, 2]), {"work": [Takes(1, 1)] * 2})
    assert middleware.__name__ in str(caught.value)
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.node_name == "work"
