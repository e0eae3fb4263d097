"""Kinds of fields that several policies have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from daglite._units import SIZE_FORMS, parse_size
from daglite.policies.code import read_types, shown

__all__ = [
    "CODE_SCHEMA",
    "KEY_WANTED",
    "MOST",
    "TEN_YEARS",
    "TYPES_SCHEMA",
    "Amount",
    "Count",
    "ErrorClasses",
    "Factor",
    "Flag",
    "Key",
    "PositiveAmount",
    "PositiveCount",
    "PositiveSize",
    "Rate",
    "Scope",
    "Share",
    "ShareFrom0",
    "read_error_types",
]

MOST = 10**9
"""The largest number of calls: more is none, and what is computed with it stays exact."""

TEN_YEARS = 10 * 365 * 86_400.0
"""Seconds, in which something that has a rate happens once at least."""

Count = Annotated[int, Field(ge=0, le=MOST, strict=True)]
"""A whole number from 0 to 10^9."""

PositiveCount = Annotated[int, Field(ge=1, le=MOST, strict=True)]
"""A whole number from 1 to 10^9."""

Rate = Annotated[float, Field(ge=0, le=MOST, strict=True, allow_inf_nan=False)]
"""A number each second, from 0 to 10^9."""

Amount = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
"""A number from 0."""

PositiveAmount = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
"""A number above 0."""

Factor = Annotated[float, Field(ge=1, strict=True, allow_inf_nan=False)]
"""A number from 1."""

Share = Annotated[float, Field(gt=0, le=1, strict=True, allow_inf_nan=False)]
"""A number above 0, up to 1."""

ShareFrom0 = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
"""A number from 0 to 1."""

Flag = Annotated[bool, Field(strict=True)]
"""True or False, and nothing that only counts as such."""

Key = Annotated[str, Field(strict=True, pattern=r"\S")]
"""A name that isn't blank: calls with the same one share what is remembered."""

KEY_WANTED = "text that isn't blank, or None for the name of the task"

Scope = Literal["run", "process", "host"]
"""Who shares what is remembered: one run, the runs of a process, the processes of a machine."""


def _read_positive_size(value: Any) -> int:
    try:
        return parse_size(value)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a size above 0; write {SIZE_FORMS}") from None


PositiveSize = Annotated[
    int,
    Field(gt=0),
    BeforeValidator(_read_positive_size),
    WithJsonSchema({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]}),
]
"""A field of bytes, above 0."""

CODE_SCHEMA = {"type": "string", "description": "an import string, 'package.module:name'"}
"""What code is in JSON."""

TYPES_SCHEMA = {"anyOf": [CODE_SCHEMA, {"type": "array", "items": CODE_SCHEMA}]}
"""What exception types are in JSON."""


def read_error_types(value: object) -> tuple[type[Exception], ...]:
    """
    Read types of errors, of those that a policy sees: not of ``KeyboardInterrupt`` and the like.

    Raises:
        ValueError: Something in *value* is no subclass of ``Exception``.
    """
    return read_types(value, Exception, "passes every policy")


ErrorClasses = Annotated[
    tuple[type[Exception], ...], PlainValidator(read_error_types), WithJsonSchema(TYPES_SCHEMA)
]
"""Types of errors; none are fine too."""
