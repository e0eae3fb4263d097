"""
A graph without policies on threads: a crew of walkers that take what is ready themselves.

    ready ◄── what waited for it ◄──┐
      │                             │
      └─► walker (one thread): take a node ─► run it ─► settle it (under the lock)

A walker is a call like any other to the backend, so it is cancelled and given up like one.
It ends when nothing is ready, and another is sent when there is more than one can do.  After a
slice of time it goes to the back of the backend's queue, so that other runs have their turn.
The caller's thread only waits; compared with a message for each call this saves two changes
of thread, which cost ten times what the rest of a node does.

The elements of a map are taken one by one, by whichever walker is free: none is taken before
its turn, and a slow one holds nobody up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, final

from daglite.core.call import Call, Outcome, Target
from daglite.core.current import call_on_this_thread
from daglite.core.elements import calls_of
from daglite.core.failures import error_of_call, error_of_node
from daglite.core.graph import GatherNode, GraphNode, MapTaskNode, NodeId, TaskInfo, TaskNode
from daglite.core.plan import Step
from daglite.core.protocols import Backend
from daglite.core.run import Run
from daglite.exceptions import ExecutionError, RunCancelledError, filled

__all__ = ["Crew"]

_SLICE = 0.01
"""Seconds that a walker goes on before it queues up again."""


@final
class _SharedMap:
    """A map that several walkers work on; `lock` guards what is taken from `calls`."""

    __slots__ = ("calls", "exhausted", "finished", "index", "lock", "node", "results")

    kind: ClassVar[Literal["shared"]] = "shared"

    def __init__(self, node: MapTaskNode, index: int, calls: Iterator[tuple[Any, ...]]) -> None:
        self.node = node
        self.index = index
        self.calls = calls
        self.lock = threading.Lock()
        self.results: list[Any] = []
        self.finished = 0
        self.exhausted = False


@final
class Crew:
    """
    Runs one graph once, on one backend whose threads share this process's memory.

    Args:
        run: The run; nobody listens to it.
        nodes: The graph, each node after its inputs.
        root: Whose value is wanted.
        steps: Task -> what the plan says of it; all are bare, and have this *backend*.
        backend: Where the walkers run.
    """

    def __init__(
        self,
        run: Run,
        nodes: Mapping[NodeId, GraphNode],
        root: NodeId,
        steps: Mapping[TaskInfo, Step],
        backend: Backend,
    ) -> None:
        self._run = run
        self._nodes = nodes
        self._root = root
        self._steps = steps
        self._backend = backend
        self._lock = threading.Lock()
        self._values: dict[NodeId, Any] = {}
        self._uses: dict[NodeId, int] = {root: 1}
        self._waiting: dict[NodeId, int] = {}
        self._consumers: dict[NodeId, list[GraphNode]] = {}
        self._places: dict[NodeId, int] = {}
        self._ready: deque[GraphNode | _SharedMap] = deque()
        self._open = len(nodes)
        self._walkers = 0
        self._error: ExecutionError | None = None

    def execute(self) -> Any:
        """
        Run until the graph's fate is known.

        Raises:
            ExecutionError: A node failed.
        """
        run = self._run
        self._count_edges()
        run.kernel.outstanding += 1
        try:
            self._send(self._wanted())
            while self._open and self._error is None and not run.cancelled:
                run.kernel.turn()
        except BaseException:
            self._backend.cancel_run(run)
            raise
        # When all is done walkers only have to leave: nothing of theirs needs an interrupt.
        run.stopped = True
        if self._open:
            self._backend.cancel_run(run)
        if self._error is not None:
            raise self._error
        if self._open:
            raise filled(RunCancelledError("the run was cancelled"))
        return self._values[self._root]

    def _count_edges(self) -> None:
        uses, consumers, waiting, ready = self._uses, self._consumers, self._waiting, self._ready
        for place, (node_id, node) in enumerate(self._nodes.items()):
            self._places[node_id] = place
            refs = node.refs
            if not refs:
                ready.append(node)
                continue
            waiting[node_id] = len(refs)
            args = node.args
            for i in refs:
                dep = args[i].id
                if dep in consumers:
                    consumers[dep].append(node)
                    uses[dep] += 1
                else:
                    consumers[dep] = [node]
                    uses[dep] = 1

    # -- walkers ------------------------------------------------------------------

    def _wanted(self) -> int:
        """How many more walkers there is work for; they count as sent."""
        more = min(len(self._ready), self._backend.slots) - self._walkers
        if more > 0:
            self._walkers += more
        return max(more, 0)

    def _send(self, walkers: int) -> None:
        for _ in range(walkers):
            target = Target("(walker)", self._walk)
            self._backend.submit(Call(self._run, target, 0, 0, None, (), ()), self._came_back)

    def _came_back(self, call: Call, outcome: Outcome) -> None:
        """A walker's end; only a closed backend or a fault of ours makes it an error."""
        if outcome.error is not None and not self._run.stopped:
            root = self._nodes[self._root]
            self._fail(error_of_node(root, outcome.error, self._nodes))

    def _walk(self) -> None:
        spot = call_on_this_thread.call
        assert spot is not None
        run, ready, lock = self._run, self._ready, self._lock
        now = run.kernel.now
        until = now() + _SLICE
        while not (run.stopped or run.cancelled):
            with lock:
                if not ready:
                    self._walkers -= 1
                    return
                node = ready.popleft()
            if node.kind == "task":
                self._call(node, spot)
            elif node.kind == "gather":
                self._gather(node)
            elif node.kind == "map":
                self._open_map(node)
            else:
                self._share(node, spot, until)
            if now() > until:
                self._send(1)
                return

    # -- nodes --------------------------------------------------------------------

    def _taken(self, node: GraphNode) -> list[Any]:
        args = list(node.args)
        values = self._values
        for place in node.refs:
            args[place] = values[args[place].id]
        return args

    def _call(self, node: TaskNode, spot: Call) -> None:
        spot.node_id = node.id
        spot.index = self._places[node.id]
        spot.target = step = self._steps[node.task]
        began = self._run.kernel.now()
        args: Any = self._taken(node) if node.refs else node.args
        try:
            if node.kwnames:
                spot.args, spot.kwnames = tuple(args), node.kwnames
                value = spot.invoke()
            else:
                value = step.body(*args)
        except BaseException as error:
            self._failed(node, None, tuple(args), began, error)
        else:
            self._complete(node, value)

    def _gather(self, node: GatherNode) -> None:
        try:
            value = node.build(self._taken(node))
        except Exception as error:
            self._fail(error_of_node(node, error, self._nodes))
        else:
            self._complete(node, value)

    def _open_map(self, node: MapTaskNode) -> None:
        try:
            calls = calls_of(node, self._values)
        except Exception as error:
            self._fail(error_of_node(node, error, self._nodes))
            return
        with self._lock:
            self._ready.append(_SharedMap(node, self._places[node.id], calls))
            more = self._backend.slots - self._walkers
            self._walkers += max(more, 0)
        self._send(more)

    def _share(self, shared: _SharedMap, spot: Call, until: float) -> None:
        """Run elements of *shared* until there are none, or the slice of time is over."""
        if shared.exhausted:
            return
        # For the others; it leaves the queue when somebody finds it exhausted.
        self._ready.append(shared)
        node, run = shared.node, self._run
        step, now, kwnames = self._steps[node.task], run.kernel.now, node.kwnames
        spot.node_id, spot.index, spot.target, spot.kwnames = node.id, shared.index, step, kwnames
        body, results, lock, finished, began = step.body, shared.results, shared.lock, 0, 0.0
        try:
            while not (run.stopped or run.cancelled):
                with lock:
                    shared.finished += finished
                    finished = 0
                    if began > until or shared.exhausted:
                        break
                    args = self._next(shared)
                    if args is None:
                        break
                    spot.element = element = len(results)
                    results.append(None)
                began = now()
                try:
                    if kwnames:
                        spot.args = args
                        results[element] = spot.invoke()
                    else:
                        results[element] = body(*args)
                except BaseException as error:
                    self._failed(node, element, args, began, error)
                    return
                finished = 1
        finally:
            spot.element, spot.kwnames = None, ()
        with lock:
            done = shared.exhausted and shared.finished == len(results)
            if done:
                # Settled once.
                shared.finished = -1
        if done:
            self._complete(node, results)

    def _next(self, shared: _SharedMap) -> tuple[Any, ...] | None:
        try:
            return next(shared.calls)
        except StopIteration:
            shared.exhausted = True
        except Exception as error:
            shared.exhausted = True
            shared.finished = -1
            self._fail(error_of_node(shared.node, error, self._nodes))
        return None

    # -- settling -----------------------------------------------------------------

    def _complete(self, node: GraphNode, value: Any) -> None:
        node_id, values, uses, waiting = node.id, self._values, self._uses, self._waiting
        with self._lock:
            for place in node.refs:
                dep = node.args[place].id
                left = uses[dep] = uses[dep] - 1
                if not left:
                    del values[dep]
            values[node_id] = value
            for consumer in self._consumers.pop(node_id, ()):
                left = waiting[consumer.id] = waiting[consumer.id] - 1
                if not left:
                    self._ready.append(consumer)
            self._open -= 1
            # One of what is ready is for this walker itself.
            more = self._wanted() if len(self._ready) > 1 else 0
        if not self._open:
            self._run.kernel.post(_look_up)
        elif more:
            self._send(more)

    def _failed(
        self,
        node: TaskNode | MapTaskNode,
        element: int | None,
        args: tuple[Any, ...],
        began: float,
        error: BaseException,
    ) -> None:
        run = self._run
        if run.stopped:
            # Interrupted because the run is over: this thread isn't wanted any more.
            raise error
        outcome = Outcome.of_failure(error, began, run.kernel.now())
        step = self._steps[node.task]
        call = Call(run, step, node.id, self._places[node.id], element, args, node.kwnames)
        self._fail(error_of_call(call, outcome, self._nodes))

    def _fail(self, error: ExecutionError) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
                self._run.stopped = True
        self._run.kernel.post(_look_up)


def _look_up() -> None:
    """A message that only wakes the caller's thread."""
