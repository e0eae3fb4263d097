"""How long the state machines of these tests look for a difference, and what they share."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings

SHORT = settings(max_examples=100, stateful_step_count=40, deadline=timedelta(seconds=5))
"""For each `make test`."""

LONG = settings(
    max_examples=1000,
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
"""For the night."""


M = TypeVar("M")


def carried(machine: Any, fresh: M, now: float) -> M:
    """*fresh*, which remembers what *machine* does: by way of text, as between processes."""
    state: Any = fresh
    state.load(json.loads(json.dumps(machine.dump(now))), now)
    return fresh


def grouped(times: Iterable[float], width: float) -> list[list[float]]:
    """*times* in groups, each less than *width* long."""
    groups: list[list[float]] = []
    for time in times:
        if groups and time < groups[-1][0] + width:
            groups[-1].append(time)
        else:
            groups.append([time])
    return groups
