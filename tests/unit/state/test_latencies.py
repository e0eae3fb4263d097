"""How long calls usually take."""

from __future__ import annotations

import random

import pytest

from daglite.state.latencies import Latencies


def test_too_few_say_nothing() -> None:
    """Twenty calls are needed."""
    latencies = Latencies()
    for _ in range(19):
        latencies.add(1.0)
        assert latencies.quantile(0.5) is None
    latencies.add(1.0)
    assert latencies.quantile(0.5) == 1.0


def test_who_waits_is_named_once() -> None:
    """By the call after which there is a quantile; then nobody needs to wait."""
    latencies = Latencies()
    for waiter in "abc":
        assert latencies.enter(waiter)
    latencies.leave("b")
    for _ in range(19):
        assert latencies.add(1.0) == ()
    assert latencies.add(1.0) == ("a", "c")
    assert latencies.add(1.0) == ()
    assert not latencies.enter("d")
    latencies.leave("d")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99])
def test_a_quantile_of_the_latest(share: float) -> None:
    """So many of the last two hundred calls took no longer, and not one less would do."""
    draw, latencies, seen = random.Random(1), Latencies(), []
    for _ in range(500):
        seen.append(draw.choice([1.0, draw.random()]))
        latencies.add(seen[-1])
        latest = seen[-200:]
        if len(latest) >= 20:
            found = latencies.quantile(share)
            assert found in latest
            assert sum(each <= found for each in latest) >= share * len(latest)
            assert sum(each < found for each in latest) < share * len(latest)
