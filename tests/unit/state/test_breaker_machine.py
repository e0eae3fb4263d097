"""The circuit breaker against a model of it, whatever happens in whatever order."""

from __future__ import annotations

import math
from dataclasses import dataclass
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

from daglite.state.breaker import Breaker, Permit, Transition
from tests.unit.state.machines import LONG, SHORT, carried, grouped
from tests.unit.state.wanted import WantedBreaker


@dataclass(eq=False)
class Going:
    """A call that was let go."""

    permit: Permit
    era: int
    probe: bool
    went: float
    """When its lease began."""
    ended: str | None = None
    """None while it is out; "failed", "well" or "neutral"."""
    end: float = 0.0
    slow: bool = False


class Model:
    """
    All that ever happened; each answer is read from that anew.

    Attributes:
        moves: When which state began.
        calls: Those that were let go.
        results: Those of them that counted when they ended, in that order.
    """

    def __init__(self, policy: WantedBreaker) -> None:
        self.policy = policy
        self.first = "closed" if policy.mode == "on" else policy.mode
        self.moves: list[tuple[float, str]] = [(0.0, self.first)]
        self.calls: list[Going] = []
        self.results: list[Going] = []
        self.rate = None if policy.failure_rate is None else Fraction(str(policy.failure_rate))
        self.slow_rate = Fraction(str(policy.slow_rate))

    @property
    def era(self) -> int:
        return len(self.moves)

    @property
    def state(self) -> str:
        return self.moves[-1][1]

    def move(self, now: float, state: str) -> None:
        self.moves.append((now, state))

    def due(self) -> float:
        """When the break ends: it has grown with each opening since it was last closed."""
        states = [state for _, state in self.moves]
        closed = max(i for i, state in enumerate(states) if state == "closed")
        reopened = states[closed:].count("open") - 1
        grown = self.policy.break_for * self.policy.break_factor**reopened
        return self.moves[-1][0] + min(grown, self.policy.max_break)

    def probes(self, now: float) -> tuple[list[Going], list[Going]]:
        """Those of now that are out within their lease, and those that came back."""
        lease = self.policy.probe_lease or self.policy.break_for
        mine = [call for call in self.calls if call.era == self.era]
        out = [call for call in mine if call.ended is None and call.went + lease > now]
        return out, [call for call in mine if call.ended in ("failed", "well")]

    def ask(self, now: float) -> float | None:
        """Seconds to wait, or None: a call may go."""
        if self.state in ("closed", "disabled", "metrics_only"):
            return None
        if self.state == "forced_open":
            return math.inf
        if self.state == "open":
            if now < self.due():
                return self.due() - now
            self.move(now, "half_open")
        out, back = self.probes(now)
        if len(out) + len(back) < self.policy.probes:
            return None
        lease = self.policy.probe_lease or self.policy.break_for
        return min(call.went for call in out) + lease - now

    def confirms(self, call: Going, now: float) -> bool:
        """Whether *call* may start, as what it is in that moment: its place is one of now."""
        kept = self.state == "half_open" and call in self.probes(now)[0]
        if not kept and self.ask(now) is not None:
            return False
        call.era, call.probe, call.went = self.era, self.state == "half_open", now
        return True

    def in_window(self, now: float) -> list[Going]:
        """The results that rates are made of: those since the last begin that are recent."""
        begins = [i for i, (_, state) in enumerate(self.moves, 1) if state in _COUNTING]
        if not begins:
            return []
        seen = [r for r in self.results if r.era == begins[-1]]
        if self.policy.window_type == "count":
            return seen[-int(self.policy.window) :]
        groups = grouped((r.end for r in seen), self.policy.window / 100)
        stay = sum(len(group) for group in groups if group[0] + self.policy.window > now)
        return seen[len(seen) - stay :]

    def row(self) -> int:
        """How many of the last results failed, one after the other."""
        row = 0
        for result in reversed(self.results):
            if result.era != self.era or result.ended == "well":
                break
            row += result.ended == "failed"
        return row

    def too_many(self, results: list[Going]) -> bool:
        failures = sum(result.ended == "failed" for result in results)
        slows = sum(result.slow for result in results)
        if self.rate is not None and Fraction(failures, len(results)) >= self.rate:
            return True
        if self.policy.slow_call is None:
            return False
        return Fraction(slows, len(results)) >= self.slow_rate

    def must_open(self, now: float) -> bool:
        """Whether a closed breaker has seen too much."""
        policy, seen = self.policy, self.in_window(now)
        if policy.consecutive is not None and self.row() >= policy.consecutive:
            return True
        return len(seen) >= policy.min_calls and self.too_many(seen)

    def record(self, call: Going, now: float) -> None:
        if call.era != self.era or self.state == "disabled":
            return
        self.results.append(call)
        if self.state == "closed" and self.must_open(now):
            self.move(now, "open")
        elif self.state == "half_open":
            back = self.probes(now)[1]
            if len(back) < self.policy.probes:
                return
            any_failed = any(probe.ended == "failed" for probe in back)
            ill = self.too_many(back) or (self.rate is None and any_failed)
            self.move(now, "open" if ill else "closed")


_COUNTING = ("closed", "metrics_only", "disabled")

POLICIES = st.builds(
    WantedBreaker,
    failure_rate=st.sampled_from([None, 0.1, 0.3, 0.5, 1.0]),
    consecutive=st.sampled_from([None, 1, 3]),
    min_calls=st.integers(1, 5),
    window_type=st.sampled_from(["count", "time"]),
    window=st.sampled_from([5, 25]),
    slow_call=st.sampled_from([None, 2.0]),
    slow_rate=st.sampled_from([0.3, 1.0]),
    break_for=st.sampled_from([4.0, 16.0]),
    break_factor=st.sampled_from([1.0, 1.5, 2.0]),
    max_break=st.sampled_from([30.0, 600.0]),
    probes=st.integers(1, 4),
    probe_lease=st.sampled_from([None, 1.0, 40.0]),
    mode=st.sampled_from(["on"] * 12 + ["metrics_only", "disabled", "forced_open"]),
)

ENDS = st.sampled_from(["failed", "failed", "well", "well", "well", "neutral"])
TIMES = st.sampled_from([0.0, 2.0, 2.5])
SELDOM = st.sampled_from([False] * 11 + [True])


class CircuitBreaker(RuleBasedStateMachine):
    """Calls that ask, go and end, and operators who interfere."""

    @initialize(policy=POLICIES)
    def begin(self, policy: WantedBreaker) -> None:
        self.policy, self.now = policy, 0.0
        self.breaker, self.model = Breaker(policy, "db"), Model(policy)
        self.waiting: list[str] = []
        self.generation = 0

    def check(self, before: str, era: int, told: Transition | None) -> None:
        """What was told is what the model did: who isn't woken goes on waiting."""
        after = self.model.state
        if era == self.model.era or before == after:
            assert told is None
            return
        assert told is not None
        assert (told.key, told.before, told.after) == ("db", before, after)
        if after == "half_open":
            assert told.wake == ()
        else:
            assert list(told.wake) == self.waiting
            self.waiting = []
        due = {"open": self.model.due, "forced_open": lambda: math.inf}.get(after)
        assert told.retry_in == (0 if after == "half_open" else due and due() - self.now)

    @rule(eighths=st.sampled_from([1, 1, 2, 8, 30, 100, 300]))
    def later(self, eighths: int) -> None:
        self.now += eighths / 8

    @rule(early=st.sampled_from([0.0, 0.0, 0.125]))
    def until_asking_makes_sense(self, early: float) -> None:
        wait = self.breaker.snapshot(self.now).retry_in
        if wait is not None and early < wait < math.inf:
            self.now += wait - early
        if not early:
            self.ask_once(None)

    @rule(number=st.integers(1, 6), waiter=st.sampled_from([None, "a", "b", "c"]))
    def ask(self, number: int, waiter: str | None) -> None:
        for _ in range(number):
            self.ask_once(waiter)

    def ask_once(self, waiter: str | None) -> Going | None:
        before, era = self.model.state, self.model.era
        answer, due = self.breaker.permit(self.now, waiter), self.model.ask(self.now)
        if not isinstance(answer, Permit):
            assert answer == due
            assert answer > 0
            if waiter is not None and waiter not in self.waiting:
                self.waiting.append(waiter)
            return None
        assert due is None
        self.check(before, era, answer.transition)
        if waiter in self.waiting:
            self.waiting.remove(waiter)
        probe = self.model.state == "half_open"
        assert answer.is_probe == probe
        assert answer.generation >= self.generation
        self.generation = answer.generation
        going = Going(answer, self.model.era, probe, self.now)
        self.model.calls.append(going)
        if probe:
            out, back = self.model.probes(self.now)
            assert len(out) + len(back) <= self.policy.probes
        return going

    @rule(data=st.data(), number=st.integers(1, 3))
    def start(self, data: Any, number: int) -> None:
        """Some that were let go come to a worker."""
        for _ in range(number):
            out = [call for call in self.model.calls if call.ended is None]
            if out:
                self.start_once(data.draw(st.sampled_from(out[:3] + out[-3:])))

    def start_once(self, call: Going) -> None:
        before, era, permit = self.model.state, self.model.era, call.permit
        within = before == "half_open" and call in self.model.probes(self.now)[0]
        answer, may = self.breaker.confirm(permit, self.now), self.model.confirms(call, self.now)
        if answer is None:
            assert not may
            assert self.breaker.give_back(permit) == ()
            call.ended, call.end = "neutral", self.now
            return
        assert may
        if answer is not permit:
            self.check(before, era, answer.transition)
            assert not within
        assert (answer.is_probe, answer.generation >= self.generation) == (call.probe, True)
        self.generation, call.permit = answer.generation, answer
        if call.probe:
            out, back = self.model.probes(self.now)
            assert len(out) + len(back) <= self.policy.probes

    @rule(ends=st.lists(st.tuples(ENDS, TIMES), min_size=1, max_size=6))
    def calls(self, ends: list[tuple[str, float]]) -> None:
        """Some that don't take long on this clock, whatever they say."""
        for ended, took in ends:
            going = self.ask_once(None)
            if going is not None:
                self.end_once(going, ended, took)

    @rule(asked=st.integers(1, 5))
    def an_outage(self, asked: int) -> None:
        """The way to half-open, which is long for those who walk at random."""
        for _ in range(5):
            going = self.ask_once(None)
            if going is not None:
                self.end_once(going, "failed", 2.5)
        self.until_asking_makes_sense(0.0)
        self.ask(asked, None)

    @rule(asked=st.integers(1, 3), waits=st.lists(st.sampled_from([4, 20, 40]), max_size=4))
    def probes_on_busy_workers(self, asked: int, waits: list[int]) -> None:
        """They come to their workers late, and some start again, while others ask."""
        self.an_outage(asked)
        for eighths in waits:
            self.later(eighths)
            self.ask(asked, "a")
            for call in [c for c in self.model.calls if c.probe and c.ended is None][-4:]:
                self.start_once(call)

    @rule(data=st.data(), ended=ENDS, took=TIMES, number=st.integers(1, 4))
    def end(self, data: Any, ended: str, took: float, number: int) -> None:
        for _ in range(number):
            out = [call for call in self.model.calls if call.ended is None]
            if out:
                self.end_once(data.draw(st.sampled_from(out[:3] + out[-3:])), ended, took)

    def end_once(self, call: Going, ended: str, took: float) -> None:
        call.ended, call.end = ended, self.now
        if ended == "neutral":
            woken = self.breaker.give_back(call.permit)
            frees = call.probe and call.era == self.model.era
            assert list(woken) == (self.waiting if frees else [])
            if frees:
                self.waiting = []
            return
        before, era = self.model.state, self.model.era
        call.slow = self.policy.slow_call is not None and took > self.policy.slow_call
        failed = ended == "failed"
        told = self.breaker.record(call.permit, self.now, failed=failed, took=took)
        self.model.record(call, self.now)
        self.check(before, era, told)
        if self.model.state == "closed":
            assert not self.model.must_open(self.now)

    @rule(data=st.data())
    def end_once_more(self, data: Any) -> None:
        """A mistake that does no harm, where it can be told."""
        ended = [c for c in self.model.calls if c.ended and (c.probe or c.era != self.model.era)]
        if ended:
            permit = data.draw(st.sampled_from(ended)).permit
            assert self.breaker.record(permit, self.now, failed=True) is None
            assert self.breaker.give_back(permit) == ()

    @rule()
    def another_takes_over(self) -> None:
        """All that counts is remembered; only those who wait are left behind."""
        self.breaker = carried(self.breaker, Breaker(self.policy, "db"), self.now)
        self.waiting = []

    @rule(waiter=st.sampled_from("abc"))
    def leave(self, waiter: str) -> None:
        self.breaker.leave(waiter)
        if waiter in self.waiting:
            self.waiting.remove(waiter)

    @rule(meant=SELDOM)
    def force_open(self, meant: bool) -> None:
        if not meant:
            return
        before, era = self.model.state, self.model.era
        told = self.breaker.force_open()
        if before != "forced_open":
            self.model.move(self.now, "forced_open")
        self.check(before, era, told)

    @rule(meant=SELDOM)
    def reset(self, meant: bool) -> None:
        if not (meant or self.model.state == "forced_open"):
            return
        before, era = self.model.state, self.model.era
        told = self.breaker.reset()
        self.model.move(self.now, self.model.first)
        self.check(before, era, told)

    @invariant()
    def looks_like_the_model(self) -> None:
        if not hasattr(self, "model"):
            return
        shown, seen = self.breaker.snapshot(self.now), self.model.in_window(self.now)
        assert (shown.state, shown.calls) == (self.model.state, len(seen))
        failures, slows = sum(c.ended == "failed" for c in seen), sum(c.slow for c in seen)
        assert shown.failure_rate == (failures / len(seen) if seen else 0)
        assert shown.slow_rate == (slows / len(seen) if seen else 0)
        if self.model.state == "open":
            assert shown.retry_in == max(self.model.due() - self.now, 0)
        elif self.model.state == "half_open":
            # Asking changes nothing now.
            assert shown.retry_in == (self.model.ask(self.now) or 0)
        else:
            assert shown.retry_in == self.model.ask(self.now)


def test_like_the_model() -> None:
    """The breaker does what the model says, whatever happens."""
    run_state_machine_as_test(CircuitBreaker, settings=SHORT)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_like_the_model_for_long() -> None:
    """The same, many times as often."""
    run_state_machine_as_test(CircuitBreaker, settings=LONG)
