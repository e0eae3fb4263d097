"""How many calls may start in a time."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from daglite.policies.base import (
    NOT_GIVEN,
    Duration,
    Policy,
    PositiveDuration,
    Seconds,
    typed_init,
)
from daglite.policies.fields import KEY_WANTED, Key, PositiveAmount, PositiveCount, Scope

__all__ = ["RateLimit"]


class RateLimit(Policy):
    """
    Start attempts no faster than a dependency allows; those that are too early wait.

    ``RateLimit(100)`` starts a hundred each second, evenly; ``RateLimit(100, "1m")`` a hundred
    each minute.

    Attributes:
        rate: How many may start in ``per`` seconds, above 0.
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
    burst: PositiveCount = Field(default=1, description="a whole number from 1")
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
