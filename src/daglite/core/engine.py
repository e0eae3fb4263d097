"""
The engine: runs the nodes of a graph as their inputs become known.

    ready ─► start ─┬─ bare, elsewhere ─► backend.submit ─► inbox ──┐
      ▲             ├─ with a chain ────► activity of the kernel ───┤
      │             └─ a map ───────────► MapRun, element by element┤
      └── what waited for it ◄── complete ◄─────────────────────────┘

Where everything is in place and untimed, `Straight` does the whole graph in one loop; the
engine takes over from it at the first call that has to be tried again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias, final

from daglite.core.call import Call, Outcome
from daglite.core.failures import error_of_call, error_of_node
from daglite.core.graph import GatherNode, GraphNode, MapTaskNode, NodeId, TaskInfo, TaskNode
from daglite.core.kernel import Activity, Cancelled
from daglite.core.maps import MapRun
from daglite.core.plan import Step
from daglite.core.protocols import Backend
from daglite.core.run import Run
from daglite.exceptions import ExecutionError, RunCancelledError, filled

__all__ = ["Engine", "OnFailure"]

OnFailure: TypeAlias = Literal["stop", "continue"]


@final
class Engine:
    """
    Runs one graph once.

    Args:
        run: The run.
        nodes: The graph, each node after its inputs.
        root: Whose value is wanted.
        steps: Task -> what the plan says of it.
        on_failure: ``"stop"`` at the first failed node, or ``"continue"`` with what doesn't
            depend on it.
        values: Node id -> result, for the nodes that are done already.
        begun: A node that is under way already; see `adopt` and `adopt_map`.
    """

    def __init__(
        self,
        run: Run,
        nodes: Mapping[NodeId, GraphNode],
        root: NodeId,
        steps: Mapping[TaskInfo, Step],
        on_failure: OnFailure = "stop",
        values: dict[NodeId, Any] | None = None,
        begun: NodeId | None = None,
    ) -> None:
        self.run = run
        self.nodes = nodes
        self.root = root
        self.steps = steps
        self.values: dict[NodeId, Any] = {} if values is None else values
        self._on_failure = on_failure
        self._places = {node_id: i for i, node_id in enumerate(nodes)}
        self._begun = begun
        self._ready: deque[GraphNode] = deque()
        self._here: deque[GraphNode | MapRun] = deque()
        self._activities: set[Activity[Outcome]] = set()
        self._lost: set[NodeId] = set()
        self._failures: list[ExecutionError] = []
        self._open = 0
        self._uses: dict[NodeId, int] = {root: 1}
        self._waiting: dict[NodeId, int] = {}
        self._consumers: dict[NodeId, list[GraphNode]] = {}
        self._count_edges()

    def _count_edges(self) -> None:
        values, uses, consumers, waiting = self.values, self._uses, self._consumers, self._waiting
        done = self._done_before()
        for node_id, node in self.nodes.items():
            if node_id in done:
                continue
            self._open += 1
            if node_id == self._begun and node.kind == "task":
                # It holds its arguments itself.
                continue
            missing = 0
            for place in node.refs:
                dep = node.args[place].id
                uses[dep] = uses.get(dep, 0) + 1
                if dep not in values:
                    missing += 1
                    if dep in consumers:
                        consumers[dep].append(node)
                    else:
                        consumers[dep] = [node]
            if missing:
                waiting[node_id] = missing
            elif node_id != self._begun:
                self._enqueue(node)

    def _done_before(self) -> set[NodeId]:
        """Nodes that needn't run: done, or only needed by what is done."""
        if self._begun is None:
            return set()
        needed, todo = {self.root}, [self.root]
        while todo:
            node_id = todo.pop()
            if node_id in self.values:
                continue
            if node_id == self._begun and self.nodes[node_id].kind == "task":
                continue
            for dep in self.nodes[node_id].dependencies:
                if dep not in needed:
                    needed.add(dep)
                    todo.append(dep)
        return {i for i in self.nodes if i not in needed or i in self.values}

    # -- the loop -----------------------------------------------------------------

    def execute(self) -> Any:
        """
        Run until the graph's fate is known.

        Returns:
            The root's value.

        Raises:
            ExecutionError: A node failed.
        """
        turn = self.run.kernel.turn
        try:
            while self._open:
                if self.run.cancelled:
                    raise filled(RunCancelledError("the run was cancelled"))
                if self._ready:
                    self._start(self._ready.popleft())
                elif self._here:
                    self._start(self._here.popleft())
                    turn(block=False)
                else:
                    turn()
        finally:
            self._stop()
        if self._failures:
            first, *others = self._failures
            raise filled(first, failures=self._failures) if others else first
        return self.values[self.root]

    def _stop(self) -> None:
        """Nothing of this run shall be felt by a later one."""
        run = self.run
        run.stopped = True
        for activity in tuple(self._activities):
            run.kernel.cancel(activity)
        if self._activities:
            run.kernel.turn(block=False)
        backends: dict[int, Backend] = {id(s.backend): s.backend for s in self.steps.values()}
        for backend in backends.values():
            backend.cancel_run(run)

    # -- starting -----------------------------------------------------------------

    def _enqueue(self, node: GraphNode) -> None:
        if node.kind == "gather" or not self.steps[node.task].backend.capabilities.in_place:
            self._ready.append(node)
        else:
            self._here.append(node)

    def _start(self, node: GraphNode | MapRun) -> None:
        if isinstance(node, MapRun):
            node.pump()
        elif node.kind == "task":
            self._start_call(node)
        elif node.kind == "map":
            self._start_map(node)
        else:
            self._gather(node)

    def _start_call(self, node: TaskNode) -> None:
        step = self.steps[node.task]
        args = self._taken(node) if node.refs else node.args
        if self.run.listeners.any:
            self.run.announce(node, None)
        call = Call(self.run, step, node.id, self._places[node.id], None, args, node.kwnames)
        if step.bare and not step.backend.capabilities.in_place:
            self.run.kernel.outstanding += 1
            step.backend.submit(call, self._post)
        else:
            self.enter(call, step, partial(self._ended, call))

    def _taken(self, node: TaskNode | GatherNode) -> tuple[Any, ...]:
        """The arguments of *node*, results in their places; those nobody else needs are let go."""
        args = list(node.args)
        values, uses = self.values, self._uses
        for place in node.refs:
            dep = args[place].id
            args[place] = values[dep]
            left = uses[dep] - 1
            uses[dep] = left
            if not left:
                del values[dep]
        return tuple(args)

    def _gather(self, node: GatherNode) -> None:
        try:
            value = node.build(self._taken(node))
        except Exception as error:
            self.fail(error_of_node(node, error, self.nodes), node.id, None)
        else:
            self.complete(node.id, value)

    def _start_map(self, node: MapTaskNode) -> None:
        step = self.steps[node.task]
        mapping = MapRun(self, node, step, self._places[node.id])
        if self.run.listeners.any:
            self.run.announce(node, mapping.total)
        mapping.pump()

    def resume_map(self, mapping: MapRun) -> None:
        """Let *mapping*, which runs in place, go on after what is more urgent."""
        self._here.appendleft(mapping)

    def release(self, node: MapTaskNode) -> None:
        """*node* needs its inputs no longer."""
        for dep in node.dependencies:
            self._let_go(dep)

    def adopt(self, call: Call, step: Step) -> None:
        """Go on with a call whose first attempt was made already."""
        self.enter(call, step, partial(self._ended, call))

    def adopt_map(
        self,
        node: MapTaskNode,
        step: Step,
        calls: Iterator[tuple[Any, ...]],
        results: list[Any],
        args: tuple[Any, ...],
        before: Outcome,
    ) -> None:
        """Go on with a map at the element whose first attempt was made already."""
        mapping = MapRun(self, node, step, self._places[node.id])
        mapping.take_over(calls, results, args, before)
        self._here.appendleft(mapping)

    def enter(self, call: Call, step: Step, on_done: Any) -> None:
        """Send *call* through its chain; *on_done* takes the ended activity."""

        def done(activity: Activity[Outcome]) -> None:
            self._activities.discard(activity)
            on_done(activity)

        activity = self.run.kernel.spawn(_through(step, call), done)
        if not activity.done:
            self._activities.add(activity)

    # -- ending -------------------------------------------------------------------

    def _post(self, call: Call, outcome: Outcome) -> None:
        """From the thread that ran a bare call."""
        self.run.kernel.post(self._arrived, call, outcome)

    def _arrived(self, call: Call, outcome: Outcome) -> None:
        self.run.kernel.outstanding -= 1
        if outcome.error is None:
            self.complete(call.node_id, outcome.value)
        else:
            self.fail(error_of_call(call, outcome, self.nodes), call.node_id, None)

    def _let_go(self, dep: NodeId) -> None:
        """One node less needs *dep*."""
        self._uses[dep] -= 1
        if not self._uses[dep]:
            del self.values[dep]

    def _ended(self, call: Call, activity: Activity[Outcome]) -> None:
        outcome = self.outcome_of(activity)
        if outcome is None:
            return
        if outcome.error is None:
            self.complete(call.node_id, outcome.value)
        else:
            self.fail(error_of_call(call, outcome, self.nodes), call.node_id, None)

    def outcome_of(self, activity: Activity[Outcome]) -> Outcome | None:
        """How *activity* ended; None if it was cancelled because the run ends."""
        if activity.error is None:
            return activity.value
        if isinstance(activity.error, Cancelled):
            return None
        # A middleware raised: its fault, but this call's failure.
        return Outcome(error=activity.error)

    def complete(self, node_id: NodeId, value: Any) -> None:
        """*node_id* has its value: what waited for it may be ready now."""
        if self.run.stopped:
            # It came in the same turn as what ended the run.
            return
        self._open -= 1
        if self._uses.get(node_id):
            self.values[node_id] = value
        if self.run.listeners.any:
            node = self.nodes[node_id]
            if node.kind != "gather":
                self.run.tell_complete(node, value)
        waiting = self._waiting
        for consumer in self._consumers.pop(node_id, ()):
            left = waiting[consumer.id] - 1
            waiting[consumer.id] = left
            if not left and consumer.id not in self._lost:
                self._enqueue(consumer)

    def fail(self, error: ExecutionError, node_id: NodeId, element: int | None) -> None:
        """*node_id* has failed for good."""
        if self.run.stopped:
            return
        self.run.tell_failure(self.nodes[node_id], error, element)
        self._failures.append(error)
        if self._on_failure == "stop":
            self._open = 0
            self.run.stopped = True
            return
        self._open -= 1
        self._lose_dependants(node_id)

    def _lose_dependants(self, node_id: NodeId) -> None:
        todo = [node_id]
        while todo:
            for consumer in self._consumers.pop(todo.pop(), ()):
                if consumer.id not in self._lost:
                    self._lost.add(consumer.id)
                    self._open -= 1
                    todo.append(consumer.id)


async def _through(step: Step, call: Call) -> Outcome:
    return await step.enter(call)
