"""What lives as long as the process, for each clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from daglite import CircuitBreaker, evaluate, task
from daglite._clock import SystemClock
from daglite.exceptions import CircuitOpenError
from daglite.state.process import states_of, states_of_all
from daglite.testing import VirtualClock


@dataclass
class Unhashable:
    """A clock that is equal to others, and has no hash."""

    moment: float = 0.0

    def now(self) -> float:
        return self.moment

    def wait(self, *what: Any) -> None:
        raise NotImplementedError


class Slotted:
    """One that can't be referred to weakly."""

    __slots__ = ()
    now = Unhashable.now
    wait = Unhashable.wait


@pytest.mark.parametrize("kind", [VirtualClock, Unhashable, Slotted])
def test_each_clock_has_its_own(kind: Any) -> None:
    one, other = kind(), kind()
    assert states_of(one) is states_of(one)
    assert states_of(one) is not states_of(other)
    assert states_of(one) is not states_of(SystemClock())


def test_system_clocks_are_one() -> None:
    assert states_of(SystemClock()) is states_of(SystemClock())


def test_a_clock_that_is_gone_takes_its_states_along() -> None:
    before = len(states_of_all())
    clock = VirtualClock()
    states_of(clock)
    assert len(states_of_all()) == before + 1
    del clock
    assert len(states_of_all()) == before


def test_runs_on_two_clocks() -> None:
    """An hour of one is no hour of the other."""
    policy = CircuitBreaker("clocks", consecutive=1, on_open="fail", scope="process")

    @task(circuit_breaker=policy)
    def broken() -> None:
        raise OSError("down")

    for clock in (VirtualClock(1e6), VirtualClock()):
        with evaluate.context(clock=clock) as context:
            with pytest.raises(OSError, match="down"):
                context.evaluate(broken.bind())
            with pytest.raises(CircuitOpenError):
                context.evaluate(broken.bind())


def test_a_policy_may_change_between_two_runs() -> None:
    """As in a notebook, where the error of the last run is kept with all of its frames."""

    def policy(consecutive: int) -> CircuitBreaker:
        return CircuitBreaker("changes", consecutive=consecutive, on_open="fail", scope="process")

    def broken() -> None:
        raise OSError("down")

    errors = []
    for consecutive in (1, 2):
        fetch = task(broken, name="fetch", circuit_breaker=policy(consecutive))
        with pytest.raises(OSError, match="down") as caught:
            evaluate(fetch.bind())
        errors.append(caught.value)
    assert all(error.__traceback__ for error in errors)
