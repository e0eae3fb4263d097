"""For tests of graphs: time that costs nothing, calls that end as told, and what happened."""

from __future__ import annotations

from daglite._clock import VirtualClock
from daglite.testing.endings import Fails, Hangs, Takes
from daglite.testing.off import policies_off
from daglite.testing.recorded import RecordedEvents
from daglite.testing.scripted import ScriptedBackend, ScriptedCall

__all__ = [
    "Fails",
    "Hangs",
    "RecordedEvents",
    "ScriptedBackend",
    "ScriptedCall",
    "Takes",
    "VirtualClock",
    "policies_off",
]
