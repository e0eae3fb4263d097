"""
What happens during a run, as facts for callbacks.

An event is made once, is never changed, and says only what was known when it happened; its
`str()` is one line for a log. Callbacks may keep events. Those that carry an `error` keep that
exception alive with them, and whatever its traceback holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from daglite._units import format_duration, format_size
from daglite.exceptions import describe

__all__ = [
    "AttemptFailed",
    "CallAbandoned",
    "CallHedged",
    "CallMeasured",
    "CallParked",
    "CircuitChanged",
    "ElementFailed",
    "Event",
    "FallbackUsed",
    "FaultInjected",
    "MapProgress",
    "NodeCompleted",
    "NodeFailed",
    "NodeStarted",
    "ProbeFailed",
    "RunFinished",
    "RunStarted",
]


@dataclass(frozen=True, slots=True)
class Event:
    """
    The base of all events.

    Attributes:
        run_id: The run that it happened in.
        time: Seconds since that run began, on the run's clock.
    """

    run_id: str
    time: float


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """
    A run began; always the first event of its run.

    Attributes:
        nodes: Number of nodes in the graph; a map counts as one.
        roots: Names of the tasks whose values were asked for.
    """

    nodes: int
    roots: tuple[str, ...]

    def __str__(self) -> str:
        wanted = f", for {_names(self.roots)}" if self.roots else ""
        return f"run {self.run_id} started: {_count(self.nodes, 'task')}{wanted}"


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """
    A run ended; always the last event of its run, also when it failed or was interrupted.

    Attributes:
        ok: Whether `evaluate` returns values; false if it raises.
        elapsed: Seconds that the run took.
    """

    ok: bool
    elapsed: float

    def __str__(self) -> str:
        how = "finished" if self.ok else "failed"
        return f"run {self.run_id} {how} after {format_duration(self.elapsed)}"


@dataclass(frozen=True, slots=True)
class NodeStarted(Event):
    """
    All that a node needs is there, and it begins.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        elements: Number of a map's elements, from 0; None: unknown yet, or not a map.
    """

    node_id: int
    node_name: str
    elements: int | None = None

    def __str__(self) -> str:
        size = "" if self.elements is None else f": {_count(self.elements, 'element')}"
        return f"{self.node_name} started{size}"


@dataclass(frozen=True, slots=True)
class NodeCompleted(Event):
    """
    A node has its value.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        elapsed: Seconds since it started, waits and retries included.
        elements: Number of a map's results, from 0: without elements that its `MapPolicy` has
            left out; None: not a map.
    """

    node_id: int
    node_name: str
    elapsed: float
    elements: int | None = None

    def __str__(self) -> str:
        size = "" if self.elements is None else f": {_count(self.elements, 'element')}"
        return f"{self.node_name} completed after {format_duration(self.elapsed)}{size}"


@dataclass(frozen=True, slots=True)
class NodeFailed(Event):
    """
    A node failed for good: no retry is left, or none would help.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the failed element, from 0; None: not one element of a map.
        error: What it failed with.
    """

    node_id: int
    node_name: str
    element: int | None
    error: BaseException

    def __str__(self) -> str:
        return f"{_subject(self.node_name, self.element)} failed: {describe(self.error)}"


@dataclass(frozen=True, slots=True)
class ElementFailed(Event):
    """
    An element failed for good, and its map's `MapPolicy` leaves it out or collects its error.

    If it was one too many, a `NodeFailed` of the map follows.

    Attributes:
        node_id: The map's node.
        node_name: The name of its task.
        element: Index of the element, from 0.
        error: What it failed with.
    """

    node_id: int
    node_name: str
    element: int
    error: BaseException

    def __str__(self) -> str:
        return f"{_subject(self.node_name, self.element)} failed: {describe(self.error)}"


@dataclass(frozen=True, slots=True)
class MapProgress(Event):
    """
    How far a map is; sent at most every 0.1 seconds per map, so not once per element.

    Attributes:
        node_id: The map's node.
        node_name: The name of its task.
        done: Number of its elements that are done, from 0; also those that a `MapPolicy` lets fail.
        total: Number of all its elements; None: unknown yet.
    """

    node_id: int
    node_name: str
    done: int
    total: int | None

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.node_name}: {_count(self.done, 'element')} done"
        return f"{self.node_name}: {self.done} of {_count(self.total, 'element')} done"


@dataclass(frozen=True, slots=True)
class AttemptFailed(Event):
    """
    One attempt of a call failed, whether or not another one follows.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the element in its map, from 0; None: not a map.
        attempt: Which attempt it was, from 1.
        error: What it failed with.
        ran: Seconds that it ran, without waits and queueing.
    """

    node_id: int
    node_name: str
    element: int | None
    attempt: int
    error: BaseException
    ran: float

    def __str__(self) -> str:
        subject = _subject(self.node_name, self.element)
        after = f"after {format_duration(self.ran)}"
        return f"{subject} attempt {self.attempt} failed {after}: {describe(self.error)}"


@dataclass(frozen=True, slots=True)
class ProbeFailed(Event):
    """
    A call that a circuit breaker let through as a probe failed, and is parked again.

    It is no attempt of the task: the breaker asked for it.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the element in its map, from 0; None: not a map.
        attempt: The attempt that it will be when the circuit lets it, from 1.
        error: What it raised, or what else went wrong.
        ran: Seconds that it ran.
    """

    node_id: int
    node_name: str
    element: int | None
    attempt: int
    error: BaseException
    ran: float

    def __str__(self) -> str:
        subject = _subject(self.node_name, self.element)
        after = f"after {format_duration(self.ran)}"
        return f"{subject} failed as a probe {after}: {describe(self.error)}"


@dataclass(frozen=True, slots=True)
class CallParked(Event):
    """
    A call waits, and holds no thread and no worker meanwhile.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the element in its map, from 0; None: not a map.
        attempt: The attempt that it had reached, from 1.
        seconds: How long it is going to wait, as far as is known; ``inf``: until something
            happens.
        reason: What for: "retry", "retry budget", "circuit breaker", "rate limit", "bulkhead",
            "chaos".
    """

    node_id: int
    node_name: str
    element: int | None
    attempt: int
    seconds: float
    reason: str

    def __str__(self) -> str:
        subject = _subject(self.node_name, self.element)
        after = f"after attempt {self.attempt}"
        time = "" if self.seconds == math.inf else f" {format_duration(self.seconds)}"
        return f"{subject} waits{time} {after} ({self.reason})"


@dataclass(frozen=True, slots=True)
class CallHedged(Event):
    """
    An attempt takes long, and another call of it is made beside it.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the element in its map, from 0; None: not a map.
        attempt: Which attempt it is, from 1.
        after: Seconds since the call before it.
    """

    node_id: int
    node_name: str
    element: int | None
    attempt: int
    after: float

    def __str__(self) -> str:
        subject = _subject(self.node_name, self.element)
        after = f"after {format_duration(self.after)}"
        return f"{subject} attempt {self.attempt} is hedged {after}"


@dataclass(frozen=True, slots=True)
class CallMeasured(Event):
    """
    An attempt has ended by itself, on a backend that measures what calls use.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the element in its map, from 0; None: not a map.
        attempt: Which attempt it was, from 1.
        ran: Seconds that it ran.
        cpu_time: Seconds of CPU time that its process used meanwhile.
        peak_memory: The most bytes that its process held meanwhile.
    """

    node_id: int
    node_name: str
    element: int | None
    attempt: int
    ran: float
    cpu_time: float
    peak_memory: int

    def __str__(self) -> str:
        subject = _subject(self.node_name, self.element)
        ran, cpu_time = format_duration(self.ran), format_duration(self.cpu_time)
        used = f"{cpu_time} of CPU time, {format_size(self.peak_memory)} at most"
        return f"{subject} attempt {self.attempt} ran {ran} ({used})"


@dataclass(frozen=True, slots=True)
class CircuitChanged(Event):
    """
    A circuit breaker went from one state to another.

    Attributes:
        key: Which circuit.
        before: Its state: "closed", "open", "half_open", "forced_open", ...
        after: Its new state.
        reason: Why, such as "5 failures in a row".
        retry_in: Seconds until a probe may go; None: calls may go.
    """

    key: str
    before: str
    after: str
    reason: str
    retry_in: float | None

    def __str__(self) -> str:
        return f"circuit {self.key} is {self.after.replace('_', ' ')}: {self.reason}"


@dataclass(frozen=True, slots=True)
class FallbackUsed(Event):
    """
    A call failed for good, and its fallback took the place of a result.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the element in its map, from 0; None: not a map.
        error: What it failed with.
    """

    node_id: int
    node_name: str
    element: int | None
    error: BaseException

    def __str__(self) -> str:
        return f"{_subject(self.node_name, self.element)} falls back after {describe(self.error)}"


@dataclass(frozen=True, slots=True)
class FaultInjected(Event):
    """
    The task's `Chaos` strikes an attempt, as the run has asked for.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the element in its map, from 0; None: not a map.
        attempt: Which attempt it is, from 1.
        fault: Which fault: "error", "latency", "kill" or "corrupt".
    """

    node_id: int
    node_name: str
    element: int | None
    attempt: int
    fault: str

    def __str__(self) -> str:
        subject = _subject(self.node_name, self.element)
        return f"{subject} attempt {self.attempt} is struck by chaos ({self.fault})"


@dataclass(frozen=True, slots=True)
class CallAbandoned(Event):
    """
    A call that ran out of time did not end within its grace, and still runs unheeded.

    Attributes:
        node_id: The node.
        node_name: The name of its task.
        element: Index of the element in its map, from 0; None: not a map.
        attempt: Which attempt it is, from 1.
        elapsed: Seconds that it has run so far.
    """

    node_id: int
    node_name: str
    element: int | None
    attempt: int
    elapsed: float

    def __str__(self) -> str:
        subject = _subject(self.node_name, self.element)
        after = f"after {format_duration(self.elapsed)}"
        return f"{subject} attempt {self.attempt} abandoned {after}, and still runs"


def _subject(node_name: str, element: int | None) -> str:
    return node_name if element is None else f"{node_name}[{element}]"


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
