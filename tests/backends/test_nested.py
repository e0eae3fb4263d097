"""Runs inside of tasks: whose thread they take, and what ends them."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from daglite import ThreadBackend, evaluate, evaluate_async, task
from daglite.backends.pool import can_interrupt
from daglite.exceptions import RunCancelledError, TaskTimeoutError
from tests.backends.journal import WAIT, eventually

interrupts = pytest.mark.skipif(
    not can_interrupt(), reason="Python 3.11 can't interrupt threads under a tracer"
)

SHORT = 0.1
"""Seconds that a call is given where it shall run out of time."""


@pytest.fixture
def one() -> Iterator[ThreadBackend]:
    backend = ThreadBackend(max_workers=1)
    yield backend
    backend.close()


@task
def inner(x: int) -> int:
    return x + 1


def test_an_async_run_in_a_task_gets_its_slot(one: ThreadBackend) -> None:
    """The task that awaits it lends its place, like one that waits for a plain run."""

    @task(backend=one)
    async def outer(x: int) -> int:
        both = [inner.with_options(backend=one).bind(x=x + i) for i in range(2)]
        return sum(await asyncio.gather(*map(evaluate_async, both)))

    assert evaluate(outer.bind(x=1)) == 5


@pytest.mark.parametrize("retry", [0, 1])
def test_a_slot_is_lent_only_while_the_run_waits(one: ThreadBackend, retry: int) -> None:
    """What a nested run computes in place counts as its task's work."""
    lock, running, most = threading.Lock(), 0, 0

    @task
    def work(x: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return x

    @task(retry=retry)
    def outer(x: int) -> int:
        return evaluate(work.bind(x=x), default_backend="sequential")

    assert evaluate(outer.extend(x=range(8)), default_backend=one) == list(range(8))
    assert most == 1


def test_a_timeout_ends_the_nested_run(gate: threading.Event) -> None:
    """Of its elements none is begun after that."""
    begun: list[int] = []
    backend = ThreadBackend(2)

    @task
    def leaf(x: int) -> int:
        begun.append(x)
        time.sleep(0.01)
        return x

    @task(timeout=SHORT)
    def outer() -> list[int]:
        return evaluate(leaf.extend(x=range(10_000)), default_backend="sequential")

    with pytest.raises(TaskTimeoutError):
        evaluate(outer.bind(), default_backend=backend)
    assert eventually(lambda: backend.abandoned == 0)
    assert len(begun) < 1_000
    backend.close()


@interrupts
def test_an_interrupt_is_no_failure_of_the_nested_run() -> None:
    """A loop that goes on after every failure ends with its timeout all the same."""
    backend = ThreadBackend(2)

    @task
    def leaf(x: int) -> int:
        time.sleep(0.001)
        return x

    @task(timeout=SHORT)
    def outer() -> None:
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            try:
                evaluate(leaf.bind(x=1), default_backend="sequential")
            except Exception:
                continue

    with pytest.raises(TaskTimeoutError):
        evaluate(outer.bind(), default_backend=backend)
    assert eventually(lambda: backend.abandoned == 0, seconds=WAIT / 2)
    backend.close()


def test_a_cancelled_run_cancels_what_its_tasks_wait_for() -> None:
    """On the caller's thread, where nothing can be interrupted, too."""
    begun: list[int] = []
    fourth = threading.Event()

    @task
    def leaf(x: int) -> int:
        begun.append(x)
        if x == 3:
            fourth.set()
        time.sleep(0.001)
        return x

    @task
    def outer() -> list[int]:
        return evaluate([leaf.bind(x=i) for i in range(5_000)])

    async def main() -> None:
        run = asyncio.ensure_future(evaluate_async(outer.bind()))
        await asyncio.to_thread(fourth.wait, WAIT)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert eventually(lambda: not threads_called("daglite-evaluate"))
    assert len(begun) < 5_000


def test_a_cancelled_run_ends_retries_without_waits() -> None:
    """A call that is tried again at once looks whether anybody still wants it."""
    calls = 0
    tenth = threading.Event()

    @task(retry=1_000_000, backoff="none")
    def fails() -> None:
        nonlocal calls
        calls += 1
        if calls == 10:
            tenth.set()
        raise OSError("down")

    async def main() -> None:
        run = asyncio.ensure_future(evaluate_async(fails.bind()))
        await asyncio.to_thread(tenth.wait, WAIT)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert eventually(lambda: not threads_called("daglite-evaluate"))
    assert calls < 1_000_000


@interrupts
def test_a_run_in_a_cancelled_call_never_begins() -> None:
    """It raises `RunCancelledError` at once."""
    caught: list[BaseException] = []
    backend = ThreadBackend(1)
    begun, over = threading.Event(), threading.Event()

    def started(x: int) -> int:
        caught.append(AssertionError("it ran"))
        return x

    @task(timeout=SHORT)
    def outer() -> None:
        begun.set()
        try:
            while True:
                time.sleep(0.001)
        finally:
            try:
                evaluate(task(started).bind(x=1))
            except RunCancelledError as error:
                caught.append(error)
            finally:
                over.set()

    with pytest.raises(TaskTimeoutError):
        evaluate(outer.bind(), default_backend=backend)
    assert over.wait(WAIT)
    assert [type(error).__name__ for error in caught] == ["RunCancelledError"]
    backend.close()


def test_a_coroutine_that_waits_for_ever_is_ended() -> None:
    """A timeout reaches into the event loop: the thread isn't lost."""
    backend = ThreadBackend(1)
    ended = threading.Event()

    @task(timeout=SHORT)
    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(TaskTimeoutError) as caught:
        evaluate(waits.bind(), default_backend=backend)
    assert ended.wait(WAIT)
    assert eventually(lambda: backend.abandoned == 0)
    assert caught.value.stack is not None
    assert "await asyncio.Event().wait()" in caught.value.stack
    assert "_bootstrap" not in caught.value.stack
    backend.close()


def test_a_queue_is_emptied_after_close(gate: threading.Event) -> None:
    """A call that was given up is replaced as long as others wait for its thread."""
    backend = ThreadBackend(1)
    begun = threading.Event()

    @task(timeout=SHORT * 3)
    def hangs() -> None:
        begun.set()
        gate.wait(WAIT)

    @task
    def after() -> int:
        return 1

    def close() -> None:
        assert begun.wait(WAIT)
        backend.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(TaskTimeoutError) as caught:
        evaluate([hangs.bind(), after.bind()], default_backend=backend, on_failure="continue")
    closer.join()
    assert len(caught.value.failures) == 1


def test_an_iterator_stays_on_the_callers_thread() -> None:
    """A database's cursor can't be used on another."""
    database = sqlite3.connect(":memory:")
    database.execute("create table t (x)")
    database.executemany("insert into t values (?)", [(i,) for i in range(100)])

    @task
    def first(row: tuple[Any, ...]) -> int:
        number: int = row[0]
        return number

    rows = database.execute("select x from t order by x")
    assert evaluate(first.extend(row=rows), default_backend="threading") == list(range(100))
    database.close()


def test_a_cancelled_run_ends_its_coroutine_in_place() -> None:
    """On the sequential backend, whose thread only waits for it."""
    begun, ended = threading.Event(), threading.Event()

    @task
    async def waits() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        run = asyncio.ensure_future(evaluate_async(waits.bind()))
        assert await asyncio.to_thread(begun.wait, WAIT)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert ended.wait(WAIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_loop_of_a_forked_child_is_its_own() -> None:
    """It ends without a word, and the parent's next coroutine is woken as before."""
    script = """
        import asyncio, os, sys
        from daglite import evaluate, task

        @task
        async def wakes():
            return await asyncio.to_thread(lambda: 42)

        assert evaluate(wakes.bind()) == 42
        child = os.fork()
        if child == 0:
            assert evaluate(wakes.bind()) == 42
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert evaluate(wakes.bind()) == 42
    """
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)], check=True, timeout=WAIT
    )


def threads_called(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]
