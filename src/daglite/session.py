"""
A session puts the parts together: settings, backends, policies, and a run for each `evaluate`.

    evaluate(expr) ─► build_graph ─► steps (Planner) ─► run_straight | Crew | Engine ─► value
"""

from __future__ import annotations

import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, TypeAlias, final, get_args
from weakref import WeakSet

from daglite._clock import Clock, SystemClock
from daglite.backends.pool import slot_lender
from daglite.backends.registry import find_backend
from daglite.backends.threads import ThreadBackend
from daglite.core.builder import build_graph
from daglite.core.crew import Crew
from daglite.core.current import call_on_this_thread
from daglite.core.elements import OneShot
from daglite.core.engine import Engine, OnFailure
from daglite.core.events import RunFinished, RunStarted
from daglite.core.frames import frames_of
from daglite.core.future import BaseTaskFuture
from daglite.core.gather import gather
from daglite.core.graph import GraphNode, Node, NodeId, TaskInfo
from daglite.core.kernel import Kernel
from daglite.core.plan import Step
from daglite.core.protocols import Backend, Callback
from daglite.core.run import Listeners, Run
from daglite.core.straight import run_straight
from daglite.core.task import Task
from daglite.exceptions import PolicyError, SettingsError, TaskConfigurationError
from daglite.host_states import HostStates
from daglite.middleware.build import prepare_states
from daglite.planner import Planner
from daglite.policies import PolicySet
from daglite.policies.messages import did_you_mean
from daglite.settings import DagliteSettings, get_global_settings
from daglite.state.process import states_of
from daglite.state.registry import Registry

__all__ = ["SILENT", "OnFailure", "Options", "Session", "new_run_id"]

_number = count(1)
_process = [os.urandom(8).hex()]
"""What tells this process's runs from those of all others, on any machine."""

SILENT = Listeners(())
"""Nobody listens."""

_PlannerKey: TypeAlias = tuple[DagliteSettings, str | int, bool]
"""Settings, the default backend by its name or its id, and whether there is chaos."""

_PLANNERS = 64
"""How many planners a session keeps."""

_OURS = ("sequential", "synchronous", "threading")
"""Backends that are always there, and needn't be found to know that."""


@final
class Options:
    """
    What `evaluate` was asked for besides the expression; see there.

    Raises:
        BackendError: *default_backend* is unknown.
        PolicyError, SettingsError, TaskConfigurationError: A value of the wrong kind.
    """

    __slots__ = (
        "callbacks",
        "chaos",
        "default_backend",
        "on_failure",
        "overrides",
        "policies",
        "settings",
        "use_async",
    )

    def __init__(
        self,
        default_backend: str | Backend | None = None,
        use_async: bool | None = None,
        policies: PolicySet | None = None,
        overrides: PolicySet | None = None,
        callbacks: Callback | Sequence[Callback] | None = None,
        on_failure: OnFailure | None = None,
        settings: DagliteSettings | None = None,
        chaos: bool | None = None,
    ) -> None:
        for name, layer in (("policies", policies), ("overrides", overrides)):
            if layer is not None and not isinstance(layer, PolicySet):
                raise PolicyError(f"{name}= takes a PolicySet, not {layer!r:.60}")
        # Here, as the run never asks for it if every task names its own.
        if default_backend is not None and default_backend not in _OURS:
            find_backend(default_backend)
        if use_async is not None and not isinstance(use_async, bool):
            raise TaskConfigurationError(f"use_async= takes True or False, not {use_async!r:.60}")
        if chaos is not None and not isinstance(chaos, bool):
            raise TaskConfigurationError(
                f"chaos= takes True or False, not {chaos!r:.60}; what strikes is a policy: "
                "policies=PolicySet(chaos=Chaos(...))"
            )
        if settings is not None and not isinstance(settings, DagliteSettings):
            raise SettingsError(f"settings= takes DagliteSettings, not {settings!r:.60}")
        if on_failure is not None and on_failure not in get_args(OnFailure):
            raise TaskConfigurationError(
                f"on_failure= takes 'stop' or 'continue', not {on_failure!r}"
            )
        self.default_backend = default_backend
        self.use_async = use_async
        self.policies = policies
        self.overrides = overrides
        self.callbacks = _listed(callbacks)
        self.on_failure: OnFailure | None = on_failure
        self.settings = settings
        self.chaos = chaos


@final
class Session:
    """
    Evaluates expressions with defaults of its own.

    Args:
        defaults: What a call of `evaluate` doesn't say.
        clock: Tells the time to the runs; None: the system's.
    """

    def __init__(self, defaults: Options, clock: Clock | None = None) -> None:
        self._defaults = defaults
        self._clock: Clock = SystemClock() if clock is None else clock
        self._own_threads: ThreadBackend | None = None
        self._planners: dict[_PlannerKey, Planner] = {}
        self._sizes = (0, 0)
        self._closed = False
        self._renew_lock()
        _sessions.add(self)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def evaluate(
        self, expr: Any, options: Options, on_run: Callable[[Run], None] | None = None
    ) -> Any:
        """
        Run *expr* on this thread.

        Args:
            expr: A future, or a container of futures.
            options: What this call says.
            on_run: Told the run before it begins.
        """
        if self._closed:
            raise TaskConfigurationError("this context is closed; evaluate inside its with block")
        root = _root_of(expr)
        if root is None:
            return expr
        nodes = build_graph(root)
        steps = self._steps(nodes, options)
        callbacks = (*self._defaults.callbacks, *options.callbacks)
        listeners = Listeners(callbacks) if callbacks else SILENT
        run_id = new_run_id()
        run = Run(run_id, Kernel(self._clock), listeners, seed=run_id)
        stateful = [step for step in steps.values() if step.stateful]
        if stateful:
            process = states_of(self._clock).runs
            host = HostStates(self._clock, self._settings(options).state_dir)
            run.states = Registry({"process": process, "host": host})
        try:
            for step in stateful:
                prepare_states(step.policies, run.states, step.name)
            if on_run is not None:
                on_run(run)
            on_failure: OnFailure = options.on_failure or self._defaults.on_failure or "stop"
            outer = call_on_this_thread.call
            if outer is None:
                return _execute(run, nodes, root.id, steps, on_failure)
            # Nested in a task: its cancellation is ours, and while we wait others have its slot.
            run.kernel.while_waiting = slot_lender()
            with outer.run.nesting(run, outer):
                return _execute(run, nodes, root.id, steps, on_failure)
        finally:
            if stateful:
                run.states.leave()

    def plan(
        self, expr: Any, options: Options, asked: str
    ) -> tuple[dict[NodeId, GraphNode], Planner]:
        """
        The graph of *expr*, each node after its inputs, and what would plan it; nothing is run.

        Args:
            expr: What `evaluate` takes.
            options: What this call says.
            asked: Name of the function that was called, for messages.
        """
        root = _root_of(expr, asked)
        return {} if root is None else build_graph(root), self._planner(options)

    def _settings(self, options: Options) -> DagliteSettings:
        return options.settings or self._defaults.settings or get_global_settings()

    def _steps(self, nodes: dict[NodeId, GraphNode], options: Options) -> dict[TaskInfo, Step]:
        planner = self._planner(options)
        steps: dict[TaskInfo, Step] = {}
        for node in nodes.values():
            if node.kind != "gather" and node.task not in steps:
                steps[node.task] = planner.step_of(node.task)
        return steps

    def _planner(self, options: Options) -> Planner:
        defaults = self._defaults
        settings = self._settings(options)
        use_async = defaults.use_async if options.use_async is None else options.use_async
        backend = options.default_backend
        if backend is None and options.use_async:
            backend = "threading"
        if backend is None:
            backend = defaults.default_backend
        if backend is None:
            backend = "threading" if use_async else settings.default_backend
        policies = _stacked(defaults.policies, options.policies)
        overrides = _stacked(defaults.overrides, options.overrides)
        chaos = bool(defaults.chaos if options.chaos is None else options.chaos)
        # A backend that was only given for this call is not to be kept.
        passing = not isinstance(backend, str) and backend is not defaults.default_backend
        if policies is not None or overrides is not None or passing:
            find = self._finder(settings)
            return Planner(settings, backend, find, policies, overrides, chaos=chaos)
        key = (settings, backend if isinstance(backend, str) else id(backend), chaos)
        planner = self._planners.get(key)
        return self._kept_planner(key, settings, backend) if planner is None else planner

    def _kept_planner(
        self, key: _PlannerKey, settings: DagliteSettings, backend: str | Backend
    ) -> Planner:
        planner = Planner(settings, backend, self._finder(settings), chaos=key[2])
        sizes = settings.threads, settings.max_abandoned
        # Dropped when the lock is free again: what a plan holds may do anything as it ends.
        dropped: object = None
        with self._lock:
            if self._closed:
                return planner
            if sizes != self._sizes:
                # A plan holds its pool, and pools of other sizes shall end.
                dropped, self._planners, self._sizes = self._planners, {}, sizes
            elif len(self._planners) >= _PLANNERS:
                dropped = self._planners.pop(next(iter(self._planners)))
            kept = self._planners.setdefault(key, planner)
        del dropped
        return kept

    def _finder(self, settings: DagliteSettings) -> Callable[[str | Backend], Backend]:
        def find(wanted: str | Backend) -> Backend:
            if wanted == "threading" and self._defaults.settings == settings:
                return self._threads(settings)
            return find_backend(
                wanted,
                threads=settings.threads,
                max_abandoned=settings.max_abandoned,
                processes=settings.processes,
            )

        return find

    def _threads(self, settings: DagliteSettings) -> ThreadBackend:
        with self._lock:
            if self._own_threads is None:
                self._own_threads = ThreadBackend(
                    settings.threads, max_abandoned=settings.max_abandoned
                )
            return self._own_threads

    def close(self) -> None:
        """Give back what the session made; it evaluates nothing any more."""
        with self._lock:
            self._closed = True
            dropped, self._planners = self._planners, {}
        del dropped
        if self._own_threads is not None:
            self._own_threads.close()


def new_run_id() -> str:
    """One that no other run has, on any machine."""
    return f"{_process[0]}-{next(_number)}"


def _execute(
    run: Run,
    nodes: dict[NodeId, GraphNode],
    root: NodeId,
    steps: dict[TaskInfo, Step],
    on_failure: OnFailure,
) -> Any:
    with _told(run, nodes, root) if run.listeners.any else contextlib.nullcontext():
        if on_failure == "stop" and all(step.straight for step in steps.values()):
            return run_straight(run, nodes, root, steps)
        crew = None
        if on_failure == "stop" and not run.listeners.any:
            crew = _crew_backend(nodes, steps)
        if crew is not None:
            return Crew(run, nodes, root, steps, crew).execute()
        return Engine(run, frames_of(nodes.values()), root, steps, on_failure).execute()


def _crew_backend(nodes: dict[NodeId, GraphNode], steps: dict[TaskInfo, Step]) -> Backend | None:
    """The one backend of *steps*, if nothing stands between it and their functions."""
    first = next(iter(steps.values())).backend
    if not first.capabilities.shared_memory:
        return None
    if not all(s.bare and s.tolerance is None and s.backend is first for s in steps.values()):
        return None
    # What can be gone through once only may belong to this thread: a database's cursor, say.
    maps = [node for node in nodes.values() if node.kind == "map"]
    if any(type(arg) is OneShot for node in maps for arg in node.args):
        return None
    return first


@contextlib.contextmanager
def _told(run: Run, nodes: dict[NodeId, GraphNode], root: NodeId) -> Iterator[None]:
    """Tell the listeners when *run* begins, and in any case when it ends."""
    tasks = sum(node.kind != "gather" for node in nodes.values())
    run.emit(RunStarted, tasks, _root_names(nodes, root))
    ok = False
    try:
        yield
        ok = True
    finally:
        run.emit(RunFinished, ok, run.since(run.kernel.now()))


def _root_names(nodes: dict[NodeId, GraphNode], root: NodeId) -> tuple[str, ...]:
    """Names of the tasks whose values were asked for."""
    names, todo = [], [root]
    while todo:
        node = nodes[todo.pop()]
        if node.kind == "gather":
            todo.extend(reversed(node.dependencies))
        else:
            names.append(node.name)
    return tuple(names)


def _root_of(expr: Any, asked: str = "evaluate") -> Node | None:
    """What to evaluate; None for a container without anything to wait for."""
    if isinstance(expr, BaseTaskFuture):
        return expr
    if isinstance(expr, Task):
        raise TypeError(f"{asked} needs a future, not {expr!r}; bind it first: {expr.name}.bind()")
    if not isinstance(expr, (list, tuple, set, frozenset, dict)):
        hint = "; decorate it with @task and bind it" if callable(expr) else ""
        raise TypeError(
            f"{asked} needs a future, or a list, tuple or dict of futures, not {expr!r:.60}{hint}"
        )
    items = expr.values() if isinstance(expr, dict) else expr
    for item in items:
        if isinstance(item, Task):
            raise TypeError(
                f"{asked} was given a {type(expr).__name__} that holds {item!r:.60}, which is "
                f"no future; bind it first: {item.name}.bind()"
            )
        if gather(item) is None and not isinstance(item, (list, tuple, dict)):
            raise TypeError(
                f"{asked} was given a {type(expr).__name__} that holds {item!r:.60}, "
                "which is no future"
            )
    return gather(expr)


def _stacked(weaker: PolicySet | None, stronger: PolicySet | None) -> PolicySet | None:
    if weaker is None or stronger is None:
        return stronger if weaker is None else weaker
    return stronger.merged_over(weaker)


def _listed(callbacks: Any) -> tuple[object, ...]:
    if callbacks is None:
        return ()
    listed = tuple(callbacks) if isinstance(callbacks, (list, tuple, set)) else (callbacks,)
    for callback in listed:
        _check_callback(callback)
    return listed


_CALLBACK_METHODS = ("on_event", "on_node_start", "on_node_complete", "on_node_error")


def _check_callback(callback: object) -> None:
    told = f"callback {callback!r:.60} has"
    for name in dir(callback):
        if not name.startswith("on_") or not callable(method := getattr(callback, name, None)):
            continue
        if name not in _CALLBACK_METHODS:
            meant = did_you_mean(name, _CALLBACK_METHODS, 0.8)
            if meant:
                raise TaskConfigurationError(
                    f"{told} a method {name!r}, which is never called{meant}; "
                    f"those that are called are {', '.join(_CALLBACK_METHODS)}"
                )
            # Another library's, which calls it.
            continue
        if inspect.iscoroutinefunction(method):
            raise TaskConfigurationError(
                f"{told} an async {name!r}, which nobody would await; make it a plain method"
            )
    if isinstance(callback, type) or not any(hasattr(callback, m) for m in _CALLBACK_METHODS):
        raise TaskConfigurationError(f"{told} none of the methods {', '.join(_CALLBACK_METHODS)}")


_sessions: WeakSet[Session] = WeakSet()


def _after_fork() -> None:
    """The child's runs aren't the parent's, and who held a lock there isn't here."""
    _process[0] = os.urandom(8).hex()
    for session in tuple(_sessions):
        session._renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
