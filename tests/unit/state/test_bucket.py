"""A rate limit's turns."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from daglite.state.bucket import Bucket, Reservation
from tests.unit.state.machines import LONG, SHORT, carried
from tests.unit.state.wanted import WantedBucket


def waits(bucket: Bucket, now: float, number: int) -> list[float]:
    return [bucket.reserve(now).wait for _ in range(number)]


def test_one_after_the_other() -> None:
    """Without a burst, calls are an interval apart, in the order in which they asked."""
    bucket = Bucket(WantedBucket(4))
    assert waits(bucket, 100, 4) == [0, 0.25, 0.5, 0.75]
    assert waits(bucket, 100.5, 2) == [0.5, 0.75]


def test_per() -> None:
    """The rate is that of `per` seconds."""
    assert waits(Bucket(WantedBucket(2, per=60)), 0, 3) == [0, 30, 60]


def test_burst() -> None:
    """So many go at once, after a pause too, and never more."""
    bucket = Bucket(WantedBucket(1, burst=3))
    assert waits(bucket, 0, 5) == [0, 0, 0, 1, 2]
    assert waits(bucket, 1000, 5) == [0, 0, 0, 1, 2]
    assert waits(bucket, 1003.5, 3) == [0, 0.5, 1.5]


def test_time_before_the_first_call_is_worth_one_burst() -> None:
    """On a clock below zero too."""
    assert waits(Bucket(WantedBucket(1, burst=2)), -50, 3) == [0, 0, 1]


def test_no_drift() -> None:
    """The ten-thousandth turn is where it should be."""
    bucket = Bucket(WantedBucket(10))
    assert waits(bucket, 0, 10_001)[-1] == 1000


def test_the_last_turn_given_back_was_never_taken() -> None:
    """Nor those before it."""
    bucket = Bucket(WantedBucket(1))
    kept, *rest = [bucket.reserve(0) for _ in range(4)]
    assert kept.wait == 0
    for reservation in (rest[1], rest[0], rest[2]):
        bucket.give_back(reservation)
    assert waits(bucket, 0.5, 2) == [0.5, 1.5]
    assert waits(bucket, 10, 1) == [0]


def test_all_turns_given_back() -> None:
    """The bucket is full again."""
    bucket = Bucket(WantedBucket(1, burst=2))
    for reservation in [bucket.reserve(0) for _ in range(3)]:
        bucket.give_back(reservation)
    assert waits(bucket, 0.25, 3) == [0, 0, 1]


def test_a_turn_given_back_goes_to_who_asks_next() -> None:
    """The others keep theirs."""
    bucket = Bucket(WantedBucket(1))
    turns = [bucket.reserve(0) for _ in range(5)]
    bucket.give_back(turns[3])
    bucket.give_back(turns[1])
    assert waits(bucket, 0.25, 4) == [0.75, 2.75, 4.75, 5.75]


def test_a_turn_that_is_past_is_lost() -> None:
    """Or two would go at the same time."""
    bucket = Bucket(WantedBucket(1))
    turns = [bucket.reserve(0) for _ in range(4)]
    bucket.give_back(turns[1])
    assert waits(bucket, 1.5, 1) == [2.5]


def test_a_burst_makes_turns_last() -> None:
    """Until the bucket would have been full without them."""
    bucket = Bucket(WantedBucket(1, burst=3))
    first, second, *_ = [bucket.reserve(0) for _ in range(3)]
    bucket.give_back(first)
    bucket.give_back(second)
    assert waits(bucket, 1, 3) == [0, 0, 1]


def test_giving_back_twice() -> None:
    """The second time does nothing, also when somebody else has the turn by then."""
    bucket = Bucket(WantedBucket(1))
    first, second, third = [bucket.reserve(0) for _ in range(3)]
    bucket.give_back(second)
    assert bucket.reserve(0).wait == 1
    bucket.give_back(second)
    assert bucket.reserve(0).wait == 3
    assert (first.wait, third.wait) == (0, 2)


def test_giving_back_a_turn_of_long_ago() -> None:
    """It says nothing about now."""
    bucket = Bucket(WantedBucket(1))
    old = bucket.reserve(0)
    bucket.reserve(100)
    bucket.give_back(old)
    assert bucket.reserve(100).wait == 1


class RateLimit(RuleBasedStateMachine):
    """
    Calls that take turns and give some back.

    The model counts tokens: they grow with time up to the burst, each call takes one, and one
    that finds none waits until its own has grown. It knows of nothing given back.
    """

    @initialize(
        rate=st.sampled_from([0.5, 1.0, 3.0, 8.0, 10.0]),
        per=st.sampled_from([1.0, 60.0]),
        burst=st.integers(1, 4),
    )
    def begin(self, rate: float, per: float, burst: int) -> None:
        self.wanted = WantedBucket(rate, per, burst)
        self.bucket = Bucket(self.wanted)
        self.rate, self.burst = Fraction(rate) / Fraction(per), burst
        self.now = 0.0
        self.asked: list[float] = []
        self.turns: list[tuple[float, Reservation]] = []
        self.all_used = True

    def model_wait(self) -> Fraction:
        """Seconds that the last of those who asked must wait, all from scratch."""
        tokens, last = Fraction(self.burst), Fraction(0)
        for asked in map(Fraction, self.asked):
            tokens = min(tokens + (asked - last) * self.rate, Fraction(self.burst)) - 1
            last = asked
        return max(-tokens / self.rate, Fraction(0))

    @rule(intervals=st.sampled_from([0.125, 0.5, 1.0, 1.0, 2.5, 7.0]))
    def later(self, intervals: float) -> None:
        self.now += intervals / float(self.rate)

    @rule(number=st.integers(1, 4))
    def reserve(self, number: int) -> None:
        for _ in range(number):
            turn = self.bucket.reserve(self.now)
            self.asked.append(self.now)
            due = float(self.model_wait())
            if self.all_used:
                assert turn.wait == pytest.approx(due, abs=1e-6)
            assert 0 <= turn.wait <= due + 1e-6
            self.turns.append((self.now + turn.wait, turn))

    @rule(data=st.data(), number=st.integers(1, 3))
    def give_back(self, data: Any, number: int) -> None:
        for _ in range(number):
            # Those that are still to come, and those that have just come.
            unused = [turn for turn in self.turns if turn[0] >= self.now]
            if unused:
                turn = data.draw(st.sampled_from(unused))
                self.turns.remove(turn)
                self.bucket.give_back(turn[1])
                self.all_used = False

    @rule()
    def another_takes_over(self) -> None:
        self.bucket = carried(self.bucket, Bucket(self.wanted), self.now)

    @invariant()
    def never_too_many(self) -> None:
        """Of all pairs of turns, the worst one: n of them in T seconds."""
        fewest = math.inf
        for number, moment in enumerate(sorted(moment for moment, _ in getattr(self, "turns", []))):
            beyond_rate = number - float(self.rate) * moment
            fewest = min(fewest, beyond_rate)
            assert beyond_rate - fewest + 1 <= self.burst + 1e-6

    @invariant()
    def first_come_first_served(self) -> None:
        if getattr(self, "all_used", False):
            assert all(a <= b for (a, _), (b, _) in pairwise(self.turns))


def test_like_the_model() -> None:
    """The bucket does what the model says, whatever happens."""
    run_state_machine_as_test(RateLimit, settings=SHORT)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_like_the_model_for_long() -> None:
    """The same, many times as often."""
    run_state_machine_as_test(RateLimit, settings=LONG)
