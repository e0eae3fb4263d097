"""Middlewares in a set: functions, objects, and policies that carry themselves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from daglite._units import parse_duration
from daglite.policies.base import Policy
from daglite.policies.code import hashed, import_path, resolved, shown
from daglite.policies.fields import CODE_SCHEMA

__all__ = ["Middleware", "Middlewares", "dumped", "longest_wait"]

Middleware = Callable[..., Any]
"""Takes a call and the next one to ask, and gives an outcome; asynchronous."""

_CLASS = "policy"
"""Under which name a dumped policy says of which class it is; its fields stand beside that."""


def _read_middlewares(value: object) -> tuple[Middleware, ...]:
    if value is None:
        return ()
    items = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(_read_middleware(item) for item in items)


def _read_middleware(value: object) -> Middleware:
    found = _policy_of(value) if isinstance(value, Mapping) else resolved(value)
    if isinstance(found, type):
        raise ValueError(f"{shown(value)} is a class; give an object of it, {found.__name__}()")
    if isinstance(found, Policy):
        _check_policy(found)
    if not callable(found):
        raise ValueError(
            f"{shown(value)} is not callable; a middleware is an async function of (call, next)"
        )
    longest_wait(found)
    middleware: Middleware = hashed(found)
    return middleware


def _policy_of(value: Mapping[Any, Any]) -> Policy:
    """The policy that `dumped` wrote."""
    if _CLASS not in value:
        raise ValueError(
            f"{shown(value)} doesn't say which policy it is; "
            f"write {{'{_CLASS}': 'package.module:Class', ...}} with its fields"
        )
    found = resolved(value[_CLASS])
    if not isinstance(found, type) or not issubclass(found, Policy):
        raise ValueError(f"{shown(value[_CLASS])} is no class of policies")
    return found.model_validate({name: value[name] for name in value if name != _CLASS})


def _check_policy(policy: Any) -> None:
    kind = type(policy)
    if not callable(policy):
        raise ValueError(
            f"{shown(policy)} doesn't say how it is carried out; a policy of your own "
            "has an async def __call__(self, call, call_next)"
        )
    if _CLASS in kind.model_fields:
        raise ValueError(
            f"{kind.__name__} has a field {_CLASS!r}, which names the class in JSON; "
            "give the field another name"
        )


def dumped(value: tuple[Middleware, ...], field: str, *, json: bool) -> list[Any]:
    """
    The value of *field*, with policies as mappings of their fields.

    Args:
        json: Whether code is written as import strings.

    Raises:
        PolicyError: Something can't be found by name, for JSON.
    """
    return [_dumped(item, field, json) for item in value]


def _dumped(value: object, field: str, json: bool) -> Any:
    code = type(value) if isinstance(value, Policy) else value
    named = import_path(code, field) if json else code
    if not isinstance(value, Policy):
        return named
    return {_CLASS: named, **value.model_dump(mode="json" if json else "python")}


def longest_wait(middleware: Middleware) -> float | None:
    """
    Seconds that *middleware* says it can make a call wait at most; None if it says nothing.

    Raises:
        ValueError: What it says is no duration.
    """
    said = getattr(middleware, "longest_wait", None)
    if said is None:
        return None
    try:
        return parse_duration(said)
    except ValueError as error:
        raise ValueError(f"longest_wait of {shown(middleware)}: {error}") from None


_POLICY_SCHEMA = {
    "type": "object",
    "description": "a policy of your own, with its fields",
    "properties": {_CLASS: CODE_SCHEMA},
    "required": [_CLASS],
}
_SCHEMAS = [CODE_SCHEMA, _POLICY_SCHEMA]

Middlewares = Annotated[
    tuple[Middleware, ...],
    PlainValidator(_read_middlewares),
    WithJsonSchema(
        {"anyOf": [*_SCHEMAS, {"type": "array", "items": {"anyOf": _SCHEMAS}}, {"type": "null"}]}
    ),
]
"""What ``around_call`` and ``around_attempt`` hold."""
