"""What a circuit breaker answers: permits, moves from state to state, and how it stands."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal, final

__all__ = ["BreakerSnapshot", "BreakerState", "Permit", "Transition"]

BreakerState = Literal["closed", "open", "half_open", "forced_open", "disabled", "metrics_only"]


@final
@dataclass(frozen=True, slots=True)
class Transition:
    """A breaker that went from one state to another."""

    key: str
    before: BreakerState
    after: BreakerState
    reason: str
    """For people, such as "5 failures in a row"."""
    retry_in: float | None
    """Seconds until a probe may go; None: calls may go. ``inf``: until somebody resets it."""
    wake: tuple[Hashable, ...]
    """Who waits for a permit and should ask again now, in the order in which they came."""
    generation: int = field(default=0, compare=False)
    """The number of this transition: each of a breaker has a greater one."""


@final
class Permit:
    """
    Leave to make one call, which owes the breaker one `Breaker.record` or `Breaker.give_back`.

    Attributes:
        generation: The breaker's generation; it grows with each transition.
        is_probe: Whether the call is to find out if the other side is well again.
        transition: To half-open, if this permit brought it about.
        ticket: A probe's number, which no other probe of the breaker has; 0: it is none.
    """

    __slots__ = ("generation", "is_probe", "ticket", "transition")

    def __init__(
        self, generation: int, ticket: int = 0, transition: Transition | None = None
    ) -> None:
        self.generation = generation
        self.is_probe = ticket > 0
        self.transition = transition
        self.ticket = ticket


@final
@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """How a breaker stands."""

    key: str
    state: BreakerState
    failure_rate: float
    """From 0 to 1, over the window; while open or half-open, over the one it opened with."""
    slow_rate: float
    """The same for slow calls."""
    calls: int
    """Calls in the window."""
    retry_in: float | None
    """
    Seconds until asking for a permit makes sense; 0.0: a probe may go now.

    None: calls may go. ``inf``: until somebody resets it.
    """
