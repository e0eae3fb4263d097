"""What happened in a run, for a test to look at."""

from __future__ import annotations

from typing import TypeVar, final

from daglite.core.events import Event

__all__ = ["RecordedEvents"]

E = TypeVar("E", bound=Event)


@final
class RecordedEvents:
    """
    A callback that keeps the events of its runs.

    Attributes:
        events: In the order in which they happened.

    Example:
        >>> from daglite import evaluate, task
        >>> events = RecordedEvents()
        >>> evaluate(task(lambda: 1, name="one").bind(), callbacks=[events])
        1
        >>> events.names()
        ['RunStarted', 'NodeStarted', 'NodeCompleted', 'RunFinished']
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        """Keep *event*."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of that type."""
        return [event for event in self.events if isinstance(event, kind)]

    def names(self) -> list[str]:
        """The names of the events' types."""
        return [type(event).__name__ for event in self.events]
