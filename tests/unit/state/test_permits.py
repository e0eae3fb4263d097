"""A bulkhead's places and its line."""

from __future__ import annotations

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

from daglite.state.permits import Permits
from tests.unit.state.machines import LONG, SHORT
from tests.unit.state.wanted import WantedPermits


def test_first_come_first_served() -> None:
    """A place goes to the one who waits longest."""
    permits = Permits(WantedPermits(1))
    assert [permits.acquire(token) for token in "abc"] == ["go", "wait", "wait"]
    assert [permits.release() for _ in range(3)] == ["b", "c", None]
    assert permits.acquire("d") == "go"


def test_nobody_overtakes_the_one_who_is_woken() -> None:
    """A place that was handed over isn't free, though its new owner hasn't begun yet."""
    permits = Permits(WantedPermits(1))
    permits.acquire("a")
    permits.acquire("b")
    assert permits.release() == "b"
    assert permits.acquire("c") == "wait"


@pytest.mark.parametrize("room", [0, 1, 3])
def test_a_full_line(room: int) -> None:
    """No more than so many wait; who is refused has left no trace."""
    permits = Permits(WantedPermits(2, room))
    for token in range(2 + room):
        assert permits.acquire(token) == ("go" if token < 2 else "wait")
    assert permits.acquire("late") == "full"
    assert (permits.taken, permits.waiting) == (2, room)
    permits.release()
    assert permits.acquire("late") == ("go" if room == 0 else "wait")


def test_many_places() -> None:
    """So many are taken, in either way, and no more; so many wait."""
    permits = Permits(WantedPermits(600, 300))
    assert all(permits.take() for _ in range(300))
    assert [permits.acquire(token) for token in range(300)] == ["go"] * 300
    assert permits.take() is False
    assert [permits.acquire(token) for token in range(300)] == ["wait"] * 300
    assert permits.acquire("late") == "full"


def test_who_leaves_isn_t_woken() -> None:
    """The next one is."""
    permits = Permits(WantedPermits(1))
    for token in "abc":
        permits.acquire(token)
    assert permits.leave("b") is None
    assert permits.release() == "c"


def test_who_leaves_too_late_passes_the_place_on() -> None:
    """A call that is cancelled in the moment that it is woken loses no place."""
    permits = Permits(WantedPermits(1))
    for token in "abc":
        permits.acquire(token)
    assert permits.release() == "b"
    assert permits.leave("b") == "c"
    assert permits.release() is None
    assert permits.taken == 0


def test_mistakes() -> None:
    """What was never taken can't be given back, and nobody waits twice."""
    permits = Permits(WantedPermits(1))
    with pytest.raises(RuntimeError, match="nobody had taken"):
        permits.release()
    with pytest.raises(RuntimeError, match="nobody had taken"):
        permits.leave("a")
    permits.acquire("a")
    permits.acquire("b")
    with pytest.raises(RuntimeError, match="'b' waits already"):
        permits.acquire("b")


class Bulkhead(RuleBasedStateMachine):
    """
    Tokens that come and go, in any order.

    The model keeps all that ever happened, and reads from that who holds a place.
    """

    @initialize(places=st.integers(1, 4), room=st.none() | st.integers(0, 4))
    def begin(self, places: int, room: int | None) -> None:
        self.places, self.room = places, room
        self.permits = Permits(WantedPermits(places, room))
        self.came: list[int] = []
        self.gone: set[int] = set()
        self.told: dict[int, str] = {}
        self.number = 0

    @property
    def here(self) -> list[int]:
        """Those who came and haven't gone, in order: the first ones hold the places."""
        return [token for token in self.came if token not in self.gone]

    @rule()
    def ask(self) -> None:
        self.number += 1
        here = self.here
        if len(here) < self.places:
            due = "go"
        elif self.room is not None and len(here) >= self.places + self.room:
            due = "full"
        else:
            due = "wait"
        assert self.permits.acquire(self.number) == due
        if due != "full":
            self.came.append(self.number)
            self.told[self.number] = due

    @rule(data=st.data())
    def go(self, data: Any) -> None:
        """Somebody ends, or gives up."""
        before = self.here
        if not before:
            return
        token = data.draw(st.sampled_from(before))
        holds = token in before[: self.places]
        waiting_is_all_it_knows = self.told[token] == "wait" and data.draw(st.booleans())
        self.gone.add(token)
        after = self.here
        # Who has a place now that hadn't.
        moved_up = set(after[: self.places]) - set(before[: self.places])
        due = moved_up.pop() if moved_up else None
        if holds and not waiting_is_all_it_knows:
            assert self.permits.release() == due
        else:
            assert self.permits.leave(token) == due

    @invariant()
    def adds_up(self) -> None:
        if not hasattr(self, "permits"):
            return
        taken, waiting = self.permits.taken, self.permits.waiting
        assert (taken, waiting) == (min(len(self.here), self.places), len(self.here) - taken)
        assert taken <= self.places
        assert self.room is None or waiting <= self.room
        assert not waiting or taken == self.places


def test_like_the_model() -> None:
    """The permits do what the model says, whatever happens."""
    run_state_machine_as_test(Bulkhead, settings=SHORT)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_like_the_model_for_long() -> None:
    """The same, many times as often."""
    run_state_machine_as_test(Bulkhead, settings=LONG)


def test_take_only_what_is_free() -> None:
    """Whoever is refused waits for nothing."""
    permits = Permits(WantedPermits(1))
    assert permits.take()
    assert not permits.take()
    assert permits.waiting == 0
    assert permits.release() is None
    assert permits.take()
