"""A second call beside one that takes long; the first that is done wins."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator
from typing_extensions import Self

from daglite.policies.base import NOT_GIVEN, Duration, Policy, Seconds, typed_init
from daglite.policies.fields import PositiveCount

__all__ = ["Hedge"]


class Hedge(Policy):
    """
    Call again, beside an attempt that takes long, and take the result that comes first.

    ``Hedge("200ms")`` makes the second call after 200 ms. Only for tasks that say
    ``idempotent=True``: both calls may be carried out.

    Source: https://research.google/pubs/the-tail-at-scale/

    Attributes:
        delay: Seconds that a call runs before another one is made, from 0.
        quantile: Instead of a delay: the share of the task's calls, above 0 and below 1, that are
            done before another call is made.
        max_hedges: Further calls at most, from 1.

    Raises:
        PolicyError: A field is unknown or makes no sense, or not exactly one of ``delay`` and
            ``quantile`` is given.
    """

    _together: ClassVar[frozenset[str]] = frozenset({"delay", "quantile"})

    delay: Duration | None = Field(default=None)
    quantile: Annotated[float, Field(gt=0, lt=1, strict=True, allow_inf_nan=False)] | None = Field(
        default=None, description="a share above 0, below 1, such as 0.95, or None"
    )
    max_hedges: PositiveCount = Field(default=1, description="a whole number from 1 to 10^9")

    @typed_init
    def __init__(
        self,
        delay: Seconds | None = NOT_GIVEN,
        *,
        quantile: float | None = NOT_GIVEN,
        max_hedges: int = NOT_GIVEN,
    ) -> None: ...

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.delay is not None and self.quantile is not None:
            raise ValueError("delay and quantile are both given; give one of them")
        if self.delay is None and self.quantile is None:
            raise ValueError(
                "neither delay nor quantile is given; give one of them, such as delay='200ms' or "
                "quantile=0.95"
            )
        return self
