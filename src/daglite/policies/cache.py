"""Which results are kept for later calls, for how long, and what makes two calls the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    FieldSerializationInfo,
    PlainValidator,
    WithJsonSchema,
    field_serializer,
    model_validator,
)
from typing_extensions import Self

from daglite._units import format_duration
from daglite.policies.base import (
    NOT_GIVEN,
    Policy,
    PositiveDuration,
    Seconds,
    typed_init,
)
from daglite.policies.code import hashed, import_path, resolved, shown
from daglite.policies.conditions import ErrorTypes, read_predicate
from daglite.policies.fields import CODE_SCHEMA, ErrorClasses, Flag, PositiveSize
from daglite.policies.messages import MisfitError

__all__ = ["CachePolicy", "SingleFlight"]

SingleFlight = Literal["host", "process", False]
Serializer = Literal["auto", "pickle"]
Verify = Literal["sha256", "hmac"]
OnStoreError = Literal["ignore", "raise"]
OnUnhashable = Literal["raise", "skip"]

_NAMES_SCHEMA = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}

_NEED_A_TTL = ("stale_if_error", "refresh_ahead")


def _read_names(value: object) -> tuple[str, ...]:
    what = "the name of a parameter"
    return tuple(_checked(name, what, str.isidentifier) for name in _all(value))


def _read_variables(value: object) -> tuple[str, ...]:
    what = "the name of an environment variable"
    return tuple(_checked(name, what, _is_variable) for name in _all(value))


def _read_code(value: object) -> tuple[Any, ...]:
    return tuple(_read_one_code(item) for item in _all(value))


def _all(value: object) -> Sequence[object]:
    return value if isinstance(value, (tuple, list)) else (value,)


def _checked(name: object, what: str, fits: Callable[[str], bool]) -> str:
    if not isinstance(name, str) or not fits(name):
        raise ValueError(f"{shown(name)} is not {what}; write one such as 'verbose'")
    return name


def _is_variable(name: str) -> bool:
    return bool(name) and "=" not in name and not any(each.isspace() for each in name)


def _read_one_code(value: object) -> Any:
    found = resolved(value)
    if not callable(found):
        raise ValueError(
            f"{shown(value)} is no code; give a function or a class, or its 'module:name'"
        )
    return hashed(found)


def _read_flight(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not 'host', 'process' or False; write one of them")
    return value


def _read_store(value: object) -> str | None:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if path is not None and (not isinstance(path, str) or not path.strip()):
        raise ValueError(f"{shown(value)} is no path of a folder; write one, or None")
    return path


class CachePolicy(Policy):
    """
    Keep results, and give them to later calls of the same function with the same arguments.

    ``CachePolicy("1h")`` keeps a result for an hour. Durations are seconds, or text such as
    "200ms", "5m", or a `timedelta`; sizes are bytes, or text such as "1GB" (10^9).

    Attributes:
        ttl: Seconds that a result is good for, above 0; None: for ever.
        key: A function of the call's arguments that gives what stands for them; None: all of them.
        ignore: Names of parameters that make no difference.
        version: Text or a whole number that stands for the function's code, in its place.
        depends_on: Functions and classes whose code makes a difference, too.
        env: Names of environment variables whose values make a difference.
        single_flight: Who waits for a result that is being computed already, instead of computing
            it too: the processes of this machine ("host"), the threads of this process
            ("process"), nobody (False).
        stale_if_error: Seconds after its time, above 0, that a result is still given if the call
            finally fails; None: never.
        refresh_ahead: Seconds before its time is over, above 0 and below ``ttl``, from which a
            result that is asked for is computed anew beside; None: never.
        cache_none: Whether None is kept, too.
        cache_errors: Exception classes that are kept like results; none: no failure is.
        error_ttl: Seconds that they are good for, above 0; None: as long as ``ttl``.
        max_value_bytes: Bytes, above 0, above which a result isn't kept; None: no limit.
        serializer: How results become bytes: "pickle", or what suits each best ("auto").
        verify: How damage is found: by a checksum ("sha256"), or by one that only who has the
            machine's key can make ("hmac").
        on_store_error: What a store that can't be read or written does to the call: nothing
            ("ignore"), or it fails ("raise").
        on_unhashable: What an argument that has no fingerprint does: the call fails ("raise"), or
            isn't cached ("skip").
        store: The path of a folder; None: the store of the settings.

    Raises:
        PolicyError: A field is unknown or makes no sense.
    """

    ttl: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 3600 or '1h', or None for ever"
    )
    key: Annotated[
        Callable[..., Any] | None,
        PlainValidator(read_predicate),
        WithJsonSchema({"anyOf": [CODE_SCHEMA, {"type": "null"}]}),
    ] = Field(default=None)
    ignore: Annotated[
        tuple[str, ...], BeforeValidator(_read_names), WithJsonSchema(_NAMES_SCHEMA)
    ] = Field(default=())
    version: (
        Annotated[str, Field(strict=True, pattern=r"\S")]
        | Annotated[int, Field(strict=True)]
        | None
    ) = Field(default=None, description="text that isn't blank, a whole number, or None")
    depends_on: Annotated[
        tuple[Any, ...], PlainValidator(_read_code), WithJsonSchema(_NAMES_SCHEMA)
    ] = Field(default=())
    env: Annotated[
        tuple[str, ...], BeforeValidator(_read_variables), WithJsonSchema(_NAMES_SCHEMA)
    ] = Field(default=())
    single_flight: Annotated[SingleFlight, BeforeValidator(_read_flight)] = Field(
        default="host", description="'host', 'process' or False"
    )
    stale_if_error: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 3600 or '1h', or None for never"
    )
    refresh_ahead: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 60 or '1m', or None for never"
    )
    cache_none: Flag = Field(default=True, description="True or False")
    cache_errors: ErrorClasses = Field(default=())
    error_ttl: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 60 or '1m', or None for that of ttl"
    )
    max_value_bytes: PositiveSize | None = Field(
        default=None, description="bytes above 0 such as '10MB', or None for no limit"
    )
    serializer: Serializer = Field(default="auto", description="'auto' or 'pickle'")
    verify: Verify = Field(default="sha256", description="'sha256' or 'hmac'")
    on_store_error: OnStoreError = Field(default="ignore", description="'ignore' or 'raise'")
    on_unhashable: OnUnhashable = Field(default="raise", description="'raise' or 'skip'")
    store: Annotated[str | None, BeforeValidator(_read_store)] = Field(default=None)

    @typed_init
    def __init__(
        self,
        ttl: Seconds | None = NOT_GIVEN,
        *,
        key: Callable[..., Any] | str | None = NOT_GIVEN,
        ignore: str | Sequence[str] = NOT_GIVEN,
        version: str | int | None = NOT_GIVEN,
        depends_on: Callable[..., Any] | str | Sequence[Callable[..., Any] | str] = NOT_GIVEN,
        env: str | Sequence[str] = NOT_GIVEN,
        single_flight: SingleFlight = NOT_GIVEN,
        stale_if_error: Seconds | None = NOT_GIVEN,
        refresh_ahead: Seconds | None = NOT_GIVEN,
        cache_none: bool = NOT_GIVEN,
        cache_errors: ErrorTypes = NOT_GIVEN,
        error_ttl: Seconds | None = NOT_GIVEN,
        max_value_bytes: int | str | None = NOT_GIVEN,
        serializer: Serializer = NOT_GIVEN,
        verify: Verify = NOT_GIVEN,
        on_store_error: OnStoreError = NOT_GIVEN,
        on_unhashable: OnUnhashable = NOT_GIVEN,
        store: str | os.PathLike[str] | None = NOT_GIVEN,
    ) -> None: ...

    @classmethod
    def _without_part(cls, given: Mapping[str, Any]) -> dict[str, tuple[str, object]]:
        found: dict[str, tuple[str, object]] = {}
        if given.get("ttl") is None:
            idle = (name for name in _NEED_A_TTL if given.get(name) is not None)
            found.update((name, ("ttl", None)) for name in idle)
        if not given.get("cache_errors") and given.get("error_ttl") is not None:
            found["error_ttl"] = ("cache_errors", ())
        if given.get("key") is not None and given.get("ignore"):
            found["ignore"] = ("key", given["key"])
        return found

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        ttl, ahead = self.ttl, self.refresh_ahead
        if ttl is not None and ahead is not None and ahead >= ttl:
            raise MisfitError(
                f"refresh_ahead ({format_duration(ahead)}) is not below ttl "
                f"({format_duration(ttl)})",
                fix="lower refresh_ahead or raise ttl",
            )
        if self.cache_errors and self.error_ttl is None and self.ttl is None:
            raise MisfitError(
                "cache_errors is given without error_ttl or ttl, so that an error would be kept "
                "for ever",
                fix="give error_ttl",
            )
        return self

    @field_serializer("key", "depends_on", "cache_errors", when_used="json")
    def _write_code(self, value: Any, info: FieldSerializationInfo) -> Any:
        return import_path(value, info.field_name)
