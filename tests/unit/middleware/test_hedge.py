"""Hedges: when another call is made, whose result counts, and what becomes of the other."""

from __future__ import annotations

import random
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
from daglite.core.kernel import Cancelled
from daglite.exceptions import CircuitOpenError, ExecutionError, PolicyError
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
        ([Hangs(), Hangs(), Takes(9, "c")], "c", 3, 13),
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


def test_the_others_are_cancelled(lab: Lab) -> None:
    """As soon as there is a result, and not only when the run ends."""
    ends: list[tuple[str, float]] = []

    async def watch(call: Call, call_next: Any) -> Any:
        try:
            outcome = await call_next(call)
        except Cancelled:
            ends.append(("cancelled", lab.clock.now()))
            raise
        ends.append(("returned", lab.clock.now()))
        return outcome

    watched = hedged().with_options(around_attempt=watch, name="watched")
    endings = in_turn(Hangs(), Takes(1, "b"))
    other = task(lambda: 0, name="other")
    assert lab(
        [watched.bind(), other.bind()],
        lambda call: endings(call) if call.node_name == "watched" else Takes(20, 0),
    ) == ["b", 0]
    assert ends == [("returned", 3), ("cancelled", 3)]


def test_a_middleware_that_raises(lab: Lab) -> None:
    """Its error is the failure of the call."""

    async def broken(call: Call, call_next: Any) -> Any:
        raise RuntimeError("broken middleware")

    with pytest.raises(RuntimeError, match="broken middleware"):
        lab(hedged().with_options(around_attempt=broken).bind())


def test_a_quantile(lab: Lab) -> None:
    """What takes longer than most is hedged, and nothing else; at once when that becomes known."""
    most = hedged(None, quantile=0.9)
    slow = {5, 30}

    def script(call: Call) -> Any:
        if call.element in slow:
            slow.remove(call.element)
            return Takes(20, call.element)
        return Takes(1, call.element)

    assert lab(most.extend(x=range(40)), script, slots=4) == list(range(40))
    first, second = lab.events.of(CallHedged)
    # Twenty calls are done then: five on each of three workers, and four on the other one.
    assert (first.element, first.time) == (5, 7)
    assert second.element == 30
    assert lab.clock.now() < 15


def test_a_quantile_that_nobody_gets_to_know(lab: Lab) -> None:
    """A call isn't hedged then, and waits for nothing but its end."""
    assert lab(hedged(None, quantile=0.9).extend(x=range(19)), lambda _: Takes(9, 0)) == [0] * 19
    assert lab.events.of(CallHedged) == []
    with pytest.raises(RuntimeError, match="virtual time stops"):
        lab(hedged(None, quantile=0.9).bind(), lambda _: Hangs())


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_a_quantile_means_its_share(lab: Lab, quantile: float) -> None:
    """So many calls are hedged: one that was rescued would have taken longer, and counts so."""
    draw = random.Random(1)
    wait = task(lambda x: x, name="wait")

    def script(call: Call) -> Any:
        if call.node_name == "wait":
            return Takes(call.args[0], 0)
        return Takes(draw.lognormvariate(0, 1), 0)

    often = hedged(None, quantile=quantile)
    lab([often.bind(x=wait.bind(x=i / 10)) for i in range(2_000)], script, slots=4_000)
    share = len(lab.events.of(CallHedged)) / 2_000
    assert share == pytest.approx(1 - quantile, abs=0.03)


def test_calls_that_take_as_long_as_all(lab: Lab) -> None:
    """They aren't late: nothing is hedged where all take the same."""
    same = hedged(None, quantile=0.9)
    assert lab(same.extend(x=range(400)), lambda _: Takes(0.1, 0)) == [0] * 400
    assert lab.events.of(CallHedged) == []


def test_what_has_not_started_is_not_slow(lab: Lab) -> None:
    """Time in a queue doesn't count: a call behind busy workers needs no other beside it."""
    busy = task(lambda: 0, name="busy")
    calls = [*(busy.bind() for _ in range(4)), *(hedged(0.2).bind(x=i) for i in range(4))]
    lab(calls, {"busy": Takes(10, 0), "work": Takes(0.1, 0)}, slots=4)
    assert lab.starts == [0] * 4 + [10] * 4
    assert lab.events.of(CallHedged) == []
    lab(hedged(0.2).with_options(rate_limit=0.1).extend(x=range(4)), lambda _: Takes(0.1, 0))
    assert lab.events.of(CallHedged) == []


def test_a_hedge_that_has_not_started(lab: Lab) -> None:
    """The next one is counted from its start, too."""
    busy = task(lambda: 0, name="busy")
    script = {"busy": Takes(10, 0), "work": Takes(30, 0)}
    lab([*(busy.bind() for _ in range(3)), hedged(2, max_hedges=3).bind()], script, slots=4)
    assert [event.time for event in lab.events.of(CallHedged)] == [2, 12, 14]
    assert lab.starts[3:] == [0, 10, 12, 14]


def test_after_a_wait_for_a_worker(lab: Lab) -> None:
    """The delay is counted from the start exactly, however long the call was queued."""
    busy = task(lambda: 0, name="busy")
    calls = [busy.bind(), busy.bind(), hedged(3).bind()]
    lab(calls, {"busy": Takes(10.5, 0), "work": Takes(9, 0)}, slots=2)
    assert [event.time for event in lab.events.of(CallHedged)] == [13.5]
    lab(hedged(0).bind(), lambda _: Takes(9, 0))
    assert lab.events.of(CallHedged)[-1].time == pytest.approx(0.001)


def test_a_refused_hedge_is_the_last(lab: Lab) -> None:
    """Another one would be refused, too."""
    limited = hedged(1, max_hedges=3).with_options(rate_limit=RateLimit(0.01, max_wait=0))
    assert lab(limited.bind(), lambda _: Takes(9, "a")) == "a"
    assert [event.time for event in lab.events.of(CallHedged)] == [1]
    assert lab.starts == [0]


def test_a_hedge_is_no_element(lab: Lab) -> None:
    """Its waits are none of the map's."""
    seen: list[tuple[bool, bool]] = []

    async def look(call: Any, call_next: Any) -> Any:
        seen.append((call.repeats > 0, call.crowd is None))
        return await call_next(call)

    few = hedged(1).with_options(bulkhead=2, around_attempt=look)
    lab(few.extend(x=range(4)), lambda _: Takes(3, 0), slots=8)
    assert set(seen) == {(False, False), (True, True)}


def test_an_attempt_has_run_since_its_first_call_started(lab: Lab) -> None:
    """Whichever of its calls counts, limits on all attempts are counted from there."""
    limited = hedged(2).with_options(retry=RetryPolicy(3, [4], jitter="none", max_elapsed=10))
    with pytest.raises(OSError, match="OSError: b") as caught:
        lab(limited.bind(), in_turn(Fails(OSError("a"), 7), Fails(OSError("b"), 4)))
    assert isinstance(caught.value, ExecutionError)
    assert [(a.started, a.ran) for a in caught.value.attempts] == [(0, 7)]
    assert lab.clock.now() == 7


def test_a_quantile_is_of_what_calls_run(lab: Lab) -> None:
    """A limit that lets them wait longer than they run has none of them hedged."""
    paced = hedged(None, quantile=0.9).with_options(rate_limit=1)
    numbers = paced.extend(x=paced.extend(x=range(30)))
    assert lab(numbers, {"work": Takes(0.1)}) == list(range(30))
    assert lab.events.of(CallHedged) == []


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
