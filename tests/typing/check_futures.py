"""`then`, `map` and `join` pass results on, and want tasks that take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from typing_extensions import assert_type

from daglite import MapTaskFuture, TaskFuture, task


@task
def number(x: int) -> int:
    return x


@task
def numbers(n: int) -> list[int]:
    return list(range(n))


@task
def names() -> dict[str, int]:
    return {}


@task
def text(x: int) -> str:
    return str(x)


@task
async def fetched(x: int) -> bytes:
    return bytes(x)


@task
def counted(x: int) -> Iterator[str]:
    yield str(x)


@task
def scaled(x: int, factor: float = 2.0) -> float:
    return x * factor


@task
def added(x: int, y: int) -> int:
    return x + y


@task
def upper(s: str) -> str:
    return s.upper()


@task
def total(xs: list[int]) -> int:
    return sum(xs)


@task
def largest(xs: Sequence[int]) -> int:
    return max(xs)


@task
def smallest(xs: Iterable[float]) -> float:
    return min(xs)


@task
def shown(value: object) -> str:
    return repr(value)


@task
def untyped(value: Any) -> Any:
    return value


def one_after_the_other() -> None:
    """The value of one call goes into the next, and the last result is what remains."""
    assert_type(number.bind(x=1).then(text), TaskFuture[str])
    assert_type(number.bind(x=1).then(text).then(upper), TaskFuture[str])
    assert_type(number.bind(x=1).then(fetched), TaskFuture[bytes])
    assert_type(number.bind(x=1).then(counted), TaskFuture[list[str]])
    assert_type(numbers.bind(n=1).then(total), TaskFuture[int])
    assert_type(numbers.bind(n=1).join(total), TaskFuture[int])


def once_for_each() -> None:
    """A map passes on elements, and remains a map until it is joined."""
    many = number.extend(x=[1, 2])
    assert_type(many, MapTaskFuture[int])
    assert_type(many.map(text), MapTaskFuture[str])
    assert_type(many.map(text).map(upper), MapTaskFuture[str])
    assert_type(many.map(fetched), MapTaskFuture[bytes])
    assert_type(many.map(counted), MapTaskFuture[list[str]])
    assert_type(many.join(total), TaskFuture[int])
    assert_type(many.then(total), TaskFuture[int])
    assert_type(many.map(text).map(upper).join(shown), TaskFuture[str])


def values_that_are_iterable_can_be_mapped() -> None:
    """A single future's value is taken apart if it is a list, a dict, a generator's items, ..."""
    assert_type(numbers.bind(n=3).map(text), MapTaskFuture[str])
    assert_type(numbers.bind(n=3).map(number).join(total), TaskFuture[int])
    assert_type(counted.bind(x=3).map(upper), MapTaskFuture[str])
    assert_type(names.bind().map(upper), MapTaskFuture[str])
    number.bind(x=1).map(text)  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def what_is_left_open_must_be_one_parameter() -> None:
    """Defaults may stay; what `fix` leaves isn't known to the checker, so anything goes."""
    many = number.extend(x=[1, 2])
    assert_type(many.map(scaled), MapTaskFuture[float])
    assert_type(number.bind(x=1).then(scaled), TaskFuture[float])
    assert_type(many.map(added.fix(y=1)), MapTaskFuture[int])
    many.map(added)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    number.bind(x=1).then(added)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tasks_may_take_more_than_they_get() -> None:
    """A task that takes any sequence, or any object, takes a list of numbers too."""
    many = number.extend(x=[1, 2])
    assert_type(many.join(largest), TaskFuture[int])
    assert_type(many.join(smallest), TaskFuture[float])
    assert_type(many.map(shown), MapTaskFuture[str])
    assert_type(number.bind(x=1).then(shown), TaskFuture[str])
    assert_type(many.map(untyped), MapTaskFuture[Any])


def wrong_tasks_are_refused() -> None:
    """A task that takes something else is found before anything runs."""
    one, many = number.bind(x=1), number.extend(x=[1, 2])
    one.then(upper)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    one.join(total)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    many.map(upper)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    many.join(text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    numbers.bind(n=1).map(upper)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    many.map(text).join(total)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def functions_are_no_tasks() -> None:
    """A plain function has to be made a task first."""
    one, many = number.bind(x=1), number.extend(x=[1, 2])
    one.then(str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    many.map(str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    many.join(sum)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def futures_can_be_annotated_wider() -> None:
    """A future of an `int` is one of an `object`; a list of them isn't, so a map isn't either."""
    wide: TaskFuture[object] = number.bind(x=1)
    wrong: MapTaskFuture[object] = number.extend(x=[1])  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    wide.then(shown)
    wrong.map(shown)
