"""What is code in a policy: classes and functions in Python, import strings in JSON."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from daglite._codec import import_string, to_import_string
from daglite.exceptions import PolicyError, SerializationError

__all__ = [
    "hashed",
    "import_path",
    "read_function",
    "read_types",
    "resolved",
    "shown",
    "source",
]

_E = TypeVar("_E", bound=BaseException)


def read_types(
    value: object, base: type[_E], fate: str = "is never retried"
) -> tuple[type[_E], ...]:
    """
    Read exception types: a class, an import string, or a tuple or list of them.

    Args:
        fate: What becomes of others than subclasses of *base*, for the message.

    Raises:
        ValueError: Something in *value* isn't a subclass of *base*.
    """
    items = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(_read_type(item, base, fate) for item in items)


def _read_type(value: object, base: type[_E], fate: str) -> type[_E]:
    found = resolved(value)
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise ValueError(
            f"{shown(value)} is not an exception type; "
            f"write a class such as ConnectionError, or 'builtins:ConnectionError'"
        )
    if not issubclass(found, base):
        raise ValueError(
            f"{found.__name__} is no subclass of {base.__name__} and {fate}; leave it out"
        )
    return found


def read_function(value: object) -> Any:
    """
    Read a function: a callable or its import string.

    Raises:
        ValueError: *value* is none, or is an async function, or an exception type, or has no hash.
    """
    found = resolved(value)
    if not callable(found):
        raise ValueError(f"{shown(value)} is not callable; give a function or its 'module:name'")
    if isinstance(found, type) and issubclass(found, BaseException):
        raise ValueError(f"{found.__name__} is an exception type, not a function")
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__):
        raise ValueError(f"{shown(value)} is async; give a plain function")
    return hashed(found)


def hashed(value: Any) -> Any:
    """*value*, code of a policy: no task, and with a hash, so that the policy has one."""
    if hasattr(value, "func") and hasattr(value, "with_options"):
        raise ValueError(f"{shown(value)} is a task; give its plain function, its `.func`")
    try:
        hash(value)
    except TypeError:
        raise ValueError(f"{shown(value)} has no hash, and a policy needs one") from None
    return value


def resolved(value: object) -> object:
    """What an import string names; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except SerializationError as error:
        raise ValueError(str(error)) from error


def import_path(value: Any, field: str) -> Any:
    """
    Write the value of *field* for JSON: code as import strings, tuples as lists of them.

    Raises:
        PolicyError: It can't be found by name: a lambda, a closure, an object.
    """
    if value is None:
        return None
    if isinstance(value, tuple):
        return [import_path(item, field) for item in value]
    try:
        return to_import_string(value)
    except SerializationError as error:
        raise PolicyError(
            f"{field} holds {shown(value)}, which can't be written to JSON: only "
            f"classes and functions at the top of a module can; name such a function instead"
        ) from error


def source(value: object) -> str:
    """*value* as Python source that can be pasted back, where there is such."""
    if isinstance(value, tuple):
        items = [source(item) for item in value]
        return f"({', '.join(items)}{',' * (len(items) == 1)})"
    if isinstance(value, type) and value.__module__ == "builtins":
        return value.__qualname__
    if isinstance(value, type) or inspect.isroutine(value):
        try:
            return repr(to_import_string(value))
        except SerializationError:
            pass
    return shown(value, longest=500)


def shown(value: object, longest: int = 80) -> str:
    """*value* in a message: shortened, whatever its own `repr` does."""
    try:
        text = repr(value)
    except Exception:
        text = f"<a {type(value).__name__}>"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
