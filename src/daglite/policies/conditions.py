"""Which failures a retry policy means: exception types, functions and tenacity's objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tenacity.retry import retry_base

from daglite.exceptions import DagliteError, ExecutionError, TaskConfigurationError
from daglite.policies.code import read_function, read_types, resolved, shown

__all__ = [
    "AnyErrorTypes",
    "ErrorTypes",
    "Predicate",
    "names",
    "read_never",
    "read_predicate",
    "read_retry_on",
]

Predicate = Callable[[Any], bool]
ErrorTypes = type[Exception] | str | Sequence[type[Exception] | str]
AnyErrorTypes = type[BaseException] | str | Sequence[type[BaseException] | str]

# Naming one of these in retry_on names no error in particular.
_BROAD = frozenset({Exception, DagliteError, ExecutionError, TaskConfigurationError})


def names(types: tuple[type[BaseException], ...], error: BaseException) -> bool:
    """Whether *types* name *error* itself: by more than ``Exception`` and daglite's roots."""
    return any(isinstance(error, cls) for cls in types if cls not in _BROAD)


def read_retry_on(value: object) -> tuple[type[BaseException], ...] | Predicate | retry_base:
    found = resolved(value)
    if isinstance(found, (type, tuple, list)):
        types = read_types(found, Exception)
        if not types:
            raise ValueError("an empty tuple retries nothing; write max_retries=0 for that")
        return types
    if not callable(found):
        raise ValueError(
            f"{shown(value)} says nothing about exceptions; write classes such as "
            f"(ConnectionError, TimeoutError), a function of the exception, or a retry object "
            f"of tenacity"
        )
    predicate: Predicate = read_function(found)
    return predicate


def read_never(value: object) -> tuple[type[BaseException], ...]:
    return read_types(value, BaseException)


def read_predicate(value: object) -> Predicate | None:
    return None if value is None else read_function(value)
