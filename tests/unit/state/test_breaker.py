"""A circuit breaker's states, one behaviour at a time."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daglite.state.breaker import Breaker, BreakerState, Permit, Transition
from tests.unit.state.wanted import WantedBreaker


def made(**fields: Any) -> Breaker:
    return Breaker(WantedBreaker(**fields), "db")


def let_go(breaker: Breaker, now: float) -> Permit:
    permit = breaker.permit(now)
    assert isinstance(permit, Permit), f"must wait {permit} s"
    return permit


def call(breaker: Breaker, now: float, *, failed: bool, took: float = 0.0) -> Transition | None:
    return breaker.record(let_go(breaker, now), now, failed=failed, took=took)


def opened(now: float = 0.0, **fields: Any) -> Breaker:
    """A breaker that a single failure has opened at *now*."""
    breaker = made(consecutive=1, failure_rate=None, **fields)
    transition = call(breaker, now, failed=True)
    assert transition is not None
    assert transition.after == "open"
    return breaker


def state(breaker: Breaker, now: float = 0.0) -> BreakerState:
    return breaker.snapshot(now).state


# -- closed ---------------------------------------------------------------------------


def test_opens_at_the_rate() -> None:
    """At half of ten calls, not at less, and not before there are ten."""
    breaker = made(failure_rate=0.5, min_calls=10)
    for i in range(9):
        assert call(breaker, i, failed=i >= 5) is None
    transition = call(breaker, 9, failed=True)
    assert transition == Transition("db", "closed", "open", "5 of 10 calls failed", 30, ())


def test_a_success_can_open_it() -> None:
    """The rate is looked at after it too: it may be the call that makes them enough."""
    breaker = made(failure_rate=0.3, min_calls=10)
    for i in range(9):
        assert call(breaker, 0, failed=i < 3) is None
    assert call(breaker, 0, failed=False) is not None


def test_below_the_rate() -> None:
    """It stays closed, for however many calls."""
    breaker = made(failure_rate=0.5, min_calls=2)
    for i in range(1, 1000):
        assert call(breaker, i, failed=i % 3 == 0) is None


def test_opens_at_failures_in_a_row() -> None:
    """However few calls there were; a success begins a new row."""
    breaker = made(failure_rate=None, consecutive=3)
    for failed in (True, True, False, True, True):
        assert call(breaker, 0, failed=failed) is None
    transition = call(breaker, 0, failed=True)
    assert transition is not None
    assert transition.reason == "3 failures in a row"


def test_opens_at_the_first_failure() -> None:
    """If one is enough; the reason counts in the singular."""
    transition = call(made(failure_rate=None, consecutive=1), 0, failed=True)
    assert transition is not None
    assert transition.reason == "1 failure in a row"


def test_no_rate() -> None:
    """Without a failure rate only the row counts."""
    breaker = made(failure_rate=None, consecutive=3, min_calls=1)
    for i in range(999):
        assert call(breaker, 0, failed=i % 3 != 0) is None


def test_opens_at_slow_calls() -> None:
    """Slow is longer than the limit, whether it failed or not."""
    breaker = made(slow_call=2.0, slow_rate=0.5, min_calls=4, failure_rate=None, consecutive=99)
    assert call(breaker, 0, failed=False, took=2.0) is None
    assert call(breaker, 0, failed=False, took=2.5) is None
    assert call(breaker, 0, failed=False, took=0.5) is None
    transition = call(breaker, 0, failed=True, took=9.0)
    assert transition is not None
    assert transition.reason == "2 of 4 calls took too long"


def test_opens_above_the_rate_of_slow_calls() -> None:
    """The call that makes them enough may lead past it."""
    breaker = made(slow_call=2.0, slow_rate=0.5, min_calls=3)
    for _ in range(2):
        assert call(breaker, 0, failed=False, took=3.0) is None
    transition = call(breaker, 0, failed=False, took=3.0)
    assert transition is not None
    assert transition.reason == "3 of 3 calls took too long"


def test_slow_calls_below_the_rate() -> None:
    """It stays closed, for however many of them."""
    breaker = made(slow_call=2.0, slow_rate=0.5, min_calls=4)
    for i in range(1000):
        assert call(breaker, 0, failed=False, took=3.0 if i % 3 == 2 else 0.0) is None
    assert breaker.snapshot(0).slow_rate == pytest.approx(1 / 3, abs=0.01)


def test_no_time_given() -> None:
    """A call of which nobody says how long it took isn't slow."""
    breaker = made(slow_call=0.5)
    breaker.record(let_go(breaker, 0), 0, failed=False)
    assert breaker.snapshot(0).slow_rate == 0


def test_nothing_is_slow_without_a_limit() -> None:
    """Not even what takes for ever."""
    breaker = made(min_calls=1, slow_rate=0.1)
    assert call(breaker, 0, failed=False, took=1e9) is None


def test_calls_leave_a_count_window() -> None:
    """What was long ago is forgotten, failures and successes."""
    breaker = made(failure_rate=0.5, min_calls=4, window=4)
    for failed in (False, False, False, True, False, False):
        assert call(breaker, 0, failed=failed) is None
    assert breaker.snapshot(0).failure_rate == 0.25
    for failed in (False, False):
        assert call(breaker, 0, failed=failed) is None
    assert breaker.snapshot(0).failure_rate == 0


def test_calls_leave_a_time_window() -> None:
    """After its seconds; that alone opens nothing, the next record may."""
    breaker = made(failure_rate=0.5, min_calls=2, window_type="time", window=10)
    for at, failed in ((0, False), (1, False), (2, False), (3, True)):
        assert call(breaker, at, failed=failed) is None
    assert breaker.snapshot(11.5).calls == 2
    assert state(breaker, 11.5) == "closed"
    assert call(breaker, 11.5, failed=False) is None
    assert call(breaker, 12, failed=True) is not None


def test_a_time_window_has_a_hundred_slots() -> None:
    """Calls within a hundredth of it leave together, with the first of them."""
    breaker = made(window_type="time", window=10)
    for at in (0, 0.0995, 0.1005):
        call(breaker, at, failed=False)
    assert breaker.snapshot(9.999).calls == 3
    assert breaker.snapshot(10).calls == 1


def test_neutral_calls_count_as_nothing() -> None:
    """They neither fill the window nor end a row."""
    breaker = made(failure_rate=None, consecutive=2)
    call(breaker, 0, failed=True)
    assert breaker.give_back(let_go(breaker, 0)) == ()
    assert breaker.snapshot(0).calls == 1
    assert call(breaker, 0, failed=True) is not None


# -- open -----------------------------------------------------------------------------


def test_open_lets_nobody_go() -> None:
    """Until exactly the end of the break; then it says how long to wait no more."""
    breaker = opened(100)
    assert breaker.permit(100) == 30
    assert breaker.permit(129.5) == 0.5
    permit = let_go(breaker, 130)
    assert permit.is_probe
    assert permit.transition == Transition("db", "open", "half_open", "the break is over", 0, ())


@pytest.mark.parametrize("opening", [0.1, 1 / 3, 86_400.7])
@pytest.mark.parametrize("asked", [0.0, 0.1, 7.3, 29.9])
def test_who_waits_as_told_gets_through(opening: float, asked: float) -> None:
    """No rounding sends it back to wait once more."""
    breaker = opened(opening)
    wait = breaker.permit(opening + asked)
    assert isinstance(wait, float)
    let_go(breaker, opening + asked + wait)


def test_late_results_say_nothing() -> None:
    """A call let in before the breaker opened can't close it, reopen it or fill its window."""
    breaker = made(failure_rate=None, consecutive=1)
    early = [let_go(breaker, 0) for _ in range(4)]
    assert breaker.record(early[0], 0, failed=True) is not None
    assert breaker.record(early[1], 1, failed=False) is None
    assert state(breaker) == "open"
    probe = let_go(breaker, 30)
    assert breaker.record(early[2], 30, failed=True) is None
    assert state(breaker, 30) == "half_open"
    assert breaker.record(probe, 31, failed=False) is not None
    assert breaker.record(early[3], 31, failed=True) is None
    assert breaker.snapshot(31).calls == 0
    assert breaker.give_back(early[3]) == ()


def test_breaks_grow() -> None:
    """Each time that a probe fails, up to the longest; a close ends that."""
    breaker = opened(break_for=10, break_factor=2, max_break=35)
    now, breaks = 0.0, []
    for _ in range(4):
        wait = breaker.permit(now)
        assert isinstance(wait, float)
        breaks.append(wait)
        now += wait
        breaker.record(let_go(breaker, now), now, failed=True)
    assert breaks == [10, 20, 35, 35]
    now += 35
    breaker.record(let_go(breaker, now), now, failed=False)
    call(breaker, now, failed=True)
    assert breaker.permit(now) == 10


@pytest.mark.parametrize(("workers", "at_most"), [(1, 5), (4, 8), (16, 20)])
def test_a_dead_dependency_sees_few_calls(workers: int, at_most: int) -> None:
    """The threshold, and those that were under way: of 200 calls on W workers."""
    breaker = made(consecutive=5)
    under_way: deque[Permit] = deque()
    seen, left = 0, 200
    while under_way or left:
        while left and len(under_way) < workers:
            left -= 1
            permit = breaker.permit(0)
            if isinstance(permit, Permit):
                under_way.append(permit)
                seen += 1
        if under_way:
            breaker.record(under_way.popleft(), 0, failed=True)
    assert seen == at_most


# -- half-open ------------------------------------------------------------------------


@pytest.mark.parametrize("probes", [1, 3, 49, 50])
def test_fifty_callers_at_half_open(probes: int) -> None:
    """Exactly so many get through, however often the others ask; they wait for the lease."""
    breaker = opened(probes=probes, probe_lease=7)
    answers = [breaker.permit(30) for _ in range(50)]
    through = [answer for answer in answers if isinstance(answer, Permit)]
    assert len(through) == probes
    assert all(permit.is_probe for permit in through)
    assert [permit.transition is not None for permit in through] == [True] + [False] * (probes - 1)
    assert {a for a in answers if not isinstance(a, Permit)} <= {7}
    assert breaker.permit(33) == 4
    for permit in through:
        assert state(breaker, 33) == "half_open"
        breaker.record(permit, 33, failed=False)
    assert state(breaker, 33) == "closed"
    assert not any(isinstance(breaker.permit(33), float) for _ in range(50))


def test_a_probe_that_is_back_keeps_its_place() -> None:
    """So many go in all, not so many at a time."""
    breaker = opened(probes=3)
    first, *_ = [let_go(breaker, 30) for _ in range(3)]
    breaker.record(first, 31, failed=False)
    assert breaker.permit(31) == 29


@pytest.mark.parametrize(
    ("failures", "after"), [(0, "closed"), (1, "closed"), (2, "open"), (4, "open")]
)
def test_the_rate_of_probes_decides(failures: int, after: str) -> None:
    """When all are back, and not before."""
    breaker = made(consecutive=1, failure_rate=0.5, probes=4)
    call(breaker, 0, failed=True)
    probes = [let_go(breaker, 30) for _ in range(4)]
    for number, probe in enumerate(probes, 1):
        transition = breaker.record(probe, 31, failed=number <= failures)
        assert (transition is not None) == (number == 4)
    assert transition is not None
    assert (transition.before, transition.after) == ("half_open", after)
    assert transition.retry_in == (30 if after == "open" else None)


def test_without_a_rate_one_failed_probe_decides() -> None:
    """Any success of others doesn't help."""
    breaker = opened(probes=3)
    probes = [let_go(breaker, 30) for _ in range(3)]
    reports = [breaker.record(p, 30, failed=p is probes[1]) for p in probes]
    assert reports[:2] == [None, None]
    assert reports[2] is not None
    assert reports[2].reason == "1 of 3 probes failed"


@pytest.mark.parametrize(("slow", "after"), [(1, "closed"), (2, "open"), (4, "open")])
def test_slow_probes(slow: int, after: str) -> None:
    """A side that answers, but too slowly, isn't well."""
    breaker = opened(slow_call=1, slow_rate=0.5, probes=4)
    probes = [let_go(breaker, 30) for _ in range(4)]
    told = [breaker.record(p, 30, failed=False, took=5 * (p in probes[:slow])) for p in probes]
    assert told[:3] == [None] * 3
    assert told[3] is not None
    assert told[3].after == after
    assert told[3].reason == (
        f"{slow} of 4 probes took too long" if after == "open" else "4 probes came back"
    )


@pytest.mark.parametrize("lease", [None, 5, 100])
def test_a_probe_that_hangs_frees_its_place(lease: float | None) -> None:
    """When its lease ends (by default as long as a break), and not before."""
    breaker = opened(probe_lease=lease)
    hangs = let_go(breaker, 30)
    lasts = 30 if lease is None else lease
    assert breaker.permit(30) == lasts
    assert breaker.permit(30 + lasts - 0.5) == 0.5
    assert let_go(breaker, 30 + lasts).is_probe
    assert breaker.permit(30 + lasts) == lasts
    assert hangs.is_probe


def test_a_probe_that_is_late_counts() -> None:
    """Or a side that takes longer than the lease would never be seen to be well."""
    breaker = opened(probe_lease=5)
    late = let_go(breaker, 30)
    second = let_go(breaker, 35)
    transition = breaker.record(late, 38, failed=False)
    assert transition is not None
    assert transition.after == "closed"
    assert breaker.record(second, 39, failed=True) is None


def test_a_probe_whose_worker_dies() -> None:
    """It is a failure like others."""
    breaker = opened()
    assert breaker.record(let_go(breaker, 30), 30, failed=True) is not None
    assert breaker.permit(30) == 30


def test_a_neutral_probe_frees_its_place() -> None:
    """At once, for exactly one other; a second time nothing happens."""
    breaker = opened(probes=2)
    first, second = let_go(breaker, 30), let_go(breaker, 30)
    assert isinstance(breaker.permit(30), float)
    breaker.give_back(first)
    third = let_go(breaker, 30)
    breaker.give_back(first)
    assert isinstance(breaker.permit(30), float)
    assert breaker.record(first, 30, failed=False) is None
    assert breaker.record(second, 30, failed=False) is None
    assert breaker.record(second, 30, failed=False) is None
    assert state(breaker, 30) == "half_open"
    assert breaker.record(third, 30, failed=False) is not None


def test_probes_of_an_earlier_break_hold_no_place() -> None:
    """However long their lease is."""
    breaker = opened(probes=2, probe_lease=1000)
    let_go(breaker, 30)
    breaker.force_open()
    breaker.reset()
    call(breaker, 40, failed=True)
    assert all(let_go(breaker, 70).is_probe for _ in range(2))


# -- who waits ------------------------------------------------------------------------


def test_transitions_wake_who_waits() -> None:
    """In their order; who has gone through or left meanwhile isn't woken."""
    breaker = opened()
    for waiter in "abcd":
        assert breaker.permit(1, waiter) == 29
    breaker.leave("b")
    probe = breaker.permit(30, "c")
    assert isinstance(probe, Permit)
    assert probe.transition is not None
    assert probe.transition.wake == ()
    transition = breaker.record(probe, 31, failed=False)
    assert transition is not None
    assert transition.wake == ("a", "d")


def test_each_is_woken_once() -> None:
    """Who asks again and must wait is woken again."""
    breaker = opened()
    breaker.permit(1, "a")
    breaker.permit(1, "b")
    first = breaker.record(let_go(breaker, 30), 30, failed=True)
    assert first is not None
    assert first.wake == ("a", "b")
    breaker.permit(30, "b")
    second = breaker.record(let_go(breaker, 60), 60, failed=True)
    assert second is not None
    assert second.wake == ("b",)


def test_a_free_place_wakes_who_waits() -> None:
    """A probe that was cancelled keeps nobody waiting for the end of its lease."""
    breaker = opened()
    probe = let_go(breaker, 30)
    breaker.permit(30, "a")
    assert breaker.give_back(probe) == ("a",)
    assert breaker.give_back(probe) == ()


# -- modes, and by hand ---------------------------------------------------------------


def test_forced_open() -> None:
    """Nobody goes until a reset, which forgets all."""
    breaker = made(min_calls=1, failure_rate=0.5)
    early = let_go(breaker, 0)
    call(breaker, 0, failed=False)
    assert breaker.force_open() == Transition(
        "db", "closed", "forced_open", "forced open", math.inf, ()
    )
    assert breaker.force_open() is None
    assert breaker.permit(1e9, "a") == math.inf
    assert breaker.record(early, 0, failed=True) is None
    assert breaker.reset() == Transition("db", "forced_open", "closed", "reset", None, ("a",))
    assert breaker.snapshot(0).calls == 0
    let_go(breaker, 0)


def test_reset_of_a_closed_breaker() -> None:
    """Nothing moves, but all is forgotten, also what is still under way."""
    breaker = made(consecutive=2)
    early = let_go(breaker, 0)
    call(breaker, 0, failed=True)
    assert breaker.reset() is None
    assert breaker.snapshot(0).calls == 0
    assert breaker.record(early, 0, failed=True) is None
    assert call(breaker, 0, failed=True) is None
    assert call(breaker, 0, failed=True) is not None


def test_reset_of_an_open_breaker() -> None:
    """It is closed, and the next break is a first one."""
    breaker = opened(break_factor=2)
    breaker.record(let_go(breaker, 30), 30, failed=True)
    assert breaker.permit(30) == 60
    breaker.reset()
    call(breaker, 40, failed=True)
    assert breaker.permit(40) == 30


def test_metrics_only() -> None:
    """It counts, and stops nobody."""
    breaker = made(mode="metrics_only", consecutive=1, slow_call=1)
    for i in range(20):
        assert call(breaker, 0, failed=i % 2 == 0, took=2) is None
    shown = breaker.snapshot(0)
    assert (shown.state, shown.calls) == ("metrics_only", 20)
    assert (shown.failure_rate, shown.slow_rate, shown.retry_in) == (0.5, 1, None)


def test_disabled() -> None:
    """It counts nothing, and stops nobody."""
    breaker = made(mode="disabled", consecutive=1)
    assert call(breaker, 0, failed=True) is None
    shown = breaker.snapshot(0)
    assert (shown.state, shown.calls) == ("disabled", 0)


def test_mode_forced_open() -> None:
    """So it begins, and a reset leaves it so: the policy says it."""
    breaker = made(mode="forced_open")
    assert breaker.permit(0) == math.inf
    assert breaker.reset() is None
    assert breaker.permit(0) == math.inf


@pytest.mark.parametrize("mode", ["metrics_only", "disabled"])
def test_modes_can_be_forced_open(mode: str) -> None:
    """And a reset brings them back."""
    breaker = made(mode=mode)
    transition = breaker.force_open()
    assert transition is not None
    assert transition.before == mode
    back = breaker.reset()
    assert back is not None
    assert back.after == mode


# -- how it stands --------------------------------------------------------------------


def test_snapshots() -> None:
    """Rates, and how long it takes until asking makes sense."""
    breaker = made(min_calls=4, slow_call=1, probe_lease=8, window_type="time", window=60)
    fresh = breaker.snapshot(0)
    assert (fresh.key, fresh.failure_rate, fresh.slow_rate, fresh.calls) == ("db", 0, 0, 0)
    assert fresh.retry_in is None
    for failed, took in ((True, 0), (False, 2), (True, 0), (False, 0)):
        call(breaker, 0, failed=failed, took=took)
    opened = breaker.snapshot(10)
    assert (opened.state, opened.failure_rate, opened.slow_rate) == ("open", 0.5, 0.25)
    assert (opened.calls, opened.retry_in) == (4, 20)
    due = breaker.snapshot(31)
    assert (due.state, due.retry_in) == ("open", 0)
    probe = let_go(breaker, 31)
    assert breaker.snapshot(32).retry_in == 7
    breaker.give_back(probe)
    assert breaker.snapshot(32).retry_in == 0
    assert breaker.snapshot(60).calls == 0


def test_reports_cannot_be_changed() -> None:
    """Many may hold one."""
    transition = made().force_open()
    for report in (transition, made().snapshot(0)):
        with pytest.raises(AttributeError):
            report.key = "other"  # type: ignore[union-attr, misc]


@pytest.mark.parametrize("window_type", ["count", "time"])
@pytest.mark.parametrize("slow_call", [1.0, None])
@given(results=st.lists(st.sampled_from(["well", "well", "well", "slow", "failed"]), max_size=40))
def test_succeed_is_a_short_record(
    window_type: Literal["count", "time"], slow_call: float | None, results: list[str]
) -> None:
    """Two breakers of which one takes the short way stand alike after every call."""
    fields: dict[str, Any] = {
        "consecutive": 3,
        "min_calls": 4,
        "window": 4,
        "slow_call": slow_call,
        "slow_rate": 0.75,
    }
    short = made(window_type=window_type, **fields)
    long = made(window_type=window_type, **fields)
    for now, result in enumerate(results):
        took = 2.0 if result == "slow" else 0.5
        mine, its = short.permit(now), long.permit(now)
        if not isinstance(mine, Permit) or mine.is_probe:
            return
        assert isinstance(its, Permit)
        failed = result == "failed"
        moved = long.record(its, now, failed=failed, took=took)
        if failed:
            assert (short.record(mine, now, failed=True, took=took) is None) is (moved is None)
        elif short.calm is not mine:
            assert (short.succeed(mine, now - took, now) is None) is (moved is None)
        assert short.snapshot(now) == long.snapshot(now)


def succeed(breaker: Breaker, now: float, took: float = 0.0) -> Transition | None:
    return breaker.succeed(let_go(breaker, now), now - took, now)


def test_a_success_after_slow_calls_can_open_it() -> None:
    """Though it is short and well: it may be the call that makes them enough."""
    breaker = made(slow_call=1, slow_rate=0.5, min_calls=4)
    for took in (2.0, 2.0, 0.5):
        assert succeed(breaker, 0, took) is None
    transition = succeed(breaker, 0, 0.5)
    assert transition is not None
    assert transition.reason == "2 of 4 calls took too long"


def test_calm() -> None:
    """When the window is full of calls that were well, and until the next that isn't."""
    breaker = made(window=3, min_calls=3)
    for _ in range(2):
        succeed(breaker, 0)
        assert breaker.calm is None
    succeed(breaker, 0)
    assert breaker.calm is let_go(breaker, 0)
    call(breaker, 0, failed=True)
    assert breaker.calm is None
    for _ in range(2):
        succeed(breaker, 0)
        assert breaker.calm is None
    succeed(breaker, 0)
    assert breaker.calm is let_go(breaker, 0)
    breaker.reset()
    assert breaker.calm is None


def test_a_success_ends_a_row() -> None:
    """Also where the failure before it has left the window already."""
    breaker = made(consecutive=2, failure_rate=None, window_type="time", window=10)
    call(breaker, 0, failed=True)
    assert breaker.snapshot(20).calls == 0
    succeed(breaker, 20)
    assert call(breaker, 20, failed=True) is None
    assert call(breaker, 20, failed=True) is not None


def test_succeed_drops_what_a_reset_has_made_stale() -> None:
    """It isn't counted in the new window."""
    breaker = made()
    early = let_go(breaker, 0)
    breaker.reset()
    assert breaker.succeed(early, 0, 0) is None
    assert breaker.snapshot(0).calls == 0


def test_succeed_drops_what_is_stale() -> None:
    """A call that was let go before the breaker opened says nothing."""
    breaker = made(consecutive=1)
    permit = breaker.passing
    assert permit is not None
    assert breaker.record(permit, 0.0, failed=True) is not None
    assert breaker.passing is None
    assert breaker.succeed(permit, 0.0, 1.0) is None
    assert breaker.snapshot(1.0).state == "open"


def half_open(**policy: Any) -> tuple[Breaker, Permit]:
    """A breaker whose probe is let go at 10, for a break of 10 and a lease of 5."""
    breaker = Breaker(WantedBreaker(consecutive=1, break_for=10, probe_lease=5, **policy), "db")
    first = breaker.permit(0)
    assert isinstance(first, Permit)
    breaker.record(first, 0, failed=True)
    probe = breaker.permit(10)
    assert isinstance(probe, Permit)
    return breaker, probe


def test_confirmed_while_closed() -> None:
    """Whatever the permit: it is as good as a new one."""
    breaker = Breaker(WantedBreaker(consecutive=1), "db")
    old = breaker.permit(0)
    assert isinstance(old, Permit)
    assert breaker.confirm(old, 1) is old
    breaker.reset()
    assert breaker.confirm(old, 2) is breaker.passing


def test_not_confirmed_once_open() -> None:
    """Until the break is over: then it goes as a probe."""
    breaker = Breaker(WantedBreaker(consecutive=1, break_for=10), "db")
    waits, fails = breaker.permit(0), breaker.permit(0)
    assert isinstance(waits, Permit)
    assert isinstance(fails, Permit)
    breaker.record(fails, 0, failed=True)
    assert breaker.confirm(waits, 9) is None
    probe = breaker.confirm(waits, 10)
    assert probe is not None
    assert probe.is_probe
    assert probe.transition is not None
    assert breaker.permit(10) == 10


def test_the_lease_of_a_probe_begins_when_it_starts() -> None:
    """What it waited before is no sign that it won't come back."""
    breaker, probe = half_open()
    assert breaker.confirm(probe, 14) is probe
    assert breaker.permit(15) == 4
    assert isinstance(breaker.permit(19), Permit)


def test_a_probe_whose_lease_is_over_goes_only_if_there_is_room() -> None:
    """It may have another's place, but isn't one more."""
    breaker, probe = half_open()
    other = breaker.permit(15)
    assert isinstance(other, Permit)
    assert breaker.confirm(probe, 16) is None
    assert breaker.give_back(other) == ()
    again = breaker.confirm(probe, 16)
    assert again is not None
    assert again.is_probe


def test_a_probe_of_an_earlier_round_isnt_confirmed() -> None:
    """Nor if somebody has forced the breaker open."""
    breaker, probe = half_open(probes=2)
    breaker.force_open()
    assert breaker.confirm(probe, 11) is None
    assert breaker.last is not None
    assert breaker.last.after == "forced_open"


# -- as data --------------------------------------------------------------------------


@pytest.mark.parametrize("later", [0.0, 20.0, 1_000.0])
def test_a_break_goes_on_elsewhere(later: float) -> None:
    """What is left of it is what counts, whatever the other clock says."""
    other = made(consecutive=1, failure_rate=None, break_for=30)
    other.load(opened(100, break_for=30).dump(110), later)
    assert other.permit(later) == 20
    assert other.permit(later + 19) == 1
    let_go(other, later + 20)


def test_a_lease_goes_on_elsewhere() -> None:
    """The probe that was let go keeps its place for what is left of its lease."""
    breaker = opened(100, break_for=30, probe_lease=7)
    let_go(breaker, 130)
    other = made(consecutive=1, failure_rate=None, break_for=30, probe_lease=7)
    other.load(breaker.dump(132), 1_000)
    assert other.permit(1_000) == 5
    assert other.permit(1_004) == 1
    let_go(other, 1_005)
