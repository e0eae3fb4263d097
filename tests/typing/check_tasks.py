"""`task` keeps the signature and the result of the function; read by type checkers only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from datetime import timedelta
from functools import partial

from typing_extensions import assert_type

from daglite import MapTaskFuture, RetryPolicy, Task, TaskFuture, ThreadBackend, TimeoutPolicy, task


@task
def bare(x: int, label: str = "") -> float:
    return x + len(label)


@task()
def called(x: int) -> str:
    return str(x)


@task(
    name="chosen",
    description="One line.",
    backend="threading",
    tags=("io", "slow"),
    retry=3,
    backoff="exponential",
    timeout="30s",
)
def optioned(x: int, *, strict: bool) -> list[str]:
    return [str(x)] * strict


@task(
    backend=ThreadBackend(max_workers=2),
    retry=RetryPolicy(3, "exponential", delay="200ms"),
    timeout=TimeoutPolicy(30, total="5m"),
)
def with_policies() -> None:
    pass


@task(retry=None, timeout=timedelta(seconds=1))
async def coroutine(url: str) -> bytes:
    return url.encode()


@task
def generator(n: int) -> Generator[int, None, str]:
    yield n
    return "end"


@task
def iterator(n: int) -> Iterator[int]:
    yield n


@task
async def async_iterator(n: int) -> AsyncIterator[int]:
    yield n


@task
def nothing() -> None:
    pass


def plain(x: int) -> str:
    return str(x)


class Scaler:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, x: int) -> float:
        return x * self.factor

    def method(self, x: int) -> str:
        return str(x * self.factor)


def signatures_are_kept() -> None:
    """The plain function is still there, and callable as it was written."""
    assert_type(bare.func(1, label="a"), float)
    assert_type(called.func(1), str)
    assert_type(optioned.func(1, strict=True), list[str])
    bare.func("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    called.func()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def tasks_are_not_called() -> None:
    """A task is no function."""
    bare(1)  # type: ignore[operator]  # pyright: ignore[reportCallIssue]
    map(called, [1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def results_are_kept() -> None:
    """However a task is made, its future is one of what the function returns."""
    assert_type(bare.bind(x=1), TaskFuture[float])
    assert_type(called.bind(1), TaskFuture[str])
    assert_type(optioned.bind(1, strict=False), TaskFuture[list[str]])
    assert_type(with_policies.bind(), TaskFuture[None])
    assert_type(nothing.bind(), TaskFuture[None])


def coroutines_give_their_result() -> None:
    """An ``async def`` counts as what it returns in the end."""
    assert_type(coroutine.bind(url=""), TaskFuture[bytes])


def generators_give_lists() -> None:
    """A generator counts as the list of its items."""
    assert_type(generator.bind(n=1), TaskFuture[list[int]])
    assert_type(iterator.bind(n=1), TaskFuture[list[int]])
    assert_type(async_iterator.bind(n=1), TaskFuture[list[int]])


def tasks_of_callables() -> None:
    """``task(...)`` takes what can be called, and nothing else."""
    assert_type(task(plain).bind(x=1), TaskFuture[str])
    assert_type(task(name="p")(plain).bind(x=1), TaskFuture[str])
    assert_type(task(Scaler(2)).bind(x=1), TaskFuture[float])
    assert_type(task(Scaler(2).method).bind(x=1), TaskFuture[str])
    assert_type(task(partial(plain, x=1)).bind(), TaskFuture[str])
    assert_type(task(len).bind([1]), TaskFuture[int])
    assert_type(task(lambda: 1).bind(), TaskFuture[int])
    task(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def binding() -> None:
    """Each way to bind says whether it makes one value or many."""
    assert_type(bare.fix(label="a").bind(x=1), TaskFuture[float])
    assert_type(bare.fix(label="a").extend(x=[1, 2]), MapTaskFuture[float])
    assert_type(bare.extend(x=[1, 2], label=["a", "b"]), MapTaskFuture[float])
    assert_type(bare.zip(x=[1, 2], label=["a", "b"]), MapTaskFuture[float])
    assert_type(coroutine.extend(url=["a"]), MapTaskFuture[bytes])
    assert_type(generator.zip(n=[1]), MapTaskFuture[list[int]])
    assert_type(bare.bind(x=called.bind(1), label=nothing.bind()), TaskFuture[float])
    assert_type(bare.extend(x=generator.bind(n=3)), MapTaskFuture[float])


def options_change_no_types() -> None:
    """``with_options`` keeps the signature and the result."""
    other = bare.with_options(
        name="other",
        backend="sequential",
        tags=["a"],
        retry=RetryPolicy(1),
        timeout=None,
    )
    assert_type(other.func(1, label="a"), float)
    assert_type(other.bind(x=1), TaskFuture[float])
    assert_type(other.with_options(retry=2, backoff=[1, 5, "1m"]).bind(x=1), TaskFuture[float])
    bare.with_options(name=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare.with_options(retry="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare.with_options(retires=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bare.with_options(sandbox=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tasks_as_values() -> None:
    """A task can be annotated, wider than it is."""
    exact: Task[[int], str] = called
    some: Task[..., object] = bare
    assert_type(exact.bind(x=1), TaskFuture[str])
    assert_type(some.name, str)
    assert_type(some.tags, tuple[str, ...])
    wrong: Task[[str], str] = called  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    wrong.bind()


def wrong_options_are_refused() -> None:
    """An option of the wrong type is seen by the type checker already."""
    task(name=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    task(backend=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    task(retry="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    task(timeout=[1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    task(retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    task(retry=3, backoff="exponentially")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    task(around_call=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
