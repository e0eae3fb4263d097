"""What a call may use, and what it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema

from daglite.policies.base import (
    NOT_GIVEN,
    Policy,
    PositiveDuration,
    Seconds,
    typed_init,
)
from daglite.policies.code import shown
from daglite.policies.fields import Amount, Count, Factor, PositiveCount, PositiveSize
from daglite.policies.frozen import FrozenMapping

__all__ = ["ResourceLimits"]

_AMOUNTS = {"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0}}


def _read_resources(value: object) -> FrozenMapping[float]:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{shown(value)} is no mapping of names to amounts; write one such as {{'licence': 1}}"
        )
    return FrozenMapping({_read_name(name): _read_amount(name, value[name]) for name in value})


def _read_name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{shown(name)} is no name of a resource; write one such as 'licence'")
    return name


def _read_amount(name: object, amount: object) -> float:
    if isinstance(amount, (int, float)) and not isinstance(amount, bool) and 0 < amount < math.inf:
        return float(amount)
    raise ValueError(
        f"{shown(name)} has the amount {shown(amount)}; give a number above 0, or leave it out"
    )


class ResourceLimits(Policy):
    """
    Limit the memory and the CPU time of each attempt, and say what it needs.

    ``ResourceLimits("1GB", 60)`` allows an attempt 10^9 bytes and a minute of CPU time. Sizes are
    bytes, or text such as "512kB", "1GB" (10^9), "1GiB" (2^30); durations are seconds, or text
    such as "5m", or a `timedelta`.

    Attributes:
        max_memory: Bytes that the call and its child processes may hold, above 0; None: no limit.
        max_cpu_time: Seconds of CPU time that they may use, above 0; None: no limit.
        max_processes: Child processes that it may have at a time, from 0; None: no limit.
        max_open_files: Files that it may have open, from 1; None: no limit.
        grow: What the limit that was passed is multiplied by for each retry after that, from 1.
        poll_interval: Seconds between two looks at the use, above 0.
        cpus: CPUs that it needs, from 0.
        gpus: GPUs that it needs, from 0.
        resources: Other things that it needs: name -> amount, above 0.

    Raises:
        PolicyError: A field is unknown or makes no sense.
    """

    max_memory: PositiveSize | None = Field(
        default=None, description="bytes above 0 such as '1GB', or None for no limit"
    )
    max_cpu_time: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 60 or '1m', or None for no limit"
    )
    max_processes: Count | None = Field(
        default=None, description="a whole number from 0 to 10^9, or None for no limit"
    )
    max_open_files: PositiveCount | None = Field(
        default=None, description="a whole number from 1 to 10^9, or None for no limit"
    )
    grow: Factor = Field(default=1.0, description="a number from 1")
    poll_interval: PositiveDuration = Field(
        default=0.05, description="seconds above 0 such as 0.05 or '50ms'"
    )
    cpus: Amount = Field(default=1.0, description="a number from 0")
    gpus: Amount = Field(default=0.0, description="a number from 0")
    resources: Annotated[
        Mapping[str, float],
        PlainValidator(_read_resources),
        PlainSerializer(dict),
        WithJsonSchema(_AMOUNTS),
    ] = Field(default=FrozenMapping({}))

    @typed_init
    def __init__(
        self,
        max_memory: int | str | None = NOT_GIVEN,
        max_cpu_time: Seconds | None = NOT_GIVEN,
        *,
        max_processes: int | None = NOT_GIVEN,
        max_open_files: int | None = NOT_GIVEN,
        grow: float = NOT_GIVEN,
        poll_interval: Seconds = NOT_GIVEN,
        cpus: float = NOT_GIVEN,
        gpus: float = NOT_GIVEN,
        resources: Mapping[str, float] = NOT_GIVEN,
    ) -> None: ...

    @classmethod
    def _without_part(cls, given: Mapping[str, Any]) -> dict[str, tuple[str, object]]:
        limited = given.get("max_memory") is not None or given.get("max_cpu_time") is not None
        if not limited and given.get("grow", 1.0) > 1:
            return {"grow": ("max_memory", None)}
        return {}
