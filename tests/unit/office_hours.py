"""A policy as a user writes one: data that carries itself out."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from daglite import Call, Next, Outcome, Policy


class OfficeHours(Policy):
    """Start calls on workdays, between two full hours; those that come at another time wait."""

    opens: int = Field(default=9, ge=0, le=23, description="an hour from 0 to 23")
    closes: int = Field(default=17, ge=1, le=24, description="an hour from 1 to 24")
    timezone: str = "Europe/Berlin"

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except KeyError:
            raise ValueError(f"there is no timezone {name!r}") from None
        return name

    @model_validator(mode="after")
    def _opens_before_it_closes(self) -> Self:
        if self.opens >= self.closes:
            raise ValueError(f"opens={self.opens} is not before closes={self.closes}")
        return self

    def wait_from(self, moment: datetime) -> float:
        """Seconds from *moment* until the office is open; 0 if it is."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        opening = local.replace(hour=self.opens, minute=0, second=0, microsecond=0)
        if local.hour >= self.closes:
            opening += timedelta(days=1)
        while opening.weekday() >= 5:
            opening += timedelta(days=1)
        return max(opening.timestamp() - moment.timestamp(), 0.0)

    @property
    def longest_wait(self) -> float:
        """From Friday to Monday, with the hour that a summer's end adds; in seconds."""
        return (3 * 24 - (self.closes - self.opens) + 1) * 3600.0

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        await call.park(self.wait_from(call.wall_time()), "office hours")
        return await call_next(call)
