"""A retry budget: so many retries for so many first calls."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from daglite.state.budget import Budget
from tests.unit.state.machines import LONG, SHORT, carried, grouped
from tests.unit.state.wanted import WantedBudget


def reserved(budget: Budget, now: float, tries: int = 1000) -> int:
    """How many retries can be reserved at *now*; they are held."""
    return sum(budget.reserve(now) == 0 for _ in range(tries))


def test_ratio() -> None:
    """Retries are a part of first calls, to the last one."""
    budget = Budget(WantedBudget(ratio=0.29, min_per_second=0))
    for _ in range(100):
        budget.first_call(0)
    assert reserved(budget, 0) == 29


def test_minimum() -> None:
    """Some are allowed without any first call."""
    assert reserved(Budget(WantedBudget(min_per_second=1.5, window=10)), 0) == 15


def test_both() -> None:
    """The minimum comes on top."""
    budget = Budget(WantedBudget(ratio=0.5, min_per_second=1, window=10))
    for _ in range(9):
        budget.first_call(0)
    assert reserved(budget, 0) == 14


def test_a_minimum_below_one_in_a_window() -> None:
    """One retry is made in the time that the minimum asks for, not none for ever."""
    budget = Budget(WantedBudget(ratio=0, min_per_second=0.05, window=10))
    assert budget.reserve(0) == 0
    budget.spend(0)
    assert budget.reserve(5) == 15
    assert budget.reserve(20) == 0


def test_no_retries_at_all() -> None:
    """Waiting doesn't help, and it says so."""
    budget = Budget(WantedBudget(ratio=0, min_per_second=0))
    budget.first_call(0)
    assert budget.reserve(0) == math.inf


def test_first_calls_are_forgotten() -> None:
    """After the window."""
    budget = Budget(WantedBudget(ratio=1, min_per_second=0, window=10))
    budget.first_call(0)
    assert budget.reserve(10) == math.inf
    budget.first_call(10)
    assert budget.reserve(19.5) == 0


def test_held_through_the_back_off() -> None:
    """However long that is; from its start on a retry counts for one window."""
    budget = Budget(WantedBudget(min_per_second=0.1, window=10))
    assert budget.reserve(0) == 0
    assert budget.reserve(500) == 1
    budget.spend(500)
    assert budget.reserve(501) == 9
    assert budget.reserve(510) == 0


def test_given_back() -> None:
    """A retry that isn't made costs nothing."""
    budget = Budget(WantedBudget(min_per_second=0.1, window=10))
    assert budget.reserve(0) == 0
    budget.give_back()
    assert budget.reserve(0) == 0


def test_the_wait_is_as_long_as_need_be() -> None:
    """Until enough retries are forgotten, though first calls are forgotten meanwhile."""
    budget = Budget(WantedBudget(ratio=1, min_per_second=0.1, window=10))
    budget.first_call(0)
    for at in (3, 5):
        assert budget.reserve(at) == 0
        budget.spend(at)
    # One left at 13, but by then the first call no longer allows the other.
    assert budget.reserve(6) == 9
    assert budget.reserve(13) == 2
    assert budget.reserve(15) == 0


@pytest.mark.parametrize(("early", "late", "wait"), [(3, 3, 4), (2, 4, 9)])
def test_first_calls_that_are_forgotten_meanwhile(early: int, late: int, wait: float) -> None:
    """The wait is for the moment when those that are left allow one more."""
    budget = Budget(WantedBudget(ratio=1, min_per_second=0.1, window=10))
    for began, firsts, retries in ((0, 2, early), (5, 3, late)):
        for _ in range(firsts):
            budget.first_call(began)
        for _ in range(retries):
            assert budget.reserve(began + 1) == 0
            budget.spend(began + 1)
    assert budget.reserve(7) == wait
    assert budget.reserve(7 + wait) == 0


@pytest.mark.parametrize("first", [0, 3])
def test_those_that_are_held_count_on(first: float) -> None:
    """A spent one that is forgotten doesn't make room for what first calls no longer allow."""
    budget = Budget(WantedBudget(ratio=1, min_per_second=0.1, window=10))
    budget.first_call(first)
    assert budget.reserve(3) == 0
    budget.spend(3)
    assert budget.reserve(5) == 0
    # At 13 the first call is forgotten too, and the one that is held takes the minimum.
    assert budget.reserve(6) == 1
    assert budget.reserve(13) == 1
    budget.give_back()
    assert budget.reserve(13) == 0


def test_fail() -> None:
    """Where the policy says so, an exhausted budget is a refusal."""
    budget = Budget(WantedBudget(min_per_second=0.1, window=10, on_exhausted="fail"))
    assert budget.reserve(0) == 0
    budget.spend(0)
    assert budget.reserve(5) is None
    assert budget.reserve(10) == 0


def test_mistakes() -> None:
    """What wasn't reserved can be neither spent nor given back."""
    budget = Budget(WantedBudget())
    with pytest.raises(RuntimeError, match="nobody had reserved"):
        budget.spend(0)
    with pytest.raises(RuntimeError, match="nobody had reserved"):
        budget.give_back()


LEASE = 1e6
"""Longer than any of them is held."""


class RetryBudget(RuleBasedStateMachine):
    """
    First calls, and retries that are reserved, spent and given back.

    The model keeps the times of all of them, and counts anew each time.
    """

    @initialize(
        ratio=st.sampled_from(["0", "0.1", "0.2", "0.5", "1"]),
        minimum=st.sampled_from(["0", "0.05", "0.25", "1"]),
        fails=st.booleans(),
    )
    def begin(self, ratio: str, minimum: str, fails: bool) -> None:
        self.ratio, self.minimum = Fraction(ratio), Fraction(minimum)
        self.window = max(8, 1 / self.minimum) if self.minimum else Fraction(8)
        self.fails = fails
        self.wanted = WantedBudget(float(ratio), float(minimum), 8.0, "fail" if fails else "pace")
        self.budget = Budget(self.wanted, LEASE)
        self.now = Fraction(0)
        self.firsts: list[Fraction] = []
        self.spent: list[Fraction] = []
        self.held = 0

    def count(self, times: list[Fraction], now: Fraction) -> int:
        """How many of *times* count at *now*: those whose tenth of the window is still in it."""
        groups = grouped(times, self.window / 10)
        return sum(len(group) for group in groups if group[0] + self.window > now)

    def allows(self, now: Fraction) -> bool:
        """Whether one more retry is in proportion."""
        retries = self.count(self.spent, now) + self.held + 1
        return retries <= self.ratio * self.count(self.firsts, now) + self.minimum * self.window

    def model_wait(self) -> float:
        """Seconds until one is allowed, if nothing happens until then."""
        for moment in sorted({time + self.window for time in self.firsts + self.spent}):
            if moment > self.now and self.allows(moment):
                return float(moment - self.now)
        return float(self.window / 10) if self.held else math.inf

    @rule(eighths=st.sampled_from([1, 4, 8, 30, 100]))
    def later(self, eighths: int) -> None:
        self.now += Fraction(eighths, 8)

    @rule(number=st.integers(1, 10))
    def first_calls(self, number: int) -> None:
        for _ in range(number):
            self.budget.first_call(float(self.now))
            self.firsts.append(self.now)

    @rule(number=st.integers(1, 5))
    def reserve(self, number: int) -> None:
        for _ in range(number):
            answer = self.budget.reserve(float(self.now))
            if self.allows(self.now):
                assert answer == 0
                self.held += 1
                self.check_proportion()
            elif self.fails:
                assert answer is None
            else:
                assert answer == pytest.approx(self.model_wait())

    @precondition(lambda self: getattr(self, "held", 0))
    @rule()
    def spend(self) -> None:
        self.budget.spend(float(self.now))
        self.held -= 1
        self.spent.append(self.now)

    @precondition(lambda self: getattr(self, "held", 0))
    @rule()
    def give_back(self) -> None:
        self.budget.give_back()
        self.held -= 1

    @rule()
    def another_takes_over(self) -> None:
        self.budget = carried(self.budget, Budget(self.wanted, LEASE), float(self.now))

    def check_proportion(self) -> None:
        """Retries over first calls, whatever the tenths: none counts for less than 9 of them."""
        firsts = sum(time > self.now - self.window for time in self.firsts)
        retries = sum(time > self.now - self.window * Fraction(9, 10) for time in self.spent)
        assert retries + self.held <= self.ratio * firsts + self.minimum * self.window


def test_like_the_model() -> None:
    """The budget does what the model says, whatever happens."""
    run_state_machine_as_test(RetryBudget, settings=SHORT)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_like_the_model_for_long() -> None:
    """The same, many times as often."""
    run_state_machine_as_test(RetryBudget, settings=LONG)
