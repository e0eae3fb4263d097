"""Calls that run out of time, on real threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from daglite import (
    RetryPolicy,
    SequentialBackend,
    ThreadBackend,
    TimeoutPolicy,
    evaluate,
    evaluate_async,
    task,
)
from daglite.backends.pool import can_interrupt
from daglite.callbacks import CallAbandoned
from daglite.core.protocols import Backend
from daglite.core.run import Run
from daglite.exceptions import (
    BackendError,
    ExecutionError,
    RunCancelledError,
    TaskTimeoutError,
)
from daglite.session import Options, Session
from tests.backends.journal import WAIT, eventually

interrupts = pytest.mark.skipif(
    not can_interrupt(), reason="Python 3.11 can't interrupt threads under a tracer"
)


@pytest.fixture(params=["sequential", "threading"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made = SequentialBackend() if request.param == "sequential" else ThreadBackend(2)
    yield made
    made.close()


def test_the_error_comes_at_the_limit(backend: Backend, gate: threading.Event) -> None:
    """`evaluate` doesn't wait for the call, and tells where it stands."""

    @task(timeout=0.05)
    def hang() -> None:
        gate.wait(WAIT)

    began = time.monotonic()
    with pytest.raises(TaskTimeoutError, match=r"timeout of 0\.05 s") as caught:
        evaluate(hang.bind(), default_backend=backend)
    assert time.monotonic() - began < 2
    assert (caught.value.limit, caught.value.kind) == (0.05, "attempt")
    assert caught.value.elapsed >= 0.05
    assert "gate.wait" in (caught.value.stack or "")
    assert evaluate(task(lambda: 1).bind(), default_backend=backend) == 1


def test_a_timeout_is_tried_again(backend: Backend, gate: threading.Event) -> None:
    """An attempt that ran out of time is a failure like others."""
    calls: list[float] = []

    @task(timeout=0.05, retry=RetryPolicy(2, "none", retry_on=TimeoutError))
    def hang_twice(x: int) -> int:
        calls.append(x)
        if len(calls) < 3:
            gate.wait(WAIT)
        return x

    assert evaluate(hang_twice.bind(x=5), default_backend=backend) == 5
    assert len(calls) == 3


def test_hanging_calls_starve_nobody(backend: Backend, gate: threading.Event) -> None:
    """Each abandoned call's place is taken by another thread."""

    @task(timeout=0.01)
    def hang(x: int) -> None:
        gate.wait(WAIT)

    for i in range(30):
        with pytest.raises(TimeoutError):
            evaluate(hang.bind(x=i), default_backend=backend)
    quick = task(lambda x: x, name="quick").with_options(timeout=WAIT)
    assert evaluate(quick.extend(x=range(20)), default_backend=backend) == list(range(20))


def test_abandoned_calls_are_capped(gate: threading.Event) -> None:
    """Above the cap a timed call fails at once; when the others have ended it runs again."""
    backend = ThreadBackend(1, max_abandoned=2)

    @task(timeout=0.01)
    def hang(x: int) -> int:
        gate.wait(WAIT)
        return x

    for i in range(2):
        with pytest.raises(TimeoutError):
            evaluate(hang.bind(x=i), default_backend=backend)
    assert backend.abandoned == 2
    with pytest.raises(BackendError, match="max_abandoned=2"):
        evaluate(hang.bind(x=3), default_backend=backend)
    gate.set()
    assert eventually(lambda: backend.abandoned == 0)
    patient = hang.with_options(timeout=WAIT)
    assert evaluate(patient.bind(x=4), default_backend=backend) == 4
    backend.close()


@interrupts
def test_python_code_is_interrupted(backend: Backend) -> None:
    """A loop ends at its limit, and its `finally` runs."""
    ended = threading.Event()

    @task(timeout=0.05)
    def spin() -> None:
        try:
            while True:
                pass
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        evaluate(spin.bind(), default_backend=backend)
    assert ended.wait(WAIT)


def test_abandon_leaves_the_code_alone(gate: threading.Event) -> None:
    """With on_expiry="abandon" nothing is set in the thread; what still runs is reported."""
    heard: list[CallAbandoned] = []
    interrupted: list[BaseException] = []
    ended = threading.Event()

    class Hearing:
        def on_event(self, event: object) -> None:
            if isinstance(event, CallAbandoned):
                heard.append(event)
                gate.set()

    @task(
        timeout=TimeoutPolicy(0.02, grace=0.05, on_expiry="abandon"),
        retry=RetryPolicy(1, "constant", delay=0.2, jitter="none"),
    )
    def hang() -> None:
        try:
            while not gate.is_set():
                time.sleep(0.001)
        except BaseException as error:
            interrupted.append(error)
        finally:
            ended.set()

    evaluate(hang.bind(), default_backend=ThreadBackend(1), callbacks=[Hearing()])
    assert ended.wait(WAIT)
    assert [event.attempt for event in heard] == [1]
    assert not interrupted


def test_queueing_does_not_count() -> None:
    """The limit begins when the call starts to run."""
    only = ThreadBackend(1)
    nap = task(lambda x: time.sleep(0.05), name="nap").with_options(timeout=0.5)
    assert evaluate([nap.bind(x=i) for i in range(12)], default_backend=only) == [None] * 12
    only.close()


def test_a_total_covers_queueing(gate: threading.Event) -> None:
    """A call that never got to run ends at its total, and isn't run later."""
    only = ThreadBackend(1)
    ran: list[str] = []

    @task(timeout=TimeoutPolicy(total=0.1))
    def wait(name: str) -> None:
        ran.append(name)
        gate.wait(WAIT)

    with pytest.raises(ExecutionError, match=r"total of 0\.1 s") as caught:
        evaluate(
            [wait.bind(name="first"), wait.bind(name="second")],
            default_backend=only,
            on_failure="continue",
        )
    assert len(caught.value.failures) == 2
    only.close()


@pytest.mark.parametrize("options", [{}, {"retry": 0}], ids=["bare", "policed"])
def test_a_failure_ends_the_siblings(gate: threading.Event, options: dict[str, Any]) -> None:
    """What hasn't started doesn't start, `evaluate` raises at once, and no slot is lost."""
    backend = ThreadBackend(2)
    started: list[int] = []
    running = threading.Event()

    def sibling(x: int) -> None:
        started.append(x)
        running.set()
        gate.wait(WAIT)

    def fail() -> None:
        assert running.wait(WAIT)
        raise ValueError("no")

    siblings = task(sibling).with_options(**options)
    expr = [siblings.bind(x=0), task(fail).with_options(**options).bind()]
    began = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        evaluate([*expr, *(siblings.bind(x=x) for x in range(1, 9))], default_backend=backend)
    assert time.monotonic() - began < WAIT / 2
    assert len(started) <= 2
    meeting = threading.Barrier(2)
    meet = task(lambda x: meeting.wait(WAIT / 2) >= 0, name="meet").with_options(**options)
    assert evaluate([meet.bind(x=0), meet.bind(x=1)], default_backend=backend) == [True, True]
    backend.close()


def test_nested_runs_do_not_wait_for_themselves() -> None:
    """A call that evaluates on its own full pool lends its place."""
    only = ThreadBackend(1)
    inner = task(lambda x: x + 1, name="inner")
    policed = inner.with_options(retry=1)

    @task
    def outer(x: int, again: int) -> int:
        nested = evaluate(inner.extend(x=range(x)), default_backend=only)
        also = evaluate(policed.extend(x=range(x)), default_backend=only)
        assert nested == also
        return sum(nested) + (
            evaluate(outer.bind(x=x, again=again - 1), default_backend=only) if again else 0
        )

    assert evaluate(outer.extend(x=[3, 4], again=[2]), default_backend=only) == [18, 30]
    only.close()


@interrupts
def test_async_tasks_are_cancelled(backend: Backend) -> None:
    """A coroutine's `finally` runs when its time is up."""
    ended = threading.Event()

    @task(timeout=0.05)
    async def hang() -> None:
        try:
            while True:
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        evaluate(hang.bind(), default_backend=backend)
    assert ended.wait(WAIT)


@interrupts
def test_coroutines_that_only_wait_are_cancelled(backend: Backend) -> None:
    """One that waits for what never comes ends at its limit too."""
    ended = threading.Event()

    @task(timeout=0.05)
    async def hang() -> None:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), WAIT)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        evaluate(hang.bind(), default_backend=backend)
    assert ended.wait(0.5)


def test_a_run_within_a_call_ends_with_it(backend: Backend, gate: threading.Event) -> None:
    """A call out of time that waits for a run of its own cancels that run."""
    ended = threading.Event()
    wait = task(lambda: gate.wait(WAIT), name="wait")

    @task(timeout=0.1)
    def outer() -> None:
        try:
            evaluate(wait.bind(), default_backend="threading")
        finally:
            ended.set()

    with pytest.raises(TaskTimeoutError):
        evaluate(outer.bind(), default_backend=backend)
    assert ended.wait(WAIT / 2)


def test_from_many_threads_at_once(backend: Backend) -> None:
    """Runs don't disturb each other."""
    element = task(lambda x, y: x * y, name="element").with_options(retry=1, timeout=WAIT)
    results: list[list[int]] = []

    def work(y: int) -> None:
        results.append(evaluate(element.extend(x=range(20), y=[y]), default_backend=backend))

    threads = [threading.Thread(target=work, args=(y,)) for y in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(results) == [[x * y for x in range(20)] for y in range(6)]


def test_inside_a_running_loop(backend: Backend) -> None:
    """`evaluate` works in a notebook's loop, async tasks included."""

    @task
    async def awaited(x: int) -> int:
        await asyncio.sleep(0)
        return x

    @task
    async def failing() -> None:
        raise ValueError("async")

    async def main() -> list[int]:
        with pytest.raises(ValueError, match="async"):
            evaluate(failing.bind(), default_backend=backend)
        return evaluate(awaited.extend(x=[1, 2]), default_backend=backend)

    assert asyncio.run(main()) == [1, 2]


def test_evaluate_async_leaves_the_loop_free(gate: threading.Event) -> None:
    """The loop goes on while the run waits for it; errors come through."""

    @task
    def waits() -> bool:
        return gate.wait(WAIT)

    async def main() -> bool:
        asyncio.get_running_loop().call_soon(gate.set)
        with pytest.raises(ZeroDivisionError):
            await evaluate_async(task(lambda: 1 / 0, name="inverse").bind())
        return await evaluate_async(waits.bind(), use_async=True)

    assert asyncio.run(main())


def test_cancelling_evaluate_async(gate: threading.Event) -> None:
    """The run ends, and what it had not started stays so."""
    started = threading.Event()
    calls: list[int] = []

    @task(retry=0)
    def waits(x: int) -> None:
        calls.append(x)
        started.set()
        while not gate.is_set():
            time.sleep(0.001)

    node = waits.bind(x=0)

    async def main() -> None:
        running = asyncio.ensure_future(evaluate_async(node, default_backend=ThreadBackend(1)))
        await asyncio.get_running_loop().run_in_executor(None, started.wait, WAIT)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert calls == [0]


@pytest.mark.parametrize("where", ["sequential", "threading"])
@pytest.mark.parametrize("policed", [False, True])
def test_a_cancelled_run(policed: bool, where: str) -> None:
    """It ends with RunCancelledError where it stands, and the rest isn't run."""
    runs: list[Run] = []
    calls = 0

    @task
    def step(x: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            runs[0].cancel()
        return x + 1

    made = step.with_options(retry=1) if policed else step
    node = made.bind(x=0)
    for _ in range(3000):
        node = made.bind(x=node)
    session = Session(Options(default_backend=where))
    with pytest.raises(RunCancelledError, match="cancelled"):
        session.evaluate(node, Options(), on_run=runs.append)
    assert 3 <= calls < 3000
    with pytest.raises(RunCancelledError):
        session.evaluate(node, Options(), on_run=Run.cancel)


def test_an_answer_that_nobody_could_look_at(gate: threading.Event) -> None:
    """A call that ended in time isn't late because the caller's thread was busy meanwhile."""

    @task(timeout=0.2)
    def short(x: int) -> int:
        if x:
            gate.wait(WAIT)
        return x

    class Slow:
        """Holds the caller's thread up, until all calls are through and out of time."""

        def on_node_complete(self, node_id: int, result: object) -> None:
            if not gate.is_set():
                gate.set()
                time.sleep(0.4)

    with ThreadBackend(4) as backend:
        calls = [short.bind(x) for x in range(4)]
        assert evaluate(calls, default_backend=backend, callbacks=Slow()) == [0, 1, 2, 3]
