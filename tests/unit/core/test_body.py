"""What a function gives back is drawn out inside its attempt, however lazy it is."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from daglite import RetryPolicy, evaluate, task
from daglite.core.body import body_of


def logged(func: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing of coroutines and generators."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


async def fetch(x: int = 1) -> int:
    await asyncio.sleep(0)
    return x


def numbers(x: int = 2) -> Iterator[int]:
    yield from range(x)


async def stream(x: int = 2) -> AsyncIterator[int]:
    for i in range(x):
        yield i


def passed_on(x: int = 2) -> Iterator[int]:
    return iter(range(x))


def promised(x: int = 1) -> Coroutine[Any, Any, int]:
    return fetch(x)


def streamed(x: int = 2) -> AsyncIterator[int]:
    return stream(x)


class Fetcher:
    def __call__(self, x: int = 1) -> Any:
        return fetch(x)

    def method(self, x: int = 1) -> Any:
        return fetch(x)


@pytest.mark.parametrize(
    ("func", "value"),
    [
        (fetch, 1),
        (numbers, [0, 1]),
        (stream, [0, 1]),
        (logged(fetch), 1),
        (logged(logged(numbers)), [0, 1]),
        (logged(stream), [0, 1]),
        (lambda: fetch(3), 3),
        (lambda: (i for i in range(3)), [0, 1, 2]),
        (lambda: stream(1), [0]),
        (functools.partial(fetch, 4), 4),
        (Fetcher(), 1),
        (Fetcher().method, 1),
        (passed_on, [0, 1]),
        (promised, 1),
        (streamed, [0, 1]),
        (lambda: 5, 5),
    ],
)
def test_what_is_lazy_is_drawn_out(func: Callable[..., Any], value: object) -> None:
    """A value that can be gone through once only never leaves a task."""
    future = task(func, name="lazy").bind()
    assert evaluate([future, future]) == [value, value]


def test_an_iterator_that_nobody_spoke_of_is_left_alone() -> None:
    """A lambda may return an open file, say: that it is an iterator is beside the point."""
    iterator = iter([1])
    assert evaluate(task(lambda: iterator, name="it").bind()) is iterator


def test_plain_functions_are_called_as_they_are() -> None:
    """No wrapper stands between the engine and them."""

    def plain(x: int) -> list[int]:
        return [x]

    assert body_of(plain) is plain
    assert body_of(logged(plain)).__wrapped__ is plain


def test_retries_hold_for_what_a_wrapper_passes_on() -> None:
    """The body of a wrapped async function runs inside the attempt."""
    calls = 0

    @task(retry=RetryPolicy(2, "none"))
    @logged
    async def flaky() -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError("down")
        return calls

    assert evaluate(flaky.bind()) == 3


def test_what_an_async_task_leaves_behind_is_ended() -> None:
    """A background task doesn't go on inside the next call's loop."""
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("background")

    @task
    async def leaves() -> int:
        # The loop holds it weakly: the list keeps it.
        left.append(asyncio.create_task(background()))
        await asyncio.sleep(0)
        return 1

    left: list[asyncio.Task[None]] = []
    assert evaluate(leaves.bind()) == 1
    assert ended == ["background"]
    assert left[0].cancelled()
