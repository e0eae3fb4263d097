"""Leave a dependency alone that fails: when a circuit opens, for how long, and who tries again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    FieldSerializationInfo,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from daglite._units import format_duration
from daglite.exceptions import PolicyError
from daglite.policies.base import (
    NOT_GIVEN,
    Policy,
    PositiveDuration,
    Seconds,
    read_positive_duration,
    typed_init,
)
from daglite.policies.code import import_path, shown
from daglite.policies.conditions import ErrorTypes
from daglite.policies.fields import (
    KEY_WANTED,
    ErrorClasses,
    Factor,
    Key,
    PositiveCount,
    Scope,
    Share,
)
from daglite.policies.messages import MisfitError

__all__ = ["BreakerMode", "CircuitBreaker", "Counts", "OnOpen", "WindowType"]

WindowType = Literal["count", "time"]
OnOpen = Literal["park", "fail"]
Counts = Literal["attempt", "call"]
BreakerMode = Literal["on", "metrics_only", "disabled", "forced_open"]

_MOST_CALLS = 10**6
"""The longest window of calls, each of which takes a byte."""

_NEEDS_A_RATE = ("min_calls", "window_type", "window")


class CircuitBreaker(Policy):
    """
    Stop calling a dependency that fails, and let a few probes find out when it is back.

    ``CircuitBreaker("api")`` opens when half of the last 100 attempts failed, once it has seen
    ten; ``CircuitBreaker(consecutive=5)`` opens after five failures in a row. Durations are
    seconds, or text such as "200ms", "5m", or a `timedelta`.

    Attributes:
        key: Which circuit it is: tasks with the same key share one, so give one to each
            dependency; None: the name of the task.
        failure_rate: Share of failures in the window, above 0 and up to 1, from which the circuit
            opens; None: no such rule, and the default next to ``consecutive``.
        consecutive: Failures in a row, from 1, after which it opens; None: no such rule.
        min_calls: How many the window must hold, from 1, before a rate says something.
        window_type: What the window is: the last calls ("count"), or those of the last seconds
            ("time").
        window: How long the window is: calls, from 1 to 10^6 and not below ``min_calls``, or
            seconds.
        slow_call: Seconds, above 0, from which a call counts as slow; None: none does.
        slow_rate: Share of slow calls in the window, above 0 and up to 1, from which the circuit
            opens.
        break_for: Seconds that it stays open before a probe may go, above 0.
        break_factor: What each failed round of probes multiplies that by, from 1.
        max_break: The longest that it stays open so, not below ``break_for``.
        probes: How many calls a half-open circuit lets through, from 1.
        probe_lease: Seconds after which a probe that didn't come back gives its place free, above
            0; None: ``break_for``.
        on_open: What becomes of a call while the circuit is open: it waits ("park"), holding no
            worker, or fails at once ("fail").
        max_park: The longest that an attempt waits for the circuit, all in all, above 0 seconds;
            then it fails.
        ignore: Exception classes that count as nothing, neither failure nor success.
        counts: Whether each attempt counts or only how the whole call ended ("call").
        scope: Who shares the circuit: this run, the runs of this process, or the processes of this
            machine ("host").
        mode: "on"; "metrics_only" counts but never opens; "disabled" does nothing; "forced_open"
            lets nothing through.

    Raises:
        PolicyError: A field is unknown or makes no sense, or the circuit could never open.
    """

    key: Key | None = Field(default=None, description=KEY_WANTED)
    failure_rate: Share | None = Field(
        default=0.5, description="a share above 0, up to 1, such as 0.5, or None for no such rule"
    )
    consecutive: PositiveCount | None = Field(
        default=None, description="a whole number from 1 to 10^9, or None for no such rule"
    )
    min_calls: PositiveCount = Field(default=10, description="a whole number from 1 to 10^9")
    window_type: WindowType = Field(default="count", description="'count' or 'time'")
    window: Annotated[
        int | float,
        WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}),
    ] = Field(
        default=100, gt=0, description="above 0, such as 100 calls (10^6 at most), or '5m' of time"
    )
    slow_call: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 2 or '2s', or None"
    )
    slow_rate: Share = Field(default=1.0, description="a share above 0, up to 1, such as 0.5")
    break_for: PositiveDuration = Field(
        default=30.0, description="seconds above 0 such as 30 or '30s'"
    )
    break_factor: Factor = Field(default=1.0, description="a number from 1")
    max_break: PositiveDuration = Field(
        default=600.0, description="seconds above 0 such as 600 or '10m'"
    )
    probes: PositiveCount = Field(default=1, description="a whole number from 1 to 10^9")
    probe_lease: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 60 or '1m', or None"
    )
    on_open: OnOpen = Field(default="park", description="'park' or 'fail'")
    max_park: PositiveDuration = Field(
        default=600.0,
        description="seconds above 0 such as 600 or '10m'; on_open='fail' is for not waiting",
    )
    ignore: ErrorClasses = Field(default=())
    counts: Counts = Field(default="attempt", description="'attempt' or 'call'")
    scope: Scope = Field(default="run", description="'run', 'process' or 'host'")
    mode: BreakerMode = Field(
        default="on", description="'on', 'metrics_only', 'disabled' or 'forced_open'"
    )

    @typed_init
    def __init__(
        self,
        key: str | None = NOT_GIVEN,
        *,
        failure_rate: float | None = NOT_GIVEN,
        consecutive: int | None = NOT_GIVEN,
        min_calls: int = NOT_GIVEN,
        window_type: WindowType = NOT_GIVEN,
        window: Seconds = NOT_GIVEN,
        slow_call: Seconds | None = NOT_GIVEN,
        slow_rate: float = NOT_GIVEN,
        break_for: Seconds = NOT_GIVEN,
        break_factor: float = NOT_GIVEN,
        max_break: Seconds = NOT_GIVEN,
        probes: int = NOT_GIVEN,
        probe_lease: Seconds | None = NOT_GIVEN,
        on_open: OnOpen = NOT_GIVEN,
        max_park: Seconds = NOT_GIVEN,
        ignore: ErrorTypes = NOT_GIVEN,
        counts: Counts = NOT_GIVEN,
        scope: Scope = NOT_GIVEN,
        mode: BreakerMode = NOT_GIVEN,
    ) -> None: ...

    @property
    def most_probes(self) -> int:
        """
        How many failed probes cost a parked call no attempt.

        As many as there can be in breaks that it waits for from their begin to their end.
        """
        return self.probes * (math.floor(self.max_park / self.break_for) + 1)

    def _inherited(self, weaker: Mapping[str, Any]) -> Mapping[str, Any]:
        """Whoever says how long to wait inherits no circuit that nobody waits for."""
        kept, said = super()._inherited(weaker), self._said
        if "max_park" not in said or "on_open" in said or kept.get("on_open") != "fail":
            return kept
        return {name: value for name, value in kept.items() if name != "on_open"}

    @classmethod
    def _agreed(cls, weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
        """A window of the other type than the one that was chosen over it is left out."""
        fields = super()._agreed(weaker, stronger)
        kind = float if fields.get("window_type") == "time" else int
        if isinstance(fields.get("window", kind()), kind):
            return fields
        if "window" in stronger and "window_type" not in stronger:
            raise PolicyError(
                f"CircuitBreaker.window: {fields['window']} calls can't be the window of "
                "window_type='time'",
                fix="give window_type too",
            )
        del fields["window"]
        return fields

    @classmethod
    def _without_part(cls, given: Mapping[str, Any]) -> dict[str, tuple[str, object]]:
        found: dict[str, tuple[str, object]] = {}
        slow = given.get("slow_call") is not None
        if not slow and _rate_of(given) is None:
            found.update((name, ("failure_rate", None)) for name in _NEEDS_A_RATE if name in given)
        if not slow and "slow_rate" in given:
            found["slow_rate"] = ("slow_call", None)
        if given.get("on_open") == "fail" and "max_park" in given:
            found["max_park"] = ("on_open", "fail")
        return found

    @field_validator("window", mode="before")
    @classmethod
    def _read_window(cls, value: Any, info: ValidationInfo) -> Any:
        kind = info.data.get("window_type")
        if kind == "time":
            return read_positive_duration(value)
        if isinstance(value, int) and value > _MOST_CALLS:
            raise ValueError(
                f"{shown(value)} calls are too many; write 10^6 at most, or give "
                f"window_type='time' for a duration"
            )
        if kind == "count" and (not isinstance(value, int) or isinstance(value, bool)):
            raise MisfitError(
                f"{shown(value)} is not a whole number of calls from 1",
                fix="write one such as 100, or give window_type='time' for a duration",
            )
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if "failure_rate" not in self.model_fields_set:
            # As data, so that breakers that do the same are equal.
            object.__setattr__(self, "failure_rate", _rate_of(self.given))
        self._check_it_can_trip()
        if self.max_break < self.break_for:
            raise MisfitError(
                f"max_break ({format_duration(self.max_break)}) is below break_for "
                f"({format_duration(self.break_for)})",
                fix="raise max_break or lower break_for",
            )
        return self

    def _check_it_can_trip(self) -> None:
        if self.failure_rate is None and self.consecutive is None and self.slow_call is None:
            raise MisfitError(
                "failure_rate is None, and neither consecutive nor slow_call is given, so that the "
                "circuit can never open",
                fix="give one of them",
            )
        if self.slow_call is None and Exception in self.ignore:
            raise MisfitError(
                "ignore has Exception, so that no failure counts and the circuit can never open",
                fix="name the errors that say nothing about the dependency",
            )
        if self.needs_window and self.window_type == "count" and self.window < self.min_calls:
            raise MisfitError(
                f"window ({self.window} calls) is below min_calls ({self.min_calls}), so that no "
                "rate could ever open the circuit",
                fix="raise window or lower min_calls",
            )

    @field_serializer("ignore", when_used="json")
    def _write_code(self, value: Any, info: FieldSerializationInfo) -> Any:
        return import_path(value, info.field_name)

    @property
    def needs_window(self) -> bool:
        """Whether a rule asks for a rate, and so for the window."""
        return self.failure_rate is not None or self.slow_call is not None


def _rate_of(given: Mapping[str, Any]) -> float | None:
    """The failure rate of a breaker: its default stands alone."""
    default = None if given.get("consecutive") is not None else 0.5
    rate: float | None = given.get("failure_rate", default)
    return rate
