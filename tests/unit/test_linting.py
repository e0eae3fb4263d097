"""What `lint` says of whole graphs: errors, what is used already, layers, texts."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from daglite import (
    Bulkhead,
    CircuitBreaker,
    DagliteSettings,
    FallbackPolicy,
    Hedge,
    PolicySet,
    RateLimit,
    RetryPolicy,
    TimeoutPolicy,
    breakers,
    evaluate,
    lint,
    protect,
)
from daglite.backends import registry
from daglite.exceptions import (
    BackendError,
    BulkheadFullError,
    PolicyError,
    RateLimitedError,
    TaskTimeoutError,
)
from daglite.testing import ScriptedBackend, Takes
from tests.unit.lab import Lab
from tests.unit.lint_graphs import (
    STEADY,
    Expression,
    both,
    hedged,
    kept,
    one,
    other,
    pairs,
    skipping,
    work,
)


def test_nothing_to_find() -> None:
    """Plain tasks, and an empty container."""
    assert lint(work.extend(x=work.extend(x=range(3)))) == ()
    assert lint([]) == ()


def test_texts() -> None:
    """A finding is a line that says what to do."""
    (finding,) = lint(one(retry=1))
    assert str(finding) == (
        "DGL003 warning: task 'work': it is retried, but nothing limits an attempt: one that hangs "
        "is never tried again; give it a timeout, such as timeout=30"
    )


CROWDS: list[dict[str, Any]] = [
    *({"bulkhead": Bulkhead(*each)} for each in [(1, 0), (2, 1), (2, 4), (7, 0), (8, 0), (9, 9)]),
    *({"rate_limit": RateLimit(1, max_wait=wait)} for wait in [0.5, 1, 20, 29]),
    *({"rate_limit": RateLimit(1, per=seconds)} for seconds in [30, 51]),
]


@pytest.mark.parametrize("options", CROWDS, ids=str)
@pytest.mark.parametrize("timeout", [None, TimeoutPolicy(40), TimeoutPolicy(40, total=50)])
@pytest.mark.parametrize("slots", [1, 4])
def test_crowds_do_as_lint_says(
    lab: Lab, options: dict[str, Any], timeout: TimeoutPolicy | None, slots: int
) -> None:
    """A map fails of what it shares where lint warns of that, and nowhere else."""
    mapped = other.with_options(**options, timeout=timeout).extend(x=range(30))
    found = lint(mapped, default_backend=ScriptedBackend(lab.clock, slots=slots))
    failed = False
    try:
        lab(mapped, {"other": Takes(10, 0)}, slots=slots)
    except (BulkheadFullError, RateLimitedError, TaskTimeoutError):
        failed = True
    assert bool({"DGL015", "DGL019"} & {each.code for each in found}) == failed


def test_layers_count() -> None:
    """What a run's defaults or overrides bring is looked at, too, and errors hide nothing else."""
    expr = [one(), other.with_options(cache=True).bind()]
    found = lint(expr, policies=PolicySet(retry=1), overrides=PolicySet(fallback=FallbackPolicy(0)))
    assert [(finding.code, finding.task) for finding in found] == [
        ("DGL001", "other"),
        ("DGL003", "work"),
        ("DGL011", "work"),
    ]


@pytest.mark.parametrize("scope", ["process", "host"])
def test_a_key_that_is_used_already(scope: Any) -> None:
    """`evaluate` refuses another policy for it, so lint does; looking makes no state."""
    key = f"looked at, {scope}"
    first = CircuitBreaker(key, consecutive=2, scope=scope)
    second = CircuitBreaker(key, consecutive=3, scope=scope)
    mine, others = work.with_options(circuit_breaker=second), other.with_options

    def refused() -> list[str]:
        return [f.message for f in lint(mine.bind()) if f.code == "DGL002"]

    lint(others(circuit_breaker=first).bind())
    assert refused() == []
    assert key not in [each.key for each in breakers()]
    # What a run had is free when it has ended.
    kept = protect(lambda: 0, name="other", circuit_breaker=first)
    assert evaluate(others(circuit_breaker=first).bind()) == kept() == 0
    (message,) = refused()
    assert message.startswith(f"'other' and 'work' share the circuit breaker {key!r}, but")
    with pytest.raises(PolicyError, match=message.partition(":")[0]):
        evaluate(mine.bind())
    assert [f for f in lint(others(circuit_breaker=first).bind()) if f.code == "DGL002"] == []
    del kept
    assert (refused() == []) is (scope == "process")


def test_a_task_that_is_refused_its_own_key_is_named_once() -> None:
    """The finding says which one it is, so its message needn't."""
    limits = [work.with_options(rate_limit=RateLimit(each, key="api")) for each in (1, 2)]
    (found,) = (f for f in lint([each.bind(x=1) for each in limits]) if f.code == "DGL002")
    assert str(found).startswith(
        "DGL002 error: task 'work': uses the rate limit 'api' with more than one policy: RateLimit("
    )


REFUSED: list[tuple[Expression, PolicySet | None, str, str]] = [
    (lambda: one(cache=True), None, "^cache= can't be carried out", "^leave it out$"),
    (lambda: one(backend="thread"), None, "^there is no backend 'thread'$", "^did you mean 'thr"),
    (
        lambda: one(backend="dask"),
        None,
        "^backend 'dask' isn't available",
        "^use one of sequential",
    ),
    (
        lambda: one(timeout=30),
        PolicySet(timeout=TimeoutPolicy(total=5)),
        r"TimeoutPolicy: attempt \(30s\) is above total \(5s\)$",
        "^raise total or lower attempt, or take the weaker one away with timeout=None$",
    ),
    (
        lambda: one(retry=RetryPolicy(delay=20)),
        PolicySet(retry=RetryPolicy(max_delay=10)),
        r"max_delay \(10s\) is below delay \(20s\)$",
        "^raise max_delay or lower delay, or take the weaker one away with retry=None$",
    ),
    (
        lambda: one(circuit_breaker=CircuitBreaker(window=5, min_calls=5)),
        PolicySet(circuit_breaker=CircuitBreaker(window_type="time", window=50)),
        "5 calls can't be the window of window_type='time'$",
        "^give window_type too, or take the weaker one away with circuit_breaker=None$",
    ),
    (
        lambda: one(retry=RetryPolicy(3, "constant", **STEADY), timeout=TimeoutPolicy(total=1)),
        None,
        r"^no retry can ever start: .* doesn't fit into timeout\.total \(1s\)$",
        "^shorten the wait, raise the limit, or write retry=0",
    ),
    (
        lambda: one(retry=RetryPolicy(max_hint=60), timeout=TimeoutPolicy(total=50)),
        None,
        "can be followed$",
        "^lower max_hint or raise total",
    ),
    (
        lambda: one(circuit_breaker=CircuitBreaker(window_type="time", window=10), timeout=30),
        None,
        "that time out$",
        "^raise window or lower attempt",
    ),
    (lambda: one(hedge=Hedge(1)), None, "may carry a call out twice$", "^say idempotent=True"),
    (
        lambda: one(**hedged(5), timeout=TimeoutPolicy(total=5)),
        None,
        "^no hedge can ever start: ",
        "^lower delay, raise total, or leave the hedge out",
    ),
    (lambda: one(**hedged(), bulkhead=1), None, "max_concurrent is 1$", "^raise it, or leave one"),
    (lambda: one(**hedged()), None, "^has hedge=, but backend", "^use a backend with more workers"),
    (
        lambda: one(timeout=TimeoutPolicy(3, on_expiry="kill"), backend="sequential"),
        None,
        "^asks for on_expiry='kill', but backend 'sequential' can't kill a call$",
        "^use on_expiry='cancel' or 'abandon', or leave it out",
    ),
    (
        lambda: both(
            work.with_options(bulkhead=Bulkhead(1, key="k")),
            other.with_options(bulkhead=Bulkhead(2, key="k")),
        ),
        None,
        r"share the bulkhead 'k', but not its policy: .* and Bulkhead\(.*\)$",
        "^give both the same, or another key$",
    ),
]


@pytest.mark.parametrize(("expr", "policies", "message", "fix"), REFUSED)
def test_what_to_do_of_errors(
    expr: Expression, policies: PolicySet | None, message: str, fix: str
) -> None:
    """What `evaluate` refuses says what to do: all of it, and nothing else."""
    found = [each for each in lint(expr(), policies=policies) if each.severity == "error"]
    assert len(found) == 1
    assert re.search(message, found[0].message)
    assert re.search(fix, found[0].fix)
    with pytest.raises((PolicyError, BackendError)) as caught:
        evaluate(expr(), policies=policies)
    assert str(caught.value).endswith(f"{found[0].message}; {found[0].fix}")


def test_an_error_without_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of somebody else's backend, say: the message is all there is."""

    def point(**_: Any) -> list[EntryPoint]:
        return [EntryPoint("cluster", "nobody:has_it", "daglite.backends")]

    monkeypatch.setattr(registry, "entry_points", point)
    (found,) = lint(one(backend="cluster"))
    assert (found.code, found.fix) == ("DGL001", "see the message")
    assert found.message.startswith("backend 'cluster' (nobody:has_it) can't be loaded: No module")


def test_which_losses_part_a_zip() -> None:
    """Those that don't befall all that is zipped are named, each once."""
    shared = skipping(name="shared")
    first, second = skipping(shared, name="first"), skipping(shared, name="second")
    (found,) = [f for f in lint(pairs(kept(first), kept(second))) if f.code == "DGL029"]
    assert "'first' or 'second'" in found.message
    assert "shared" not in found.message


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (work, r"^lint needs a future, not <Task .*; bind it first"),
        (3, r"^lint needs a future, or a list, .* not 3$"),
        ([work], r"^lint was given a list that holds <Task .*; bind it first"),
    ],
)
def test_what_is_no_future(wrong: Any, message: str) -> None:
    """It says so of itself, not of `evaluate`."""
    with pytest.raises(TypeError, match=message):
        lint(wrong)


def test_a_machine_that_nobody_has_used(tmp_path: Path) -> None:
    """Looking makes no file."""
    settings = DagliteSettings(state_dir=tmp_path / "new")
    assert lint(one(rate_limit=RateLimit(1, scope="host")), settings=settings) == ()
    assert not (tmp_path / "new").exists()
