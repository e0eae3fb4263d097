"""Tests of users without waits: `policies_off`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daglite import (
    Bulkhead,
    Call,
    CircuitBreaker,
    Next,
    Outcome,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    evaluate,
    protect,
    task,
)
from daglite.callbacks import CallParked
from daglite.core.no_waits import no_waits
from daglite.exceptions import BulkheadFullError, CircuitOpenError
from daglite.testing import RecordedEvents, policies_off

PATIENT = RetryPolicy(3, "constant", delay="1m")
OPENS = CircuitBreaker(consecutive=1, break_for=60)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 5
    assert not no_waits


class Work:
    """Fails so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def call(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError("down")
        return self.calls

    async def call_async(self) -> int:
        return self.call()


def by_evaluate(work: Work, **options: Any) -> int:
    made: int = evaluate(task(work.call, **options).bind())
    return made


def on_threads(work: Work, **options: Any) -> int:
    made: int = evaluate(task(work.call, **options).bind(), default_backend="threading")
    return made


def by_protect(work: Work, **options: Any) -> int:
    return protect(work.call, **options)()


def by_async_protect(work: Work, **options: Any) -> int:
    return asyncio.run(protect(work.call_async, **options)())


@pytest.fixture(params=[by_evaluate, on_threads, by_protect, by_async_protect])
def way(request: pytest.FixtureRequest) -> Callable[..., int]:
    way: Callable[..., int] = request.param
    return way


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"circuit_breaker": OPENS},
        {"circuit_breaker": OPENS.model_copy(update={"on_open": "fail"})},
        {"circuit_breaker": OPENS.model_copy(update={"counts": "call"})},
        {"circuit_breaker": CircuitBreaker(mode="forced_open")},
        {"rate_limit": RateLimit(1, per=3600)},
        {"rate_limit": RateLimit(1, per=3600, max_wait=1), "circuit_breaker": OPENS},
        {"bulkhead": 1, "rate_limit": RateLimit(1, per=3600)},
        {"timeout": 30},
    ],
)
def test_nothing_waits(way: Callable[..., int], options: Any) -> None:
    with policies_off():
        assert way(Work(3), retry=PATIENT, **options) == 4


async def hour(call: Call, call_next: Next) -> Outcome:
    await call.park(3600, "an hour")
    return await call_next(call)


@pytest.mark.parametrize("place", ["around_call", "around_attempt"])
def test_middlewares_do_not_wait(way: Callable[..., int], place: str) -> None:
    """They are asked as ever, but a wait returns at once."""
    with policies_off():
        assert way(Work(3), retry=PATIENT, **{place: hour}) == 4


def test_who_polls_is_ended_by_a_total(way: Callable[..., int]) -> None:
    """Though no poll takes any time, it keeps nobody from ending it."""
    polled: list[float] = []

    async def polls(call: Call, call_next: Next) -> Outcome:
        while True:
            await call.park(60, "what never comes")
            polled.append(call.now())

    with policies_off(), pytest.raises(TimeoutError):
        way(Work(0), timeout=TimeoutPolicy(total=0.05), around_attempt=polls)
    assert polled


def test_retries_end_as_ever(way: Callable[..., int]) -> None:
    """As many, with their record, in which no wait stands."""
    work = Work(9)
    with policies_off(), pytest.raises(OSError, match="after 4 attempts") as caught:
        way(work, retry=PATIENT)
    assert work.calls == 4
    assert [each.waited for each in getattr(caught.value, "attempts", ())] == [0.0] * 4


def test_max_elapsed_counts_no_waits(way: Callable[..., int]) -> None:
    with policies_off():
        assert way(Work(3), retry=PATIENT.model_copy(update={"max_elapsed": 30})) == 4


@pytest.mark.parametrize("on_exhausted", ["pace", "fail"])
def test_budgets_are_not_asked(way: Callable[..., int], on_exhausted: Any) -> None:
    budget = RetryBudget(ratio=0, min_per_second=0.1, on_exhausted=on_exhausted)
    with policies_off():
        assert way(Work(3), retry=RetryPolicy(3, delay="1m", budget=budget)) == 4


def test_breakers_and_rates_keep_nothing() -> None:
    """What happened inside isn't felt afterwards."""
    work = Work(5)
    fetch = protect(
        work.call,
        circuit_breaker=CircuitBreaker(consecutive=1, on_open="fail"),
        rate_limit=RateLimit(1, per=3600, max_wait=0.1),
    )
    with policies_off():
        for _ in range(5):
            with pytest.raises(OSError, match="down"):
                fetch()
    assert fetch() == 6


@pytest.mark.parametrize("counts", ["attempt", "call"])
def test_open_circuits_let_calls_through(counts: Any) -> None:
    """However their failures are counted."""
    work = Work(3)
    breaker = CircuitBreaker(consecutive=1, counts=counts, on_open="fail")
    fetch = protect(work.call, circuit_breaker=breaker)
    with pytest.raises(OSError, match="down"):
        fetch()
    with pytest.raises(CircuitOpenError):
        fetch()
    with policies_off():
        for _ in range(2):
            with pytest.raises(OSError, match="down"):
                fetch()
        assert fetch() == 4
    with pytest.raises(CircuitOpenError):
        fetch()


def test_timeouts_and_bulkheads_stay() -> None:
    inner: list[str] = []

    def nested(depth: int) -> None:
        if depth:
            with pytest.raises(BulkheadFullError):
                guarded(0)
            inner.append("full")

    guarded = protect(nested, bulkhead=Bulkhead(1, max_queue=0))
    slow = protect(time.sleep, timeout=0.02)
    with policies_off():
        guarded(1)
        with pytest.raises(TimeoutError):
            slow(0.1)
    assert inner == ["full"]


def test_nobody_is_told_of_waits() -> None:
    events = RecordedEvents()
    with policies_off():
        evaluate(task(Work(3).call, retry=PATIENT).bind(), callbacks=[events])
    assert events.of(CallParked) == []


def test_blocks_may_be_nested_and_overlap() -> None:
    """Also one and the same object; and from several threads."""
    off = policies_off()
    with off:
        with off, policies_off():
            pass
        assert by_protect(Work(3), retry=PATIENT) == 4
    barrier, gone, seen = threading.Barrier(2), threading.Event(), []

    def first() -> None:
        with policies_off():
            barrier.wait(5)
        gone.set()

    thread = threading.Thread(target=first)
    thread.start()
    with policies_off():
        barrier.wait(5)
        assert gone.wait(5)
        seen.append(by_protect(Work(3), retry=PATIENT))
    thread.join(5)
    assert seen == [4]


def test_as_a_decorator() -> None:
    @policies_off()
    def test_something(x: int) -> int:
        """Told."""
        return x + by_protect(Work(3), retry=PATIENT)

    @policies_off()
    async def test_later(x: int) -> int:
        return x + await protect(Work(3).call_async, retry=PATIENT)()

    assert test_something.__doc__ == "Told."
    assert test_something(1) == 5
    assert test_something(x=2) == 6
    assert asyncio.run(test_later(3)) == 7
    assert not no_waits


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("wrong", [generator, Work, 3])
def test_what_cannot_be_decorated(wrong: Any) -> None:
    with pytest.raises(TypeError, match="with policies_off"):
        policies_off()(wrong)


def test_the_block_ends_with_an_error() -> None:
    with pytest.raises(ZeroDivisionError), policies_off():
        raise ZeroDivisionError
    assert not no_waits
