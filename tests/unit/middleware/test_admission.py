"""Rate limits and bulkheads in runs: when attempts start, and how many at a time."""

from __future__ import annotations

from typing import Any

import pytest

from daglite import Bulkhead, CircuitBreaker, RateLimit, RetryBudget, RetryPolicy, task
from daglite.callbacks import CallParked
from daglite.core.call import Call
from daglite.exceptions import BulkheadFullError, RateLimitedError
from daglite.testing import Fails, Takes
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
