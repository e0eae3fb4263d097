"""The policies of a task: one slot each, merged over layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import (
    BeforeValidator,
    Field,
    FieldSerializationInfo,
    GetJsonSchemaHandler,
    PrivateAttr,
    field_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import Self

from daglite.exceptions import PolicyError
from daglite.policies.base import (
    NOT_GIVEN,
    Policy,
    PolicyModel,
    Seconds,
    typed_init,
)
from daglite.policies.breaker import CircuitBreaker
from daglite.policies.bulkhead import Bulkhead
from daglite.policies.cache import CachePolicy
from daglite.policies.chaos import Chaos
from daglite.policies.code import shown
from daglite.policies.contradictions import check_together, listed
from daglite.policies.fallback import FallbackPolicy
from daglite.policies.fields import Flag
from daglite.policies.hedge import Hedge
from daglite.policies.json_schema import ShortForm
from daglite.policies.limits import ResourceLimits
from daglite.policies.map_policy import MapPolicy
from daglite.policies.middlewares import Middleware, Middlewares, dumped
from daglite.policies.rate_limit import RateLimit
from daglite.policies.retry import RetryPolicy
from daglite.policies.timeout import TimeoutPolicy

__all__ = ["LATER_OPTIONS", "PolicySet", "resolve_policies"]

LATER_OPTIONS = frozenset(
    {
        "at_most_once",
        "priority",
        "sandbox",
        "validate_input",
    }
)
"""Options that later versions have."""


def _read_retry(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return RetryPolicy(value)
    return RetryPolicy.model_validate(value) if isinstance(value, Mapping) else value


def _read_timeout(value: object) -> object:
    if isinstance(value, (int, float, str, timedelta)) and not isinstance(value, bool):
        return TimeoutPolicy(value)
    return TimeoutPolicy.model_validate(value) if isinstance(value, Mapping) else value


def _read_rate_limit(value: object) -> object:
    return RateLimit(value) if _is_number(value) else _read_mapping(RateLimit, value)


def _read_bulkhead(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return Bulkhead(value)
    return _read_mapping(Bulkhead, value)


def _read_cache(value: object) -> object:
    if value is True:
        return CachePolicy()
    if _is_number(value) or isinstance(value, (str, timedelta)):
        return CachePolicy(value)
    return _read_mapping(CachePolicy, value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _read_mapping(policy: type[Policy], value: object) -> object:
    return policy.model_validate(value) if isinstance(value, Mapping) else value


def _with_limits(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """*values* with the short forms of ``limits``, if there are any, made long."""
    short = {name: values[name] for name in _SHORT_LIMITS if name in values}
    if not short:
        return values
    if "limits" in values:
        name, value = next(iter(short.items()))
        raise PolicyError(
            f"PolicySet.{name}: {shown(value)} is given next to limits=, the short form together "
            f"with the long one; write {name} into the ResourceLimits"
        )
    rest = {slot: value for slot, value in values.items() if slot not in short}
    return {**rest, "limits": ResourceLimits(**short)}


_SHORT_LIMITS = ("max_memory", "max_cpu_time")


class PolicySet(PolicyModel):
    """
    One slot for each policy: what one layer (a task, a run's defaults) says.

    A slot left out says nothing; None takes away what weaker layers say.
    Sets are equal if they merge alike.

    Attributes:
        retry: A `RetryPolicy`, or a number of retries.
        timeout: A `TimeoutPolicy`, or the limit of each attempt in seconds, "30s", ...
        circuit_breaker: A `CircuitBreaker`.
        rate_limit: A `RateLimit`, or how many attempts may start each second.
        bulkhead: A `Bulkhead`, or how many attempts may run at a time.
        fallback: A `FallbackPolicy`.
        hedge: A `Hedge`; needs ``idempotent=True``.
        map_policy: A `MapPolicy`.
        chaos: A `Chaos`.
        limits: A `ResourceLimits`; ``max_memory=`` and ``max_cpu_time=`` are short forms of it.
        cache: A `CachePolicy`, or True, or how long results are kept in seconds, "1h", ...
        idempotent: Whether it does no harm to carry a call out twice.
        around_call: Middlewares around the whole call, the outermost first; none add nothing.
            In JSON: import strings, or for policies of your own ``{"policy": "module:Class", ...}``
            with their fields.
        around_attempt: Middlewares around each attempt, the outermost first; none add nothing.

    Raises:
        PolicyError: A slot is unknown or what is in it makes no sense.
    """

    _later = LATER_OPTIONS

    retry: Annotated[
        RetryPolicy | None, BeforeValidator(_read_retry), ShortForm({"type": "integer"})
    ] = Field(default=None, description="a number of retries from 0, a RetryPolicy, or None")
    timeout: Annotated[
        TimeoutPolicy | None,
        BeforeValidator(_read_timeout),
        ShortForm({"type": "number"}, {"type": "string"}),
    ] = Field(default=None, description="seconds such as 30 or '30s', a TimeoutPolicy, or None")
    circuit_breaker: CircuitBreaker | None = Field(
        default=None, description="a CircuitBreaker, or None"
    )
    rate_limit: Annotated[
        RateLimit | None, BeforeValidator(_read_rate_limit), ShortForm({"type": "number"})
    ] = Field(default=None, description="a number above 0 for each second, a RateLimit, or None")
    bulkhead: Annotated[
        Bulkhead | None, BeforeValidator(_read_bulkhead), ShortForm({"type": "integer"})
    ] = Field(default=None, description="a whole number from 1, a Bulkhead, or None")
    fallback: FallbackPolicy | None = Field(
        default=None, description="a FallbackPolicy, such as FallbackPolicy(0), or None"
    )
    hedge: Hedge | None = Field(
        default=None, description="a Hedge, such as Hedge('200ms'), or None"
    )
    map_policy: MapPolicy | None = Field(
        default=None, description="a MapPolicy, such as MapPolicy('skip'), or None"
    )
    chaos: Chaos | None = Field(default=None, description="a Chaos, or None")
    limits: ResourceLimits | None = Field(
        default=None, description="a ResourceLimits, such as ResourceLimits('1GB'), or None"
    )
    cache: Annotated[
        CachePolicy | None,
        BeforeValidator(_read_cache),
        ShortForm({"const": True}, {"type": "number"}, {"type": "string"}),
    ] = Field(
        default=None,
        description="True, a lifetime such as 3600 or '1h', a CachePolicy, or None",
    )
    idempotent: Flag | None = Field(default=None, description="True, False or None")
    around_call: Middlewares = Field(default=())
    around_attempt: Middlewares = Field(default=())

    _origins: tuple[tuple[str, str], ...] = PrivateAttr(default=())
    # Slots that were taken away before they were given: they merge with nothing weaker.
    _afresh: frozenset[str] = PrivateAttr(default=frozenset())

    @typed_init
    def __init__(
        self,
        *,
        retry: RetryPolicy | int | None = NOT_GIVEN,
        timeout: TimeoutPolicy | Seconds | None = NOT_GIVEN,
        circuit_breaker: CircuitBreaker | None = NOT_GIVEN,
        rate_limit: RateLimit | float | None = NOT_GIVEN,
        bulkhead: Bulkhead | int | None = NOT_GIVEN,
        fallback: FallbackPolicy | None = NOT_GIVEN,
        hedge: Hedge | None = NOT_GIVEN,
        map_policy: MapPolicy | None = NOT_GIVEN,
        chaos: Chaos | None = NOT_GIVEN,
        limits: ResourceLimits | None = NOT_GIVEN,
        max_memory: int | str | None = NOT_GIVEN,
        max_cpu_time: Seconds | None = NOT_GIVEN,
        cache: CachePolicy | Literal[True] | Seconds | None = NOT_GIVEN,
        idempotent: bool | None = NOT_GIVEN,
        around_call: Middleware | Sequence[Middleware] | None = NOT_GIVEN,
        around_attempt: Middleware | Sequence[Middleware] | None = NOT_GIVEN,
    ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _put_right(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        values = _with_limits(values)
        # Else "no middleware to add" could not be told from None.
        return {
            slot: value
            for slot, value in values.items()
            if not (slot.startswith("around_") and isinstance(value, (tuple, list)) and not value)
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        fields = ResourceLimits.model_json_schema()["properties"]
        own = handler.resolve_ref_schema(schema)["properties"]
        own.update({name: fields[name] for name in _SHORT_LIMITS})
        return schema

    @field_serializer("around_call", "around_attempt")
    def _write(self, value: tuple[Middleware, ...], info: FieldSerializationInfo) -> Any:
        return dumped(value, info.field_name, json=info.mode_is_json()) if value else None

    @property
    def given(self) -> dict[str, Any]:
        """What was given, slot by slot; None for what is taken away."""
        return {slot: None if value == () else value for slot, value in super().given.items()}

    @property
    def origins(self) -> Mapping[str, str]:
        """Slot -> name of the strongest layer that had a part in it; of a resolved set."""
        return MappingProxyType(dict(self._origins))

    def merged_over(self, weaker: Self) -> Self:
        """
        Return one layer that says what this one says over *weaker*.

        Raises:
            PolicyError: What comes out contradicts itself.
        """
        merged, afresh = {**weaker.given}, {*weaker._afresh}
        for slot, value in self.given.items():
            below = merged.get(slot)
            if slot in self._afresh or (slot in merged and below is None):
                afresh.add(slot)
                below = None
            merged[slot] = _merged(slot, below, value)
        result = self.model_validate(merged)
        result._afresh = frozenset(slot for slot in afresh if merged[slot] is not None)
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PolicySet) and self._said() == other._said()

    def __hash__(self) -> int:
        return hash(self._said())

    def _said(self) -> tuple[object, ...]:
        # What a policy was given, not only what its fields are: it decides how sets merge.
        return self._afresh, *(
            (slot, value, frozenset(value._said.items()) if isinstance(value, Policy) else ())
            for slot, value in self.given.items()
        )


@cache
def _nothing() -> PolicySet:
    # When it is first asked for: the schema of a set takes some time to build.
    return PolicySet()


def resolve_policies(layers: Sequence[tuple[str, PolicySet]]) -> PolicySet:
    """
    Merge the sets of *layers*, each with its name, the weakest first.

    A policy is merged field by field: what a stronger layer gives wins. What then has no part
    in the policy is left out, and an inherited limit of attempts is cut to the total.
    None takes a policy away, and what a still stronger layer gives starts afresh.
    Middlewares add up, those of weaker layers further out.

    Raises:
        PolicyError: What comes out contradicts itself; the message names the layers.
    """
    merged: dict[str, Any] = {}
    sources: dict[str, list[str]] = {}
    for name, layer in layers:
        for slot, value in layer.given.items():
            if value is None or slot in layer._afresh:
                merged.pop(slot, None)
                sources.pop(slot, None)
            if value is not None:
                names = sources.setdefault(slot, [])
                names.append(name)
                merged[slot] = _merged(slot, merged.get(slot), value, names)
    if not merged:
        return _nothing()
    check_together(merged, sources)
    result = PolicySet(**merged)
    result._origins = tuple((slot, names[-1]) for slot, names in sources.items())
    return result


def _merged(slot: str, weaker: Any, stronger: Any, layers: Sequence[str] = ()) -> Any:
    if weaker is None or stronger is None:
        return stronger
    if isinstance(stronger, tuple):
        return (*weaker, *stronger)
    if not isinstance(stronger, Policy):
        return stronger
    try:
        return stronger.merged_over(weaker)
    except PolicyError as error:
        whose = f" (of {listed(layers)})" if layers else ""
        or_else = f"take the weaker one away with {slot}=None"
        raise PolicyError(
            f"{slot}={shown(stronger, 200)} over {slot}={shown(weaker, 200)}{whose} makes no "
            f"sense: {error.problem}",
            fix=or_else if error.fix is None else f"{error.fix}, or {or_else}",
        ) from error
