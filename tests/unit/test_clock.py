"""Both clocks: what comes first, a message or the moment."""

from __future__ import annotations

from queue import SimpleQueue

import pytest

from daglite._clock import SystemClock, VirtualClock


@pytest.fixture(params=[SystemClock, VirtualClock])
def clock(request):
    return request.param()


@pytest.mark.parametrize("ahead", [None, -1, 3600])
def test_a_message_ends_the_wait(clock, ahead):
    """However far the moment is."""
    inbox = SimpleQueue()
    inbox.put("message")
    until = None if ahead is None else clock.now() + ahead
    assert clock.wait(inbox, until, 0) == "message"


def test_a_moment_that_is_past_ends_the_wait(clock):
    """Time doesn't go back for it."""
    before = clock.now()
    assert clock.wait(SimpleQueue(), before - 1, 0) is None
    assert clock.now() >= before


def test_the_system_clock_waits_until_the_moment():
    """It isn't back early."""
    clock = SystemClock()
    until = clock.now() + 0.001
    assert clock.wait(SimpleQueue(), until, 0) is None
    assert clock.now() >= until


def test_simulated_events_come_in_order():
    """Those before the moment are done, each at its time; calls that are held don't count."""
    clock, seen = VirtualClock(start=10), []
    inbox = SimpleQueue()
    clock.hold(1)
    clock.call_at(12, lambda: seen.append(clock.now()))
    clock.call_at(11, lambda: seen.append(clock.now()))
    clock.call_at(99, lambda: inbox.put("late"))
    assert clock.wait(inbox, 20, 1) is None
    assert (seen, clock.now()) == ([11, 12], 20)
    assert clock.wait(inbox, None, 1) == "late"
    assert clock.now() == 99


def test_nothing_to_wait_for():
    """A wait that could never end is an error."""
    with pytest.raises(RuntimeError, match="virtual time stops"):
        VirtualClock().wait(SimpleQueue(), None, 0)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_goes_forward(seconds):
    """A step back is refused."""
    with pytest.raises(ValueError, match="time can't go back"):
        VirtualClock().advance(seconds)
