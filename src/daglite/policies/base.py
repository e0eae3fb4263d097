"""What every policy is: frozen data that refuses nonsense and can be merged."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, ClassVar, Final, ParamSpec

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticSerializationError
from typing_extensions import Self

from daglite._units import DURATION_FORMS, parse_duration, parse_size
from daglite.exceptions import PolicyError
from daglite.policies.code import shown, source
from daglite.policies.json_schema import PolicySchema
from daglite.policies.messages import MisfitError, fix_of, refusal

__all__ = [
    "NOT_GIVEN",
    "Duration",
    "Policy",
    "PolicyModel",
    "PositiveDuration",
    "Seconds",
    "Size",
    "read_positive_duration",
    "typed_init",
]

_P = ParamSpec("_P")


class _NotGiven(Enum):
    NOT_GIVEN = "not given"

    def __repr__(self) -> str:
        return self.name


# Any: a signature says what may be given, and this isn't.
NOT_GIVEN: Final[Any] = _NotGiven.NOT_GIVEN
"""The default of what can be left out; None is a value of its own."""

Seconds = float | str | timedelta
"""What is read as a duration: seconds, ``"30s"``, a `timedelta`."""

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]
"""A field of seconds, from 0."""


_SHORTEST = 1e-6
"""Seconds, below which a clock may not go on, and who asks it again would do so for ever."""


def read_positive_duration(value: Any) -> float:
    """
    Read a duration as seconds.

    Raises:
        ValueError: *value* is none, below 0, or above it by less than a microsecond; 0 is left
            to the field.
    """
    try:
        seconds = parse_duration(value)
    except ValueError:
        raise ValueError(
            f"{shown(value)} is not a duration above 0; write {DURATION_FORMS}"
        ) from None
    if 0 < seconds < _SHORTEST:
        raise ValueError(f"{shown(value)} is shorter than a microsecond; write {DURATION_FORMS}")
    return seconds


PositiveDuration = Annotated[
    float,
    Field(gt=0),
    BeforeValidator(read_positive_duration),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}),
]
"""A field of seconds, above 0: from a microsecond."""

Size = Annotated[int, BeforeValidator(parse_size)]
"""A field of bytes, from 0."""


def typed_init(init: Callable[_P, None]) -> Callable[_P, None]:
    """
    Make the signature of *init*, which has no body, the constructor of a policy.

    What is not given is not set, so ``model_fields_set`` is what the user wrote.
    """
    parameters = list(inspect.signature(init).parameters.values())[1:]
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    places = f"only {' and '.join(by_position)}" if by_position else "nothing"

    @functools.wraps(init)
    def construct(self: Any, /, *args: Any, **values: Any) -> None:
        name = type(self).__name__
        if len(args) > len(by_position):
            raise PolicyError(
                f"{name} takes {places} by position; "
                f"name the field for {shown(args[len(by_position)])}"
            )
        for field, value in zip(by_position, args, strict=False):
            if field in values:
                raise PolicyError(f"{name}.{field} is given twice, by position and by name")
            values[field] = value
        given = {field: value for field, value in values.items() if value is not NOT_GIVEN}
        PolicyModel.__init__(self, **given)

    return construct  # type: ignore[return-value]


class PolicyModel(BaseModel):
    """A frozen pydantic model whose every refusal is a `PolicyError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, defer_build=True)

    _later: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, /, **values: Any) -> None:
        with _refusals_of(type(self)):
            super().__init__(**values)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """
        Read a mapping of fields.

        Raises:
            PolicyError: It makes no sense; the message names the fields and what they take.
        """
        if isinstance(obj, Mapping):
            # Not every mapping is a dict, and a key that isn't text is an unknown field.
            obj = {key if isinstance(key, str) else shown(key): obj[key] for key in obj}
        with _refusals_of(cls):
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """
        Read what `model_dump_json` wrote.

        Raises:
            PolicyError: It isn't JSON, or makes no sense.
        """
        with _refusals_of(cls):
            return super().model_validate_json(json_data, **options)

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return the given fields; those left to their defaults too with exclude_unset=False."""
        with _refusals_of(type(self)):
            return super().model_dump(**{"exclude_unset": True, **options})

    def model_dump_json(self, **options: Any) -> str:
        """
        Write the given fields as JSON; all of them with exclude_unset=False.

        Raises:
            PolicyError: A field holds code that has no import string: a lambda, an object.
        """
        with _refusals_of(type(self)):
            return super().model_dump_json(**{"exclude_unset": True, **options})

    @classmethod
    def model_json_schema(cls, *args: Any, **options: Any) -> dict[str, Any]:
        """Return the JSON schema of what `model_validate_json` reads."""
        if len(args) < 3:
            options.setdefault("schema_generator", PolicySchema)
        return super().model_json_schema(*args, **options)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; unlike pydantic's, an *update* is checked."""
        if update is None:
            return super().model_copy(deep=deep)
        return self.model_validate({**self.given, **update})

    @property
    def given(self) -> dict[str, Any]:
        """The fields that were given, in the order of their definition."""
        names = type(self).model_fields
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).__private_attributes__:
            raise PolicyError(
                f"{type(self).__name__} can't be changed; "
                f"model_copy(update={{{name!r}: {shown(value)}}}) makes another"
            )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise PolicyError(f"{type(self).__name__} can't be changed")

    def __repr__(self) -> str:
        fields = (f"{name}={source(value)}" for name, value in self.given.items())
        return f"{type(self).__name__}({', '.join(fields)})"

    __str__ = __repr__

    # Nothing in it changes, so a copy is the thing itself.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self

    def __getstate__(self) -> dict[Any, Any]:
        # Without what was only computed from the fields.
        state = super().__getstate__()
        fields = type(self).model_fields
        state["__dict__"] = {k: v for k, v in state["__dict__"].items() if k in fields}
        return state


class Policy(PolicyModel):
    """
    What is wanted for a call: frozen data, carried out elsewhere.

    Policies are equal if their fields are, given or defaults; they hash, pickle, and round-trip
    through JSON.

    A policy of your own has fields of types that hash, and an
    ``async def __call__(self, call, call_next)`` that carries it out: see `Middleware`.  It goes
    into ``around_call`` or ``around_attempt``.
    """

    # Fields that mean something together: whoever gives one inherits none of them.
    _together: ClassVar[frozenset[str]] = frozenset()

    # All that the layers of a merged policy gave, if some of it has no part in what came out.
    _layered: Mapping[str, Any] | None = PrivateAttr(default=None)

    def merged_over(self, weaker: Self) -> Self:
        """
        Return the fields given here, over those given in *weaker*, over the defaults.

        Raises:
            PolicyError: Together they make no sense.
        """
        below = self._inherited(weaker._said)
        fields = self._agreed(below, self._said)
        merged = self.model_validate(fields)
        said = {**below, **self._said}
        if fields != said:
            merged._layered = said
        return merged

    def _inherited(self, weaker: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is left of the fields of a *weaker* layer beside these."""
        if self._together.isdisjoint(self._said):
            return weaker
        return {name: weaker[name] for name in weaker if name not in self._together}

    @property
    def _said(self) -> Mapping[str, Any]:
        """What decides how it merges: the given fields, of a merged policy those of its layers."""
        return self.given if self._layered is None else self._layered

    @classmethod
    def _agreed(cls, weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
        """
        The fields of two layers as those of one policy.

        What one layer says can have no part in what another one says: it is left out.
        """
        fields = {**weaker, **stronger}
        idle = cls._without_part(fields)
        return {name: value for name, value in fields.items() if name not in idle}

    @classmethod
    def _without_part(cls, given: Mapping[str, Any]) -> dict[str, tuple[str, object]]:
        """Given fields that mean nothing -> the field, with its value, that makes it so."""
        return {}

    @model_validator(mode="after")
    def _every_field_has_a_part(self) -> Self:
        for name, (other, value) in self._without_part(self.given).items():
            way = f"give {other}" if value is None else f"choose another {other}"
            raise MisfitError(
                f"{name}={source(getattr(self, name))} has no part in {other}={source(value)}",
                fix=f"leave {name} out or {way}",
            )
        return self

    def __eq__(self, other: object) -> bool:
        if self is other:
            # States are looked up for each call, with the policy that they were made from.
            return True
        return type(other) is type(self) and other._values() == self._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in type(self).model_fields)


@contextmanager
def _refusals_of(policy: type[PolicyModel]) -> Iterator[None]:
    """Pydantic's errors as `PolicyError`."""
    try:
        yield
    except ValidationError as error:
        fix = fix_of(error)
        text = refusal(policy, policy._later, error)
        raise PolicyError(text.removesuffix(f"; {fix}"), fix=fix) from error
    except PydanticSerializationError as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, PolicyError):
            cause = cause.__cause__
        # Of the serializer of a whole policy, only the text is left of what it raised.
        reason = str(cause).rpartition(f"{PolicyError.__name__}: ")[2]
        raise PolicyError(f"{policy.__name__}: {reason}") from error
