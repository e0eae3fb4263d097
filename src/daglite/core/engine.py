"""
The engine: runs the nodes of a graph as their inputs become known.

    ready ─► start ─┬─ bare, elsewhere ─► backend.submit ─► inbox ──┐
      ▲             ├─ with a chain ────► activity of the kernel ───┤
      │             └─ a map ───────────► MapRun, element by element┤
      └── what waited for it ◄── complete ◄─────────────────────────┘

Where everything is in place and untimed, `run_straight` does the whole graph in one loop; the
engine takes over from it at the first call that has to be tried again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias, final

from daglite.core.ahead import Ahead
from daglite.core.call import Call, Outcome
from daglite.core.failures import error_of_call, error_of_node
from daglite.core.frames import Frame
from daglite.core.graph import GatherNode, MapTaskNode, NodeId, TaskInfo, TaskNode
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
        frames: Node id -> frame, in the order of the graph; used up.
        root: Whose value is wanted.
        steps: Task -> what the plan says of it.
        on_failure: ``"stop"`` at the first failed node, or ``"continue"`` with what doesn't
            depend on it.
        begun: A node that is under way already; see `adopt` and `adopt_map`.
    """

    def __init__(
        self,
        run: Run,
        frames: dict[NodeId, Frame],
        root: NodeId,
        steps: Mapping[TaskInfo, Step],
        on_failure: OnFailure = "stop",
        begun: NodeId | None = None,
    ) -> None:
        self.run = run
        self._frames = frames
        self._root = root
        self._steps = steps
        self._on_failure = on_failure
        self._value: Any = None
        self._ready: deque[Frame] = deque()
        self._here: deque[Frame | MapRun] = deque()
        self._ahead: dict[Step, Ahead] = {}
        self._activities: set[Activity[Outcome]] = set()
        self._failures: list[ExecutionError] = []
        for frame in frames.values():
            if not frame.missing and frame.node.id != begun:
                self._enqueue(frame)

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
            while self._frames:
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
            # With the failed elements that a map's own error may hold.
            raise filled(first, failures=(*first.failures, *others)) if others else first
        return self._value

    def _stop(self) -> None:
        """Nothing of this run shall be felt by a later one."""
        run = self.run
        run.stopped = True
        for activity in tuple(self._activities):
            run.kernel.cancel(activity)
        if self._activities:
            run.kernel.turn(block=False)
        backends: dict[int, Backend] = {id(s.backend): s.backend for s in self._steps.values()}
        for backend in backends.values():
            backend.cancel_run(run)

    # -- starting -----------------------------------------------------------------

    def _enqueue(self, frame: Frame) -> None:
        node = frame.node
        if node.kind == "gather" or not self._steps[node.task].backend.capabilities.in_place:
            self._ready.append(frame)
        else:
            self._here.append(frame)

    def _start(self, what: Frame | MapRun) -> None:
        if isinstance(what, MapRun):
            what.pump()
        elif what.node.kind == "task":
            self._start_call(what, what.node)
        elif what.node.kind == "map":
            self._start_map(what, what.node)
        else:
            self._gather(what, what.node)

    def _start_call(self, frame: Frame, node: TaskNode) -> None:
        step, args = self._steps[node.task], frame.take_args()
        if self.run.listeners.any:
            self.run.announce(node, None)
        call = Call(self.run, step, node.id, frame.index, None, args, node.kwnames)
        if step.ahead:
            self._ahead_of(step).begin(call)
        else:
            self.adopt(call, step)

    def _ahead_of(self, step: Step) -> Ahead:
        ahead = self._ahead.get(step)
        if ahead is None:
            enter = partial(self.adopt, step=step)
            ahead = self._ahead[step] = Ahead(self.run, step, self._settle, enter)
        return ahead

    def _gather(self, frame: Frame, node: GatherNode) -> None:
        try:
            value = node.build(frame.take_args())
        except Exception as error:
            self.fail(error_of_node(node, error), frame, None)
        else:
            self.complete(frame, value)

    def _start_map(self, frame: Frame, node: MapTaskNode) -> None:
        mapping = MapRun(self, frame, node, self._steps[node.task])
        if self.run.listeners.any:
            self.run.announce(node, mapping.total)
        mapping.pump()

    def resume_map(self, mapping: MapRun) -> None:
        """Let *mapping*, which runs in place, go on after what is more urgent."""
        self._here.appendleft(mapping)

    def adopt(self, call: Call, step: Step) -> None:
        """Send *call* through its chain; its first attempt may have been made already."""
        self.enter(call, step, partial(self._ended, call))

    def adopt_map(
        self,
        node: MapTaskNode,
        step: Step,
        calls: Iterator[tuple[Any, ...]],
        results: list[Any],
        call: Call,
    ) -> None:
        """Go on with a map at the element of *call*, of which something may have been done."""
        mapping = MapRun(self, self._frames[node.id], node, step)
        mapping.take_over(calls, results, call)
        self._here.appendleft(mapping)

    def enter(self, call: Call, step: Step, on_done: Any) -> Activity[Outcome]:
        """Send *call* through its chain, and return the activity; *on_done* takes it at its end."""

        def done(activity: Activity[Outcome]) -> None:
            self._activities.discard(activity)
            on_done(activity)

        activity = self.run.kernel.spawn(_through(step, call), done)
        if not activity.done:
            self._activities.add(activity)
        return activity

    # -- ending -------------------------------------------------------------------

    def _ended(self, call: Call, activity: Activity[Outcome]) -> None:
        outcome = self.outcome_of(activity)
        if outcome is not None:
            self._settle(call, outcome)

    def _settle(self, call: Call, outcome: Outcome) -> None:
        frame = self._frames.get(call.node_id)
        if frame is None:
            # The run's fate was known before.
            return
        if outcome.error is None:
            self.complete(frame, outcome.value)
        else:
            self.fail(error_of_call(call, outcome, frame.node), frame, None)

    def outcome_of(self, activity: Activity[Outcome]) -> Outcome | None:
        """How *activity* ended; None if it was cancelled because the run ends."""
        if activity.error is None:
            return activity.value
        if isinstance(activity.error, Cancelled):
            return None
        # A middleware raised: its fault, but this call's failure.
        return Outcome(error=activity.error)

    def complete(self, frame: Frame, value: Any) -> None:
        """*frame* has its value: what waited for it may be ready now."""
        if self.run.stopped:
            # It came in the same turn as what ended the run.
            return
        node = frame.node
        del self._frames[node.id]
        if node.id == self._root:
            self._value = value
        if self.run.listeners.any and node.kind != "gather":
            self.run.tell_complete(node, value)
        frame.feed(value, self._enqueue)

    def fail(self, error: ExecutionError, frame: Frame, element: int | None) -> None:
        """*frame* has failed for good."""
        if self.run.stopped:
            return
        self.run.tell_failure(frame.node, error, element)
        self._failures.append(error)
        if self._on_failure == "stop":
            self._frames.clear()
            self.run.stopped = True
            return
        del self._frames[frame.node.id]
        for node_id in frame.lose_consumers():
            del self._frames[node_id]


async def _through(step: Step, call: Call) -> Outcome:
    return await step.enter(call)
