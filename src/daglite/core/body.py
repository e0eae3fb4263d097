"""
What runs when a task is called: its function, or the function with its result drawn out.

A generator is materialised to a list and a coroutine is run to its end here, inside the
attempt, so that a retry or a timeout covers the whole of the function's body.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from types import FunctionType
from typing import Any, TypeVar

from daglite.core.own_loop import run_async

__all__ = ["body_of"]

T = TypeVar("T")

_LAZY = re.compile(r"\b(Async)?(Generator|Iterator)\b|\bCoroutine\b|\bAwaitable\b")
"""In the text of a return annotation: what is returned is to be drawn out."""


def body_of(func: Callable[..., Any]) -> Callable[..., Any]:
    """The plain function that does what a call of the task *func* shall do."""
    if _asked(func, inspect.isasyncgenfunction):
        return functools.partial(run_async, lambda *a, **k: _drain(func(*a, **k)))
    if _asked(func, inspect.iscoroutinefunction):
        return functools.partial(run_async, func)
    if _asked(func, inspect.isgeneratorfunction):
        return functools.partial(_materialise, func)
    if _is_said_to_be_lazy(func):
        return functools.partial(_drawn_out, (Iterator, AsyncIterator), func)
    if _may_be_lazy(func):
        return functools.partial(_drawn_out, (), func)
    return func


def _asked(func: Callable[..., Any], question: Callable[[Any], bool]) -> bool:
    return question(func) or question(getattr(type(func), "__call__", None))


def _is_said_to_be_lazy(func: Callable[..., Any]) -> bool:
    returned = getattr(func, "__annotations__", {}).get("return", "")
    return bool(_LAZY.search(returned if isinstance(returned, str) else repr(returned)))


def _may_be_lazy(func: Callable[..., Any]) -> bool:
    """Whether *func* passes on what another function makes: a wrapper, a lambda, an object."""
    if not isinstance(func, FunctionType) or func.__name__ == "<lambda>":
        return True
    inner = inspect.unwrap(func)
    return inner is not func and body_of(inner) is not inner


def _materialise(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Any]:
    return list(func(*args, **kwargs))


def _drawn_out(
    lazy: tuple[type, ...], func: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call *func*; draw out a coroutine, a generator, or something else that is *lazy*."""
    result = func(*args, **kwargs)
    if inspect.isawaitable(result) and (lazy or inspect.iscoroutine(result)):
        return run_async(_awaited, result)
    if inspect.isgenerator(result):
        return list(result)
    if inspect.isasyncgen(result):
        return run_async(_drain, result)
    if isinstance(result, lazy):
        return list(result) if isinstance(result, Iterator) else run_async(_drain, result)
    return result


async def _awaited(result: Any) -> Any:
    return await result


async def _drain(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]
