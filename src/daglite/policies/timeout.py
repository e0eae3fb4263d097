"""How long a call may take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

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
from daglite.policies.messages import MisfitError

__all__ = ["Expiry", "TimeoutPolicy"]

Expiry = Literal["kill", "cancel", "abandon"]


class TimeoutPolicy(Policy):
    """
    Limit the time of a call: of each attempt, of all of it, or both.

    ``TimeoutPolicy(30)`` gives each attempt 30 seconds. Durations are seconds, or text such as
    "200ms", "5m", or a `timedelta`.

    Attributes:
        attempt: Limit of one attempt, from the moment it starts to run, above 0; None: no limit.
        total: Limit of the whole call with its queueing, retries and waits, not below
            ``attempt``; None: no limit.
        grace: How long a cancelled or abandoned call may take to end before it is given up for
            lost, from 0; the error is raised at the limit, without it.
        on_expiry: What happens to the call at the limit: "kill" its worker, "cancel" it, or
            "abandon" it; None: the strongest of these that the backend has.

    Raises:
        PolicyError: A field is unknown or makes no sense, or neither limit is given.
    """

    attempt: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 30 or '30s', or None for no limit"
    )
    total: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 300 or '5m', or None for no limit"
    )
    grace: Duration = Field(default=5.0)
    on_expiry: Expiry | None = Field(
        default=None, description="'kill', 'cancel' or 'abandon', or None for the strongest"
    )

    @typed_init
    def __init__(
        self,
        attempt: Seconds | None = NOT_GIVEN,
        *,
        total: Seconds | None = NOT_GIVEN,
        grace: Seconds = NOT_GIVEN,
        on_expiry: Expiry | None = NOT_GIVEN,
    ) -> None: ...

    @classmethod
    def _agreed(cls, weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
        """A limit of attempts that is inherited can't be longer than the total: cut to it."""
        fields = {**weaker, **stronger}
        attempt, total = fields.get("attempt"), fields.get("total")
        own = "attempt" in stronger and "total" not in stronger
        if attempt is not None and total is not None and attempt > total and not own:
            fields["attempt"] = total
        return fields

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.attempt is None and self.total is None:
            raise ValueError("neither attempt nor total is given; give at least one limit")
        if self.attempt is not None and self.total is not None and self.attempt > self.total:
            raise MisfitError(
                f"attempt ({format_duration(self.attempt)}) is above total "
                f"({format_duration(self.total)})",
                fix="raise total or lower attempt",
            )
        return self
