"""A rate limit's tokens."""

from __future__ import annotations

import math
from fractions import Fraction
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

from daglite.state.bucket import Bucket
from tests.unit.state.machines import LONG, SHORT, carried
from tests.unit.state.wanted import WantedBucket


def starts(bucket: Bucket, now: float, number: int) -> list[float]:
    """When so many calls start that come at *now* and ask one after the other."""
    moments = []
    for _ in range(number):
        while wait := bucket.take(now):
            now += wait
        moments.append(now)
    return moments


def test_one_after_the_other() -> None:
    """Without a burst, calls are an interval apart."""
    bucket = Bucket(WantedBucket(4))
    assert starts(bucket, 100, 4) == [100, 100.25, 100.5, 100.75]
    assert bucket.take(100.8) == pytest.approx(0.2)
    assert bucket.take(500) == 0


def test_per() -> None:
    """The rate is that of `per` seconds."""
    assert starts(Bucket(WantedBucket(2, per=60)), 0, 3) == [0, 30, 60]


def test_burst() -> None:
    """So many go at once, after a pause too, and never more."""
    bucket = Bucket(WantedBucket(1, burst=3))
    assert starts(bucket, 0, 5) == [0, 0, 0, 1, 2]
    assert starts(bucket, 1000, 5) == [1000, 1000, 1000, 1001, 1002]
    assert starts(bucket, 1003.5, 3) == [1003.5, 1004, 1005]


def test_time_before_the_first_call_is_worth_one_burst() -> None:
    """On a clock below zero too."""
    assert starts(Bucket(WantedBucket(1, burst=2)), -50, 3) == [-50, -50, -49]


def test_no_drift() -> None:
    """The ten-thousandth token is where it should be, if there is room to make up for delays."""
    assert starts(Bucket(WantedBucket(10, burst=2)), 0, 10_002)[-1] == 1000


def test_a_late_start_moves_the_next() -> None:
    """Without a burst: or the two would be less than an interval apart."""
    bucket = Bucket(WantedBucket(1))
    assert starts(bucket, 0, 1) == [0]
    assert bucket.take(1.25) == 0
    assert bucket.take(2) == 0.25


def test_who_is_refused_took_nothing() -> None:
    """However often he asks."""
    bucket = Bucket(WantedBucket(1))
    assert bucket.take(0) == 0
    assert [bucket.take(0.5) for _ in range(9)] == [0.5] * 9
    assert bucket.take(1) == 0


def test_a_token_is_kept_for_who_is_on_its_way() -> None:
    """Others are told when there is one for them, too."""
    bucket = Bucket(WantedBucket(1, burst=2))
    assert [bucket.ask(0), bucket.ask(0), bucket.ask(0)] == [0, 0, 1]
    assert [bucket.take(0), bucket.take(0)] == [0, 0]
    assert bucket.ask(0.5) == 0.5


def test_who_goes_after_all_forgoes_nothing_of_the_others() -> None:
    """Its token is there for the next at once, and who waits is named to ask for it."""
    bucket = Bucket(WantedBucket(1))
    assert bucket.ask(0) == 0
    assert bucket.ask(0, "next") == 1
    assert bucket.forgo() == "next"
    assert bucket.ask(0, "next") == 0


def test_one_that_is_held_up_on_its_way_holds_nobody_up() -> None:
    """After an interval its token isn't kept any more; when it comes, it takes what there is."""
    bucket = Bucket(WantedBucket(1))
    assert bucket.ask(0) == 0
    assert bucket.ask(0, "next") == 1
    assert bucket.ask(1, "next") == 0
    assert bucket.take(1) == 0
    assert bucket.take(1.25) == 0.75


def test_the_line() -> None:
    """Each is told when it will be its turn, if those before it go; the first is named then."""
    bucket = Bucket(WantedBucket(1))
    assert bucket.take(0) == 0
    assert [bucket.ask(0, name) for name in "abc"] == [1, 2, 3]
    assert bucket.wait(0) == 4
    assert bucket.wait(0, ahead=2) == 6
    assert bucket.leave("b") is None
    assert bucket.leave("a") == "c"
    assert bucket.ask(0.5, "c") == 0.5
    assert bucket.ask(1, "c") == 0
    assert bucket.leave("c") is None


def test_one_that_comes_later_doesnt_go_before_the_line() -> None:
    """Not in the moment when the first one's turn comes, either."""
    bucket = Bucket(WantedBucket(1))
    assert bucket.take(0) == 0
    assert bucket.ask(0, "first") == 1
    assert bucket.ask(0.75) == 1.25
    assert not bucket.take_at_once(1)
    assert bucket.ask(1, "first") == 0


def test_one_that_misses_its_turn_holds_nobody_up() -> None:
    """Such as a run whose thread is busy: those behind it go at their own times."""
    bucket = Bucket(WantedBucket(1))
    assert bucket.take(0) == 0
    assert [bucket.ask(0, name) for name in "abc"] == [1, 2, 3]
    assert bucket.ask(2, "b") == 0
    assert bucket.take(2) == 0
    assert bucket.ask(3, "c") == 0


def test_at_once() -> None:
    """Only if there is a token that is kept for nobody."""
    bucket = Bucket(WantedBucket(1, burst=3))
    assert bucket.take_at_once(0)
    assert bucket.ask(0) == 0
    assert not bucket.take_at_once(0)
    assert bucket.take(0) == 0
    assert bucket.take_at_once(0)
    assert not bucket.take_at_once(0)


class RateLimit(RuleBasedStateMachine):
    """
    Calls that ask, wait, go, give up, and take tokens, those that asked and others.

    The model counts tokens: they grow with time up to the burst, and each call takes one.  It
    knows of no line.
    """

    @initialize(
        rate=st.sampled_from([0.5, 1.0, 4.0, 8.0]),
        per=st.sampled_from([1.0, 64.0]),
        burst=st.integers(1, 4),
    )
    def begin(self, rate: float, per: float, burst: int) -> None:
        self.wanted = WantedBucket(rate, per, burst)
        self.bucket = Bucket(self.wanted)
        self.rate, self.burst = Fraction(rate) / Fraction(per), burst
        self.now = 0.0
        self.taken: list[float] = []
        self.due: dict[int, float] = {}
        self.going = 0
        self.names = 0

    def tokens(self) -> Fraction:
        """How many there are, all from scratch."""
        tokens, last = Fraction(self.burst), Fraction(0)
        for moment in map(Fraction, self.taken):
            tokens = min(tokens + (moment - last) * self.rate, Fraction(self.burst)) - 1
            last = moment
        return min(tokens + (Fraction(self.now) - last) * self.rate, Fraction(self.burst))

    def named(self, name: object) -> None:
        """Whoever is named asks again."""
        if name is not None:
            assert name in self.due
            self.ask_as(name)

    def ask_as(self, name: Any) -> None:
        wait = self.bucket.ask(self.now, name)
        if wait:
            assert wait <= float((len(self.due) + self.going + 2) / self.rate)
            self.due[name] = self.now + wait
        else:
            assert self.tokens() >= 1
            self.due.pop(name, None)
            self.going += 1
            self.named(self.bucket.leave(name))

    @rule(intervals=st.sampled_from([0.125, 0.5, 1.0, 1.0, 2.5, 7.0]))
    def later(self, intervals: float) -> None:
        """Those whose moment comes ask then."""
        end = self.now + intervals / float(self.rate)
        while self.due and (moment := min(self.due.values())) <= end:
            self.now = moment
            self.ask_as(min(self.due, key=lambda name: self.due[name]))
        self.now = end

    @rule(number=st.integers(1, 4))
    def come(self, number: int) -> None:
        for _ in range(number):
            self.names += 1
            self.ask_as(self.names)

    @rule(asked=st.booleans())
    def start(self, asked: bool) -> None:
        """One that asked before may still be told to wait: others take tokens too."""
        self.going -= asked and self.going > 0
        there = self.tokens() >= 1
        wait = self.bucket.take(self.now)
        assert (wait == 0) == there
        if there:
            self.taken.append(self.now)
        else:
            assert wait == pytest.approx(float((1 - self.tokens()) / self.rate))

    @rule()
    def start_at_once(self) -> None:
        there = self.tokens() >= 1
        if self.bucket.take_at_once(self.now):
            assert there
            assert not self.due
            self.taken.append(self.now)

    @rule()
    def forgo(self) -> None:
        if self.going:
            self.going -= 1
            self.named(self.bucket.forgo())

    @rule(data=st.data())
    def give_up(self, data: Any) -> None:
        if self.due:
            name = data.draw(st.sampled_from(sorted(self.due)))
            del self.due[name]
            self.named(self.bucket.leave(name))

    @rule()
    def another_takes_over(self) -> None:
        """It knows what was taken, but not who waits or is on its way."""
        self.bucket = carried(self.bucket, Bucket(self.wanted), self.now)
        self.due.clear()
        self.going = 0

    @invariant()
    def never_too_many(self) -> None:
        """Of all pairs of tokens, the worst one: n of them in T seconds."""
        fewest = math.inf
        for number, moment in enumerate(getattr(self, "taken", [])):
            beyond_rate = number - float(self.rate) * moment
            fewest = min(fewest, beyond_rate)
            assert beyond_rate - fewest + 1 <= self.burst + 1e-6

    def teardown(self) -> None:
        """Left alone, all that wait go, in the order in which they came."""
        if not hasattr(self, "due"):
            return
        # Nobody is on its way: what was kept isn't any more.
        self.now += self.burst / float(self.rate)
        while self.due:
            self.now = max(self.now, min(self.due.values()))
            name = min(self.due, key=lambda name: (self.due[name], name))
            self.ask_as(name)
            if name not in self.due:
                assert self.bucket.take(self.now) == 0


def test_like_the_model() -> None:
    """The bucket does what the model says, whatever happens."""
    run_state_machine_as_test(RateLimit, settings=SHORT)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_like_the_model_for_long() -> None:
    """The same, many times as often."""
    run_state_machine_as_test(RateLimit, settings=LONG)
