"""Calls that go past their chain: nobody can tell, but by the time it takes."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daglite import (
    Bulkhead,
    CircuitBreaker,
    FallbackPolicy,
    RateLimit,
    RetryPolicy,
    TimeoutPolicy,
    current_call,
    evaluate,
    protect,
    task,
)
from daglite.backends.pool import can_interrupt
from daglite.callbacks import AttemptFailed, CallParked, CircuitChanged
from daglite.exceptions import BulkheadFullError, CircuitOpenError, ExecutionError, TaskTimeoutError
from daglite.testing import RecordedEvents, VirtualClock

STACK: dict[str, Any] = {
    "fallback": FallbackPolicy(value=-1, on=(KeyError,)),
    "timeout": TimeoutPolicy(30, total=60),
    "retry": RetryPolicy(1, "none"),
    "circuit_breaker": CircuitBreaker(),
    "rate_limit": RateLimit(1_000_000, burst=1_000),
    "bulkhead": Bulkhead(2),
}

UNTIMED = {name: policy for name, policy in STACK.items() if name != "timeout"}


@pytest.fixture(params=["protect", "protect async", "node", "map"])
def way(request: pytest.FixtureRequest) -> Callable[..., Callable[..., Any]]:
    """Puts policies around a plain function of one number, in each of the ways that there are."""

    def made(func: Callable[[Any], Any], **policies: Any) -> Callable[..., Any]:
        if request.param == "protect":
            return protect(func, **policies)
        if request.param == "protect async":

            async def func_async(x: Any) -> Any:
                if x == "hang":
                    await asyncio.sleep(60)
                return func(x)

            guarded = protect(func_async, **policies)
            return lambda x: asyncio.run(guarded(x))
        work = task(**policies)(func)
        if request.param == "node":
            return lambda x: evaluate(work.bind(x=x))
        return lambda x: evaluate(work.extend(x=[x]))[0]

    return made


def hanging(x: Any) -> Any:
    """Hang if it is asked to: not for ever, as under a tracer nothing can interrupt it."""
    until = time.monotonic() + 3
    while x == "hang" and time.monotonic() < until:
        time.sleep(0.005)
    return x


@pytest.mark.parametrize("names", [[name] for name in STACK] + [list(UNTIMED), list(STACK)])
def test_values_and_failures(way: Any, names: list[str]) -> None:
    """What succeeds has its value, and what fails its error, whatever stands around it."""
    tried: list[int] = []

    def work(x: int) -> int:
        tried.append(x)
        if x == 2:
            raise OSError("down")
        return x * 10

    guarded = way(work, **{name: STACK[name] for name in names})
    assert guarded(1) == 10
    with pytest.raises(OSError, match="down"):
        guarded(2)
    assert guarded(3) == 30
    assert tried == ([1, 2, 2, 3] if "retry" in names else [1, 2, 3])


def test_arguments_by_name() -> None:
    """A node's and an element's come where they belong, on a helper thread too."""

    def minus(x: int, *, y: int) -> int:
        return x - y

    for policies in (UNTIMED, STACK):
        work = task(**policies)(minus)
        assert evaluate(work.bind(x=5, y=2)) == 3
        assert evaluate(work.zip(x=[5, 6], y=[1, 2])) == [4, 4]
        assert protect(minus, **policies)(5, y=1) == 4


def test_the_chain_is_not_entered(monkeypatch: pytest.MonkeyPatch, way: Any) -> None:
    """As long as all is well; then it is."""
    entered: list[str] = []
    for link in ("admission.Admission", "retry.Retry", "fallback.Fallback"):
        name = f"daglite.middleware.{link}.__call__"

        async def enter(self: Any, call: Any, call_next: Any) -> Any:
            entered.append(type(self).__name__)
            return await call_next(call)

        monkeypatch.setattr(name, enter)
    guarded = way(lambda x: 1 // x, **STACK)
    assert [guarded(1), guarded(1)] == [1, 1]
    assert entered == []
    with pytest.raises(ZeroDivisionError):
        guarded(0)
    assert entered == ["Fallback", "Retry", "Admission"]


# -- calls that take longer than their limit ---------------------------------------


def test_a_late_call_gives_its_place_back_when_it_ends(way: Any) -> None:
    """Its next attempt finds the place free, and so does the next call."""
    guarded = way(
        hanging, timeout=0.03, retry=RetryPolicy(1, "none"), bulkhead=Bulkhead(1, max_queue=0)
    )
    with pytest.raises(TaskTimeoutError) as caught:
        guarded("hang")
    assert [each.number for each in caught.value.attempts] == [1, 2]
    assert guarded(1) == 1


def test_a_timed_call_has_its_place_while_it_runs() -> None:
    """Nobody else starts meanwhile; then it is free."""
    began, refused = threading.Event(), threading.Event()

    def work(x: int) -> int:
        if x:
            began.set()
            assert refused.wait(10)
        return x

    guarded = protect(work, timeout=10, bulkhead=Bulkhead(1, max_queue=0))
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(guarded(1)))
    thread.start()
    assert began.wait(10)
    with pytest.raises(BulkheadFullError):
        guarded(0)
    refused.set()
    thread.join(10)
    assert results == [1]
    assert guarded(0) == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_late_call_is_a_failure_for_the_breaker(kind: str) -> None:
    """It was let go by the shortcut, and is recorded by the chain."""
    policies: dict[str, Any] = {
        "timeout": 0.03,
        "circuit_breaker": CircuitBreaker(consecutive=1, on_open="fail"),
    }

    async def hanging_async(x: Any) -> Any:
        while x == "hang":
            await asyncio.sleep(0.005)
        return x

    guarded_async = protect(hanging_async, **policies)
    guarded: Any = protect(hanging, **policies)
    if kind == "async":

        def guarded(x: Any) -> Any:
            return asyncio.run(guarded_async(x))

    assert guarded(1) == 1
    with pytest.raises(TaskTimeoutError):
        guarded("hang")
    with pytest.raises(CircuitOpenError):
        guarded(1)


def test_a_total_counts_from_the_beginning(way: Any) -> None:
    """The chain, which is entered when the time is up, gives no second one."""
    guarded = way(hanging, timeout=TimeoutPolicy(total=0.05), retry=3)
    began = time.monotonic()
    with pytest.raises(TaskTimeoutError) as caught:
        guarded("hang")
    assert 0.05 <= time.monotonic() - began < 1
    assert (caught.value.kind, caught.value.limit) == ("total", 0.05)
    assert len(caught.value.attempts) == 1


def test_a_timed_call_in_a_graph_knows_itself() -> None:
    """On its helper thread: which element it is, and which attempt."""
    seen: list[Any] = []

    @task(**STACK)
    def work(x: int) -> int:
        call = current_call()
        seen.append((call.node_name, call.element, call.attempt))
        if x == 1 and call.attempt == 1:
            raise OSError
        return x

    assert evaluate(work.extend(x=range(3))) == [0, 1, 2]
    assert seen == [("work", 0, 1), ("work", 1, 1), ("work", 1, 2), ("work", 2, 1)]


@pytest.mark.skipif(
    not can_interrupt(), reason="Python 3.11 can't interrupt threads under a tracer"
)
def test_a_run_that_is_cancelled_ends_its_timed_call() -> None:
    """The call is interrupted, whether a graph made it or a protected function."""
    ended: list[str] = []

    def inner(x: Any) -> Any:
        try:
            return hanging(x)
        finally:
            ended.append(threading.current_thread().name)

    within = task(timeout=30)(inner)
    for call in (
        lambda: evaluate(within.bind(x="hang")),
        lambda: protect(inner, timeout=30)("hang"),
    ):
        outer = task(timeout=0.05)(lambda call=call: call())
        with pytest.raises(TaskTimeoutError):
            evaluate(outer.bind(), default_backend="threading")
        until = time.monotonic() + 5
        while not ended and time.monotonic() < until:
            time.sleep(0.005)
        assert ended.pop().startswith("daglite-helper")


# -- the same as through the chain --------------------------------------------------

policies = st.fixed_dictionaries(
    {},
    optional={
        "fallback": st.just(FallbackPolicy(value=-1, on=(KeyError,))),
        "retry": st.builds(
            lambda retries: RetryPolicy(retries, "constant", delay=2, jitter="none"),
            st.integers(0, 2),
        ),
        "circuit_breaker": st.builds(
            CircuitBreaker,
            consecutive=st.integers(1, 3),
            failure_rate=st.just(0.7),
            slow_call=st.sampled_from([None, 1]),
            min_calls=st.just(2),
            window=st.just(4),
            break_for=st.just(5),
            on_open=st.sampled_from(["park", "fail"]),
        ),
        "rate_limit": st.builds(
            RateLimit,
            st.just(1),
            per=st.sampled_from([1, 4]),
            burst=st.integers(1, 3),
            max_wait=st.sampled_from([None, 3]),
        ),
        "bulkhead": st.just(Bulkhead(1)),
    },
)
"""Untimed ones, so that virtual time tells all."""

ends = st.sampled_from([None, None, None, OSError, KeyError])


@given(policies, st.lists(st.tuples(ends, st.sampled_from([0, 0.5, 2])), min_size=1, max_size=12))
@settings(max_examples=150, deadline=None)
def test_it_is_as_through_the_chain(options: dict[str, Any], script: list[Any]) -> None:
    """Values, errors, time, calls and events of a map are those of the engine's chain."""

    def run(**how: Any) -> tuple[Any, ...]:
        clock, events, calls = VirtualClock(), RecordedEvents(), list(script)

        @task(**options)
        def work(x: int) -> int:
            error, takes = calls.pop(0) if calls else (None, 0)
            clock.advance(takes)
            if error is not None:
                raise error("down")
            return x

        result: Any
        with evaluate.context(clock=clock, callbacks=[events]) as ctx:
            try:
                result = ctx.evaluate(work.extend(x=range(5)), **how)
            except ExecutionError as error:
                attempts = [(a.number, a.started, a.ran, a.error) for a in error.attempts]
                result = type(error).__mro__[1], str(error), attempts
        told = [
            (type(event).__name__, event.time, getattr(event, "reason", None))
            for kind in (AttemptFailed, CallParked, CircuitChanged)
            for event in events.of(kind)
        ]
        return result, clock.now(), len(calls), told

    assert run() == run(on_failure="continue")


def test_a_slow_call_that_opens_the_circuit_is_told_of() -> None:
    """Though it succeeded, and went past the chain."""
    clock, events = VirtualClock(), RecordedEvents()
    slow = CircuitBreaker(slow_call=1, slow_rate=0.5, min_calls=2, on_open="fail")

    @task(circuit_breaker=slow)
    def work(x: int) -> int:
        clock.advance(2)
        return x

    with (
        evaluate.context(clock=clock, callbacks=[events]) as ctx,
        pytest.raises(CircuitOpenError),
    ):
        ctx.evaluate(work.extend(x=range(5)))
    assert [event.after for event in events.of(CircuitChanged)] == ["open"]
    assert clock.now() == 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks don't start eagerly")
@pytest.mark.parametrize("retry", [None, RetryPolicy(1, "none", retry_on_result=lambda x: False)])
def test_tasks_that_start_eagerly(retry: Any) -> None:
    """An attempt may have ended before anybody waits for it, in the chain too."""

    @protect(timeout=30, retry=retry)
    async def work(x: int) -> int:
        if x < 0:
            raise OSError
        return x

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        assert await work(1) == 1
        with pytest.raises(OSError):
            await work(-1)

    asyncio.run(main())
