"""One run: its name, its kernel, who listens, and whether it shall stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, final

from daglite.core.events import Event, MapProgress, NodeCompleted, NodeFailed, NodeStarted
from daglite.core.graph import GraphNode, MapTaskNode, NodeId, TaskNode
from daglite.core.kernel import Kernel
from daglite.core.lane import Lane
from daglite.exceptions import ExecutionError

__all__ = ["Listeners", "Run"]

_log = logging.getLogger("daglite")

_TOLD_EVERY = 0.1
"""Seconds between two reports of a map's progress."""


@final
class Listeners:
    """
    The callbacks of a run, sorted by what they want to hear.

    One that raises is reported once to the ``daglite`` logger and never harms the run.
    Each attribute is None when nobody listens, so that silence costs nothing.
    """

    __slots__ = ("any", "on_event", "on_node_complete", "on_node_error", "on_node_start")

    def __init__(self, callbacks: Iterable[Any]) -> None:
        listening = tuple(callbacks)
        reported: set[tuple[int, str]] = set()
        self.on_node_start = _told(listening, "on_node_start", reported)
        self.on_node_complete = _told(listening, "on_node_complete", reported)
        self.on_node_error = _told(listening, "on_node_error", reported)
        self.on_event = _told(listening, "on_event", reported)
        self.any = bool(listening)


def _told(
    callbacks: tuple[Any, ...], method: str, reported: set[tuple[int, str]]
) -> Callable[..., None] | None:
    heard = [(c, getattr(c, method)) for c in callbacks if hasattr(c, method)]
    if not heard:
        return None

    def tell(*what: Any) -> None:
        for callback, hear in heard:
            try:
                hear(*what)
            except Exception:
                if (id(callback), method) not in reported:
                    reported.add((id(callback), method))
                    _log.exception("callback %r failed in %s; the run goes on", callback, method)

    return tell


@final
class Run:
    """
    What the calls of one run share.

    Attributes:
        id: Opaque, unique.
        seed: What draws of chance are derived from, besides node, element and attempt.
        stopped: Set once, when the run's fate is known: what hasn't started needn't.
        cancelled: Somebody wants the run to end; see `cancel`.
        began: When it began, on the kernel's clock.
        lane: The caller's thread, as a place where calls run.
        states: What policies remember between calls (a `Registry`); None if none of them does.
        of_graph: Whether it runs a graph; else it is one call of a protected function.
        caller: The task's `Call` that such a function was called in; None: in none.
        kept: What backends keep for its calls, by backend.
        heard: Which transitions of circuits were told in this run: (breaker, number).
        on_loop: What makes its calls on an event loop (an `OnLoop`); None: a backend does.
    """

    __slots__ = (
        "_gates",
        "_nested",
        "_started",
        "_told",
        "began",
        "caller",
        "cancelled",
        "heard",
        "id",
        "kept",
        "kernel",
        "lane",
        "listeners",
        "of_graph",
        "on_loop",
        "seed",
        "states",
        "stopped",
    )

    def __init__(self, run_id: str, kernel: Kernel, listeners: Listeners, seed: str) -> None:
        self.id = run_id
        self.kernel = kernel
        self.listeners = listeners
        self.seed = seed
        self.lane = Lane()
        self.states: Any = None
        self.of_graph = True
        self.caller: Any = None
        self.on_loop: Any = None
        self.heard: set[tuple[Any, int]] = set()
        self.kept: dict[Any, dict[Any, Any]] = {}
        self._gates: dict[Any, Lane] = {}
        self.stopped = False
        self.cancelled = False
        self.began = kernel.now()
        self._nested: dict[Run, object] = {}
        self._started: dict[NodeId, float] = {}
        self._told: dict[NodeId, float] = {}

    def gate(self, to: Any, places: int) -> Lane:
        """
        Where calls of this run line up for something that has *places*.

        Such as the workers of a backend, for calls that ask for leave before they start.
        """
        gate = self._gates.get(to)
        if gate is None:
            gate = self._gates[to] = Lane(places)
        return gate

    def cancel(self) -> None:
        """From any thread: have the run end with `RunCancelledError`."""
        self.cancelled = True
        self.kernel.post(_nothing)
        for run in tuple(self._nested):
            run.cancel()

    @contextmanager
    def nesting(self, run: Run, call: Any) -> Iterator[None]:
        """While *run* is evaluated by *call*, one of ours, it is cancelled with it."""
        self._nested[run] = call
        try:
            if self.cancelled or call.cancelled:
                run.cancel()
            yield
        finally:
            del self._nested[run]

    def cancel_nested(self, call: object) -> None:
        """From any thread: cancel the runs that *call* waits for."""
        for run, caller in tuple(self._nested.items()):
            if caller is call:
                run.cancel()

    def since(self, moment: float) -> float:
        """Seconds from the run's begin to *moment* of the kernel's clock."""
        return moment - self.began

    def emit(self, kind: Callable[..., Event], *facts: Any) -> None:
        """Tell the listeners, if there are any, that something happened just now."""
        if self.listeners.on_event is not None:
            self.listeners.on_event(kind(self.id, self.since(self.kernel.now()), *facts))

    def announce(self, node: TaskNode | MapTaskNode, elements: int | None) -> None:
        """Tell that *node* starts; call it only when there are listeners."""
        listeners = self.listeners
        self._started[node.id] = self.kernel.now()
        if listeners.on_node_start is not None:
            listeners.on_node_start(node.id, node.name)
        self.emit(NodeStarted, node.id, node.name, elements)

    def tell_complete(self, node: TaskNode | MapTaskNode, value: Any) -> None:
        """Tell that *node* has its value; call it only when there are listeners."""
        if self.listeners.on_node_complete is not None:
            self.listeners.on_node_complete(node.id, value)
        self._told.pop(node.id, None)
        elapsed = self.kernel.now() - self._started.pop(node.id, self.began)
        elements = len(value) if node.kind == "map" else None
        self.emit(NodeCompleted, node.id, node.name, elapsed, elements)

    def tell_failure(self, node: GraphNode, error: ExecutionError, element: int | None) -> None:
        """Tell that *node* has failed for good."""
        if self.listeners.on_node_error is not None:
            self.listeners.on_node_error(node.id, error)
        self.emit(NodeFailed, node.id, node.name, element, error)

    def tell_progress(self, node: MapTaskNode, done: int, total: int | None) -> None:
        """Tell how far a map has come, unless that was done a moment ago."""
        if self.listeners.on_event is None:
            return
        now = self.kernel.now()
        if now - self._told.setdefault(node.id, now) >= _TOLD_EVERY:
            self._told[node.id] = now
            self.emit(MapProgress, node.id, node.name, done, total)


def _nothing() -> None:
    """A message that only wakes the kernel."""
