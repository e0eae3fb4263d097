"""
A graph that runs in place from its first node to its last: no scheduler at all.

Chains that do nothing unless a call fails are not entered, nor are those that only look whether
it may start (`Step.skip`).  At the first call that must wait, takes too long, or fails and may be
tried again, the rest of the graph is handed to an `Engine`, whose chain finds in the call what was
done of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn, final

from daglite.core.call import Call, Outcome, Target, called
from daglite.core.current import call_on_this_thread
from daglite.core.elements import calls_of, number_of_calls
from daglite.core.engine import Engine
from daglite.core.failures import error_of_call, error_of_node
from daglite.core.frames import frames_of
from daglite.core.graph import GatherNode, GraphNode, MapTaskNode, NodeId, TaskInfo, TaskNode
from daglite.core.interrupts import Interrupted
from daglite.core.plan import Skip, Step
from daglite.core.run import Run
from daglite.exceptions import ExecutionError, RunCancelledError, filled

__all__ = ["run_straight"]

_LOOK_EVERY = 64
"""Elements of a watched map between two looks at the clock."""


def run_straight(
    run: Run, nodes: Mapping[NodeId, GraphNode], root: NodeId, steps: Mapping[TaskInfo, Step]
) -> Any:
    """
    Run *nodes* in their order, and return the value of *root*.

    Every step must be `Step.straight`.

    Raises:
        ExecutionError: A node failed.
    """
    outer, engine = call_on_this_thread.call, None
    try:
        return _Straight(run, nodes, root, steps).execute()
    except _HandOverError as rest:
        engine = rest.engine
    finally:
        call_on_this_thread.call = outer
        if engine is None:
            for backend in {step.backend for step in steps.values() if step.timed}:
                backend.cancel_run(run)
    assert engine is not None
    # Out here, so that its errors don't seem to come of the hand-over.
    return engine.execute()


@final
class _HandOverError(Exception):
    """The rest is for an engine."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine


@final
class _ChainedError(Exception):
    """A call has to enter its chain."""

    def __init__(self, before: Outcome | None, permit: Any, call: Call | None) -> None:
        super().__init__()
        self.before = before
        self.permit = permit
        self.call = call


def _chained(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    before: Outcome | None = None,
    permit: Any = None,
    call: Call | None = None,
) -> NoReturn:
    raise _ChainedError(before, permit, call)


@final
class _Element:
    """Where a map stands: which arguments it is at, and whether its function is running."""

    __slots__ = ("args", "began", "calling")

    def __init__(self) -> None:
        self.args: tuple[Any, ...] = ()
        self.began: float | None = None
        self.calling = False


@final
class _Straight:
    def __init__(
        self,
        run: Run,
        nodes: Mapping[NodeId, GraphNode],
        root: NodeId,
        steps: Mapping[TaskInfo, Step],
    ) -> None:
        self._run = run
        self._nodes = nodes
        self._root = root
        self._steps = steps
        self._taken = {
            task: step if step.skip is None else self._skipping(step, step.skip)
            for task, step in steps.items()
        }
        self._values: dict[NodeId, Any] = {}
        self._last = _last_uses(nodes)
        # What `current_call` sees: one object for the whole run, changed as it goes.
        self._spot = Call(run, Target("", print), 0, 0, None, (), ())

    def _skipping(self, step: Step, skip: Skip) -> Step:
        """*step* with what goes past its chain in place of its body."""

        def made(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
            spot = self._spot
            element = None if spot.results is None else len(spot.results)
            args = (*args, *kwargs.values()) if kwargs else args
            return Call(self._run, step, spot.node_id, spot.index, element, args, tuple(kwargs))

        return step.taking(skip(step.body, self._run, made, _chained))

    def execute(self) -> Any:
        run, steps, values, spot = self._run, self._taken, self._values, self._spot
        announce = run.announce if run.listeners.any else None
        now, last = run.kernel.now, self._last
        args: Any = None
        value: Any = None
        call_on_this_thread.call = spot
        for index, node in enumerate(self._nodes.values()):
            if run.cancelled:
                raise filled(RunCancelledError("the run was cancelled"))
            if node.kind != "task":
                # A map may take long: what the call before it had and made isn't ours to hold.
                args = value = None
                if node.kind == "gather":
                    values[node.id] = self._gathered(node)
                else:
                    values[node.id] = self._mapped(node, index)
                self._let_go(node)
                continue
            node_id, kwnames = node.id, node.kwnames
            args = given = node.args
            if node.refs:
                args, place = list(given), 0
                try:
                    for place in node.refs:
                        dep = given[place].id
                        # What nobody else needs is let go.
                        args[place] = values.pop(dep) if last[dep] is node else values[dep]
                except KeyError:
                    self._fill_repeats(node, args, place)
            spot.target = step = steps[node.task]
            spot.node_id = node_id
            spot.index = index
            if announce is not None:
                announce(node, None)
            began = now()
            try:
                value = called(step.body, args, kwnames) if kwnames else step.body(*args)
            except (KeyboardInterrupt, Interrupted):
                raise
            except BaseException as error:
                raised = error
            else:
                values[node_id] = value
                if announce is not None:
                    run.tell_complete(node, value)
                continue
            # Outside of the handler, or what follows would seem to come of handling it. And no
            # error shall lead back to itself through this frame.
            failure = self._failed(node, index, tuple(args), began, raised)
            try:
                raise failure
            finally:
                del raised, failure
        return values[self._root]

    # -- values -------------------------------------------------------------------

    def _let_go(self, node: GraphNode) -> None:
        for needed in node.inputs:
            if self._last[needed.id] is node:
                self._values.pop(needed.id, None)

    def _fill_repeats(self, node: TaskNode, args: list[Any], start: int) -> None:
        """Go on from place *start*, where an input stands that an earlier place has let go."""
        done = node.refs.index(start)
        taken = {node.args[i].id: args[i] for i in node.refs[:done]}
        for i in node.refs[done:]:
            dep = node.args[i].id
            args[i] = taken[dep] if dep in taken else self._values[dep]
        self._let_go(node)

    def _resolved(self, node: GraphNode) -> list[Any]:
        args = list(node.args)
        for place in node.refs:
            args[place] = self._values[args[place].id]
        return args

    # -- gathers and maps ---------------------------------------------------------

    def _gathered(self, node: GatherNode) -> Any:
        try:
            return node.build(self._resolved(node))
        except Exception as error:
            raised = error
        raise self._told(error_of_node(node, raised), node)

    def _mapped(self, node: MapTaskNode, index: int) -> list[Any]:
        run, spot, step = self._run, self._spot, self._taken[node.task]
        spot.target, spot.node_id, spot.index = step, node.id, index
        results: list[Any] = []
        spot.results = results
        at = _Element()
        calls: Iterator[tuple[Any, ...]] = iter(())
        try:
            args = self._resolved(node)
            total = number_of_calls(node, args)
            if run.listeners.any:
                run.announce(node, total)
            calls = calls_of(node, args)
            quick = step.bare or step.skip is not None
            if run.listeners.on_event is not None or not quick or node.kwnames:
                self._watched(node, calls, at, results, total)
            else:
                self._plain(calls, at, results)
        except (KeyboardInterrupt, Interrupted):
            raise
        except BaseException as error:
            raised = error
        else:
            if run.listeners.any:
                run.tell_complete(node, results)
            return results
        finally:
            spot.results = None
        failure = self._failed_map(node, index, calls, at, results, raised)
        try:
            raise failure
        finally:
            del raised, failure

    def _plain(self, calls: Iterator[tuple[Any, ...]], at: _Element, results: list[Any]) -> None:
        """As fast as can be: the clock isn't read, and all is kept in local variables."""
        run, body, add = self._run, self._spot.target.body, results.append
        args: tuple[Any, ...] = ()
        calling = False
        try:
            for args in calls:
                calling = True
                add(body(*args))
                calling = False
                if run.cancelled:
                    raise filled(RunCancelledError("the run was cancelled"))
        except BaseException:
            at.args, at.calling = args, calling
            raise

    def _watched(
        self,
        node: MapTaskNode,
        calls: Iterator[tuple[Any, ...]],
        at: _Element,
        results: list[Any],
        total: int | None,
    ) -> None:
        """The same loop, with the time taken, progress told, and arguments passed by name."""
        run, body, kwnames = self._run, self._spot.target.body, node.kwnames
        now, add = run.kernel.now, results.append
        for at.args in calls:
            at.began = now()
            at.calling = True
            add(called(body, at.args, kwnames) if kwnames else body(*at.args))
            at.calling = False
            if not len(results) % _LOOK_EVERY:
                run.tell_progress(node, len(results), total)
            if run.cancelled:
                raise filled(RunCancelledError("the run was cancelled"))

    # -- failures -----------------------------------------------------------------

    def _failed(
        self, node: TaskNode, index: int, args: tuple[Any, ...], began: float, error: BaseException
    ) -> Exception:
        """The error for *node*, or the engine that shall go on from here."""
        step, run = self._steps[node.task], self._run
        call = Call(run, step, node.id, index, None, args, node.kwnames)
        if step.bare:
            outcome = Outcome.of_failure(error, began, run.kernel.now())
            return self._told(error_of_call(call, outcome, node), node)
        for place in node.refs:
            # Its last uses were let go.
            self._values[node.args[place].id] = args[place]
        engine = self._engine(index, node.id)
        engine.adopt(self._done(call, began, error), step)
        return _HandOverError(engine)

    def _failed_map(
        self,
        node: MapTaskNode,
        index: int,
        calls: Iterator[tuple[Any, ...]],
        at: _Element,
        results: list[Any],
        error: BaseException,
    ) -> Exception:
        step, run = self._steps[node.task], self._run
        if not at.calling:
            if isinstance(error, RunCancelledError):
                return error
            return self._told(error_of_node(node, error), node)
        call = Call(run, step, node.id, index, len(results), at.args, node.kwnames)
        if not step.bare:
            engine = self._engine(index, node.id)
            engine.adopt_map(node, step, calls, results, self._done(call, at.began, error))
            return _HandOverError(engine)
        outcome = Outcome.of_failure(error, at.began, run.kernel.now())
        error = error_of_call(call, outcome, node)
        run.tell_failure(node, error, len(results))
        return error

    def _done(self, call: Call, began: float | None, error: BaseException) -> Call:
        """The call that enters the chain: *call*, or the one that was made already."""
        if not isinstance(error, _ChainedError):
            call.done_before = Outcome.of_failure(error, began, self._run.kernel.now())
            return call
        call = call if error.call is None else error.call
        call.done_before, call.granted = error.before, error.permit
        return call

    def _engine(self, index: int, begun: NodeId) -> Engine:
        """For the nodes from place *index* on, of which the first is *begun*."""
        rest = islice(self._nodes.values(), index, None)
        frames = frames_of(rest, index, self._values)
        return Engine(self._run, frames, self._root, self._steps, begun=begun)

    def _told(self, error: ExecutionError, node: GraphNode) -> ExecutionError:
        self._run.tell_failure(node, error, None)
        return error


def _last_uses(nodes: Mapping[NodeId, GraphNode]) -> dict[NodeId, GraphNode]:
    """Node id -> the last node that needs its value."""
    last: dict[NodeId, GraphNode] = {}
    for node in nodes.values():
        if node.refs:
            args = node.args
            for place in node.refs:
                last[args[place].id] = node
    return last
