"""The rules of lint: each with a graph that it is true of, and with one that it isn't."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from tenacity import wait_fixed

from daglite import (
    Bulkhead,
    CircuitBreaker,
    DagliteSettings,
    FallbackPolicy,
    MapPolicy,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    lint,
)
from daglite.core.maps import MOST_PARKED
from daglite.lint_rules.registry import RULES
from daglite.lint_rules.subject import Severity
from daglite.testing import ScriptedBackend, VirtualClock
from tests.unit.lint_graphs import (
    STEADY,
    Expression,
    both,
    hedged,
    kept,
    many,
    namesake,
    one,
    other,
    pairs,
    scripted,
    skipping,
    work,
)

PAGE = Path(__file__).parents[2] / "docs" / "user-guide" / "explain-and-lint.md"

BREAKER = CircuitBreaker(consecutive=5, max_park=20)
SLOW = CircuitBreaker(slow_call=20)
SLOW_CALLS = SLOW.model_copy(update={"counts": "call"})


CASES: list[tuple[str, Expression, Expression, dict[str, Any]]] = [
    ("DGL001", lambda: one(cache=True), lambda: one(idempotent=True), {}),
    ("DGL001", lambda: one(backend="nowhere"), lambda: one(backend="threading"), {}),
    (
        "DGL001",
        lambda: one(timeout=TimeoutPolicy(3, on_expiry="kill"), backend="threading"),
        lambda: one(timeout=TimeoutPolicy(3, on_expiry="kill")),
        {"default_backend": "threading"},
    ),
    (
        "DGL002",
        lambda: both(
            other.with_options(rate_limit=RateLimit(2, key="api")),
            work.with_options(rate_limit=RateLimit(1, key="api")),
        ),
        lambda: both(
            work.with_options(rate_limit=RateLimit(1, key="api")),
            other.with_options(rate_limit=RateLimit(1, key="api")),
        ),
        {},
    ),
    ("DGL003", lambda: one(retry=3), lambda: one(retry=3, timeout=30), {}),
    ("DGL003", lambda: one(retry=1), lambda: one(retry=RetryPolicy(0)), {}),
    (
        "DGL004",
        lambda: one(retry=RetryPolicy(20, max_delay=120), timeout=5),
        lambda: one(retry=RetryPolicy(20, max_delay=120, max_elapsed=900), timeout=5),
        {},
    ),
    (
        "DGL004",
        lambda: one(retry=RetryPolicy(20, max_delay=120)),
        lambda: one(retry=RetryPolicy(3), timeout=TimeoutPolicy(5)),
        {},
    ),
    (
        "DGL004",
        lambda: one(retry=RetryPolicy(0, delay=60, infrastructure_retries=20), **_backend()),
        lambda: one(retry=RetryPolicy(0, delay=60, infrastructure_retries=20)),
        {},
    ),
    (
        "DGL004",
        lambda: one(retry=RetryPolicy(20, max_delay=120), timeout=5),
        lambda: one(retry=RetryPolicy(20, max_delay=120), timeout=TimeoutPolicy(total="1h")),
        {},
    ),
    (
        "DGL005",
        lambda: one(retry=RetryPolicy(5, "constant", **STEADY), timeout=TimeoutPolicy(total=3)),
        lambda: one(retry=RetryPolicy(5, "constant", **STEADY), timeout=TimeoutPolicy(total=6)),
        {},
    ),
    (
        "DGL005",
        lambda: one(retry=RetryPolicy(5, "constant", **STEADY, max_elapsed=3)),
        lambda: one(retry=RetryPolicy(5, "constant", max_elapsed=3)),
        {},
    ),
    (
        "DGL006",
        lambda: one(circuit_breaker=BREAKER, timeout=TimeoutPolicy(total=20)),
        lambda: one(circuit_breaker=BREAKER, timeout=TimeoutPolicy(total=21)),
        {},
    ),
    (
        "DGL006",
        lambda: one(circuit_breaker=BREAKER, timeout=TimeoutPolicy(total=20)),
        lambda: one(circuit_breaker=CircuitBreaker(), timeout=TimeoutPolicy(total=20)),
        {},
    ),
    (
        "DGL006",
        lambda: one(
            circuit_breaker=CircuitBreaker(max_park=20),
            timeout=TimeoutPolicy(total=20),
        ),
        lambda: one(
            circuit_breaker=CircuitBreaker(max_park=20, mode="metrics_only"),
            timeout=TimeoutPolicy(total=20),
        ),
        {},
    ),
    (
        "DGL007",
        lambda: many(4, circuit_breaker=CircuitBreaker(consecutive=5)),
        lambda: many(5, circuit_breaker=CircuitBreaker(consecutive=5)),
        {},
    ),
    (
        "DGL007",
        lambda: many(9, circuit_breaker=CircuitBreaker()),
        lambda: work.with_options(circuit_breaker=CircuitBreaker()).extend(x=iter([1])),
        {},
    ),
    (
        "DGL007",
        lambda: many(3, circuit_breaker=CircuitBreaker(counts="call"), retry=3),
        lambda: many(3, circuit_breaker=CircuitBreaker(), retry=3),
        {},
    ),
    (
        "DGL007",
        lambda: many(3, circuit_breaker=CircuitBreaker(), retry=2),
        lambda: many(3, circuit_breaker=CircuitBreaker(), retry=2, **_backend()),
        {},
    ),
    (
        "DGL007",
        lambda: one(circuit_breaker=CircuitBreaker("api")),
        lambda: one(circuit_breaker=CircuitBreaker("api", scope="process")),
        {},
    ),
    (
        "DGL007",
        lambda: many(2, circuit_breaker=CircuitBreaker(consecutive=5), **hedged()),
        lambda: many(3, circuit_breaker=CircuitBreaker(consecutive=5), **hedged()),
        scripted(),
    ),
    (
        "DGL008",
        lambda: one(retry=RetryPolicy(0, budget=RetryBudget())),
        lambda: one(retry=RetryPolicy(1, budget=RetryBudget())),
        {},
    ),
    (
        "DGL009",
        lambda: many(retry=RetryPolicy(2, jitter="none")),
        lambda: many(retry=RetryPolicy(2)),
        {},
    ),
    (
        "DGL009",
        lambda: work.with_options(retry=RetryPolicy(2, [3], jitter="none")).extend(x=iter([1])),
        lambda: one(retry=RetryPolicy(2, jitter="none")),
        {},
    ),
    (
        "DGL009",
        lambda: many(retry=RetryPolicy(2, "constant", jitter="none")),
        lambda: many(retry=RetryPolicy(2, wait_fixed(2))),
        {},
    ),
    (
        "DGL009",
        lambda: many(retry=RetryPolicy(2, "constant", jitter="none")),
        lambda: many(retry=RetryPolicy(2, "none", jitter="none")),
        {},
    ),
    (
        "DGL010",
        lambda: one(timeout=TimeoutPolicy(2, grace=10)),
        lambda: one(timeout=TimeoutPolicy(2)),
        {},
    ),
    (
        "DGL010",
        lambda: one(timeout=TimeoutPolicy(2, grace=3)),
        lambda: one(timeout=TimeoutPolicy(2, grace=2)),
        {},
    ),
    (
        "DGL011",
        lambda: one(fallback=FallbackPolicy(0)),
        lambda: one(fallback=FallbackPolicy(0, on=OSError)),
        {},
    ),
    (
        "DGL012",
        lambda: both(work.with_options(bulkhead=2), namesake.with_options(bulkhead=2)),
        lambda: both(work.with_options(bulkhead=2), other.with_options(bulkhead=2)),
        {},
    ),
    (
        "DGL012",
        lambda: both(
            work.with_options(retry=RetryPolicy(budget=RetryBudget())),
            other.with_options(retry=RetryPolicy(budget=RetryBudget(key="work"))),
        ),
        lambda: both(
            work.with_options(retry=RetryPolicy(budget=RetryBudget(key="api"))),
            other.with_options(retry=RetryPolicy(budget=RetryBudget(key="api"))),
        ),
        {},
    ),
    (
        "DGL012",
        lambda: both(work.with_options(rate_limit=2), namesake.with_options(rate_limit=2)),
        lambda: both(work.with_options(rate_limit=2), work.with_options(rate_limit=2, retry=1)),
        {},
    ),
    (
        "DGL013",
        lambda: one(retry=RetryPolicy(3, infrastructure_retries=2)),
        lambda: one(retry=RetryPolicy(3)),
        {},
    ),
    (
        "DGL013",
        lambda: one(retry=RetryPolicy(3, infrastructure_retries=2), backend="threading"),
        lambda: one(retry=RetryPolicy(3, infrastructure_retries=2), **_backend()),
        {},
    ),
    (
        "DGL014",
        lambda: both(work, namesake.with_options(retry=1)),
        lambda: both(work, namesake),
        {},
    ),
    (
        "DGL014",
        lambda: both(work, namesake.with_options(timeout=1)),
        lambda: both(work, work.with_options(timeout=1)),
        {},
    ),
    (
        "DGL015",
        lambda: many(2, rate_limit=RateLimit(1, per=31), timeout=TimeoutPolicy(total=30)),
        lambda: many(99, rate_limit=RateLimit(1, per=30), timeout=TimeoutPolicy(total=30)),
        {},
    ),
    (
        "DGL015",
        lambda: many(32, rate_limit=RateLimit(1, max_wait=10)),
        lambda: many(32, rate_limit=RateLimit(1, burst=22, max_wait=10)),
        {},
    ),
    (
        "DGL015",
        lambda: many(20_000, rate_limit=RateLimit(1, max_wait=9_000)),
        lambda: many(20_000, rate_limit=RateLimit(1, max_wait=MOST_PARKED)),
        {},
    ),
    (
        "DGL015",
        lambda: many(32, rate_limit=RateLimit(1, max_wait=10), timeout=30),
        lambda: many(32, rate_limit=RateLimit(1, max_wait=10), timeout=TimeoutPolicy(30, total=60)),
        {},
    ),
    (
        "DGL016",
        lambda: many(6, timeout=TimeoutPolicy(1, on_expiry="abandon")),
        lambda: many(5, retry=0, timeout=TimeoutPolicy(1, on_expiry="abandon")),
        {"default_backend": "threading", "settings": DagliteSettings(max_abandoned=5)},
    ),
    (
        "DGL016",
        lambda: many(6, timeout=TimeoutPolicy(1, on_expiry="abandon")),
        lambda: many(6, timeout=TimeoutPolicy(1)),
        {"default_backend": "sequential", "settings": DagliteSettings(max_abandoned=5)},
    ),
    (
        "DGL016",
        lambda: many(3, timeout=TimeoutPolicy(9, on_expiry="abandon"), **hedged()),
        lambda: many(2, timeout=TimeoutPolicy(9, on_expiry="abandon"), **hedged()),
        {
            "default_backend": "threading",
            "settings": DagliteSettings(max_abandoned=5, max_backend_threads=4),
        },
    ),
    (
        "DGL017",
        lambda: one(retry=1, idempotent=False),
        lambda: one(retry=1, idempotent=True),
        {},
    ),
    (
        "DGL017",
        lambda: one(retry=0, idempotent=False),
        lambda: one(retry=RetryPolicy(0, infrastructure_retries=0), idempotent=False),
        scripted(),
    ),
    (
        "DGL017",
        lambda: one(retry=1, idempotent=False),
        lambda: one(retry=0, idempotent=False),
        {},
    ),
    ("DGL018", lambda: many(bulkhead=4), lambda: many(bulkhead=3), scripted()),
    (
        "DGL019",
        lambda: many(7, bulkhead=Bulkhead(2, 4)),
        lambda: many(6, bulkhead=Bulkhead(2, 4)),
        scripted(),
    ),
    (
        "DGL019",
        lambda: many(7, bulkhead=Bulkhead(2, 4)),
        lambda: many(7, bulkhead=Bulkhead(2)),
        scripted(),
    ),
    (
        "DGL019",
        lambda: many(7, bulkhead=Bulkhead(1, 0), backend="threading"),
        lambda: many(7, bulkhead=Bulkhead(1, 0)),
        {},
    ),
    (
        "DGL019",
        lambda: many(30, bulkhead=Bulkhead(7, 2), timeout=30),
        lambda: many(30, bulkhead=Bulkhead(8, 2), timeout=30),
        scripted(),
    ),
    (
        "DGL019",
        lambda: many(30, bulkhead=Bulkhead(2, 0), timeout=TimeoutPolicy(total=30)),
        lambda: many(30, bulkhead=Bulkhead(2, 1), timeout=TimeoutPolicy(total=30)),
        scripted(),
    ),
    (
        "DGL020",
        lambda: one(circuit_breaker=CircuitBreaker(slow_call=10), timeout=10),
        lambda: one(circuit_breaker=CircuitBreaker(slow_call=9), timeout=10),
        {},
    ),
    (
        "DGL020",
        lambda: one(circuit_breaker=CircuitBreaker(slow_call=60), timeout=TimeoutPolicy(total=9)),
        lambda: one(circuit_breaker=CircuitBreaker(slow_call=60)),
        {},
    ),
    (
        "DGL020",
        lambda: one(circuit_breaker=SLOW, timeout=TimeoutPolicy(10, total=60)),
        lambda: one(circuit_breaker=SLOW_CALLS, timeout=TimeoutPolicy(10, total=60)),
        {},
    ),
    (
        "DGL020",
        lambda: one(circuit_breaker=SLOW_CALLS, timeout=TimeoutPolicy(10, total=20)),
        lambda: one(circuit_breaker=SLOW_CALLS, timeout=TimeoutPolicy(10), retry=3),
        {},
    ),
    (
        "DGL020",
        lambda: one(circuit_breaker=_in_mode("metrics_only"), timeout=9),
        lambda: one(circuit_breaker=_in_mode("disabled"), timeout=9),
        {},
    ),
    (
        "DGL020",
        lambda: one(circuit_breaker=SLOW, timeout=9),
        lambda: one(circuit_breaker=_in_mode("forced_open"), timeout=9),
        {},
    ),
    (
        "DGL021",
        lambda: one(circuit_breaker=CircuitBreaker(break_for=9), timeout=10),
        lambda: one(circuit_breaker=CircuitBreaker(break_for=10), timeout=10),
        {},
    ),
    (
        "DGL021",
        lambda: one(circuit_breaker=CircuitBreaker(probe_lease=9), timeout=10),
        lambda: one(circuit_breaker=CircuitBreaker(break_for=9, probe_lease=10), timeout=10),
        {},
    ),
    (
        "DGL022",
        lambda: one(**hedged(5), timeout=5),
        lambda: one(**hedged(5), timeout=6),
        scripted(),
    ),
    (
        "DGL022",
        lambda: one(**hedged(5, max_hedges=2), timeout=TimeoutPolicy(total=10)),
        lambda: one(**hedged(5, max_hedges=2), timeout=TimeoutPolicy(total=11)),
        scripted(),
    ),
    (
        "DGL022",
        lambda: one(**hedged(5), timeout=TimeoutPolicy(4, total=11)),
        lambda: one(**hedged(quantile=0.9), timeout=TimeoutPolicy(4, total=11)),
        scripted(),
    ),
    (
        "DGL023",
        lambda: one(**hedged(max_hedges=4)),
        lambda: one(**hedged(max_hedges=3)),
        scripted(),
    ),
    (
        "DGL023",
        lambda: one(**hedged(max_hedges=3), bulkhead=3),
        lambda: one(**hedged(max_hedges=2), bulkhead=3),
        scripted(),
    ),
    (
        "DGL024",
        lambda: one(**hedged(), circuit_breaker=CircuitBreaker(consecutive=2)),
        lambda: one(**hedged(), circuit_breaker=CircuitBreaker(consecutive=3)),
        scripted(),
    ),
    (
        "DGL024",
        lambda: one(**hedged(max_hedges=2), circuit_breaker=CircuitBreaker(min_calls=3)),
        lambda: one(**hedged(), circuit_breaker=CircuitBreaker(consecutive=1)),
        scripted(),
    ),
    (
        "DGL024",
        lambda: one(**hedged(), circuit_breaker=CircuitBreaker(consecutive=2)),
        lambda: one(**hedged(), circuit_breaker=CircuitBreaker(consecutive=2, counts="call")),
        scripted(),
    ),
    (
        "DGL025",
        lambda: one(**hedged(), rate_limit=5),
        lambda: one(rate_limit=5),
        scripted(),
    ),
    (
        "DGL026",
        lambda: many(20, **hedged(quantile=0.9)),
        lambda: many(21, **hedged(quantile=0.9)),
        scripted(),
    ),
    (
        "DGL026",
        lambda: one(**hedged(quantile=0.9)),
        lambda: work.with_options(**hedged(quantile=0.9)).extend(x=iter([1])),
        scripted(),
    ),
    ("DGL027", lambda: one(**hedged(0)), lambda: one(**hedged(0.1)), scripted()),
    (
        "DGL027",
        lambda: one(**hedged(quantile=0.4)),
        lambda: one(**hedged(quantile=0.5)),
        scripted(),
    ),
    (
        "DGL028",
        lambda: one(circuit_breaker=CircuitBreaker(), timeout=TimeoutPolicy(total="10m")),
        lambda: one(circuit_breaker=CircuitBreaker(), timeout=TimeoutPolicy(total="11m")),
        {},
    ),
    (
        "DGL028",
        lambda: one(circuit_breaker=CircuitBreaker(), timeout=TimeoutPolicy(total=20)),
        lambda: one(circuit_breaker=BREAKER, timeout=TimeoutPolicy(total=20)),
        {},
    ),
    (
        "DGL028",
        lambda: one(circuit_breaker=CircuitBreaker(), timeout=TimeoutPolicy(total=20)),
        lambda: one(
            circuit_breaker=CircuitBreaker(on_open="fail"), timeout=TimeoutPolicy(total=20)
        ),
        {},
    ),
    ("DGL029", lambda: pairs(skipping(), skipping()), lambda: pairs(kept([1]), kept([1])), {}),
    (
        "DGL029",
        lambda: pairs(skipping(), range(9)),
        lambda: pairs(skipping(map_policy=MapPolicy("collect")), range(9)),
        {},
    ),
    ("DGL029", lambda: _with_itself(skipping), lambda: _with_itself(kept), {}),
    (
        "DGL029",
        lambda: pairs(kept(skipping()), [other.bind() for _ in range(9)]),
        lambda: pairs(skipping(), other.bind()),
        {},
    ),
    (
        "DGL029",
        lambda: pairs(range(9), skipping()),
        lambda: work.extend(x=skipping(), y=skipping()),
        {},
    ),
]


def _with_itself(then: Callable[[Any], Any]) -> Any:
    """What a map gives, zipped with what another map makes of it."""
    first = skipping()
    return pairs(first, then(first))


def _in_mode(mode: Any) -> CircuitBreaker:
    return SLOW.model_copy(update={"mode": mode})


def _backend() -> dict[str, Any]:
    return {"backend": ScriptedBackend(VirtualClock())}


@pytest.mark.parametrize(
    ("code", "has", "has_not", "options"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_rules(code: str, has: Expression, has_not: Expression, options: dict[str, Any]) -> None:
    """A rule finds what isn't so, or overlooks what is."""
    found = [finding for finding in lint(has(), **options) if finding.code == code]
    assert len(found) == 1
    assert found[0].task == "work"
    assert found[0].message
    assert found[0].fix
    assert code not in {finding.code for finding in lint(has_not(), **options)}


def test_every_rule_is_tested_and_listed() -> None:
    """The page has the same codes with the same severities, in the same order."""
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert {case[0] for case in CASES} == {"DGL001", "DGL002", *codes}
    rows = re.findall(r"^\| `(DGL\d+)` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = [("DGL001", "error"), ("DGL002", "error")]
    assert rows == [*listed, *((rule.code, rule.severity) for rule in RULES)]
    assert {severity for _, severity in rows} == set(get_args(Severity))
