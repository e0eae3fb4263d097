"""How long to wait before a retry: names, lists and tenacity's objects made into one."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from typing import Literal, Protocol, get_args

from tenacity import RetryCallState
from tenacity.wait import (
    wait_base,
    wait_chain,
    wait_exponential,
    wait_fixed,
    wait_incrementing,
    wait_none,
)

from daglite._units import parse_duration
from daglite.exceptions import PolicyError
from daglite.policies.base import Seconds
from daglite.policies.code import hashed, shown

__all__ = [
    "BACKOFF_SCHEMA",
    "Backoff",
    "BackoffName",
    "Delays",
    "FibonacciWait",
    "Jitter",
    "decorrelated",
    "jittered",
    "read_backoff",
    "wait_object",
    "write_backoff",
]

BackoffName = Literal["none", "constant", "linear", "exponential", "fibonacci", "decorrelated"]
Jitter = Literal["none", "equal", "full"]
Backoff = BackoffName | tuple[float, ...] | wait_base

_NAMES = get_args(BackoffName)

BACKOFF_SCHEMA = {
    "anyOf": [
        {"enum": list(_NAMES)},
        {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [{"type": "number"}, {"type": "string"}]},
        },
    ]
}
"""What a backoff is in JSON."""


class Delays(Protocol):
    """A list or tuple of delays, but not text (whose ``__contains__`` takes only text)."""

    def __contains__(self, item: object, /) -> bool: ...
    def __getitem__(self, index: int, /) -> Seconds: ...
    def __iter__(self) -> Iterator[Seconds]: ...
    def __len__(self) -> int: ...


class FibonacciWait(wait_base):
    """
    Wait `unit` seconds times 1, 1, 2, 3, 5, ..., at most `longest` seconds.

    Example:
        >>> from tenacity import Retrying
        >>> state = RetryCallState(Retrying(), None, (), {})
        >>> state.attempt_number = 5
        >>> FibonacciWait(unit=2.0, longest=60.0)(state)
        10.0
    """

    def __init__(self, unit: float, longest: float) -> None:
        self.unit = unit
        self.longest = longest

    def __call__(self, retry_state: RetryCallState) -> float:
        this, following = self.unit, self.unit
        for _ in range(retry_state.attempt_number - 1):
            if this >= self.longest:
                break
            this, following = following, this + following
        return min(this, self.longest)


def read_backoff(value: object) -> Backoff:
    """
    Read a name, a list of delays (each a duration) or a wait object of tenacity.

    Raises:
        ValueError: *value* is none of these.
    """
    if isinstance(value, wait_base):
        hashed(value)
        return value
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError("an empty list has no delays; write 'none' to retry at once")
        return tuple(parse_duration(delay) for delay in value)
    for name in _NAMES:
        if value == name and isinstance(value, str):
            return name  # type: ignore[no-any-return]
    near = difflib.get_close_matches(value, _NAMES, n=1) if isinstance(value, str) else ()
    hint = f", did you mean '{near[0]}'?" if near else ""
    raise ValueError(
        f"{shown(value)} is no backoff{hint}; write {', '.join(map(repr, _NAMES))}, "
        f"a list of delays such as [1, 5, '1m'], or a wait object of tenacity"
    )


def write_backoff(value: Backoff) -> str | list[float]:
    """
    Write a backoff for JSON.

    Raises:
        PolicyError: *value* is an object of tenacity.
    """
    if isinstance(value, wait_base):
        raise PolicyError(
            f"backoff is {shown(value)}, an object that can't be written to JSON; "
            f"use a name such as 'exponential' or a list of delays"
        )
    return value if isinstance(value, str) else list(value)


def wait_object(backoff: Backoff, delay: float, factor: float, max_delay: float) -> wait_base:
    """Make tenacity's object for the longest wait, in seconds, before jitter."""
    if isinstance(backoff, wait_base):
        return backoff
    if isinstance(backoff, tuple):
        return wait_chain(*(wait_fixed(seconds) for seconds in backoff))
    # Of zero, tenacity's exponential makes the longest wait once the power overflows.
    if backoff == "none" or delay == 0:
        return wait_none()
    if backoff == "constant":
        return wait_fixed(delay)
    if backoff == "linear":
        return wait_incrementing(start=delay, increment=delay, max=max_delay)
    if backoff == "fibonacci":
        return FibonacciWait(delay, max_delay)
    if backoff == "decorrelated":
        # Each wait is at most three times the one before, and the one before the first is delay.
        return wait_exponential(multiplier=_tripled(delay), exp_base=3.0, max=max_delay)
    return wait_exponential(multiplier=delay, exp_base=factor, max=max_delay)


def jittered(seconds: float, jitter: Jitter, draw: float) -> float:
    """
    Spread a wait: "full" over 0 to *seconds*, "equal" over its upper half, "none" not at all.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Args:
        draw: A random number from 0, below 1.
    """
    if jitter == "full":
        return draw * seconds
    if jitter == "equal":
        return seconds / 2 + draw * (seconds / 2)
    return seconds


def decorrelated(delay: float, previous: float, longest: float, draw: float) -> float:
    """
    A wait between *delay* and three times the *previous* one, or *longest* if that is less.

    Neither is below *delay*.  The source cuts the wait after the draw, so that most calls of a
    long outage wait for exactly the longest time, and come back together.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return min(delay + draw * (min(_tripled(previous), longest) - delay), longest)


def _tripled(seconds: float) -> float:
    return min(3.0 * seconds, sys.float_info.max)
