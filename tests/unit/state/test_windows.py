"""Windows forget what is too old, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daglite.state.windows import CountWindow, TimeWindow
from tests.unit.state.machines import grouped

CALLS = st.lists(st.tuples(st.booleans(), st.booleans()))


def totals(window: CountWindow | TimeWindow) -> tuple[int, int, int]:
    return window.calls, window.failures, window.slows


@given(st.integers(1, 9), CALLS)
def test_the_last_calls(size: int, calls: list[tuple[bool, bool]]) -> None:
    """Exactly the last ones count, however often the ring went round."""
    window = CountWindow(size)
    for failed, slow in calls:
        window.add(0, failed, slow)
    last = calls[-size:]
    assert totals(window) == (len(last), sum(f for f, _ in last), sum(s for _, s in last))
    window.trim(1e9)
    assert window.calls == len(last)


def test_a_large_window() -> None:
    """Of a thousand calls it knows the last three hundred."""
    window = CountWindow(300)
    for i in range(1000):
        window.add(0, i % 2 == 0, i >= 990)
        assert window.calls == min(i + 1, 300)
        assert window.full is (i >= 299)
    assert totals(window) == (300, 150, 10)


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 100), st.booleans(), st.booleans())),
    st.integers(0, 400),
)
def test_the_last_seconds(slots: int, steps: list[tuple[int, bool, bool]], later: int) -> None:
    """What shares a slot leaves together; nothing leaves late, or early by more than a slot."""
    seconds, now, calls = 64.0, 0.0, []
    window = TimeWindow(seconds, slots)
    for step, failed, slow in steps:
        now += step / 8
        window.add(now, failed, slow)
        calls.append((now, failed, slow))
    now += later / 4
    window.trim(now)
    groups = grouped((time for time, _, _ in calls), seconds / slots)
    stay = sum(len(group) for group in groups if group[0] + seconds > now)
    last = calls[len(calls) - stay :]
    assert totals(window) == (stay, sum(f for _, f, _ in last), sum(s for _, _, s in last))
    assert sum(now < time + seconds for time, _, _ in calls) >= stay
    assert sum(now < time + seconds - window.width for time, _, _ in calls) <= stay
    left = [(group[0] + seconds, len(group)) for group in groups if group[0] + seconds > now]
    assert list(window.leaving()) == left


def test_a_lone_call_leaves_on_time() -> None:
    """At exactly its time plus the window, not before."""
    window = TimeWindow(10, slots=10)
    window.add(5.25, True, True)
    window.trim(15.249)
    assert totals(window) == (1, 1, 1)
    window.trim(15.25)
    assert totals(window) == (0, 0, 0)


def test_the_width_of_a_slot() -> None:
    """A call that comes as late as that has a slot of its own."""
    window = TimeWindow(10, slots=10)
    window.add(0)
    window.add(1)
    assert list(window.leaving()) == [(10, 1), (11, 1)]


def test_a_clock_that_was_read_earlier() -> None:
    """A call of another thread, which took its time before this one, counts."""
    window = TimeWindow(10, slots=10)
    window.add(5)
    window.add(4.5)
    assert totals(window) == (2, 0, 0)
    assert list(window.leaving()) == [(15, 2)]


def test_memory_is_bounded() -> None:
    """However many calls there are, no more slots than were asked for, and one."""
    window = TimeWindow(10, slots=10)
    for i in range(5000):
        window.add(i / 100)
        assert len(list(window.leaving())) <= 11
    assert window.calls == pytest.approx(1000, abs=100)


@pytest.mark.parametrize("window", [CountWindow(3), TimeWindow(3, 3)])
def test_clear(window: CountWindow | TimeWindow) -> None:
    """Nothing is left, and it counts anew."""
    for _ in range(5):
        window.add(0, True, True)
    window.clear()
    assert totals(window) == (0, 0, 0)
    window.add(1, False, True)
    window.trim(3.5)
    assert totals(window) == (1, 0, 1)
