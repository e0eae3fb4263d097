"""
A map under way: calls are made as places become free, and none is held ready.

The window of calls under way is a small multiple of the backend's slots.  For calls that take
next to no time it grows, so that the threads needn't be woken for each; calls that are parked
don't count.

Where calls have a total, which runs while they wait, only those that wait for a retry keep no
place, and none is started that would queue behind another one for its turn, its place or an open
circuit.

A failed element fails the map, unless the task's `MapPolicy` says something else (`Losses`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol, final

from daglite.core.ahead import Ahead
from daglite.core.call import Call, Outcome
from daglite.core.elements import calls_of, number_of_calls
from daglite.core.events import ElementFailed
from daglite.core.failures import error_of_call, error_of_node
from daglite.core.frames import Frame
from daglite.core.graph import MapTaskNode
from daglite.core.interrupts import Interrupted
from daglite.core.kernel import Activity
from daglite.core.losses import Losses
from daglite.core.plan import Step
from daglite.core.protocols import Backend
from daglite.core.run import Run
from daglite.exceptions import ExecutionError

__all__ = ["MOST_PARKED", "MapRun", "window_of"]

_PER_SLOT = 2
"""Calls under way for each slot of the backend, to begin with."""

_MOST_PER_SLOT = 128
"""The same, when calls take next to no time."""

_LATENCY = 0.004
"""Seconds of work that may lie ready: how long a cancelled call can have waited in vain."""

MOST_PARKED = 10_000
"""Parked calls of a map above which no further elements are started."""

_MAKE_ROOM = frozenset({"retry", "retry budget"})
"""What one call waits for alone."""

_QUEUES = frozenset({"rate limit", "bulkhead", "circuit breaker"})
"""What every further call would wait for, too."""

_SLICE = 256
"""Elements that run in place before others get their turn."""


def window_of(backend: Backend) -> int:
    """How many calls of a map are under way on *backend*, to begin with."""
    return backend.slots if backend.capabilities.in_place else backend.slots * _PER_SLOT


class Scheduler(Protocol):
    """What a map needs of the engine."""

    run: Run

    def enter(self, call: Call, step: Step, on_done: Any) -> Activity[Outcome]: ...
    def outcome_of(self, activity: Activity[Outcome]) -> Outcome | None: ...
    def complete(self, frame: Frame, value: Any) -> None: ...
    def fail(self, error: ExecutionError, frame: Frame, element: int | None) -> None: ...
    def resume_map(self, mapping: MapRun) -> None: ...


@final
class MapRun:
    """
    The state of one map of one run.

    `results` has an entry for each element that was started; `pump` starts as many as fit.
    """

    def __init__(self, engine: Scheduler, frame: Frame, node: MapTaskNode, step: Step) -> None:
        self.node = node
        self.step = step
        self.results: list[Any] = []
        self._args = frame.take_args()
        self.total = number_of_calls(node, self._args)
        self._engine = engine
        self._frame = frame
        self._index = frame.index
        self._calls: Iterator[tuple[Any, ...]] | None = None
        self._under_way = 0
        self._parked = 0
        self._queued = 0
        self._activities: set[Activity[Outcome]] = set()
        self._ahead = Ahead(engine.run, step, self._arrived, self._enter) if step.ahead else None
        self._finished = 0
        self._losses = None if step.tolerance is None else Losses(step.tolerance)
        self._exhausted = False
        self._settled = False
        self._pumping = False
        self._resumes = False
        self._in_place = step.backend.capabilities.in_place
        self._slots = step.backend.slots
        self._window = window_of(step.backend)
        timeout = step.policies.timeout
        # A total runs while a call waits for a place: no more shall wait than must.
        self._fixed = timeout is not None and timeout.total is not None
        self._ran = 0.0
        self._marked = 0

    def take_over(self, calls: Iterator[tuple[Any, ...]], results: list[Any], call: Call) -> None:
        """Go on where a straight run came to *call*, of the element ``len(results)``."""
        self._calls, self.results, self._finished = calls, results, len(results)
        self._begin(call.args, call)

    # -- starting -----------------------------------------------------------------

    def pump(self) -> None:
        """Start elements while there are places."""
        self._resumes = False
        if self._pumping or (self._calls is None and not self._open()):
            return
        # In place, an element that is begun ends at once, and would ask for the next.
        self._pumping = True
        try:
            self._fill()
        finally:
            self._pumping = False
        self._settle()

    def _fill(self) -> None:
        for _ in range(_SLICE if self._in_place else _MOST_PER_SLOT * self._slots):
            if self._exhausted or self._settled or self._engine.run.stopped:
                return
            if self._under_way >= self._window or self._parked >= MOST_PARKED or self._queued:
                return
            args = self._next()
            if args is not None:
                self._begin(args)
        self._resume()

    def _resume(self) -> None:
        """Have `pump` called soon, once, however many elements have made room."""
        if not self._resumes:
            self._resumes = True
            self._engine.resume_map(self)

    def _open(self) -> bool:
        try:
            args, self._args = self._args, ()
            self._calls = calls_of(self.node, args)
        except (KeyboardInterrupt, Interrupted):
            raise
        except BaseException as error:
            self._fail(error_of_node(self.node, error))
            return False
        return True

    def _next(self) -> tuple[Any, ...] | None:
        assert self._calls is not None
        try:
            return next(self._calls)
        except StopIteration:
            self._exhausted = True
        except (KeyboardInterrupt, Interrupted):
            raise
        except BaseException as error:
            self._fail(error_of_node(self.node, error))
        return None

    def _begin(self, args: tuple[Any, ...], call: Call | None = None) -> None:
        engine, step = self._engine, self.step
        element = len(self.results)
        self.results.append(None)
        self._under_way += 1
        if call is None:
            node = self.node
            call = Call(engine.run, step, node.id, self._index, element, args, node.kwnames)
        if self._ahead is not None:
            self._ahead.begin(call)
        else:
            self._enter(call)

    def _enter(self, call: Call) -> None:
        call.crowd = self
        activity = self._engine.enter(call, self.step, partial(self._ended, call))
        if not activity.done:
            self._activities.add(activity)

    def parked(self, by: int, reason: str) -> None:
        """A call waits, or goes on: meanwhile it takes no place in the window, or stops others."""
        if not self._fixed or reason in _MAKE_ROOM:
            self._parked += by
            self._under_way -= by
            room = by > 0
        elif reason in _QUEUES:
            self._queued += by
            room = not self._queued
        else:
            return
        if room and not self._settled:
            self._resume()

    # -- ending -------------------------------------------------------------------

    def _arrived(self, call: Call, outcome: Outcome) -> None:
        self._take(call, outcome)
        self._refill()

    def _ended(self, call: Call, activity: Activity[Outcome]) -> None:
        self._activities.discard(activity)
        outcome = self._engine.outcome_of(activity)
        if outcome is not None:
            self._arrived(call, outcome)

    def _take(self, call: Call, outcome: Outcome) -> None:
        self._under_way -= 1
        assert call.element is not None
        value = outcome.value
        if outcome.error is not None:
            error = error_of_call(call, outcome, self.node)
            # `KeyboardInterrupt` and the like are no failures of an element.
            if self._losses is None or not isinstance(outcome.error, Exception):
                self._fail(error, call.element)
                return
            value = self._losses.add(error)
            self._tell_loss(call, error)
        self.results[call.element] = value
        self._finished += 1
        self._ran += outcome.ran
        self._engine.run.tell_progress(self.node, self._finished, self.total)
        if outcome.error is not None:
            self._judge()

    def _tell_loss(self, call: Call, error: ExecutionError) -> None:
        run = self._engine.run
        if not (self._settled or run.stopped):
            run.emit(ElementFailed, call.node_id, call.node_name, call.element, error)

    def _judge(self) -> bool:
        """Whether no more elements have failed than the policy allows; else the map fails."""
        begun, losses = len(self.results), self._losses
        # A source may have more elements than it says.
        total = begun if self._exhausted or self.total is None else max(self.total, begun)
        known = self._exhausted or self.total is not None
        error = None if losses is None else losses.verdict(total if known else None)
        if error is not None:
            self._fail(error_of_node(self.node, error))
        return error is None

    def _refill(self) -> None:
        """Start more when half of the window is free: fewer, longer turns cost less."""
        if self._under_way <= self._window // 2:
            self._adapt()
            self.pump()

    def _fail(self, error: ExecutionError, element: int | None = None) -> None:
        if not self._settled:
            self._settled = True
            # The elements that won't be started can go.
            self._calls, self._args = iter(()), ()
            self._engine.fail(error, self._frame, element)
            self._drop()

    def _drop(self) -> None:
        """End what is under way: at once, as the rest of the graph may go on."""
        for activity in self._activities:
            self._engine.run.kernel.cancel(activity)
        if self._ahead is not None:
            self._ahead.drop()

    def _settle(self) -> None:
        if not self._exhausted or self._settled:
            return
        # Now the number of elements is known.
        if self._judge() and self._finished == len(self.results):
            self._settled = True
            losses, results = self._losses, self.results
            self._engine.complete(self._frame, results if losses is None else losses.left(results))

    def _adapt(self) -> None:
        """Size the window by how long the calls took that ended since it was last looked at."""
        ended = self._finished - self._marked
        if ended and ended >= self._window // 2 and not self._fixed:
            # Not by when they arrived: a thread that was held up sees many at once.
            took = max(self._ran / ended, 1e-6)
            least, most = self._slots * _PER_SLOT, self._slots * _MOST_PER_SLOT
            fits = int(self._slots * _LATENCY / took)
            self._window = min(max(fits, least), most, self._window * 4)
            self._ran, self._marked = 0.0, self._finished
