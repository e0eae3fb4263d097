"""Protected functions among real threads, forks and interrupts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from daglite import (
    Bulkhead,
    CircuitBreaker,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    evaluate,
    protect,
    task,
)
from daglite.backends.pool import can_interrupt
from tests.backends.journal import WAIT, eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def in_child(work: Callable[[], Any]) -> bool:
    """Whether *work* returns something true in a forked child, and soon."""
    child = os.fork()
    if not child:
        signal.alarm(int(WAIT))
        ok = False
        try:
            ok = bool(work())
        finally:
            os._exit(0 if ok else 1)
    return os.waitpid(child, 0)[1] == 0


@contextmanager
def on_a_thread(work: Callable[[], Any]) -> Iterator[None]:
    """Meanwhile a thread does *work*."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(WAIT)
        assert not thread.is_alive()


@forks
@pytest.mark.parametrize("key", [None, "forked"])
def test_a_child_has_none_of_the_places_of_its_parent(key: str | None) -> None:
    """Their owners aren't there to give them back."""
    taken, leave = threading.Event(), threading.Event()

    @protect(bulkhead=Bulkhead(1, max_queue=0, key=key))
    def work(hold: bool) -> bool:
        if hold:
            taken.set()
            leave.wait(WAIT)
        return True

    with on_a_thread(lambda: work(True)):
        assert taken.wait(WAIT)
        try:
            assert in_child(lambda: work(False) and work(False))
        finally:
            leave.set()
    assert work(False)


STATES: dict[str, Any] = {
    "bulkhead": {"bulkhead": Bulkhead(10**6)},
    "rate limit": {"rate_limit": RateLimit(1e9, burst=10**6)},
    "circuit breaker": {"circuit_breaker": CircuitBreaker(window=10, min_calls=2, slow_call=60)},
    "a key": {"circuit_breaker": CircuitBreaker("fork", window=10, min_calls=2, slow_call=60)},
    "budget": {"retry": RetryPolicy(1, budget=RetryBudget(min_per_second=1))},
}


@forks
@pytest.mark.parametrize("name", STATES)
def test_a_fork_while_other_threads_are_in_the_states(name: str) -> None:
    """Their locks are nobody's in the child."""
    if sys.gettrace() is not None:
        pytest.skip("coverage has a lock too, which one of them may hold at the fork")
    work = protect(lambda: True, **STATES[name])
    done: list[bool] = []

    def spin() -> None:
        while not done:
            work()

    with on_a_thread(spin), on_a_thread(spin):
        try:
            assert all(in_child(work) for _ in range(20))
        finally:
            done.append(True)


@forks
def test_a_child_that_was_forked_within_a_call() -> None:
    """It may give back the place that it had then, and has a place for each call after that."""
    parent = os.getpid()

    @protect(bulkhead=Bulkhead(1, max_queue=0))
    def fork(again: bool) -> int:
        return os.fork() if again else -1

    child = -1
    try:
        child = fork(True)
    finally:
        if os.getpid() != parent:
            os._exit(0 if child == 0 and fork(False) == fork(False) == -1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert fork(False) == -1


class Thing:
    """What a call is given."""


def test_a_call_out_of_time_lets_go_what_it_was_given() -> None:
    """As soon as its thread has ended, without a garbage collection."""
    leave = threading.Event()

    @protect(timeout=0.01)
    def hang(thing: Thing) -> None:
        leave.wait(WAIT)

    thing = Thing()
    there = weakref.ref(thing)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(TimeoutError):
            hang(thing)
        del thing
        leave.set()
        assert eventually(lambda: there() is None)
    finally:
        gc.enable()


def test_a_coroutine_out_of_time_lets_go_what_it_was_given() -> None:
    @protect(timeout=0.01)
    async def hang(thing: Thing) -> None:
        await asyncio.sleep(WAIT)

    async def main(things: list[Thing]) -> None:
        there = weakref.ref(things[0])
        with contextlib.suppress(TimeoutError):
            await hang(things.pop())
        await asyncio.sleep(0.001)
        assert there() is None

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main([Thing()]))
    finally:
        gc.enable()


@pytest.mark.skipif(not can_interrupt(), reason="a tracer keeps threads from being interrupted")
@pytest.mark.parametrize("way", ["past the chain", "through the chain"])
def test_an_interrupt_loses_no_place(way: str) -> None:
    """Wherever it comes: when the calls of a task out of time have ended, all places are free."""
    options: dict[str, Any] = {"bulkhead": Bulkhead(1, max_queue=0)}
    if way == "through the chain":
        options["retry"] = RetryPolicy(1, "none", retry_on_result=lambda value: False)
    for _ in range(40):
        work = protect(lambda: True, **options)
        ended = threading.Event()

        def loop(work: Any, ended: threading.Event) -> None:
            try:
                while True:
                    work()
            finally:
                ended.set()

        outer = task(loop, timeout=0.004)
        with pytest.raises(TimeoutError):
            evaluate(outer.bind(work=work, ended=ended), default_backend="threading")
        assert ended.wait(WAIT)
        assert work()


def test_a_function_that_hangs_is_interrupted() -> None:
    """Though the chain around it isn't."""
    ended = threading.Event()

    @protect(bulkhead=1, retry=RetryPolicy(1, retry_on_result=lambda value: False))
    def hang() -> None:
        try:
            while True:
                time.sleep(0.001)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        evaluate(task(hang, timeout=0.01).bind(), default_backend="threading")
    assert can_interrupt() is ended.wait(WAIT if can_interrupt() else 0)
