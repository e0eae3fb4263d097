from __future__ import annotations

import collections.abc as cabc
import contextlib
import functools
import sys
from typing import Annotated, Any

import pytest

from daglite.core.hints import hints_of


def traced(func):
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        return func(*args, **kwargs)

    return wrapper


def test_parameters_and_result():
    """Names are resolved, also those in brackets, and wrappers of metadata are off."""

    def join(words: list[str], end: Annotated[str, "mark"], times=2) -> str | None:
        """Has an annotation that is missing."""

    assert hints_of(join) == {"words": list[str], "end": str, "return": str | None}


def test_one_bad_name_does_not_lose_the_others():
    """What can't be resolved is left out alone."""

    def f(a: int, b: NowhereToBeFound, c: list[NowhereToBeFound], d: 1 / 0, e: str) -> bytes:  # noqa: F821
        """Has bad annotations."""

    assert hints_of(f) == {"a": int, "e": str, "return": bytes}


def test_annotations_that_are_objects_stay():
    """An annotation need not be a string."""

    def f(a): ...

    f.__annotations__ = {"a": int, "b": None, "return": "list[int]"}
    assert hints_of(f) == {"a": int, "b": type(None), "return": list[int]}


def test_a_function_without_annotations_has_no_hints():
    """Nor has a built-in function, or one that Python knows no signature of."""
    assert hints_of(lambda x: x) == {}
    assert hints_of(len) == {}
    assert hints_of(max) == {}
    assert hints_of("".join) == {}


def test_a_default_of_none_makes_the_parameter_optional():
    """None may be given where None is the default."""

    def f(a: int = None, b: int = 1, c=None) -> int: ...  # noqa: RUF013

    hints = hints_of(f)
    assert hints == {"a": int | None, "b": int, "return": int}
    assert hints_of(functools.partial(f, b=None))["b"] == int | None


def test_star_parameters_have_the_annotation_of_one_argument():
    """*args: int says that each of them is an int."""

    def f(*args: int, **kwargs: str) -> None: ...

    assert hints_of(f) == {"args": int, "kwargs": str, "return": type(None)}


def test_partials_have_the_hints_of_their_function():
    """What a partial fixes keeps its hint, which does no harm."""

    def f(a: int, b: str) -> bytes: ...

    expected = {"a": int, "b": str, "return": bytes}
    assert hints_of(functools.partial(f, 1)) == expected
    assert hints_of(functools.partial(functools.partial(f, 1), b="")) == expected


def test_decorated_functions_have_the_hints_of_what_they_wrap():
    """Names are looked up where the wrapped function was written."""

    def f(a: int) -> list[str]: ...

    expected = {"a": int, "return": list[str]}
    assert hints_of(traced(f)) == expected
    assert hints_of(traced(traced(f))) == expected
    assert hints_of(functools.lru_cache(f)) == expected
    assert hints_of(functools.partial(traced(f))) == expected


def test_names_are_looked_up_where_the_wrapped_function_was_written():
    """A decorator from another module doesn't know the names of this one."""
    names: dict[str, Any] = {"functools": functools}
    exec("def far(f):\n    return functools.wraps(f)(lambda *a: f(*a))", names)

    def f(a: Annotated[int, 1]) -> cabc.Sequence[str]: ...

    assert hints_of(names["far"](f)) == {"a": int, "return": cabc.Sequence[str]}


def test_a_function_that_wraps_itself_still_has_hints():
    """A circle of __wrapped__ is not followed."""

    def f(a: int) -> str: ...

    f.__wrapped__ = f
    assert hints_of(f) == {"a": int, "return": str}


class Adder:
    amount: float

    def __call__(self, number: int) -> str: ...

    def method(self, number: int) -> bytes: ...

    @staticmethod
    def static(number: int) -> bytes: ...


def test_callable_objects_have_the_hints_of_call():
    """The fields of the class are no parameters."""
    assert hints_of(Adder()) == {"number": int, "return": str}
    assert hints_of(functools.partial(Adder(), 1)) == {"number": int, "return": str}


def test_methods():
    """A bound method and a static method are functions."""
    assert hints_of(Adder().method) == {"number": int, "return": bytes}
    assert hints_of(Adder.static) == {"number": int, "return": bytes}


def test_a_single_dispatch_function_has_no_hints():
    """The annotations are those of one variant among many."""

    @functools.singledispatch
    def f(a: int) -> int: ...

    assert hints_of(f) == {}


def test_the_result_of_an_async_function_is_the_awaited_value():
    """A task of an async function gives what the function returns."""

    async def f(a: int) -> str: ...

    assert hints_of(f) == {"a": int, "return": str}
    assert hints_of(functools.partial(f, 1))["return"] is str


def generate() -> cabc.Generator[int, str, bytes]:
    yield 1
    return b""


def iterate() -> cabc.Iterator[int]:
    yield 1


def iterate_loosely() -> cabc.Iterable[int]:
    yield 1


def iterate_vaguely() -> object:
    yield 1


def iterate_silently():
    yield 1


async def generate_later() -> cabc.AsyncGenerator[int, None]:
    yield 1


async def iterate_later() -> cabc.AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    "func", [generate, iterate, iterate_loosely, generate_later, iterate_later]
)
def test_generators_give_a_list(func):
    """A task of a generator function gives a list of what it yields."""
    assert hints_of(func) == {"return": list[int]}
    assert hints_of(functools.partial(func)) == {"return": list[int]}


def test_generators_that_do_not_say_what_they_yield():
    """It is a list all the same, if there is an annotation."""
    assert hints_of(iterate_vaguely) == {"return": list[Any]}
    assert hints_of(iterate_silently) == {}


def test_a_callable_object_can_be_a_generator():
    """What counts is its __call__."""

    class Counter:
        def __call__(self) -> cabc.Iterator[int]:
            yield 1

    assert hints_of(Counter()) == {"return": list[int]}


def test_the_result_of_a_decorated_generator_is_not_known():
    """contextmanager keeps the annotation of the generator, and gives something else."""
    assert hints_of(contextlib.contextmanager(iterate)) == {}
    assert hints_of(traced(generate)) == {}


def test_the_result_of_a_function_that_passes_on_something_to_await_is_not_known():
    """The annotation doesn't say whether it will be awaited."""

    def later() -> cabc.Awaitable[int]: ...

    def maybe(a: str) -> cabc.Coroutine[Any, Any, int] | None: ...

    assert hints_of(later) == {}
    assert hints_of(maybe) == {"a": str}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no type parameters")
@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_type_parameters_of_a_function_are_resolved(future):
    """Also when annotations are strings."""
    names: dict[str, Any] = {}
    exec(future + "def first[T](items: list[T]) -> T: ...", names)
    first = names["first"]
    (variable,) = first.__type_params__
    assert hints_of(first) == {"items": list[variable], "return": variable}
