"""Random calls with random policies, whose attempts end in random ways."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

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
from daglite.exceptions import PolicyError, WorkerDiedError
from daglite.policies import resolve_policies
from daglite.testing import Fails, Hangs, Takes

HINTS: dict[str, tuple[Any, float | None]] = {
    "none": (None, None),
    "zero": (0, 0.0),
    "short": (0.25, 0.25),
    "some": (7, 7.0),
    "long": (45.0, 45.0),
    "text": (" 12.5 ", 12.5),
    "timedelta": (timedelta(seconds=9), 9.0),
    "days": (timedelta(days=3), 259_200.0),
    "huge": (1e300, 1e300),
    "huge text": ("1e9", 1e9),
    "no float": (10**400, None),
    "negative": (-1, None),
    "negative text": ("-3", None),
    "nan": (math.nan, None),
    "nan text": ("nan", None),
    "inf": (math.inf, None),
    "date": ("Wed, 21 Oct 2015 07:28:00 GMT", None),
    "empty": ("", None),
    "bytes": (b"3", None),
    "bool": (True, None),
    "list": ([3], None),
    "decimal": (Decimal(3), None),
}
"""What an error may bring, and the seconds that it asks for; None: it asks for nothing."""


FOLLOWED = ("zero", "short", "some", "text", "timedelta", "long")
OFTEN = [*HINTS, *FOLLOWED * 2, *["long"] * 4, *["none"] * 10]


class HintedError(OSError):
    """Brings a hint."""

    def __init__(self, hint: str) -> None:
        super().__init__(f"busy, hint {hint}")
        self.hint = hint
        if hint != "none":
            self.retry_after = HINTS[hint][0]


@dataclass(frozen=True)
class Case:
    """
    Calls of one task's policies, which share all states.

    Attributes:
        backend: "scripted", "sequential" or "threading".
        policies: The policies of each call.
        endings: For each call how its attempts end, hedges among them; the last one repeats.
        slots: How many may run at a time.
    """

    backend: str
    policies: PolicySet
    endings: tuple[tuple[Takes | Fails | Hangs, ...], ...]
    slots: int

    @property
    def roomy(self) -> bool:
        """Whether nothing but its own back-off holds an attempt up."""
        given, calls = self.policies, len(self.endings)
        hedges = 0 if given.hedge is None else given.hedge.max_hedges
        held = (given.circuit_breaker, given.rate_limit, given.bulkhead)
        return held == (None, None, None) and self.slots >= calls * (1 + hedges)


SECONDS = st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 40.0])
QUICK = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
NO_TIME_AT_ALL = st.just(0.0)


def sometimes(strategy: st.SearchStrategy[Any], once_in: int = 3) -> st.SearchStrategy[Any]:
    return st.sampled_from(range(once_in)).flatmap(lambda n: st.none() if n else strategy)


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(range(4)).flatmap(lambda n: strategy if n else st.none())


@st.composite
def retries(draw: st.DrawFn) -> RetryPolicy:
    backoff: Any = draw(
        st.sampled_from(
            ["none", "constant", "linear", "exponential", "fibonacci", "decorrelated", (2, 1, 3)]
        )
    )
    given: dict[str, Any] = {
        "infrastructure_retries": draw(st.integers(0, 2)),
        "max_elapsed": draw(st.none() | SECONDS),
        "hint": draw(st.sampled_from(["retry_after", "retry_after", None])),
        "seed": draw(st.integers(0, 99)),
    }
    if given["hint"] and draw(st.booleans()):
        given["max_hint"] = draw(SECONDS)
    if isinstance(backoff, str) and backoff != "none":
        given["delay"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
        given["max_delay"] = given["delay"] + draw(SECONDS)
    if backoff not in ("none", "decorrelated"):
        given["jitter"] = draw(st.sampled_from(["none", "equal", "full"]))
    if draw(st.booleans()):
        given["budget"] = RetryBudget(
            draw(st.sampled_from([0.0, 0.0, 0.5])),
            min_per_second=draw(st.sampled_from([0.1, 0.1, 1.0])),
            on_exhausted=draw(st.sampled_from(["pace", "pace", "fail"])),
            key="shared",
        )
    return RetryPolicy(draw(st.integers(0, 5)), backoff, **given)


@st.composite
def timeouts(draw: st.DrawFn) -> TimeoutPolicy:
    attempt, total = draw(st.none() | SECONDS), draw(mostly(SECONDS))
    assume(attempt is not None or total is not None)
    if attempt is not None and total is not None:
        total += attempt
    return TimeoutPolicy(attempt, total=total, grace=draw(st.sampled_from([0.0, 1.0, 5.0])))


@st.composite
def breakers(draw: st.DrawFn) -> CircuitBreaker:
    parks = draw(st.booleans())
    return CircuitBreaker(
        "shared",
        consecutive=draw(st.integers(1, 4)),
        break_for=draw(SECONDS),
        probes=draw(st.integers(1, 3)),
        counts=draw(st.sampled_from(["attempt", "attempt", "call"])),
        **({"max_park": draw(SECONDS)} if parks else {"on_open": "fail"}),
    )


RATES = st.builds(
    lambda rate, burst, longest: RateLimit(rate, burst=burst, max_wait=longest, key="shared"),
    st.sampled_from([0.1, 0.5, 2.0]),
    st.integers(1, 3),
    st.none() | SECONDS,
)
BULKHEADS = st.builds(
    lambda most, longest: Bulkhead(most, max_wait=longest, key="shared"),
    st.integers(1, 2),
    st.none() | SECONDS,
)
HEDGES = st.builds(lambda delay, most: Hedge(delay, max_hedges=most), QUICK, st.integers(1, 2))


@st.composite
def endings(draw: st.DrawFn, hangs: bool) -> tuple[Takes | Fails | Hangs, ...]:
    kinds = st.sampled_from(["takes", "lost"] + ["hangs"] * 3 * hangs + ["hinted"] * 8)
    made: list[Takes | Fails | Hangs] = []
    for kind in draw(st.lists(kinds, min_size=1, max_size=7)):
        seconds = draw(NO_TIME_AT_ALL | SECONDS)
        if kind == "takes":
            made.append(Takes(seconds, 1))
        elif kind == "hangs":
            made.append(Hangs())
        elif kind == "lost":
            made.append(Fails(WorkerDiedError("lost"), seconds))
        else:
            hint = draw(st.sampled_from(OFTEN))
            made.append(Fails(HintedError(hint), seconds))
    return tuple(made)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    backend = draw(st.sampled_from(["scripted"] * 8 + ["sequential", "threading"]))
    scripted = backend == "scripted"
    # Where functions really run, virtual time passes in them alone: nothing can end them.
    timeout = draw(mostly(timeouts()))
    timeout = timeout if scripted else _total_of(timeout)
    given = {
        "retry": draw(retries()),
        "timeout": timeout,
        "circuit_breaker": draw(sometimes(breakers())),
        "rate_limit": draw(sometimes(RATES, 4)),
        "bulkhead": draw(sometimes(BULKHEADS, 4)),
        "fallback": draw(sometimes(st.just(FallbackPolicy(0)), 5)),
        "hedge": draw(sometimes(HEDGES)) if scripted else None,
    }
    given = {slot: policy for slot, policy in given.items() if policy is not None}
    if "hedge" in given:
        given["idempotent"] = True
    try:
        policies = resolve_policies([("case", PolicySet(**given))])
    except PolicyError:
        assume(False)
    calls = draw(st.integers(1, 3)) if scripted else 1
    ends = tuple(draw(endings(hangs=scripted and timeout is not None)) for _ in range(calls))
    slots = draw(st.integers(2, 12)) if scripted else 1
    return Case(backend, policies, ends, slots)


def _total_of(timeout: TimeoutPolicy | None) -> TimeoutPolicy | None:
    if timeout is None or timeout.total is None:
        return None
    return TimeoutPolicy(total=timeout.total, grace=timeout.grace)
