"""Reads data that somebody else has written, and may have written wrongly."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["read_list", "read_number", "read_whole"]

_LARGE = 2**53


def read_number(value: Any) -> float:
    """
    A number, but neither ``inf`` nor ``nan``.

    Raises:
        ValueError: *value* is none.
    """
    if isinstance(value, int) and abs(value) < _LARGE and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"{value!r:.60} is no number")
    return value


def read_whole(value: Any) -> int:
    """
    A whole number from 0, that a float can hold.

    Raises:
        ValueError: *value* is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGE:
        raise ValueError(f"{value!r:.60} is no whole number from 0")
    return value


def read_list(value: Any, width: int | None = None) -> list[Any]:
    """
    A list; with *width*, of lists that are that long.

    Raises:
        ValueError: *value* is none.
    """
    if not isinstance(value, list):
        raise ValueError(f"{value!r:.60} is no list")
    if width is not None and not all(isinstance(v, list) and len(v) == width for v in value):
        raise ValueError(f"{value!r:.60} isn't made of lists of {width}")
    return value
