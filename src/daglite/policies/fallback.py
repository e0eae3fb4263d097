"""What a call gives instead of its failure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    SerializationInfo,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from typing_extensions import Self

from daglite.exceptions import PolicyError
from daglite.policies.base import NOT_GIVEN, Policy, typed_init
from daglite.policies.code import hashed, import_path, shown
from daglite.policies.conditions import ErrorTypes, read_predicate
from daglite.policies.fields import CODE_SCHEMA, TYPES_SCHEMA, read_error_types

__all__ = ["FallbackPolicy"]


def _read_value(value: Any) -> Any:
    try:
        return hashed(value)
    except ValueError as error:
        raise ValueError(
            f"{error}; give func=, a function of the error that makes the value"
        ) from None


def _read_on(value: object) -> tuple[type[Exception], ...]:
    types = read_error_types(value)
    if not types:
        raise ValueError("an empty tuple has no error to fall back on; write classes of errors")
    return types


def _written(name: str, value: Any) -> Any:
    if name != "value":
        return import_path(value, name)
    plain = value is None or type(value) in (bool, int, str)
    if plain or (type(value) is float and math.isfinite(value)):
        return value
    raise PolicyError(
        f"value holds {shown(value)}, which can't be written to JSON: only None, bool, finite "
        f"numbers and text can; name a function with func= instead"
    )


class FallbackPolicy(Policy):
    """
    Give a value instead of a failure, once all other policies have given up.

    ``FallbackPolicy(0)`` gives 0; ``FallbackPolicy(func=last_known)`` what ``last_known(error)``
    returns.

    Attributes:
        value: The value; any that has a hash, for all calls share it.
        func: A function of the error that makes the value; one of the two is given.
        on: Exception classes that are replaced; other failures stay.

    Raises:
        PolicyError: A field is unknown or makes no sense, or not exactly one of ``value`` and
            ``func`` is given.
    """

    _together: ClassVar[frozenset[str]] = frozenset({"value", "func"})

    value: Annotated[Any, BeforeValidator(_read_value)] = Field(default=None)
    func: Annotated[
        Callable[[Any], Any] | None,
        PlainValidator(read_predicate),
        WithJsonSchema({"anyOf": [CODE_SCHEMA, {"type": "null"}]}),
    ] = Field(default=None)
    on: Annotated[
        tuple[type[Exception], ...], PlainValidator(_read_on), WithJsonSchema(TYPES_SCHEMA)
    ] = Field(default=(Exception,))

    @typed_init
    def __init__(
        self,
        value: object = NOT_GIVEN,
        *,
        func: Callable[[Any], Any] | str | None = NOT_GIVEN,
        on: ErrorTypes = NOT_GIVEN,
    ) -> None: ...

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        has_value = "value" in self.model_fields_set
        if has_value and self.func is not None:
            raise ValueError("value and func are both given; give one of them")
        if not has_value and self.func is None:
            raise ValueError(
                "neither value nor func is given; give one of them, value=None for None"
            )
        return self

    @model_serializer
    def _write(self, info: SerializationInfo) -> dict[str, Any]:
        names = self.model_fields_set if info.exclude_unset else type(self).model_fields
        fields = {name: getattr(self, name) for name in type(self).model_fields if name in names}
        if self.func is not None:
            # As a default, it would be read as given.
            fields.pop("value", None)
        if info.mode_is_json():
            return {name: _written(name, value) for name, value in fields.items()}
        return fields

    def _values(self) -> tuple[object, ...]:
        # 0, 0.0 and False are equal, but not the same to who gets them.
        return (*super()._values(), type(self.value))
