"""Graphs for the tests of lint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daglite import (
    Hedge,
    MapPolicy,
    task,
)
from daglite.testing import ScriptedBackend, VirtualClock

SKIP = MapPolicy("skip")
STEADY: dict[str, Any] = {"delay": 1, "jitter": "none"}

Expression = Callable[[], Any]
"""Makes one, so that a mistake in it fails its own test."""


@task
def work(x: int = 0, y: int = 0) -> int:
    raise AssertionError("nothing is run")


other = task(lambda x=0: x, name="other")
namesake = task(lambda x=0: x, name="work")


def one(**options: Any) -> Any:
    return work.with_options(**options).bind()


def many(number: int = 100, **options: Any) -> Any:
    return work.with_options(**options).extend(x=range(number))


def both(first: Any, second: Any) -> Any:
    return [first.bind(), second.bind()]


def scripted() -> dict[str, Any]:
    return {"default_backend": ScriptedBackend(VirtualClock(), slots=4)}


def pairs(first: Any, second: Any, **options: Any) -> Any:
    return work.with_options(**options).zip(x=first, y=second)


def skipping(source: Any = range(9), **options: Any) -> Any:
    return other.with_options(**{"map_policy": SKIP, **options}).extend(x=source)


def kept(source: Any) -> Any:
    """A map that loses nothing."""
    return other.with_options(name="keeps").extend(x=source)


def hedged(delay: float | None = None, **more: Any) -> dict[str, Any]:
    given = {"delay": 1 if delay is None else delay, **more} if "quantile" not in more else more
    return {"hedge": Hedge(**given), "idempotent": True}
