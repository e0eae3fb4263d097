"""Hedges: when another call is made, whose result counts, and what becomes of the other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from daglite import (
    CircuitBreaker,
    Hedge,
    PolicySet,
    RateLimit,
    RetryPolicy,
    ThreadBackend,
    evaluate,
    task,
)
from daglite.callbacks import CallHedged
from daglite.core.call import Call
from daglite.exceptions import CircuitOpenError, PolicyError
from daglite.testing import Fails, Hangs, Takes
from tests.unit.lab import Lab


@task
def work(x: int = 0) -> int:
    return x


def hedged(delay: float | None = 2, **options: Any) -> Any:
    given = Hedge(**options) if delay is None else Hedge(delay, **options)
    return work.with_options(hedge=given, idempotent=True)


def in_turn(*endings: Any) -> Any:
    """A script that ends the calls so, in the order in which they come."""
    left = list(endings)
    return lambda call: left.pop(0)


@pytest.mark.parametrize(
    ("endings", "value", "calls", "end"),
    [
        ([Takes(1, "a")], "a", 1, 1),
        ([Takes(9, "a"), Takes(1, "b")], "b", 2, 3),
        ([Takes(4, "a"), Takes(9, "b")], "a", 2, 4),
        ([Hangs(), Hangs(), Takes(1, "c")], "c", 3, 5),
        ([Fails(OSError("a"), 3), Takes(4, "b")], "b", 2, 6),
    ],
)
def test_the_first_result_counts(
    lab: Lab, endings: list[Any], value: str, calls: int, end: float
) -> None:
    """Another call is made when the delay is over, and no more than that."""
    most = max(len(endings) - 1, 1)
    assert lab(hedged(max_hedges=most).bind(), in_turn(*endings), slots=4) == value
    assert len(lab.backend.calls) == calls
    assert lab.clock.now() == end
    assert len(lab.events.of(CallHedged)) == calls - 1


def test_a_quick_failure_is_not_hedged(lab: Lab) -> None:
    """It is the attempt's failure, to be retried or not."""
    once = hedged().with_options(retry=RetryPolicy(1, "none"))
    assert lab(once.bind(), in_turn(Fails(OSError("a"), 1), Takes(1, "b"))) == "b"
    assert lab.events.of(CallHedged) == []


def test_if_all_fail(lab: Lab) -> None:
    """The first failure is the attempt's, when the last call is done."""
    with pytest.raises(OSError, match="one"):
        lab(hedged().bind(), in_turn(Fails(OSError("one"), 5), Fails(OSError("two"), 9)))
    assert lab.clock.now() == 11


def test_max_elapsed_counts_from_the_first_call(lab: Lab) -> None:
    """Though the hedge, which started later, is the one whose failure counts."""
    once = hedged().with_options(
        retry=RetryPolicy(1, "constant", delay=1, jitter="none", max_elapsed=10)
    )
    with pytest.raises(OSError, match=r"hedge; not tried again: .* 11 s after the first") as caught:
        lab(once.bind(), in_turn(Fails(OSError("call"), 10), Fails(OSError("hedge"), 1)))
    (record,) = caught.value.attempts  # type: ignore[attr-defined]
    assert (record.started, record.ran, lab.clock.now()) == (0, 10, 10)


def test_a_refused_hedge_is_no_answer(lab: Lab) -> None:
    """What counts is how a call ended that was made, though the hedge was refused before."""
    paced = hedged().with_options(
        rate_limit=RateLimit(1, 4, max_wait=0), retry=RetryPolicy(1, "none", retry_on=OSError)
    )
    assert lab(paced.bind(), in_turn(Fails(OSError("down"), 5), Takes(1, "b"))) == "b"
    assert len(lab.backend.calls) == 2


def test_if_all_are_refused(lab: Lab) -> None:
    """The first refusal is the attempt's failure."""
    shut = CircuitBreaker(mode="forced_open", on_open="fail")
    with pytest.raises(CircuitOpenError):
        lab(hedged(0).with_options(circuit_breaker=shut).bind())
    assert lab.backend.calls == []


def test_a_quantile(lab: Lab) -> None:
    """Nothing is hedged before enough is known; then what takes longer than most."""
    most = hedged(None, quantile=0.9)
    slow = {5, 30}

    def script(call: Call) -> Any:
        if call.element in slow:
            slow.remove(call.element)
            return Takes(20, call.element)
        return Takes(1, call.element)

    assert lab(most.extend(x=range(40)), script, slots=4) == list(range(40))
    hedged_ones = {event.element for event in lab.events.of(CallHedged)}
    assert 30 in hedged_ones
    assert 5 not in hedged_ones


def test_a_quantile_counts_what_calls_wait(lab: Lab) -> None:
    """Else a limit that lets them wait longer than they run would have all of them hedged."""
    paced = hedged(None, quantile=0.9).with_options(rate_limit=1)
    numbers = paced.extend(x=paced.extend(x=range(30)))
    assert lab(numbers, {"work": Takes(0.1)}) == list(range(30))
    # Nine of ten wait 26 s and less.
    assert {event.element for event in lab.events.of(CallHedged)} == {26, 27, 28, 29}


def test_a_backend_that_makes_one_call_at_a_time() -> None:
    """It is refused when the run is planned."""
    for backend in ("sequential", ThreadBackend(1)):
        with pytest.raises(PolicyError, match="makes one call at a time; use a backend with more"):
            evaluate(hedged().bind(), default_backend=backend)
    assert (
        evaluate(hedged().bind(x=3), default_backend="sequential", overrides=PolicySet(hedge=None))
        == 3
    )


def test_on_threads() -> None:
    """The result of the second call is there while the first one still runs."""
    backend = ThreadBackend(2)
    calls: list[int] = []
    over = threading.Event()

    def slow_at_first(x: int) -> int:
        calls.append(x)
        if len(calls) == 1:
            over.wait(10)
        return x

    quick = task(slow_at_first, hedge=Hedge(0.02), idempotent=True)
    try:
        assert evaluate(quick.bind(x=7), default_backend=backend) == 7
        assert len(calls) == 2
    finally:
        over.set()
        backend.close()
