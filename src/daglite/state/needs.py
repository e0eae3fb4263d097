"""What states need of the policies that they are made from."""

from __future__ import annotations

from typing import Literal, Protocol

__all__ = ["BreakerPolicy", "BucketPolicy", "BudgetPolicy", "PermitsPolicy"]


class BreakerPolicy(Protocol):
    """What `Breaker` needs of a circuit breaker's policy."""

    @property
    def failure_rate(self) -> float | None:
        """The breaker opens at this part of failures, above 0, to 1; None: at none."""
        ...

    @property
    def consecutive(self) -> int | None:
        """The breaker opens at so many failures in a row, from 1; None: at none."""
        ...

    @property
    def min_calls(self) -> int:
        """So many calls in the window before rates mean something, from 1."""
        ...

    @property
    def window_type(self) -> Literal["count", "time"]:
        """What `window` is a number of."""
        ...

    @property
    def window(self) -> float:
        """Calls, or seconds, that rates are made of."""
        ...

    @property
    def slow_call(self) -> float | None:
        """A call that takes more seconds is slow; None: none is."""
        ...

    @property
    def slow_rate(self) -> float:
        """The breaker opens at this part of slow calls, above 0, to 1."""
        ...

    @property
    def break_for(self) -> float:
        """Seconds from the opening to the first probe, above 0."""
        ...

    @property
    def break_factor(self) -> float:
        """By what the break grows each time that probes fail, from 1."""
        ...

    @property
    def max_break(self) -> float:
        """The longest break, in seconds."""
        ...

    @property
    def probes(self) -> int:
        """How many calls try whether the other side is well again, from 1."""
        ...

    @property
    def probe_lease(self) -> float | None:
        """Seconds after which a probe that isn't back frees its place; None: `break_for`."""
        ...

    @property
    def mode(self) -> Literal["on", "metrics_only", "disabled", "forced_open"]:
        """On, or the state that it stays in."""
        ...


class BucketPolicy(Protocol):
    """What `Bucket` needs of a rate limit's policy."""

    @property
    def rate(self) -> float:
        """Calls in each `per` seconds, above 0."""
        ...

    @property
    def per(self) -> float:
        """Seconds, above 0."""
        ...

    @property
    def burst(self) -> int:
        """Calls that may start at once after a pause, from 1."""
        ...


class BudgetPolicy(Protocol):
    """What `Budget` needs of a retry budget's policy."""

    @property
    def ratio(self) -> float:
        """Retries for each first call, from 0."""
        ...

    @property
    def min_per_second(self) -> float:
        """Retries in each second that are allowed without any first call, from 0."""
        ...

    @property
    def window(self) -> float:
        """Seconds that a call counts for, above 0."""
        ...

    @property
    def on_exhausted(self) -> Literal["pace", "fail"]:
        """Whether a retry that isn't allowed now waits, or isn't made."""
        ...


class PermitsPolicy(Protocol):
    """What `Permits` needs of a bulkhead's policy."""

    @property
    def max_concurrent(self) -> int:
        """How many may run at the same time, from 1."""
        ...

    @property
    def max_queue(self) -> int | None:
        """How many may wait, from 0; None: any number."""
        ...
