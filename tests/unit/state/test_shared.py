"""States that processes share: as one for all of them, whatever the clocks and the store do."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from daglite.state.breaker import Breaker, Permit
from daglite.state.bucket import Bucket
from daglite.state.budget import Budget
from daglite.state.shared import LOOK_EVERY, SharedBreaker, SharedBucket, SharedBudget
from tests.unit.state.cells import Machine
from tests.unit.state.machines import LONG, SHORT
from tests.unit.state.test_breaker_machine import POLICIES
from tests.unit.state.wanted import WantedBreaker, WantedBucket, WantedBudget

DAY = 86400.0
JUMPS = [-400 * DAY, -DAY, -2.0, 2.0, DAY, 400 * DAY]


def breakers(machine: Machine, **wanted: Any) -> list[SharedBreaker]:
    return machine.each(lambda cell, t: SharedBreaker(WantedBreaker(**wanted), "db", cell, t))


def buckets(machine: Machine, rate: float = 1.0, **wanted: Any) -> list[SharedBucket]:
    return machine.each(lambda cell, t: SharedBucket(WantedBucket(rate, **wanted), cell, t))


def budgets(machine: Machine, **wanted: Any) -> list[SharedBudget]:
    return machine.each(lambda cell, t: SharedBudget(WantedBudget(**wanted), cell, t))


def permit(breaker: Any, waiter: Any = None) -> Permit:
    answer = breaker.permit(0, waiter)
    assert isinstance(answer, Permit)
    return answer


def fail(breaker: Any, times: int = 1) -> None:
    for _ in range(times):
        breaker.record(permit(breaker), 0, failed=True)


# -- as one -----------------------------------------------------------------------


class ManyAsOne(RuleBasedStateMachine):
    """A breaker of three processes beside one that a single process has."""

    @initialize(policy=POLICIES)
    def begin(self, policy: WantedBreaker) -> None:
        self.machine = Machine()
        self.shared = self.machine.each(lambda cell, t: SharedBreaker(policy, "db", cell, t))
        self.single = Breaker(policy, "db")
        self.out: list[tuple[Permit, Permit]] = []

    @rule(eighths=st.sampled_from([1, 2, 8, 30, 100]))
    def later(self, eighths: int) -> None:
        self.machine.later(eighths / 8)

    @rule(process=st.integers(0, 2), number=st.integers(1, 4))
    def ask(self, process: int, number: int) -> None:
        for _ in range(number):
            mine = self.shared[process].permit(0)
            its = self.single.permit(self.machine.passed)
            if isinstance(its, float):
                assert mine == its
                continue
            assert isinstance(mine, Permit)
            assert mine.is_probe == its.is_probe
            self.same(mine.transition, its.transition)
            self.out.append((mine, its))

    @rule(
        data=st.data(),
        process=st.integers(0, 2),
        ended=st.sampled_from(["failed", "failed", "well", "well", "neutral"]),
        took=st.sampled_from([0.0, 2.0, 2.5]),
        number=st.integers(1, 4),
    )
    def end(self, data: Any, process: int, ended: str, took: float, number: int) -> None:
        for _ in range(min(number, len(self.out))):
            mine, its = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
            breaker, failed = self.shared[process], ended == "failed"
            if ended == "neutral":
                breaker.give_back(mine)
                self.single.give_back(its)
                continue
            self.same(
                breaker.record(mine, 0, failed=failed, took=took),
                self.single.record(its, self.machine.passed, failed=failed, took=took),
            )

    @rule(process=st.integers(0, 2), meant=st.sampled_from([False] * 7 + [True]))
    def force_open(self, process: int, meant: bool) -> None:
        if meant:
            self.same(self.shared[process].force_open(), self.single.force_open())

    @rule(process=st.integers(0, 2), meant=st.sampled_from([False] * 3 + [True]))
    def reset(self, process: int, meant: bool) -> None:
        if meant:
            self.same(self.shared[process].reset(), self.single.reset())

    def same(self, mine: Any, its: Any) -> None:
        assert (mine is None) == (its is None)
        if mine is not None:
            assert (mine.before, mine.after) == (its.before, its.after)
            # Where nobody says what time it is, only whether there is a wait.
            assert (mine.retry_in is None) == (its.retry_in is None)

    @invariant()
    def all_see_the_same(self) -> None:
        if hasattr(self, "single"):
            shown = self.single.snapshot(self.machine.passed)
            assert [each.snapshot(0) for each in self.shared] == [shown] * 3


def test_many_breakers_are_as_one() -> None:
    """Whatever process asks or tells, the answer is that of a breaker of one process."""
    run_state_machine_as_test(ManyAsOne, settings=SHORT)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_many_breakers_are_as_one_for_long() -> None:
    """The same, many times as often."""
    run_state_machine_as_test(ManyAsOne, settings=LONG)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 1, 4, 16]), st.booleans()), max_size=40
    )
)
def test_many_buckets_are_as_one(steps: list[tuple[int, int, bool]]) -> None:
    """Tokens are those of one bucket, whichever process takes them."""
    machine = Machine()
    shared, single = buckets(machine, 8, burst=2), Bucket(WantedBucket(8, 1.0, 2))
    for process, eighths, asks in steps:
        machine.later(eighths / 8)
        if asks:
            assert (shared[process].wait(0) == 0) == (single.wait(machine.passed) == 0)
        assert shared[process].take(0) == single.take(machine.passed)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ffrrsgl"), st.integers(1, 3))).filter(
        lambda steps: len(steps) < 60
    )
)
def test_many_budgets_are_as_one(steps: list[tuple[int, str, int]]) -> None:
    """First calls and retries count wherever they are made."""
    machine, held = Machine(), 0
    wanted = {"ratio": 0.5, "min_per_second": 0.25, "window": 8.0}
    shared, single = budgets(machine, **wanted), Budget(WantedBudget(**wanted))  # type: ignore[arg-type]
    for process, step, number in steps:
        budget = shared[process]
        for _ in range(number):
            if step == "f":
                budget.first_call(0)
                single.first_call(machine.passed)
            elif step == "r":
                mine, its = budget.reserve(0), single.reserve(machine.passed)
                assert mine == its
                held += its == 0.0
            elif step == "l":
                machine.later(0.25)
            elif held:
                held -= 1
                if step == "s":
                    budget.spend(0)
                    single.spend(machine.passed)
                else:
                    budget.give_back()
                    single.give_back()


def test_the_line_of_a_process() -> None:
    """It has its own; the first of each takes what there is, and others wait for the next."""
    machine = Machine()
    one, two, _ = buckets(machine, 1)
    assert one.take_at_once(0)
    assert [one.ask(0, "a"), one.ask(0, "b"), two.ask(0, "c")] == [1, 2, 1]
    assert (one.wait(0), two.wait(0, ahead=1)) == (3, 3)
    machine.later(1)
    assert not one.take_at_once(0)
    assert [two.ask(0, "c"), one.ask(0, "a")] == [0, 0]
    assert two.leave("c") is None
    assert two.take(0) == 0
    assert one.leave("a") == "b"
    assert one.take(0) == 1
    assert one.forgo() == "b"


def test_who_waits_is_nothing_to_a_process_that_lives_on() -> None:
    """One that is killed with a thousand calls that wait takes no token with it."""
    machine = Machine()
    one, two, _ = buckets(machine, 1)
    assert one.take(0) == 0
    for number in range(1000):
        one.ask(0, number)
    machine.later(1)
    assert two.take(0) == 0


def test_probes_over_all_processes() -> None:
    """Exactly so many, and the result of the last one closes it for all."""
    machine = Machine()
    all_of_them = breakers(machine, consecutive=1, break_for=8.0, probes=2)
    one, two, three = all_of_them
    fail(one)
    machine.later(8)
    probes = [permit(two), permit(three)]
    assert all(probe.is_probe for probe in probes)
    assert [each.permit(0) for each in all_of_them] == [8.0] * 3
    assert two.record(probes[0], 0, failed=False) is None
    assert one.permit(0) == 8.0
    moved = three.record(probes[1], 0, failed=False)
    assert moved is not None
    assert moved.after == "closed"
    assert not permit(one).is_probe


def test_a_process_that_is_killed_with_its_probe() -> None:
    """Its place is free when the lease ends."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=1, break_for=8.0, probe_lease=4.0)
    fail(one)
    machine.later(8)
    lost = permit(one)
    assert two.permit(0) == 4.0
    machine.later(4)
    assert permit(two).is_probe
    # It wasn't killed after all.
    assert one.record(lost, 0, failed=False) is not None


def test_a_result_of_before_another_process_opened_it() -> None:
    """It says nothing any more."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=2, break_for=8.0)
    slow = permit(one)
    fail(two, 2)
    assert one.record(slow, 0, failed=False) is None
    machine.later(8)
    probe = permit(two)
    assert one.record(slow, 0, failed=True) is None
    assert one.snapshot(0).state == "half_open"
    assert two.record(probe, 0, failed=False) is not None


def test_what_changes_nothing_is_not_written() -> None:
    """Calls of a circuit that is well, and those that are refused, only read."""
    machine = Machine()
    one, two, _ = breakers(machine, window=10)
    for _ in range(10):
        one.succeed(permit(one), 0, 0.5)
    writes = machine.store.writes
    for each in (one, two):
        each.succeed(permit(each), 0, 0.5)
    assert machine.store.writes == writes
    assert one.give_back(permit(one)) == ()
    fail(two, 5)
    writes = machine.store.writes
    assert isinstance(one.permit(0), float)
    assert one.snapshot(0).state == "open"
    assert machine.store.writes == writes


def test_a_permit_of_before_anything_was_written() -> None:
    """Its result counts, though another process was the first to write."""
    one, two, _ = breakers(Machine(), consecutive=2)
    early = permit(one)
    two.record(permit(two), 0, failed=False)
    one.record(early, 0, failed=True)
    assert [each.snapshot(0).calls for each in (one, two)] == [2, 2]


def test_it_offers_no_permit_unasked() -> None:
    """Or who has it wouldn't hear of others."""
    one, *_ = breakers(Machine())
    assert (one.passing, one.calm) == (None, None)


# -- those who wait ---------------------------------------------------------------


def test_who_waits_hears_of_other_processes() -> None:
    """By a look each second, which all who wait share."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=1, break_for=600.0)
    fail(one)
    for waiter in ("a", "b", "c"):
        one.permit(0, waiter)
    one.leave("c")
    machine.later(LOOK_EVERY)
    assert one.look() == ()
    two.reset()
    assert one.look() == (), "it has looked just now"
    machine.later(LOOK_EVERY)
    assert one.look() == ("a", "b")
    machine.later(LOOK_EVERY)
    assert one.look() == ()


def test_who_waits_hears_of_a_place_that_is_free() -> None:
    """Also of a probe that another process gave back."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=1, break_for=600.0)
    fail(one)
    machine.later(600)
    probe = permit(two)
    assert one.permit(0, "a") == 600
    two.give_back(probe)
    assert one.look() == ("a",)


def test_who_waits_while_the_clock_is_put_back() -> None:
    """It looks on, and what it has read is written with the new time for all."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=1, break_for=32.0)
    fail(one)
    one.permit(0, "a")
    machine.later(16)
    two.reset()
    fail(two)
    machine.wall -= DAY
    assert one.look() == ()
    machine.later(32)
    assert one.look() == ("a",)


def test_its_own_process_is_told_at_once() -> None:
    """As with other breakers."""
    machine = Machine()
    one, *_ = breakers(machine, consecutive=1)
    fail(one)
    one.permit(0, "a")
    moved = one.reset()
    assert moved is not None
    assert moved.wake == ("a",)


# -- clocks that jump -------------------------------------------------------------


@pytest.mark.parametrize("jump", JUMPS)
def test_no_break_is_longer_than_it_is(jump: float) -> None:
    """However the clock is set, also more than once, in the middle of it."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=1, break_for=32.0)
    fail(one)
    machine.later(8)
    machine.wall += jump
    left = two.permit(0)
    assert isinstance(left, Permit) or left <= 32
    waited = 0.0
    while not isinstance(two.permit(0), Permit):
        machine.later(1)
        waited += 1
    assert waited <= 32
    assert one.snapshot(0).state == "half_open"


def test_a_clock_that_is_put_back_makes_no_time_of_its_own() -> None:
    """What is left of a break stays what it was when it was last looked at, and goes on."""
    machine = Machine()
    one, two, three = breakers(machine, consecutive=1, break_for=32.0)
    fail(one)
    machine.later(8)
    machine.wall -= DAY
    # It made the state itself, and needs no wall to know its age.
    assert one.permit(0) == 24
    assert two.permit(0) == 32
    machine.later(16)
    assert (two.permit(0), three.permit(0)) == (16, 16)


@pytest.mark.parametrize("jump", JUMPS)
def test_no_token_is_later_than_tokens_explain(jump: float) -> None:
    """An interval after a day's jump is no longer than an interval."""
    machine = Machine()
    one, two, _ = buckets(machine, per=4.0)
    assert one.take(0) == 0
    machine.wall += jump
    assert two.take(0) <= 4
    machine.later(4)
    assert two.take(0) == 0


@pytest.mark.parametrize("jump", JUMPS)
def test_a_budget_holds_no_calls_of_the_future(jump: float) -> None:
    """A window after the jump, all that was before it is forgotten."""
    machine = Machine()
    one, two, _ = budgets(machine, ratio=0.5, min_per_second=0.0, window=8.0)
    for _ in range(10):
        one.first_call(0)
    machine.wall += jump
    two.first_call(0)
    machine.later(8)
    two.first_call(0)
    two.first_call(0)
    assert [two.reserve(0) == 0 for _ in range(3)] == [True, False, False]


class Jumps(RuleBasedStateMachine):
    """Three processes whose clock is set again and again."""

    @initialize()
    def begin(self) -> None:
        self.machine = Machine()
        self.shared = breakers(
            self.machine, consecutive=1, break_for=4.0, break_factor=2.0, max_break=20.0
        )
        self.opened = 0

    @rule(eighths=st.sampled_from([1, 8, 30, 100]))
    def later(self, eighths: int) -> None:
        self.machine.later(eighths / 8)

    @rule(jump=st.sampled_from(JUMPS))
    def set_the_clock(self, jump: float) -> None:
        self.machine.wall += jump

    @rule(process=st.integers(0, 2), failed=st.booleans())
    def call(self, process: int, failed: bool) -> None:
        breaker = self.shared[process]
        answer = breaker.permit(0)
        if isinstance(answer, Permit):
            moved = breaker.record(answer, 0, failed=failed)
            if moved is not None:
                self.opened = self.opened + 1 if moved.after == "open" else 0

    @invariant()
    def no_break_is_longer_than_it_is(self) -> None:
        if getattr(self, "opened", 0):
            longest = min(4.0 * 2.0 ** (self.opened - 1), 20.0)
            for breaker in self.shared:
                assert 0 <= (breaker.snapshot(0).retry_in or 0) <= longest


def test_a_clock_that_jumps_and_jumps() -> None:
    """What is left of a break is never more than the present break's length."""
    run_state_machine_as_test(Jumps, settings=SHORT)


# -- stores that fail -------------------------------------------------------------


def test_a_store_that_is_away() -> None:
    """Each process goes on alone, with what it knows; then what the store holds counts again."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=2, break_for=8.0)
    fail(one)
    machine.store.away = True
    assert not one.away
    fail(one)
    assert one.away
    assert one.snapshot(0).state == "open"
    assert permit(two)
    machine.store.away = False
    assert permit(one)
    assert not one.away
    fail(two)
    assert one.snapshot(0).state == "open"


def test_what_was_let_go_while_the_store_was_away() -> None:
    """It means nothing when the store is back, whatever numbers others have given meanwhile."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=1, break_for=8.0)
    before = permit(two)
    machine.store.away = True
    fail(one)
    machine.later(8)
    probe = permit(one)
    machine.store.away = False
    fail(two)
    machine.later(8)
    other = permit(two)
    assert one.record(probe, 0, failed=False) is None
    assert one.record(before, 0, failed=False) is None
    assert one.snapshot(0).state == "half_open"
    assert two.record(other, 0, failed=False) is not None


def test_turns_and_retries_of_a_store_that_is_away() -> None:
    """They are given all the same, and what is given back too late does no harm."""
    machine = Machine()
    one, *_ = buckets(machine, per=4.0)
    machine.store.away = True
    assert [one.take(0) for _ in range(2)] == [0, 4]
    machine.store.away = False
    machine.store.put(f'{{"at":{machine.wall},"full":0,"taken":5,"interval":4.0}}')
    one.forgo()
    assert one.take(0) == 20
    machine = Machine()
    budget, *_ = budgets(machine, min_per_second=0.25, window=8.0)
    machine.store.away = True
    assert budget.reserve(0) == 0
    machine.store.away = False
    machine.store.put('{"at":0,"firsts":[],"retries":[],"held":[]}')
    budget.spend(0)
    budget.give_back()


def test_a_store_that_is_full() -> None:
    """What can't be written is known to this process alone."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=1)
    fail(two)
    two.reset()
    machine.store.full = True
    fail(one)
    machine.store.full = False
    assert permit(one), "what the store holds counts"
    fail(one)
    assert isinstance(two.permit(0), float)


@pytest.mark.parametrize("kind", [breakers, buckets, budgets])
@given(data=st.data())
def test_nonsense_does_no_harm(kind: Any, data: Any) -> None:
    """Whatever stands in the row: each state goes on, and no error gets out."""
    machine = Machine()
    one, *_ = kind(machine)
    use(one)
    good = json.loads(machine.store.text or "")
    name = data.draw(st.sampled_from(sorted(good)))
    good[name] = data.draw(NONSENSE)
    machine.store.put(json.dumps(good))
    _, two, _ = kind(machine)
    use(two)
    use(one)


NONSENSE = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | st.sampled_from([2**53, -1, 10**30, 1e308, -1e308, 1e-308, "open", "half_open", "0123", ""]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def use(state: Any) -> None:
    if isinstance(state, SharedBreaker):
        answer = state.permit(0)
        if isinstance(answer, Permit):
            state.record(answer, 0, failed=True)
        state.snapshot(0)
        state.look()
    elif isinstance(state, SharedBucket):
        state.ask(0, "somebody")
        assert state.take(0) >= 0
        assert state.wait(0) >= 0
        state.leave("somebody")
    else:
        state.first_call(0)
        if state.reserve(0) == 0:
            state.spend(0)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "{", "[" * 100_000, '{"at": Infinity}'])
def test_a_row_that_is_no_state(text: str) -> None:
    """It is told, and written anew from what the process knows."""
    machine = Machine()
    one, two, _ = breakers(machine, consecutive=1)
    fail(one)
    machine.store.put(text)
    assert isinstance(one.permit(0), float)
    assert len(machine.store.complaints) == 1
    assert isinstance(two.permit(0), float)
    assert len(machine.store.complaints) == 1


# -- other policies ---------------------------------------------------------------


def test_a_breaker_with_other_numbers() -> None:
    """It takes over whether the circuit is open, for no longer than it would itself."""
    machine = Machine()
    old, new = (
        SharedBreaker(wanted, "db", cell, lambda: (machine.passed, machine.wall))
        for wanted, cell in zip(
            [
                WantedBreaker(consecutive=1, break_for=64.0, probes=3),
                WantedBreaker(break_for=8.0, window_type="time", window=4.0, max_break=8.0),
            ],
            machine.cells,
            strict=False,
        )
    )
    fail(old)
    assert new.permit(0) == 8
    machine.later(8)
    probe = permit(new)
    new.record(probe, 0, failed=False)
    assert permit(old)


def test_fewer_probes_than_have_come_back() -> None:
    """They are counted anew, or it would wait for ever."""
    machine = Machine()
    many, few = (
        SharedBreaker(
            WantedBreaker(consecutive=1, break_for=8.0, probes=probes),
            "db",
            cell,
            lambda: (machine.passed, machine.wall),
        )
        for probes, cell in zip([3, 1], machine.cells, strict=False)
    )
    fail(many)
    machine.later(8)
    many.record(permit(many), 0, failed=False)
    assert permit(few).is_probe


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_buckets_with_other_rates(fast: list[bool]) -> None:
    """As many tokens are missing in one as in the other, however often they take turns."""
    machine = Machine()
    quick, slow = (
        SharedBucket(WantedBucket(rate, 1.0, 1), cell, lambda: (machine.passed, machine.wall))
        for rate, cell in zip([8, 2], machine.cells, strict=False)
    )
    for number, is_fast in enumerate(fast):
        bucket = quick if is_fast else slow
        wait = bucket.take(0)
        assert wait == pytest.approx((number > 0) / (8 if is_fast else 2))
        if wait:
            machine.later(wait)
            assert bucket.take(0) == 0


def test_a_retry_that_is_held_for_too_long() -> None:
    """It counts no more: its process may be gone."""
    machine = Machine()
    one, two, _ = budgets(machine, ratio=0.0, min_per_second=0.125, window=8.0)
    assert one.reserve(0) == 0
    machine.later(59)
    assert two.reserve(0) != 0
    machine.later(1)
    assert two.reserve(0) == 0
    one.spend(0)
    assert math.isfinite(two.reserve(0) or math.inf)
