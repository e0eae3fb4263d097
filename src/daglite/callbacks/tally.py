"""
What a progress display counts of one run.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import islice

from daglite.core.events import (
    AttemptFailed,
    ElementFailed,
    Event,
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunFinished,
    RunStarted,
)

__all__ = ["MapCount", "RunTally", "TallyView"]


@dataclass(frozen=True)
class MapCount:
    """How far a running map is: *done* of *total* elements; total None: unknown yet."""

    name: str
    done: int
    total: int | None

    def __str__(self) -> str:
        return str(self.done) if self.total is None else f"{self.done}/{self.total}"


@dataclass(frozen=True)
class TallyView:
    """
    What a `RunTally` held at one moment.

    Attributes:
        done: Number of nodes that have their value.
        nodes: Number of all nodes of the run.
        retries: Number of attempts that failed and were not their call's last.
        failed: Number of nodes that failed for good.
        names: Names of the first few running nodes that are no maps.
        running: Number of all running nodes that are no maps.
        maps: The first few running maps.
        running_maps: Number of all running maps.
    """

    done: int
    nodes: int
    retries: int
    failed: int
    names: tuple[str, ...]
    running: int
    maps: tuple[MapCount, ...]
    running_maps: int

    @property
    def troubles(self) -> str:
        """Retries and failures, as "3 retries, 0 failed"."""
        return f"{self.retries} {_plural('retry', self.retries)}, {self.failed} failed"

    def summary(self, finished: RunFinished) -> str:
        """Return the last line on the run, "12 tasks, 3 retries, 0 failed in 1.2 s"."""
        tasks = f"{self.nodes} {_plural('task', self.nodes)}"
        if self.done != self.nodes:
            tasks = f"{self.done} of {tasks}"
        stopped = " (stopped)" if not finished.ok and not self.failed else ""
        return f"{tasks}, {self.troubles} in {finished.elapsed:.1f} s{stopped}"


class RunTally:
    """
    The counts of one run, kept up by its events.

    One thread counts while another one draws. The lock is a leaf: nothing else is asked for
    while it is held.
    """

    def __init__(self, started: RunStarted) -> None:
        self.run_id = started.run_id
        self.nodes = started.nodes
        self._lock = threading.Lock()
        self._done = 0
        self._retries = 0
        self._failed: set[int] = set()
        # Ids of maps that go on without failed elements.
        self._tolerant: set[int] = set()
        # node id -> its failed attempts that may have been followed by another one
        self._attempts: dict[int, int] = {}
        self._running: dict[int, str] = {}
        self._maps: dict[int, MapCount] = {}

    def count(self, event: Event) -> None:
        """Take *event* into the counts."""
        with self._lock:
            if isinstance(event, NodeStarted):
                self._node_started(event)
            elif isinstance(event, MapProgress):
                self._map_progress(event)
            elif isinstance(event, AttemptFailed):
                self._retries += 1
                self._attempts[event.node_id] = self._attempts.get(event.node_id, 0) + 1
            elif isinstance(event, NodeCompleted):
                self._done += 1
                self._forget(event.node_id)
                self._attempts.pop(event.node_id, None)
            elif isinstance(event, ElementFailed):
                self._tolerant.add(event.node_id)
                self._no_retry_followed(event.node_id)
            elif isinstance(event, NodeFailed):
                self._node_failed(event.node_id, event.element)

    def view(self, most: int = 3) -> TallyView:
        """Return the counts of this moment, with at most *most* names and *most* maps."""
        with self._lock:
            return TallyView(
                done=self._done,
                nodes=self.nodes,
                retries=self._retries,
                failed=len(self._failed),
                names=tuple(islice(self._running.values(), most)),
                running=len(self._running),
                maps=tuple(islice(self._maps.values(), most)),
                running_maps=len(self._maps),
            )

    def _node_started(self, event: NodeStarted) -> None:
        if event.elements is None:
            self._running[event.node_id] = event.node_name
        else:
            self._maps[event.node_id] = MapCount(event.node_name, 0, event.elements)

    def _map_progress(self, event: MapProgress) -> None:
        if event.node_id in self._failed:
            return
        # That a node is a map may show only now: its size was not known when it started.
        self._running.pop(event.node_id, None)
        self._maps[event.node_id] = MapCount(event.node_name, event.done, event.total)

    def _node_failed(self, node_id: int, element: int | None) -> None:
        self._failed.add(node_id)
        self._forget(node_id)
        # A map with too many failed elements has told of each of them.
        if element is not None or node_id not in self._tolerant:
            self._no_retry_followed(node_id)

    def _no_retry_followed(self, node_id: int) -> None:
        # A call's last attempt was no retry's cause. It may also fail without any: out of time.
        attempts = self._attempts.get(node_id, 0)
        if attempts:
            self._attempts[node_id] = attempts - 1
            self._retries -= 1

    def _forget(self, node_id: int) -> None:
        self._running.pop(node_id, None)
        self._maps.pop(node_id, None)


def _plural(noun: str, number: int) -> str:
    if number == 1:
        return noun
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
