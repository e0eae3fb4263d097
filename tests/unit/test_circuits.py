"""Circuit breakers seen from outside of their runs."""

from __future__ import annotations

import pytest

from daglite import CircuitBreaker, breakers, evaluate, force_open, reset, task
from daglite.exceptions import CircuitOpenError, PolicyError


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


@pytest.mark.parametrize("change", [force_open, reset])
def test_a_key_that_nobody_has(change: object) -> None:
    """It is refused, with the keys that there are."""
    with pytest.raises(PolicyError, match="there is no circuit 'nobody'"):
        change("nobody")  # type: ignore[operator]
