"""The policies of a task: one slot each, merged over layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    FieldSerializationInfo,
    PlainValidator,
    PrivateAttr,
    field_serializer,
    model_validator,
)
from typing_extensions import Self

from daglite._units import format_duration
from daglite.exceptions import PolicyError
from daglite.policies.base import (
    NOT_GIVEN,
    Policy,
    PolicyModel,
    Seconds,
    typed_init,
)
from daglite.policies.code import hashed, import_path, resolved, shown
from daglite.policies.retry import RetryPolicy
from daglite.policies.timeout import TimeoutPolicy

__all__ = ["LATER_OPTIONS", "Middleware", "PolicySet", "resolve_policies"]

Middleware = Callable[..., Any]
"""Takes a call and the next one to ask, and gives an outcome; asynchronous."""

LATER_OPTIONS = frozenset(
    {
        "at_most_once",
        "bulkhead",
        "cache",
        "chaos",
        "circuit_breaker",
        "fallback",
        "hedge",
        "idempotent",
        "limits",
        "map_policy",
        "max_cpu_time",
        "max_memory",
        "priority",
        "rate_limit",
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


def _read_middlewares(value: object) -> tuple[Middleware, ...]:
    if value is None:
        return ()
    items = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(_read_middleware(item) for item in items)


def _read_middleware(value: object) -> Middleware:
    found = resolved(value)
    if isinstance(found, type):
        raise ValueError(f"{shown(value)} is a class; give an object of it, {found.__name__}()")
    if not callable(found):
        raise ValueError(
            f"{shown(value)} is not callable; a middleware is an async function of (call, next)"
        )
    middleware: Middleware = hashed(found)
    return middleware


_Middlewares = Annotated[tuple[Middleware, ...], PlainValidator(_read_middlewares)]


class PolicySet(PolicyModel):
    """
    One slot for each policy: what one layer (a task, a run's defaults) says.

    A slot left out says nothing; None takes away what weaker layers say.
    Sets are equal if they merge alike.

    Attributes:
        retry: A `RetryPolicy`, or a number of retries.
        timeout: A `TimeoutPolicy`, or the limit of each attempt in seconds, "30s", ...
        around_call: Middlewares around the whole call, the outermost first; none add nothing.
        around_attempt: Middlewares around each attempt, the outermost first; none add nothing.

    Raises:
        PolicyError: A slot is unknown or what is in it makes no sense.
    """

    _later = LATER_OPTIONS

    retry: Annotated[RetryPolicy | None, BeforeValidator(_read_retry)] = Field(
        default=None, description="a number of retries from 0, a RetryPolicy, or None"
    )
    timeout: Annotated[TimeoutPolicy | None, BeforeValidator(_read_timeout)] = Field(
        default=None, description="seconds such as 30 or '30s', a TimeoutPolicy, or None"
    )
    around_call: _Middlewares = Field(default=())
    around_attempt: _Middlewares = Field(default=())

    _origins: tuple[tuple[str, str], ...] = PrivateAttr(default=())
    # Slots that were taken away before they were given: they merge with nothing weaker.
    _afresh: frozenset[str] = PrivateAttr(default=frozenset())

    @typed_init
    def __init__(
        self,
        *,
        retry: RetryPolicy | int | None = NOT_GIVEN,
        timeout: TimeoutPolicy | Seconds | None = NOT_GIVEN,
        around_call: Middleware | Sequence[Middleware] | None = NOT_GIVEN,
        around_attempt: Middleware | Sequence[Middleware] | None = NOT_GIVEN,
    ) -> None: ...

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:
        # Else "no middleware to add" could not be told from None.
        if not isinstance(values, Mapping):
            return values
        return {
            slot: value
            for slot, value in values.items()
            if not (slot.startswith("around_") and isinstance(value, (tuple, list)) and not value)
        }

    @field_serializer("around_call", "around_attempt")
    def _write(self, value: tuple[Middleware, ...], info: FieldSerializationInfo) -> Any:
        if not value:
            return None
        return import_path(value, info.field_name) if info.mode_is_json() else value

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


_NOTHING = PolicySet()


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
        return _NOTHING
    _check_retries_start(merged.get("retry"), merged.get("timeout"), sources)
    result = PolicySet(**merged)
    result._origins = tuple((slot, names[-1]) for slot, names in sources.items())
    return result


def _merged(slot: str, weaker: Any, stronger: Any, layers: Sequence[str] = ()) -> Any:
    if weaker is None or stronger is None:
        return stronger
    if not isinstance(stronger, Policy):
        return (*weaker, *stronger)
    try:
        return stronger.merged_over(weaker)
    except PolicyError as error:
        whose = f" (of {_listed(layers)})" if layers else ""
        raise PolicyError(
            f"{slot}={shown(stronger, 200)} over {slot}={shown(weaker, 200)}{whose} makes no "
            f"sense: {error}; or take the weaker one away with {slot}=None"
        ) from error


def _check_retries_start(
    retry: RetryPolicy | None, timeout: TimeoutPolicy | None, sources: Mapping[str, list[str]]
) -> None:
    """Refuse retries whose first wait, at its shortest, passes a limit on all of them."""
    if retry is None or retry.max_retries == 0:
        return
    wait = retry.floor(1)
    if timeout is not None and timeout.total is not None and wait >= timeout.total:
        limit, names = f"timeout.total ({format_duration(timeout.total)})", sources["timeout"]
    elif retry.max_elapsed is not None and wait > retry.max_elapsed:
        limit, names = f"retry.max_elapsed ({format_duration(retry.max_elapsed)})", []
    else:
        return
    layers = list(dict.fromkeys([*sources["retry"], *names]))
    raise PolicyError(
        f"no retry can ever start: the first wait, from retry.delay or retry.backoff "
        f"({format_duration(wait)}), doesn't fit into {limit}; shorten the wait, raise the "
        f"limit, or write retry=0 (from {_listed(layers)})"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
