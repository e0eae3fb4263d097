"""How an attempt of a scripted call ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast, final

from daglite.exceptions import BackendError

__all__ = ["OF_FUNCTION", "Ending", "Fails", "Hangs", "Takes"]

OF_FUNCTION: Final[Any] = object()
"""Stands for what the task's function returns."""


@final
@dataclass(frozen=True)
class Takes:
    """
    An attempt that succeeds.

    Attributes:
        seconds: How long it takes, in virtual seconds from 0.
        value: What it returns; left out, the task's function is run, and how it ends counts.

    Raises:
        BackendError: *seconds* is no such number.
    """

    seconds: float = 0.0
    value: Any = OF_FUNCTION

    def __post_init__(self) -> None:
        _check_seconds("Takes: seconds", self.seconds)


@final
@dataclass(frozen=True)
class Fails:
    """
    An attempt that fails.

    Attributes:
        error: What it raises.
        after: How long it takes, in virtual seconds from 0.

    Raises:
        BackendError: *error* is no exception, or *after* no such number.
    """

    error: BaseException
    after: float = 0.0

    def __post_init__(self) -> None:
        given: object = self.error
        if not isinstance(given, BaseException):
            raise BackendError(
                f"Fails: error is an exception such as OSError('busy'), not {given!r:.60}"
            )
        _check_seconds("Fails: after", self.after)


@final
@dataclass(frozen=True)
class Hangs:
    """An attempt that never ends and can't be interrupted; what cancels it must abandon it."""


Ending: TypeAlias = Takes | Fails | Hangs


def _check_seconds(what: str, given: object) -> None:
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not (number and 0 <= cast(float, given) < math.inf):
        raise BackendError(f"{what} is a number from 0, not {given!r:.60}")
