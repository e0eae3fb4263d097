"""
Progress as plain lines: for pipes, logs of a CI, and where rich isn't installed.
"""

from __future__ import annotations

from daglite.callbacks.quiet_stream import QuietStream
from daglite.callbacks.tally import RunTally
from daglite.core.events import (
    Event,
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunFinished,
    RunStarted,
)

__all__ = ["LineDisplay"]

# Up to so many nodes, each one that is done has a line of its own.
_SMALL_GRAPH = 50
_MOST_FAILURES = 10
# Shortest time between two lines of a map, and between two of a large graph, in seconds.
_PAUSE = 2.0


class LineDisplay:
    """
    Write one line for what is worth one, and few enough that a log stays readable.

    Args:
        stream: Where to.
        min_interval: Shortest time between two lines of one map, and between any two lines of
            a large graph, in seconds of the run's clock; never under 2.
    """

    def __init__(self, stream: QuietStream, min_interval: float = 0.0) -> None:
        self._stream = stream
        self._pause = max(_PAUSE, min_interval)
        self._paces: dict[str, _Pace] = {}

    def show(self, event: Event, tally: RunTally, label: str) -> None:
        """Write what *event* is worth, each line after *label*; *tally* has counted it."""
        pace = self._paces.setdefault(event.run_id, _Pace(self._pause))
        if isinstance(event, RunFinished):
            del self._paces[event.run_id]
        line = _line(event, tally, pace)
        if line is not None:
            self._stream.write(f"{label}{line}\n")
            self._stream.flush()

    def close(self) -> None:
        """Do nothing: lines leave nothing behind."""


class _Pace:
    """When the lines of one run were written, and which ones may come now."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._last = 0.0
        self._maps: dict[int, float] = {}
        self.failures = 0

    def run_may(self, now: float) -> bool:
        if now - self._last < self._pause:
            return False
        self._last = now
        return True

    def map_may(self, node_id: int, now: float) -> bool:
        # A map's first line comes one pause after its start: a quick one has none.
        if now - self._maps.setdefault(node_id, now) < self._pause:
            return False
        self._maps[node_id] = now
        return True

    def forget_map(self, node_id: int) -> None:
        self._maps.pop(node_id, None)


def _line(event: Event, tally: RunTally, pace: _Pace) -> str | None:
    if isinstance(event, RunStarted):
        return f"run started: {event.nodes} {'task' if event.nodes == 1 else 'tasks'}"
    if isinstance(event, NodeStarted):
        if event.elements is not None:
            pace.map_may(event.node_id, event.time)
    elif isinstance(event, MapProgress):
        return _map_line(event, tally, pace)
    elif isinstance(event, NodeCompleted):
        pace.forget_map(event.node_id)
        return _completed_line(event, tally, pace)
    elif isinstance(event, NodeFailed):
        pace.forget_map(event.node_id)
        pace.failures += 1
        return _failed_line(event, pace.failures)
    elif isinstance(event, RunFinished):
        return tally.view().summary(event)
    return None


def _map_line(event: MapProgress, tally: RunTally, pace: _Pace) -> str | None:
    if not pace.map_may(event.node_id, event.time):
        return None
    if tally.nodes > _SMALL_GRAPH and not pace.run_may(event.time):
        return None
    return f"{event}, {tally.view().troubles}"


def _completed_line(event: NodeCompleted, tally: RunTally, pace: _Pace) -> str | None:
    if tally.nodes > _SMALL_GRAPH:
        if not pace.run_may(event.time):
            return None
        view = tally.view()
        return f"[{view.done}/{view.nodes}] tasks completed, {view.troubles}"
    view = tally.view()
    return f"[{view.done}/{view.nodes}] {event}"


def _failed_line(event: NodeFailed, failures: int) -> str | None:
    if failures > _MOST_FAILURES:
        return None
    more = " (more are only counted)" if failures == _MOST_FAILURES else ""
    return f"{event}{more}"
