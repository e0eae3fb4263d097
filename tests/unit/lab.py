"""A run in virtual time on a scripted backend, whose events are kept."""

from __future__ import annotations

from typing import Any

from daglite import evaluate
from daglite.testing import RecordedEvents, ScriptedBackend, VirtualClock


class Lab:
    """Evaluates in virtual time; called with an expression and what `ScriptedBackend` takes."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.events = RecordedEvents()
        self.backend = ScriptedBackend(self.clock)

    def __call__(self, expr: Any, script: Any = None, *, slots: int = 4, **options: Any) -> Any:
        self.backend = ScriptedBackend(self.clock, script, slots=slots)
        with evaluate.context(
            clock=self.clock, default_backend=self.backend, callbacks=[self.events]
        ) as ctx:
            return ctx.evaluate(expr, **options)

    @property
    def starts(self) -> list[float | None]:
        """When each attempt started, in the order of their submission."""
        return [call.started for call in self.backend.calls]
