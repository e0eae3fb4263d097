"""What can be evaluated, and from where."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import pydoc
import threading
from typing import Any

import pytest

from daglite import PolicySet, RetryPolicy, evaluate, evaluate_async, task
from daglite.callbacks import RunStarted
from daglite.core.kernel import Kernel
from daglite.core.run import Listeners, Run
from daglite.evaluation import EvaluateOptions, _Handle
from daglite.exceptions import TaskConfigurationError
from daglite.testing import Fails, RecordedEvents, ScriptedBackend, Takes, VirtualClock
from tests.unit.lab import Lab


@task
def work(x: Any = 0) -> Any:
    return x


A, B, C = (work.bind(x=x) for x in "abc")


@pytest.mark.parametrize(
    ("expr", "value"),
    [
        (A, "a"),
        (work.extend(x=[1, 2]), [1, 2]),
        ([A, B], ["a", "b"]),
        ((A, B), ("a", "b")),
        ({A, B}, {"a", "b"}),
        (frozenset([A]), frozenset(["a"])),
        ({"x": A, "y": B}, {"x": "a", "y": "b"}),
        ({"x": [A, (B, {"z": C})]}, {"x": ["a", ("b", {"z": "c"})]}),
        ([work.extend(x=[1, 2]), A], [[1, 2], "a"]),
        ([A, A], ["a", "a"]),
        ([], []),
        ((), ()),
        ({}, {}),
        ([[], {}], [[], {}]),
    ],
)
def test_what_can_be_evaluated(expr: Any, value: Any) -> None:
    """A future, or a container of futures, which comes back with values in their places."""
    result = evaluate(expr)
    assert result == value
    assert type(result) is type(value)


def test_several_roots_are_one_run(lab: Lab) -> None:
    """What they share is run once, and they overlap."""
    shared = work.with_options(name="shared").bind(x=1)
    expr = {"a": work.bind(x=shared), "b": [work.bind(x=shared), shared]}
    assert lab(expr, {"shared": Takes(3), "work": Takes(4)}) == {"a": 1, "b": [1, 1]}
    assert lab.clock.now() == 7
    assert len(lab.events.of(RunStarted)) == 1
    assert [call.name for call in lab.backend.calls].count("shared") == 1


@pytest.mark.parametrize(
    ("expr", "told"),
    [
        (work, r"evaluate needs a future.*bind it first: work\.bind\(\)"),
        (5, "a list, tuple or dict of futures, not 5$"),
        ("text", "not 'text'$"),
        (None, "not None$"),
        (len, "decorate it with @task and bind it"),
        ([A, 5], "a list that holds 5, which is no future"),
        ((A, "b"), "a tuple that holds 'b', which is no future"),
        ({"x": 5}, "a dict that holds 5, which is no future"),
        ([A, work], r"a list that holds <Task .*no future; bind it first: work\.bind\(\)$"),
        ({"x": work}, r"a dict that holds <Task .*bind it first: work\.bind\(\)$"),
    ],
)
def test_what_can_not(expr: Any, told: str) -> None:
    """A `TypeError` says what was given, and what to do."""
    with pytest.raises(TypeError, match=told):
        evaluate(expr)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backend": "threading"}, "no option 'backend', did you mean 'default_backend'?"),
        ({"retry": 3}, r"no option 'retry', but policies=PolicySet\(retry=...\) gives it to tasks"),
        ({"enable_cache": True}, "enable_cache= isn't available in this version of daglite"),
        ({"colour": 1}, "no option 'colour'; the options are .*default_backend, use_async,"),
    ],
)
def test_unknown_options(options: dict[str, Any], told: str) -> None:
    """They are refused wherever they are given, with what was probably meant."""
    with pytest.raises(TypeError, match=f"^evaluate: .*{told}"):
        evaluate(A, **options)
    with pytest.raises(TypeError, match=f"^evaluate_async: .*{told}"):
        asyncio.run(evaluate_async(A, **options))
    with evaluate.context() as ctx, pytest.raises(TypeError, match=told):
        ctx.evaluate(A, **options)
    with pytest.raises(TypeError, match=rf"^evaluate\.context: .*{told}"):
        evaluate.context(**options)


def test_two_expressions() -> None:
    """Only one is taken; the message says how to give more."""
    several: Any = evaluate
    with pytest.raises(TypeError, match=r"was given 2; .* a list, evaluate\(\[a, b\]\)"):
        several(A, B)


def test_what_is_shown() -> None:
    """`evaluate` is a function to `help`, and its options stand in its signature."""
    assert evaluate.__name__ == "evaluate"
    assert pickle.loads(pickle.dumps(evaluate)) is evaluate
    with evaluate.context() as ctx:
        those = (evaluate, evaluate_async, ctx.evaluate, ctx.evaluate_async)
    options = list(EvaluateOptions.__annotations__)
    shown = [list(inspect.signature(each).parameters) for each in those]
    assert shown == [["expr", *options]] * 4
    assert list(inspect.signature(evaluate.context).parameters) == ["clock", *options]
    assert inspect.iscoroutinefunction(evaluate_async)
    text = pydoc.render_doc(evaluate, renderer=pydoc.plaintext)
    assert "default_backend: 'str | Backend | None' = None" in text
    assert "Run a graph on this thread" in text


def test_in_an_event_loop() -> None:
    """`evaluate` works inside of a running one, as in a notebook."""

    async def main() -> Any:
        return evaluate([A, B]), await evaluate_async([B, C])

    assert asyncio.run(main()) == (["a", "b"], ["b", "c"])


def test_async_runs_beside_the_loop() -> None:
    """The loop stays free while the run waits for it."""

    async def main() -> Any:
        loop, event = asyncio.get_running_loop(), threading.Event()
        waits = task(lambda: event.wait(10), name="waits")
        running = asyncio.ensure_future(evaluate_async(waits.bind()))
        loop.call_soon(event.set)
        return await running

    assert asyncio.run(main()) is True


def test_async_failures() -> None:
    """They are raised where it is awaited; wrong options at once."""

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await evaluate_async(task(lambda: 1 / 0, name="bad").bind())
        with pytest.raises(TaskConfigurationError):
            await evaluate_async(A, on_failure="never")  # type: ignore[call-overload]

    asyncio.run(main())


def test_async_in_a_context() -> None:
    """It has the context's defaults and clock, leaves the loop free, and ends with the block."""
    clock, events = VirtualClock(), RecordedEvents()
    backend = ScriptedBackend(clock, {"work": [Fails(OSError(), after=1), Takes(2, "done")]})

    async def main() -> None:
        retry = PolicySet(retry=RetryPolicy(1, "constant", delay=5, jitter="none"))
        with evaluate.context(clock=clock, default_backend=backend, policies=retry) as ctx:
            assert await ctx.evaluate_async([A], callbacks=events) == ["done"]
            assert clock.now() == 8
            with pytest.raises(OSError, match="failed"):
                await ctx.evaluate_async(A, policies=PolicySet(retry=None))
            with pytest.raises(TypeError, match=r"^evaluate_async: .*default_backend"):
                await ctx.evaluate_async(A, backend=backend)
            both = asyncio.gather(
                ctx.evaluate_async(A, default_backend="sequential"), ctx.evaluate_async(B)
            )
            assert await both == ["a", "done"]
        with pytest.raises(TaskConfigurationError, match="inside its with block"):
            await ctx.evaluate_async(A)

    asyncio.run(main())
    assert events.names()[-1] == "RunFinished"


@pytest.mark.parametrize("where", ["default", "context"])
def test_cancelling_the_awaiting_task(where: str) -> None:
    """It cancels the run."""
    ended = threading.Event()
    events = RecordedEvents()

    class Watch:
        def on_event(self, event: Any) -> None:
            events.on_event(event)
            if type(event).__name__ == "RunFinished":
                ended.set()

    async def main() -> None:
        begun, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def first() -> None:
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(10)

        chain = work.bind(x=task(first).bind())
        with evaluate.context() as ctx:
            start = evaluate_async if where == "default" else ctx.evaluate_async
            running = asyncio.ensure_future(start(chain, callbacks=[Watch()]))
            await begun.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        go_on.set()

    asyncio.run(main())
    assert ended.wait(10)
    assert "work" not in [getattr(event, "node_name", None) for event in events.events]


def test_cancelled_before_it_begins() -> None:
    """A run that hadn't begun when it was cancelled ends at once."""
    handle = _Handle()
    handle.cancel()
    run = Run("r", Kernel(VirtualClock()), Listeners(()), seed="r")
    handle.attach(run)
    assert run.cancelled


def test_from_many_threads() -> None:
    """At the same time, each with its own result."""
    results: dict[int, Any] = {}

    def one(number: int) -> None:
        backend = "threading" if number % 2 else "sequential"
        results[number] = evaluate(
            work.extend(x=range(number)).join(task(sum, name="sum")), default_backend=backend
        )

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == {number: sum(range(number)) for number in range(8)}
