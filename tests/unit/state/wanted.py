"""Policies as plain data, with the defaults of the real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class WantedBreaker:
    failure_rate: float | None = 0.5
    consecutive: int | None = None
    min_calls: int = 10
    window_type: Literal["count", "time"] = "count"
    window: float = 100
    slow_call: float | None = None
    slow_rate: float = 1.0
    break_for: float = 30.0
    break_factor: float = 1.0
    max_break: float = 600.0
    probes: int = 1
    probe_lease: float | None = None
    mode: Literal["on", "metrics_only", "disabled", "forced_open"] = "on"


@dataclass(frozen=True)
class WantedBucket:
    rate: float
    per: float = 1.0
    burst: int = 1


@dataclass(frozen=True)
class WantedPermits:
    max_concurrent: int
    max_queue: int | None = None


@dataclass(frozen=True)
class WantedBudget:
    ratio: float = 0.2
    min_per_second: float = 1.0
    window: float = 10.0
    on_exhausted: Literal["pace", "fail"] = "pace"
