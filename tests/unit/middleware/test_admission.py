"""Rate limits and bulkheads in runs: when attempts start, and how many at a time."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from daglite import (
    Bulkhead,
    CircuitBreaker,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    task,
)
from daglite.callbacks import CallParked
from daglite.core.call import Call
from daglite.core.run import Run
from daglite.exceptions import (
    BulkheadFullError,
    ExecutionError,
    RateLimitedError,
    TaskTimeoutError,
)
from daglite.session import Options, Session
from daglite.testing import Fails, Hangs, ScriptedBackend, Takes
from tests.unit.lab import Lab


@task
def work(x: int = 0) -> int:
    return x


def test_a_rate(lab: Lab) -> None:
    """Attempts start evenly; those that wait hold no slot, so that others go on."""
    slow = work.with_options(rate_limit=RateLimit(2))
    other = task(lambda: 1, name="other")
    expr = [slow.extend(x=range(5)), *(other.bind() for _ in range(3))]
    assert lab(expr, {"other": Takes(0.25, 1)}, slots=1)[0] == list(range(5))
    starts = [call.started for call in lab.backend.calls if call.name == "work"]
    assert starts == pytest.approx([0, 0.5, 1, 1.5, 2], abs=0.26)
    assert {event.reason for event in lab.events.of(CallParked)} == {"rate limit"}


def test_every_attempt_is_metered(lab: Lab) -> None:
    """Retries take turns like first calls."""
    slow = work.with_options(rate_limit=RateLimit(1), retry=RetryPolicy(2, "none"))
    assert lab(slow.bind(x=1), {"work": [Fails(OSError("down"))] * 2}) == 1
    assert lab.starts == [0, 1, 2]


def test_too_long_a_wait_for_a_turn(lab: Lab) -> None:
    """It fails at once, and isn't retried; its turn goes to the next."""
    hasty = work.with_options(rate_limit=RateLimit(1, max_wait=1.5), retry=RetryPolicy(3, "none"))
    with pytest.raises(RateLimitedError, match=r"in 2 s, later than max_wait=1\.5 s") as caught:
        lab(hasty.extend(x=range(3)))
    assert caught.value.retry_in == 2
    assert lab.clock.now() <= 1


def test_a_wait_of_just_max_wait(lab: Lab) -> None:
    """It is waited for."""
    patient = work.with_options(rate_limit=RateLimit(1, max_wait=1))
    assert lab(patient.extend(x=range(2))) == [0, 1]
    assert lab.starts == [0, 1]


def test_the_turn_of_a_call_that_gives_up(lab: Lab) -> None:
    """It goes to the next."""
    shared = {"rate_limit": RateLimit(0.1, key="shared")}
    hasty = work.with_options(name="hasty", timeout=TimeoutPolicy(total=5), **shared)
    late = work.with_options(name="late", **shared)
    first = task(lambda: 0, name="first")
    with pytest.raises(TaskTimeoutError):
        lab(
            [hasty.bind(x=0), hasty.bind(x=1), late.bind(x=first.bind())],
            {"first": Takes(6, 0)},
            on_failure="continue",
        )
    assert [(call.name, call.started) for call in lab.backend.calls] == [
        ("hasty", 0),
        ("first", 0),
        ("late", 10),
    ]


def test_a_bulkhead(lab: Lab) -> None:
    """No more than its places run at a time, whatever the slots."""
    narrow = work.with_options(bulkhead=Bulkhead(2))
    running = most = 0

    def script(call: Call) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        lab.clock.call_at(lab.clock.now() + 1, done)
        return Takes(1, call.args[0])

    def done() -> None:
        nonlocal running
        running -= 1

    assert lab(narrow.extend(x=range(7)), script, slots=6) == list(range(7))
    assert most == 2
    assert lab.clock.now() == 4


def test_a_full_bulkhead(lab: Lab) -> None:
    """Who finds no room to wait fails at once; who waits too long, later."""
    for bulkhead, match in (
        (Bulkhead(1, max_queue=1), "is full: 1 run and 1 wait"),
        (Bulkhead(1, max_wait=5), "no place within max_wait=5 s"),
    ):
        with pytest.raises(BulkheadFullError, match=match):
            lab(
                [work.with_options(bulkhead=bulkhead).bind(x=i) for i in range(3)],
                {"work": Takes(9, 1)},
            )


def test_who_is_held_up_is_no_news_to_the_breaker(lab: Lab) -> None:
    """A call without a turn or a place says nothing of the other side."""
    both = work.with_options(
        bulkhead=Bulkhead(1, max_queue=0), circuit_breaker=CircuitBreaker(consecutive=1)
    )
    with pytest.raises(BulkheadFullError):
        lab([both.bind(x=i) for i in range(4)], {"work": Takes(9, 1)}, on_failure="continue")
    assert len(lab.backend.calls) == 1


def test_a_retry_budget(lab: Lab) -> None:
    """Retries are a share of first calls: those above it wait, or fail."""
    budget = RetryBudget(0.1, min_per_second=0, on_exhausted="fail")
    thrifty = work.with_options(retry=RetryPolicy(3, "none", budget=budget))
    with pytest.raises(OSError, match=r"not tried again: the retry budget 'work' is exhausted"):
        lab(
            [thrifty.bind(x=i) for i in range(100)],
            lambda call: Fails(OSError("down")),
            slots=100,
            on_failure="continue",
        )
    assert 100 < len(lab.backend.calls) <= 111


def test_a_budget_that_paces(lab: Lab) -> None:
    """One retry a second is always allowed, and the others wait for theirs."""
    budget = RetryBudget(0, min_per_second=1, window=1)
    paced = work.with_options(retry=RetryPolicy(5, "none", budget=budget))
    script = lambda call: Fails(OSError("down")) if call.attempt == 1 else Takes(0, 1)  # noqa: E731
    assert lab([paced.bind(x=i) for i in range(5)], script, slots=5) == [1] * 5
    assert 3 <= lab.clock.now() <= 6
    assert {event.reason for event in lab.events.of(CallParked)} == {"retry budget"}


@pytest.mark.parametrize(("max_elapsed", "retries"), [(1.9, [5, 6]), (2, [5, 6, 7])])
def test_a_budget_within_max_elapsed(lab: Lab, max_elapsed: float, retries: list[float]) -> None:
    """A call whose turn for a retry comes later than that fails at once, and says so."""
    budget = RetryBudget(0, min_per_second=1, window=1, key="shared")
    paced = work.with_options(retry=RetryPolicy(1, "none", budget=budget, max_elapsed=max_elapsed))
    calls = [paced.bind(x=task(lambda: 0, name="first").bind()) for _ in range(4)]
    script = {"first": Takes(5, 0), "work": [Fails(OSError("down")), Takes(0, 1)]}
    late = rf"'shared' allows none before max_elapsed={max_elapsed:g} s"
    with pytest.raises(OSError, match=late):
        lab(calls, script, on_failure="continue")
    assert [call.started for call in lab.backend.calls if call.attempt == 2] == retries


@pytest.mark.parametrize(("max_elapsed", "retries"), [(2.9, [1]), (3, [1, 3])])
def test_a_budget_and_a_back_off_within_max_elapsed(
    lab: Lab, max_elapsed: float, retries: list[float]
) -> None:
    """Both have to be over by then: the wait for the budget leaves room for the back-off."""
    budget = RetryBudget(0, min_per_second=1, window=1, key="shared")
    retry = RetryPolicy(
        1, "constant", delay=1, jitter="none", budget=budget, max_elapsed=max_elapsed
    )
    calls = [work.with_options(retry=retry).bind() for _ in range(3)]
    script = {"work": [Fails(OSError("down")), Takes(0, 1)]}
    with pytest.raises(OSError, match="allows none before max_elapsed"):
        lab(calls, script, on_failure="continue")
    assert [call.started for call in lab.backend.calls if call.attempt == 2] == retries


def test_a_budget_leaves_the_back_off(lab: Lab) -> None:
    """What the budget allows is still waited for."""
    retry = RetryPolicy(1, "constant", delay=10, jitter="none", budget=RetryBudget())
    assert lab(work.with_options(retry=retry).bind(), {"work": [Fails(OSError("down"))]}) == 0
    assert lab.starts == [0, 10]


def test_a_budget_that_new_calls_fill(lab: Lab) -> None:
    """Who waits for it looks again after each window, as time alone allows nothing."""
    budget = RetryBudget(0.4, min_per_second=0, window=10, key="shared")
    paced = work.with_options(retry=RetryPolicy(1, "none", budget=budget))
    later = paced.with_options(name="later")
    first = task(lambda: 0, name="first").bind()
    script = {"first": Takes(5, 0), "work": [Fails(OSError("down"))], "later": Takes(0, 1)}
    assert lab([paced.bind(x=3), *(later.bind(x=first) for _ in range(3))], script) == [3, 1, 1, 1]
    assert [call.started for call in lab.backend.calls if call.name == "work"] == [0, 10]


def test_a_total_ends_a_back_off_with_a_budget(lab: Lab) -> None:
    """What was reserved is given back, and the cancellation goes on."""
    retry = RetryPolicy(2, "constant", delay=10, jitter="none", budget=RetryBudget())
    limited = work.with_options(retry=retry, timeout=TimeoutPolicy(total=12))
    with pytest.raises(TaskTimeoutError, match="total of 12 s"):
        lab(limited.bind(), {"work": Fails(OSError("down"))})
    assert lab.starts == [0, 10]
    assert lab.clock.now() == 12


@pytest.mark.parametrize("seed", range(60))
def test_everything_is_given_back(lab: Lab, seed: int) -> None:
    """However calls end: places, turns, budgets and probes are free when the run is over."""
    draw = random.Random(seed)
    breaker = CircuitBreaker(
        consecutive=draw.randint(1, 4),
        break_for=draw.choice([1, 5]),
        probes=draw.randint(1, 2),
        **draw.choice([{"on_open": "fail"}, {"max_park": 20}]),
    )
    retry = RetryPolicy(
        draw.randint(0, 3),
        draw.choice(["none", "constant"]),
        budget=RetryBudget(draw.random(), on_exhausted=draw.choice(["pace", "fail"])),
    )
    limits: list[dict[str, Any]] = [{"attempt": 2}, {"total": 6}, {"attempt": 2, "total": 9}]
    guarded = work.with_options(
        circuit_breaker=breaker,
        bulkhead=draw.choice([Bulkhead(2), Bulkhead(1, max_queue=3), Bulkhead(2, max_wait=1)]),
        rate_limit=draw.choice([RateLimit(10), RateLimit(1, burst=3, max_wait=4)]),
        retry=retry,
        timeout=TimeoutPolicy(**draw.choice(limits)),
    )
    endings: list[Any] = [Takes(0.5, 1), Takes(3, 1), Fails(OSError("down"), 0.2), Hangs()]
    backend = ScriptedBackend(lab.clock, lambda call: draw.choice(endings), slots=3)
    runs: list[Run] = []
    session = Session(Options(default_backend=backend), lab.clock)
    expr = [guarded.extend(x=range(8)), *(guarded.bind(x=i) for i in range(4))]
    options = Options(on_failure=draw.choice(["stop", "continue"]))
    with contextlib.suppress(ExecutionError):
        session.evaluate(expr, options, runs.append)
    states = runs[0].states
    permits = states.permits(guarded.policies.bulkhead, "work", "work")
    assert (permits.taken, permits.waiting) == (0, 0)
    assert states.budget(retry.budget, "work", "work")._held == []
    circuit = states.breaker(breaker, "work", "work")
    assert not circuit._probes
    assert not circuit._waiting
