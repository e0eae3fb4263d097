"""How many retries a dependency can take, whoever makes them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from daglite.policies.base import (
    NOT_GIVEN,
    Policy,
    PositiveDuration,
    Seconds,
    typed_init,
)
from daglite.policies.code import shown
from daglite.policies.fields import KEY_WANTED, TEN_YEARS, Key, Rate, Scope, ShareFrom0

__all__ = ["OnExhausted", "RetryBudget"]

OnExhausted = Literal["pace", "fail"]


class RetryBudget(Policy):
    """
    Bound the retries of all calls together, so that they don't add up to a storm.

    ``RetryPolicy(5, budget=RetryBudget(0.1))`` allows one retry for ten first calls, and one each
    second besides.

    Source: https://finagle.github.io/blog/2016/02/08/retry-budgets/

    Attributes:
        ratio: Retries allowed for each first call in the window, from 0 to 1.
        min_per_second: Retries allowed each second whatever the first calls: 0, or from one in ten
            years to 10^9.
        window: Seconds over which both are counted, above 0.
        on_exhausted: What becomes of a retry that the budget doesn't allow: it waits until it
            does ("pace"), or the call fails ("fail").
        key: Which budget it is: tasks with the same key share one; None: the name of the task.
        scope: Who shares it: this run, the runs of this process, or the processes of this
            machine ("host").

    Raises:
        PolicyError: A field is unknown or makes no sense, or no retry could ever start.
    """

    ratio: ShareFrom0 = Field(default=0.2, description="a share from 0 to 1 such as 0.2")
    min_per_second: Rate = Field(default=1.0, description="a number from 0 to 10^9")
    window: PositiveDuration = Field(
        default=10.0, description="seconds above 0 such as 10 or '10s'"
    )
    on_exhausted: OnExhausted = Field(default="pace", description="'pace' or 'fail'")
    key: Key | None = Field(default=None, description=KEY_WANTED)
    scope: Scope = Field(default="run", description="'run', 'process' or 'host'")

    @typed_init
    def __init__(
        self,
        ratio: float = NOT_GIVEN,
        *,
        min_per_second: float = NOT_GIVEN,
        window: Seconds = NOT_GIVEN,
        on_exhausted: OnExhausted = NOT_GIVEN,
        key: str | None = NOT_GIVEN,
        scope: Scope = NOT_GIVEN,
    ) -> None: ...

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.ratio == 0 and self.min_per_second == 0:
            raise ValueError(
                "ratio and min_per_second are both 0, so that no retry can ever start; raise one "
                "of them, or write max_retries=0"
            )
        if 0 < self.min_per_second < 1 / TEN_YEARS:
            raise ValueError(
                f"min_per_second: {shown(self.min_per_second)} each second is less than one in ten "
                f"years; raise it, or write 0"
            )
        return self
