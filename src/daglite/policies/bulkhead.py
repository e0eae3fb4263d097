"""How many calls may run at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from daglite.policies.base import NOT_GIVEN, Duration, Policy, Seconds, typed_init
from daglite.policies.fields import KEY_WANTED, Count, Key, PositiveCount

__all__ = ["Bulkhead"]


class Bulkhead(Policy):
    """
    Let only so many attempts run at a time; the others wait, holding no worker.

    ``Bulkhead(4)`` runs four at most.

    Attributes:
        max_concurrent: How many may run at a time, from 1.
        max_queue: How many may wait, from 0; one more fails at once. None: any number.
        max_wait: The longest that an attempt waits for its turn, from 0; then it fails. None:
            as long as it takes.
        key: Which bulkhead it is: tasks with the same key share one; None: the name of the task.

    Raises:
        PolicyError: A field is unknown, missing or makes no sense.
    """

    max_concurrent: PositiveCount = Field(description="a whole number from 1 to 10^9")
    max_queue: Count | None = Field(
        default=None, description="a whole number from 0 to 10^9, or None for any number"
    )
    max_wait: Duration | None = Field(default=None)
    key: Key | None = Field(default=None, description=KEY_WANTED)

    @typed_init
    def __init__(
        self,
        max_concurrent: int,
        max_queue: int | None = NOT_GIVEN,
        *,
        max_wait: Seconds | None = NOT_GIVEN,
        key: str | None = NOT_GIVEN,
    ) -> None: ...

    def _inherited(self, weaker: Mapping[str, Any]) -> Mapping[str, Any]:
        """Whoever says how long to wait inherits no queue that nobody may wait in."""
        kept, said = super()._inherited(weaker), self._said
        if said.get("max_wait") is None or "max_queue" in said or kept.get("max_queue") != 0:
            return kept
        return {name: value for name, value in kept.items() if name != "max_queue"}

    @classmethod
    def _without_part(cls, given: Mapping[str, Any]) -> dict[str, tuple[str, object]]:
        if given.get("max_queue") == 0 and given.get("max_wait") is not None:
            return {"max_wait": ("max_queue", 0)}
        return {}
