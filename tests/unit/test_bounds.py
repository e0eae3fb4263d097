"""The parts of the bound of one call."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from tenacity import wait_fixed

from daglite import (
    Bulkhead,
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    PolicySet,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
)
from daglite.backends.registry import find_backend
from daglite.bounds import Bound, CallBounds, back_off_of, bounds_of, total_of
from daglite.testing import ScriptedBackend, VirtualClock

TEN = TimeoutPolicy(10, grace=1)
ONCE = RetryPolicy(1, "constant", delay=2, hint=None, infrastructure_retries=0)
AWAY = ScriptedBackend(VirtualClock())
"""A backend whose workers can be lost."""


def found_of(**options: Any) -> CallBounds:
    return bounds_of(PolicySet(**options), AWAY)


async def middleware(call: Any, call_next: Any) -> Any:
    return await call_next(call)


def waiting(seconds: float | str) -> Any:
    """A middleware that says so of itself."""

    async def waits(call: Any, call_next: Any) -> Any:
        return await call_next(call)

    waits.longest_wait = seconds  # type: ignore[attr-defined]
    return waits


def of_error(error: Exception) -> int:
    return 0


@pytest.mark.parametrize(
    ("options", "seconds", "work"),
    [
        ({}, 11, 11),
        ({"retry": ONCE}, 24, 22),
        ({"retry": RetryPolicy(1, "none", hint=None)}, 55, 55),
        ({"retry": RetryPolicy(0, "none", infrastructure_retries=1, hint=None)}, 22, 22),
        ({"retry": RetryPolicy(1, "none", infrastructure_retries=0, max_hint=7)}, 29, 22),
        ({"retry": RetryPolicy(1, [9], infrastructure_retries=0, max_hint=7)}, 31, 22),
        ({"retry": RetryPolicy(9, "none", infrastructure_retries=0, max_elapsed=5)}, 27, 110),
        ({"timeout": TimeoutPolicy(total=20, grace=2)}, 22, 22),
        ({"retry": ONCE, "timeout": TimeoutPolicy(10, total=20, grace=2)}, 22, 22),
        ({"circuit_breaker": CircuitBreaker(max_park=60)}, 104, 44),
        ({"circuit_breaker": CircuitBreaker(max_park=60, break_for=1)}, 742, 682),
        ({"circuit_breaker": CircuitBreaker(on_open="fail")}, 11, 11),
        ({"circuit_breaker": CircuitBreaker(mode="metrics_only")}, 11, 11),
        ({"circuit_breaker": CircuitBreaker(mode="forced_open", max_park=5)}, 16, 11),
        ({"retry": ONCE, "circuit_breaker": CircuitBreaker(max_park=5)}, 56, 44),
        (
            {
                "circuit_breaker": CircuitBreaker(max_park=5),
                "rate_limit": RateLimit(1, max_wait=3),
            },
            33,
            22,
        ),
        ({"retry": ONCE, "circuit_breaker": CircuitBreaker(max_park=5, counts="call")}, 29, 22),
        ({"retry": ONCE, "rate_limit": RateLimit(1, max_wait=3)}, 30, 22),
        ({"retry": ONCE, "bulkhead": Bulkhead(1, max_wait=3)}, 30, 22),
        ({"bulkhead": Bulkhead(1, max_queue=0)}, 11, 11),
        ({"retry": ONCE, "around_call": [waiting(5), waiting("2s")]}, 31, 22),
        ({"retry": ONCE, "around_attempt": [waiting(5), waiting(0)]}, 34, 22),
        ({"around_call": waiting(5), "timeout": TimeoutPolicy(total=20, grace=2)}, 27, 22),
        ({"around_attempt": waiting(5), "timeout": TimeoutPolicy(total=20, grace=2)}, 22, 22),
        ({"hedge": Hedge(2), "idempotent": True, "around_attempt": waiting(5)}, 32, 22),
        ({"hedge": Hedge(2), "idempotent": True}, 22, 22),
        ({"retry": ONCE, "hedge": Hedge(2, max_hedges=2), "idempotent": True}, 68, 66),
        ({"retry": ONCE.model_copy(update={"budget": RetryBudget(on_exhausted="fail")})}, 24, 22),
    ],
)
def test_parts(options: dict[str, Any], seconds: float, work: float) -> None:
    """Each policy adds what it may make a call wait, and the limits cut it."""
    found = found_of(**{"timeout": TEN, **options})
    assert (found.call.seconds, found.work.seconds) == (seconds, work)
    assert found.call.reasons == found.work.reasons == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"timeout": None}, "give it a timeout"),
        ({"rate_limit": RateLimit(1)}, "the rate limit makes calls wait .* give max_wait"),
        ({"bulkhead": Bulkhead(1, 5)}, "the bulkhead makes calls wait .* give max_wait"),
        ({"retry": RetryPolicy(budget=RetryBudget())}, "waits for its budget .* give max_elapsed"),
        ({"around_call": middleware}, "middlewares in around_call may take any time"),
        ({"around_attempt": middleware}, "middlewares in around_attempt may take any time"),
        (
            {"around_call": [waiting(5), middleware]},
            "call any number of times; give them a longest",
        ),
    ],
)
def test_without_a_limit(options: dict[str, Any], reason: str) -> None:
    """It says why; a total limits all but what is around it."""
    found = found_of(**{"timeout": TEN, **options})
    assert found.call.unbounded
    assert str(found.call) == "unbounded"
    (told,) = found.call.reasons
    assert re.search(reason, told)
    limited = found_of(**{**options, "timeout": TimeoutPolicy(total=60, grace=0)})
    assert limited.call.unbounded == ("around_call" in options)
    assert limited.call.seconds == (math.inf if "around_call" in options else 60)


def test_a_budget_with_max_elapsed() -> None:
    """What paces the retries can't do so for longer."""
    retry = RetryPolicy(9, "none", budget=RetryBudget(), max_elapsed=30)
    assert found_of(retry=retry, timeout=TEN).call.seconds == 11 + 30 + 11


def test_fallbacks() -> None:
    """A value takes no time; that a function isn't counted is noted."""
    assert found_of(fallback=FallbackPolicy(0), timeout=TEN).notes == ()
    (note,) = found_of(fallback=FallbackPolicy(func=of_error), timeout=TEN).notes
    assert "has no limit" in note


def test_many_retries() -> None:
    """The bound of a million retries is there at once, and not below their sum."""
    many = RetryPolicy(1_000_000, "exponential", delay=1, infrastructure_retries=0)
    assert back_off_of(many, AWAY) == 1 + 2 + 4 + 8 + 16 + 32 + 60 * (1_000_000 - 6)
    listed = RetryPolicy(5_000, [*([1] * 2_000), 3], infrastructure_retries=0)
    assert back_off_of(listed, AWAY) == 2_000 + 3 * 3_000
    waits = RetryPolicy(2, wait_fixed(1), max_delay=9, infrastructure_retries=0)
    assert back_off_of(waits, AWAY) == 18
    assert back_off_of(None, AWAY) == 0


@pytest.mark.parametrize("name", ["sequential", "threading"])
def test_where_no_worker_can_be_lost(name: str) -> None:
    """Retries after losses don't count: in this process there is nothing to lose."""
    retry = RetryPolicy(1, "constant", delay=2, hint=None, infrastructure_retries=3)
    policies = PolicySet(timeout=TEN, retry=retry)
    here, away = bounds_of(policies, find_backend(name)), bounds_of(policies, AWAY)
    assert (here.attempts, here.back_off, here.call.seconds) == (2, 2, 24)
    assert (away.attempts, away.back_off, away.call.seconds) == (5, 8, 63)


def test_arithmetic() -> None:
    """Sums keep each reason once, and nothing that never happens has one."""
    endless = Bound(math.inf, ("why",))
    assert endless.plus(endless).plus(Bound(1)) == endless
    assert endless.times(0) == Bound(0)
    assert endless.cut(Bound(3)) == Bound(3).cut(endless) == Bound(3)
    assert endless.named("task 'x'").reasons == ("task 'x': why",)
    assert total_of([]) == Bound(0)
    assert str(Bound(90)) == "1m30s"
