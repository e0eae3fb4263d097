"""Durations as seconds, sizes as bytes: read where they enter, plain numbers inside."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from fractions import Fraction

__all__ = ["format_duration", "parse_duration", "parse_size"]

DURATION_FORMS = "seconds such as 30 or 0.5, text such as '200ms', '30s', '5m', '1.5h', '1d' or "
DURATION_FORMS += "'2m30s', or a timedelta"
SIZE_FORMS = "whole bytes such as 4096, or text such as '512kB', '1GB' (10^9) or '1GiB' (2^30)"

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_PLAIN = re.compile(rf"\s*{_NUMBER}\s*", re.ASCII)
# Each unit once at most, from the longest to the shortest.
_UNITS = tuple(map(Fraction, ("86400", "3600", "60", "1", "1/1000")))
_DURATION = re.compile(
    r"\s*" + "".join(rf"(?:{_NUMBER}\s*{unit}\s*)?" for unit in ("d", "h", "m(?!s)", "s", "ms")),
    re.ASCII,
)
_SIZE = re.compile(rf"\s*{_NUMBER}\s*(?:([kmgtp])(i?))?b\s*", re.ASCII | re.IGNORECASE)


def parse_duration(value: float | str | timedelta) -> float:
    """
    Read a duration as seconds, from 0, finite.

    A plain number, also as text, is seconds.

    Raises:
        ValueError: *value* is none; the message tells the accepted forms.
    """
    seconds = _seconds(value)
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{_shown(value)} is not a duration from 0; write {DURATION_FORMS}")
    return seconds + 0.0  # no minus zero


def parse_size(value: int | str) -> int:
    """
    Read a size as bytes, from 0.

    Units don't mind upper and lower case.

    Raises:
        ValueError: *value* is none; the message tells the accepted forms.
    """
    size = _bytes(value)
    if size is None or size < 0:
        raise ValueError(f"{_shown(value)} is not a size from 0; write {SIZE_FORMS}")
    return size


def format_duration(seconds: float) -> str:
    """*seconds* as text for people, such as ``"200ms"``, ``"1.5s"``, ``"2m30s"``, ``"1d2h"``."""
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if not seconds < 1e12:
        return "forever" if seconds == math.inf else f"{seconds:g}s"
    micros = round(seconds * 1e6)
    if micros < 1_000_000:
        return f"{micros / 1000:g}ms" if micros else "0s"
    # Fractions of a second say nothing about an hour.
    millis = round(seconds * 1000) if seconds < 3600 else round(seconds) * 1000
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        count, millis = divmod(millis, size)
        if count:
            parts.append(f"{count}{unit}")
    if millis:
        parts.append(f"{millis / 1000:g}s")
    return "".join(parts)


def format_size(size: int) -> str:
    """*size* bytes as people write it, rounded: ``"1.5GB"``; `parse_size` reads it."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.4g}{unit}"
    return f"{size}B"


def _seconds(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            return _seconds_of_text(value)
    except OverflowError:
        pass
    return None


def _seconds_of_text(text: str) -> float | None:
    plain = _PLAIN.fullmatch(text)
    if plain:
        return float(plain[1])
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    # Exact until the end: "0.1s" and 0.1 are one number.
    pairs = zip(match.groups(), _UNITS, strict=True)
    return float(sum((Fraction(number) * unit for number, unit in pairs if number), Fraction(0)))


def _bytes(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if not isinstance(value, str):
        return None
    plain, match = _PLAIN.fullmatch(value), _SIZE.fullmatch(value)
    if plain:
        size = Fraction(plain[1])
    elif match:
        step = 1024 if match[3] else 1000
        power = " kmgtp".index(match[2].lower()) if match[2] else 0
        size = Fraction(match[1]) * step**power
    else:
        return None
    return int(size) if size.denominator == 1 else None


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        # An int of more digits than Python prints, or a stranger's repr that fails.
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."
