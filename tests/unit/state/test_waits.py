"""Who waits until a moment wakes when it has come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daglite.state.waits import until

MOMENTS = st.floats(-1e9, 1e12)


@given(MOMENTS, MOMENTS)
def test_the_wait_ends_when_the_moment_has_come(now: float, moment: float) -> None:
    """Not a rounding error before it, nor noticeably after it."""
    seconds = until(now, moment)
    if moment <= now:
        assert seconds == 0
    else:
        assert moment <= now + seconds <= moment + 1e-9 * (abs(now) + abs(moment))


def test_a_difference_that_is_rounded_down() -> None:
    """A wait of the plain difference would end too early."""
    now, moment = 2**-53, 1 + 2**-52
    assert now + (moment - now) < moment
    assert now + until(now, moment) >= moment


def test_never() -> None:
    """There is no such moment."""
    assert until(5, float("inf")) == float("inf")
