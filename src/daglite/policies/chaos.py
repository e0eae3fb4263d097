"""Faults on purpose, for tests and drills."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import (
    Field,
    FieldSerializationInfo,
    PlainValidator,
    WithJsonSchema,
    field_serializer,
    model_validator,
)
from typing_extensions import Self

from daglite.policies.base import NOT_GIVEN, Policy, PositiveDuration, Seconds, typed_init
from daglite.policies.code import import_path
from daglite.policies.conditions import ErrorTypes, read_predicate
from daglite.policies.fields import CODE_SCHEMA, ErrorClasses, Flag, ShareFrom0

__all__ = ["Chaos"]


class Chaos(Policy):
    """
    Break a share of the attempts, to see that the other policies hold.

    ``Chaos(0.1, error=ConnectionError)`` fails one attempt in ten. Nothing happens in a run that
    doesn't say ``chaos=True``.

    Attributes:
        rate: Share of attempts that are struck, from 0 to 1; each by one of the given faults.
        error: Exception classes, one of which is raised instead of the call; none: no such fault.
        latency: Seconds, above 0, that the call takes longer; None: no such fault.
        kill: Whether the call's worker is killed.
        corrupt: A function of the result that gives a wrong one; None: no such fault.
        seed: Makes it repeatable which attempts are struck; None: seeded by the run.

    Raises:
        PolicyError: A field is unknown or makes no sense, or no fault is given.
    """

    rate: ShareFrom0 = Field(default=0.0, description="a share from 0 to 1 such as 0.1")
    error: ErrorClasses = Field(default=())
    latency: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 2 or '2s', or None"
    )
    kill: Flag = Field(default=False, description="True or False")
    corrupt: Annotated[
        Callable[[Any], Any] | None,
        PlainValidator(read_predicate),
        WithJsonSchema({"anyOf": [CODE_SCHEMA, {"type": "null"}]}),
    ] = Field(default=None)
    seed: int | None = Field(default=None, strict=True, description="a whole number, or None")

    @typed_init
    def __init__(
        self,
        rate: float = NOT_GIVEN,
        *,
        error: ErrorTypes = NOT_GIVEN,
        latency: Seconds | None = NOT_GIVEN,
        kill: bool = NOT_GIVEN,
        corrupt: Callable[[Any], Any] | str | None = NOT_GIVEN,
        seed: int | None = NOT_GIVEN,
    ) -> None: ...

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if not self.faults:
            raise ValueError(
                "no fault is given; give at least one of error, latency, kill and corrupt"
            )
        return self

    @field_serializer("error", "corrupt", when_used="json")
    def _write_code(self, value: Any, info: FieldSerializationInfo) -> Any:
        return import_path(value, info.field_name)

    @property
    def faults(self) -> Mapping[str, Any]:
        """The faults that may strike: field -> what it holds."""
        held: dict[str, Any] = {"error": self.error or None, "kill": self.kill or None}
        held.update(latency=self.latency, corrupt=self.corrupt)
        return {name: value for name, value in held.items() if value is not None}
