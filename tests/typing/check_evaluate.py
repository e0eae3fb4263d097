"""What `evaluate`, `evaluate_async` and a context give back."""

from __future__ import annotations

import asyncio
from typing import Any

from typing_extensions import assert_type

from daglite import (
    DagliteSettings,
    MapTaskFuture,
    PolicySet,
    SequentialBackend,
    TaskFuture,
    evaluate,
    evaluate_async,
    task,
)


@task
def number(x: int) -> int:
    return x


@task
def text(x: int) -> str:
    return str(x)


@task
def nothing() -> None:
    pass


@task
def anything() -> Any:
    return 1


one: TaskFuture[int] = number.bind(x=1)
two: TaskFuture[str] = text.bind(x=1)
many: MapTaskFuture[int] = number.extend(x=[1, 2])


def of_one_future() -> None:
    """A future gives its value, a map the list of its values."""
    assert_type(evaluate(one), int)
    assert_type(evaluate(two), str)
    assert_type(evaluate(many), list[int])
    assert_type(evaluate(nothing.bind()), None)
    assert_type(evaluate(anything.bind()), Any)
    assert_type(evaluate(many.map(text)), list[str])
    assert_type(evaluate(one.then(text)), str)


def of_lists() -> None:
    """A list of futures gives a list of values."""
    assert_type(evaluate([one, number.bind(x=2)]), list[int])
    assert_type(evaluate([many, many]), list[list[int]])
    assert_type(evaluate([text.bind(x=x) for x in range(3)]), list[str])
    futures: list[TaskFuture[int]] = [one]
    maps: list[MapTaskFuture[int]] = [many]
    assert_type(evaluate(futures), list[int])
    assert_type(evaluate(maps), list[list[int]])


def of_tuples() -> None:
    """Up to six values in a tuple have each their own type; more have one in common."""
    assert_type(evaluate((one, two)), tuple[int, str])
    assert_type(evaluate((many, two)), tuple[list[int], str])
    assert_type(evaluate((one, two, many)), tuple[int, str, list[int]])
    assert_type(evaluate((one, two, many, two)), tuple[int, str, list[int], str])
    assert_type(evaluate((one, two, many, two, one)), tuple[int, str, list[int], str, int])
    assert_type(
        evaluate((one, two, many, two, one, many)),
        tuple[int, str, list[int], str, int, list[int]],
    )
    assert_type(evaluate((one, one, one, one, one, one, one)), tuple[int, ...])
    futures: tuple[TaskFuture[int], ...] = (one,)
    assert_type(evaluate(futures), tuple[int, ...])


def of_dicts() -> None:
    """A dict of futures gives a dict of values."""
    assert_type(evaluate({"a": one, "b": number.bind(x=2)}), dict[str, int])
    assert_type(evaluate({1: many}), dict[int, list[int]])
    futures: dict[str, TaskFuture[str]] = {"a": two}
    assert_type(evaluate(futures), dict[str, str])


def of_nested_containers() -> None:
    """What is nested deeper is evaluated too; the checker isn't told of what type."""
    assert_type(evaluate({"a": [one], "b": (two, many)}), Any)
    assert_type(evaluate([[one], [two]]), Any)
    assert_type(evaluate({one}), Any)


def of_nothing_to_evaluate() -> None:
    """Values, functions and tasks that aren't bound are refused."""
    evaluate(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    evaluate(number)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    evaluate(len)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def with_options() -> None:
    """Options are checked by name and type, and change no result."""
    assert_type(
        evaluate(
            many,
            default_backend="threading",
            use_async=True,
            chaos=True,
            policies=PolicySet(retry=3),
            overrides=PolicySet(timeout="30s"),
            callbacks=[],
            on_failure="continue",
            settings=DagliteSettings(),
        ),
        list[int],
    )
    assert_type(evaluate(one, default_backend=SequentialBackend()), int)
    evaluate(one, on_failure="go on")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    evaluate(one, default_backend=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    evaluate(one, backend="threading")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def without_blocking() -> None:
    """`evaluate_async` gives the same, to be awaited."""
    assert_type(await evaluate_async(one), int)
    assert_type(await evaluate_async(many), list[int])
    assert_type(await evaluate_async([one, one]), list[int])
    assert_type(await evaluate_async((one, two)), tuple[int, str])
    assert_type(await evaluate_async((one, two, many)), tuple[int, str, list[int]])
    assert_type(await evaluate_async((one, two, many, two)), tuple[int, str, list[int], str])
    assert_type(await evaluate_async((one, two, one, two, one)), tuple[int, str, int, str, int])
    assert_type(
        await evaluate_async((one, two, one, two, one, two)),
        tuple[int, str, int, str, int, str],
    )
    assert_type(await evaluate_async({"a": two}), dict[str, str])
    assert_type(await evaluate_async({"a": [one]}), Any)
    assert_type(await evaluate_async(one, use_async=True), int)
    assert_type(await asyncio.gather(evaluate_async(one), evaluate_async(two)), tuple[int, str])
    assert_type(await asyncio.wait_for(evaluate_async(many), timeout=1), list[int])
    await evaluate_async(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def in_a_context() -> None:
    """A context's `evaluate` and `evaluate_async` give the same."""
    with evaluate.context(default_backend="sequential", use_async=False) as ctx:
        assert_type(ctx.evaluate(one), int)
        assert_type(ctx.evaluate(many, use_async=True), list[int])
        assert_type(ctx.evaluate([one, one]), list[int])
        assert_type(ctx.evaluate((one, two)), tuple[int, str])
        assert_type(ctx.evaluate((one, two, many)), tuple[int, str, list[int]])
        assert_type(ctx.evaluate({"a": two}), dict[str, str])
        assert_type(ctx.evaluate({"a": [one]}), Any)
        ctx.evaluate(number)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
        assert_type(await ctx.evaluate_async(one), int)
        assert_type(await ctx.evaluate_async((one, many), use_async=True), tuple[int, list[int]])
        await ctx.evaluate_async(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
