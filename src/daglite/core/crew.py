"""
A graph without policies on threads: a crew of walkers that take what is ready themselves.

    ready ◄── what waited for it ◄───────────────────────────┐
      │                                                      │
      └─► walker (one thread): take ─► run ─► settle, take the next (under the lock)

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
from typing import Any, TypeAlias, final

from daglite.core.call import Call, Outcome, Target, called
from daglite.core.current import call_on_this_thread
from daglite.core.elements import calls_of
from daglite.core.failures import error_of_call, error_of_node
from daglite.core.frames import Frame, frames_of
from daglite.core.graph import GatherNode, GraphNode, MapTaskNode, NodeId, TaskInfo, TaskNode
from daglite.core.plan import Step
from daglite.core.protocols import Backend
from daglite.core.run import Run
from daglite.exceptions import ExecutionError, RunCancelledError, filled

__all__ = ["Crew"]

_SLICE = 0.01
"""Seconds that a walker goes on before it queues up again."""


_GLANCE = 0.05
"""Seconds after which a walker that waits for a map's source looks whether the run is over."""


@final
class _SharedMap:
    """A map that several walkers work on; `lock` guards what is taken from `calls`."""

    __slots__ = ("calls", "exhausted", "finished", "frame", "lock", "node", "results")

    def __init__(self, frame: Frame, node: MapTaskNode, calls: Iterator[tuple[Any, ...]]) -> None:
        self.frame = frame
        self.node = node
        self.calls = calls
        self.lock = threading.Lock()
        self.results: list[Any] = []
        self.finished = 0
        self.exhausted = False


_Work: TypeAlias = Frame | _SharedMap


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
        self._root = nodes[root]
        self._steps = steps
        self._backend = backend
        self._slots = backend.slots
        self._lock = threading.Lock()
        frames = frames_of(nodes.values()).values()
        self._ready: deque[_Work] = deque(frame for frame in frames if not frame.missing)
        self._open = len(nodes)
        self._walkers = 0
        self._value: Any = None
        self._error: ExecutionError | None = None

    def execute(self) -> Any:
        """
        Run until the graph's fate is known.

        Raises:
            ExecutionError: A node failed.
        """
        run = self._run
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
        return self._value

    # -- walkers ------------------------------------------------------------------

    def _wanted(self) -> int:
        """How many more walkers there is work for; they count as sent."""
        more = min(len(self._ready), self._slots - self._walkers)
        self._walkers += more
        return more

    def _send(self, walkers: int) -> None:
        for _ in range(walkers):
            target = Target("(walker)", self._walk)
            self._backend.submit(Call(self._run, target, 0, 0, None, (), ()), self._came_back)

    def _came_back(self, call: Call, outcome: Outcome) -> None:
        """A walker's end; only a closed backend or a fault of ours makes it an error."""
        if outcome.error is not None and not self._run.stopped:
            self._fail(error_of_node(self._root, outcome.error))

    def _walk(self) -> None:
        spot = call_on_this_thread.call
        assert spot is not None
        run, now = self._run, self._run.kernel.now
        until = now() + _SLICE
        spot.idle = True
        with self._lock:
            work = self._next()
        while work is not None and not (run.stopped or run.cancelled):
            began = now()
            if began > until:
                self._put_back(work)
                self._send(1)
                return
            if type(work) is _SharedMap:
                work = self._share(work, spot, until)
                continue
            node = work.node
            if node.kind == "task":
                work = self._call(work, node, spot, began)
            elif node.kind == "gather":
                work = self._gather(work, node)
            else:
                work = self._open_map(work, node)

    def _next(self) -> _Work | None:
        """Under the lock: something to do for a walker; without any it has to leave."""
        ready = self._ready
        while ready:
            work = ready.popleft()
            if type(work) is Frame:
                return work
            # A map stays for the others, until somebody finds it exhausted.
            if not work.exhausted:
                ready.append(work)
                return work
        self._walkers -= 1
        return None

    def _put_back(self, work: _Work) -> None:
        # A map is among what is ready all the time.
        if isinstance(work, Frame):
            with self._lock:
                self._ready.appendleft(work)

    # -- nodes --------------------------------------------------------------------

    def _call(self, frame: Frame, node: TaskNode, spot: Call, began: float) -> _Work | None:
        spot.node_id, spot.index = node.id, frame.index
        spot.target = step = self._steps[node.task]
        # `Frame.take_args` makes a tuple; here a list will do.
        args = frame.args or node.args
        spot.idle = False
        try:
            if self._run.stopped:
                return None
            value = called(step.body, args, node.kwnames) if node.kwnames else step.body(*args)
        except BaseException as error:
            self._failed(frame, node, None, tuple(args), began, error)
            return None
        finally:
            spot.idle = True
        return self._complete(frame, value)

    def _gather(self, frame: Frame, node: GatherNode) -> _Work | None:
        try:
            value = node.build(frame.take_args())
        except BaseException as error:
            self._fail_node(node, error)
            return None
        return self._complete(frame, value)

    def _open_map(self, frame: Frame, node: MapTaskNode) -> _Work | None:
        try:
            calls = calls_of(node, frame.take_args())
        except BaseException as error:
            self._fail_node(node, error)
            return None
        with self._lock:
            self._ready.append(_SharedMap(frame, node, calls))
            more = max(self._slots - self._walkers, 0)
            self._walkers += more
            following = self._next()
        self._send(more)
        return following

    def _share(self, shared: _SharedMap, spot: Call, until: float) -> _Work | None:
        """Run elements of *shared* until there are none, or the slice of time is over."""
        node, run = shared.node, self._run
        step, now, kwnames = self._steps[node.task], run.kernel.now, node.kwnames
        spot.node_id, spot.index, spot.target = node.id, shared.frame.index, step
        body, results, lock, finished, began = step.body, shared.results, shared.lock, 0, 0.0
        try:
            while not (run.stopped or run.cancelled):
                if not lock.acquire(blocking=False) and not self._waited_for(shared):
                    break
                # The source is code of users, too.
                spot.idle = False
                try:
                    shared.finished += finished
                    finished = 0
                    if self._run.stopped or began > until or shared.exhausted:
                        break
                    args = self._next_call(shared)
                    if args is None:
                        break
                    spot.element = element = len(results)
                    results.append(None)
                finally:
                    lock.release()
                began = now()
                try:
                    results[element] = called(body, args, kwnames) if kwnames else body(*args)
                except BaseException as error:
                    self._failed(shared.frame, node, element, args, began, error)
                    return None
                spot.idle = True
                finished = 1
        finally:
            spot.element, spot.idle = None, True
        if not self._waited_for(shared):
            return None
        done = shared.exhausted and shared.finished == len(results)
        if done:
            # Settled once.
            shared.finished = -1
        lock.release()
        if done:
            return self._complete(shared.frame, results)
        with self._lock:
            return self._next()

    def _waited_for(self, shared: _SharedMap) -> bool:
        """Take the lock of *shared*; False if the run ends before."""
        while not shared.lock.acquire(timeout=_GLANCE):
            if self._run.stopped:
                return False
        return True

    def _next_call(self, shared: _SharedMap) -> tuple[Any, ...] | None:
        try:
            return next(shared.calls)
        except StopIteration:
            shared.exhausted = True
        except BaseException as error:
            shared.exhausted = True
            shared.finished = -1
            self._fail_node(shared.node, error)
        return None

    # -- settling -----------------------------------------------------------------

    def _complete(self, frame: Frame, value: Any) -> _Work | None:
        """Pass *value* on; return what the walker shall do next."""
        ready = self._ready
        with self._lock:
            frame.feed(value, ready.append)
            self._open -= 1
            if not self._open:
                # Nobody needs the root, so it comes last.
                self._value = value
            following = self._next()
            more = self._wanted() if ready and self._walkers < self._slots else 0
        if not self._open:
            self._run.kernel.post(_look_up)
        elif more:
            self._send(more)
        return following

    def _failed(
        self,
        frame: Frame,
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
        call = Call(run, step, node.id, frame.index, element, args, node.kwnames)
        self._fail(error_of_call(call, outcome, node))

    def _fail_node(self, node: GraphNode, error: BaseException) -> None:
        """*node* has failed outside of its task's function."""
        if self._run.stopped:
            raise error
        self._fail(error_of_node(node, error))

    def _fail(self, error: ExecutionError) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
                self._run.stopped = True
        self._run.kernel.post(_look_up)


def _look_up() -> None:
    """A message that only wakes the caller's thread."""
