"""What a failed element does to its map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from daglite.policies.base import NOT_GIVEN, Policy, typed_init
from daglite.policies.fields import Count, ShareFrom0

__all__ = ["MapPolicy", "OnError"]

OnError = Literal["raise", "skip", "collect"]


class MapPolicy(Policy):
    """
    Say what becomes of a map when some of its elements fail.

    ``MapPolicy("skip")`` leaves them out; ``MapPolicy("collect", max_failures=10)`` puts their
    errors in their places, and fails with the eleventh.

    It says nothing of a call that is no element of a map.

    Attributes:
        on_error: What a failed element does: it fails the map at once, and no further element
            starts ("raise"); it is left out ("skip"); its error takes its place ("collect").
        min_success_ratio: Share of elements that must succeed, from 0 to 1, else the map fails;
            by default 1 with "raise", and 0 with the others.
        max_failures: Failed elements that the map stands, from 0; one more fails it at once.
            None: any number.

    Raises:
        PolicyError: A field is unknown or makes no sense.
    """

    on_error: OnError = Field(default="raise", description="'raise', 'skip' or 'collect'")
    min_success_ratio: ShareFrom0 = Field(
        default=1.0, description="a share from 0 to 1 such as 0.9"
    )
    max_failures: Count | None = Field(
        default=None, description="a whole number from 0 to 10^9, or None for any number"
    )

    @typed_init
    def __init__(
        self,
        on_error: OnError = NOT_GIVEN,
        *,
        min_success_ratio: float = NOT_GIVEN,
        max_failures: int | None = NOT_GIVEN,
    ) -> None: ...

    @classmethod
    def _without_part(cls, given: Mapping[str, Any]) -> dict[str, tuple[str, object]]:
        found: dict[str, tuple[str, object]] = {}
        if given.get("on_error", "raise") == "raise":
            if given.get("min_success_ratio", 1.0) < 1:
                found["min_success_ratio"] = ("on_error", "raise")
            if given.get("max_failures"):
                found["max_failures"] = ("on_error", "raise")
        return found

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.on_error != "raise" and "min_success_ratio" not in self.model_fields_set:
            # As data, so that policies that do the same are equal. With 1, the first failure
            # would fail the map in spite of the choice.
            object.__setattr__(self, "min_success_ratio", 0.0)
        return self
