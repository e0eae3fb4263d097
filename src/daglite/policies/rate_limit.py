"""How many calls may start in a time."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator
from typing_extensions import Self

from daglite._units import format_duration
from daglite.policies.base import (
    NOT_GIVEN,
    Duration,
    Policy,
    PositiveDuration,
    Seconds,
    typed_init,
)
from daglite.policies.code import shown
from daglite.policies.fields import (
    KEY_WANTED,
    MOST,
    TEN_YEARS,
    Key,
    PositiveAmount,
    PositiveCount,
    Scope,
)

__all__ = ["RateLimit"]


class RateLimit(Policy):
    """
    Start attempts no faster than a dependency allows; those that are too early wait.

    ``RateLimit(100)`` starts a hundred each second, evenly; ``RateLimit(100, "1m")`` a hundred
    each minute.  In any T seconds no more than ``rate / per * T + burst`` start.

    Attributes:
        rate: How many may start in ``per`` seconds, above 0: one in ten years at least, and at most
            10^9 each second.
        per: Seconds, above 0.
        burst: How many may start at once after a pause, from 1; 1 spreads them evenly.
        max_wait: The longest that an attempt waits for its turn, from 0; then it fails. None:
            as long as it takes.
        key: Which limit it is: tasks with the same key share one; None: the name of the task.
        scope: Who shares it: this run, the runs of this process, or the processes of this
            machine ("host").

    Raises:
        PolicyError: A field is unknown, missing or makes no sense.
    """

    _together: ClassVar[frozenset[str]] = frozenset({"rate", "per", "burst"})

    rate: PositiveAmount = Field(description="a number above 0, such as 100 for 100 each second")
    per: PositiveDuration = Field(default=1.0, description="seconds above 0 such as 60 or '1m'")
    burst: PositiveCount = Field(default=1, description="a whole number from 1 to 10^9")
    max_wait: Duration | None = Field(default=None)
    key: Key | None = Field(default=None, description=KEY_WANTED)
    scope: Scope = Field(default="run", description="'run', 'process' or 'host'")

    @typed_init
    def __init__(
        self,
        rate: float,
        per: Seconds = NOT_GIVEN,
        *,
        burst: int = NOT_GIVEN,
        max_wait: Seconds | None = NOT_GIVEN,
        key: str | None = NOT_GIVEN,
        scope: Scope = NOT_GIVEN,
    ) -> None: ...

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        both = f"rate ({shown(self.rate)}) and per ({format_duration(self.per)}) allow"
        if self.rate * TEN_YEARS < self.per:
            raise ValueError(
                f"{both} less than one attempt in ten years; raise rate or shorten per"
            )
        if self.rate > self.per * MOST:
            raise ValueError(
                f"{both} more than 10^9 attempts each second; lower rate or lengthen per"
            )
        return self
