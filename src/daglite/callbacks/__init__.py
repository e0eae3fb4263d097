"""
Those who are told what happens in a run: they may watch it, and can't change it.

Pass them to `evaluate(..., callbacks=[ProgressBar(), Logger(level="INFO")])`. A callback is any
object with one or more of the methods of `ExecutionCallback`, and `Callback` is the type of all
such objects; its `on_event` is given the events that stand here too.
"""

from __future__ import annotations

from daglite.callbacks.logger import Logger
from daglite.callbacks.progress import ProgressBar
from daglite.core.events import (
    AttemptFailed,
    CallAbandoned,
    CallHedged,
    CallMeasured,
    CallParked,
    CircuitChanged,
    ElementFailed,
    Event,
    FallbackUsed,
    FaultInjected,
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    ProbeFailed,
    RunFinished,
    RunStarted,
)
from daglite.core.protocols import Callback, ExecutionCallback

__all__ = [
    "AttemptFailed",
    "CallAbandoned",
    "CallHedged",
    "CallMeasured",
    "CallParked",
    "Callback",
    "CircuitChanged",
    "ElementFailed",
    "Event",
    "ExecutionCallback",
    "FallbackUsed",
    "FaultInjected",
    "Logger",
    "MapProgress",
    "NodeCompleted",
    "NodeFailed",
    "NodeStarted",
    "ProbeFailed",
    "ProgressBar",
    "RunFinished",
    "RunStarted",
]
