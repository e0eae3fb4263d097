"""What a function's annotations say, as far as they can be resolved."""

from __future__ import annotations

import functools
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
)
from typing import Any, Optional, get_type_hints

import typing_extensions as te

from daglite.core.annotations import class_of, element_type, list_of, members

__all__ = ["hints_of"]

_OPTIONAL: Any = Optional
_READ_OUT = frozenset(
    (
        AsyncGenerator,
        AsyncIterable,
        AsyncIterator,
        Awaitable,
        Coroutine,
        Generator,
        Iterator,
    )
)


def hints_of(func: Callable[..., object]) -> Mapping[str, object]:
    """
    The resolved annotations of *func*: parameter name -> annotation, and ``"return"``.

    An annotation that can't be resolved is left out, the others stay.
    For ``*args`` and ``**kwargs`` it is the annotation of one of them.
    A parameter whose default is ``None`` takes ``None`` too.
    ``"return"`` is what a task of *func* gives: of an ``async def`` the awaited value,
    of a generator function a list of what it yields.

    Limits: a decorator that copies the annotations of what it wraps is believed,
    whatever it does to arguments and result.
    """
    function = _function_behind(func)
    if hasattr(function, "registry") and hasattr(function, "dispatch"):
        # functools.singledispatch: the annotations are those of one variant among many.
        return {}
    hints = _resolved(function)
    for name in hints.keys() & _names_with_default_none(func):
        hints[name] = _OPTIONAL[hints[name]]
    if "return" in hints:
        _put_result(hints, function)
    return hints


def _function_behind(func: Callable[..., object]) -> Callable[..., object]:
    """The function that carries the annotations of a partial or of a callable object."""
    while isinstance(func, functools.partial):
        func = func.func
    if inspect.isroutine(func) or hasattr(func, "__wrapped__"):
        return func
    # Not func.__annotations__: these are the fields of its class.
    call: Callable[..., object] = type(func).__call__
    return call


def _resolved(function: Callable[..., object]) -> dict[str, object]:
    scope, parameters = _scope_of(function)
    hints = {}
    for name, annotation in te.get_annotations(function, format=te.Format.FORWARDREF).items():
        # One by one, so that a bad name doesn't lose the others.
        try:
            hints[name] = _resolve(annotation, scope, parameters)
        except Exception:
            continue
    return hints


def _resolve(annotation: object, scope: dict[str, Any], parameters: dict[str, Any]) -> object:
    def holder() -> None:
        """Carries the one annotation."""

    holder.__annotations__ = {"it": annotation}
    return get_type_hints(holder, scope, parameters)["it"]


def _scope_of(function: Callable[..., object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where the names in the annotations are looked up: globals, type parameters."""
    try:
        inner = _function_behind(inspect.unwrap(function))
    except ValueError:
        # It wraps itself.
        inner = function
    parameters = getattr(inner, "__type_params__", ())
    return getattr(inner, "__globals__", {}), {one.__name__: one for one in parameters}


def _names_with_default_none(func: Callable[..., object]) -> set[str]:
    try:
        parameters = inspect.signature(func).parameters
    except (ValueError, TypeError):
        return set()
    return {name for name, parameter in parameters.items() if parameter.default is None}


def _put_result(hints: dict[str, object], function: Callable[..., object]) -> None:
    """Make ``hints["return"]`` what a task gives, or take it out when that isn't known."""
    result = hints["return"]
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        hints["return"] = list_of(element_type(result))
    elif any(class_of(member) in _READ_OUT for member in members(result)):
        # A decorated generator says this, and so does a function that calls one:
        # it depends on the value whether there is something to read out.
        del hints["return"]
