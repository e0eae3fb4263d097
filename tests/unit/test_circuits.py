"""Circuit breakers seen from outside of their runs."""

from __future__ import annotations

from typing import Any

import pytest

from daglite import (
    CircuitBreaker,
    RetryPolicy,
    breakers,
    evaluate,
    force_open,
    protect,
    reset,
    task,
)
from daglite.exceptions import CircuitOpenError, PolicyError
from daglite.testing import VirtualClock


def of_process(key: str) -> CircuitBreaker:
    return CircuitBreaker(key, consecutive=2, on_open="fail", scope="process")


def test_those_of_the_process() -> None:
    """They are listed with what they have seen, and can be opened and reset by hand."""
    works = task(lambda: 1, name="works", circuit_breaker=of_process("seen"))
    assert evaluate([works.bind(), works.bind()]) == [1, 1]
    (seen,) = [each for each in breakers() if each.key == "seen"]
    assert (seen.state, seen.calls, seen.failure_rate) == ("closed", 2, 0.0)
    force_open("seen")
    with pytest.raises(CircuitOpenError, match="forced open; until somebody resets it"):
        evaluate(works.bind())
    force_open("seen")
    reset("seen")
    assert evaluate(works.bind()) == 1


def test_those_of_a_run() -> None:
    """Only its own tasks see them."""

    @task(circuit_breaker=CircuitBreaker("mine"))
    def look() -> list[str]:
        return [each.key for each in breakers()]

    assert evaluate(look.bind())[-1] == "mine"
    assert "mine" not in [each.key for each in breakers()]


def keys() -> list[str]:
    return [each.key for each in breakers()]


@pytest.mark.parametrize("scope", ["run", "process"])
def test_those_of_protected_functions(scope: Any) -> None:
    """By their key; without one nobody could tell which function is meant."""
    policy = CircuitBreaker(f"of functions, {scope}", on_open="fail", scope=scope)
    fetch = protect(lambda: 1, circuit_breaker=policy)
    alone = protect(lambda: 1, circuit_breaker=CircuitBreaker(), name="nobody sees me")
    assert fetch() + alone() == 2
    assert f"of functions, {scope}" in keys()
    assert "nobody sees me" not in keys()
    force_open(f"of functions, {scope}")
    with pytest.raises(CircuitOpenError):
        fetch()
    reset(f"of functions, {scope}")
    assert fetch() == 1


@pytest.mark.parametrize("options", [{"retry": 1}, {"timeout": 30}], ids=["untimed", "timed"])
def test_from_within_a_protected_function(options: Any) -> None:
    """It sees what the task sees that called it, also on a helper thread and in the chain."""
    chained = RetryPolicy(1, "none", retry_on_result=lambda value: False)
    ways = [protect(keys, **options), protect(keys, **{**options, "retry": chained})]
    outer = task(
        lambda: [way()[-1] for way in ways], name="outer", circuit_breaker=CircuitBreaker("its run")
    )
    assert evaluate(outer.bind()) == ["its run"] * 2
    assert [way() for way in ways] == [keys()] * 2


def test_each_by_its_own_clock() -> None:
    """One on a virtual clock is told by that clock, and goes with it."""
    clock = VirtualClock(100.0)

    def broken() -> None:
        raise OSError("down")

    policy = CircuitBreaker("virtual", consecutive=1, break_for=30, on_open="fail")
    fetch = protect(broken, circuit_breaker=policy, clock=clock)
    with pytest.raises(OSError, match="down"):
        fetch()
    clock.advance(10)
    (seen,) = [each for each in breakers() if each.key == "virtual"]
    assert (seen.state, seen.retry_in) == ("open", 20.0)
    del fetch, clock
    assert "virtual" not in keys()


@pytest.mark.parametrize("change", [force_open, reset])
def test_a_key_that_nobody_has(change: object) -> None:
    """It is refused, with the keys that there are."""
    with pytest.raises(PolicyError, match="there is no circuit 'nobody'"):
        change("nobody")  # type: ignore[operator]
