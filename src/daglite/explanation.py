"""
`explain`: what a graph would do, and how long it could take, without running it.

    graph ≤ critical path of the calls' bounds + Σ work / workers

While a call waits for a worker all of them are busy, so that what the calls of a path wait for
workers adds up to no more than all work divided by the workers.

Source: R. L. Graham, Bounds on Multiprocessing Timing Anomalies (1969).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from daglite._units import format_duration
from daglite.bounds import Bound, CallBounds, bounds_of, total_of
from daglite.core.graph import GraphNode, NodeId, TaskInfo
from daglite.core.maps import MOST_PARKED
from daglite.core.plan import Step
from daglite.core.protocols import Backend
from daglite.core.sizes import losses_of, sizes_of
from daglite.middleware.build import links_of
from daglite.policies import PolicySet
from daglite.policies.frozen import FrozenMapping
from daglite.session import Options, Session
from daglite.settings import DagliteSettings

__all__ = ["Explanation", "TaskExplanation", "WorkerPool", "explain"]

_SHOWN = 8
"""Names of a long path that are shown."""


@final
@dataclass(frozen=True)
class TaskExplanation:
    """
    What a plan says of a task.

    Attributes:
        name: Its name.
        nodes: How many nodes of the graph it has, maps as one.
        calls: How many calls they make; None: that is known only when the graph runs.
        fewer: Whether there may be fewer calls: some are for what another map gives, which leaves
            failed elements out.
        backend: Name of its backend.
        moved_for: Why that isn't the run's: what that one can't keep; empty: it is, or the task
            names it.
        workers: How many calls run at a time there.
        policies: The resolved policies.
        origins: Slot of `policies` -> the strongest layer that had a part in it.
        chain: What a call goes through, the outermost first.
        bounds: The parts of the bound of one call, and all of it: ``bounds.call``.
    """

    name: str
    nodes: int
    calls: int | None
    fewer: bool
    backend: str
    moved_for: tuple[str, ...]
    workers: int
    policies: PolicySet
    origins: Mapping[str, str]
    chain: tuple[str, ...]
    bounds: CallBounds


@final
@dataclass(frozen=True)
class WorkerPool:
    """
    A backend of a graph.

    Attributes:
        backend: Its name.
        workers: How many calls run at a time, from 1.
        work: How long the graph's calls can keep its workers busy: Σ work / workers.
    """

    backend: str
    workers: int
    work: Bound


@final
class Explanation(str):
    """
    What a graph would do; as text for people, and in fields.

    Attributes:
        tasks: One for each task, in the order of their first nodes.
        pools: One for each backend.
        path: Names of the tasks on the critical path; of a graph without bound, on one that has
            none.
        critical_path: How long that takes with a free worker for every call.
        bound: How long the graph can take. Others who use the same workers aren't counted.
    """

    __slots__ = ("bound", "critical_path", "path", "pools", "tasks")

    tasks: tuple[TaskExplanation, ...]
    pools: tuple[WorkerPool, ...]
    path: tuple[str, ...]
    critical_path: Bound
    bound: Bound

    def __new__(
        cls,
        tasks: tuple[TaskExplanation, ...],
        pools: tuple[WorkerPool, ...],
        path: tuple[str, ...],
        critical_path: Bound,
    ) -> Explanation:
        bound = total_of([critical_path, *(pool.work for pool in pools)])
        made = super().__new__(cls, "\n".join(_lines(tasks, pools, path, critical_path, bound)))
        made.tasks, made.pools, made.path = tasks, pools, path
        made.critical_path, made.bound = critical_path, bound
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Explanation, (self.tasks, self.pools, self.path, self.critical_path)


_session = Session(Options())


def explain(
    expr: Any,
    *,
    default_backend: str | Backend | None = None,
    policies: PolicySet | None = None,
    overrides: PolicySet | None = None,
    settings: DagliteSettings | None = None,
) -> Explanation:
    """
    Say what `evaluate` would do with *expr* and these options, and how long it can take at most.

    Nothing is run.

    Args:
        expr: A future, or a container of futures.
        default_backend: As for `evaluate`, and so are the others.

    Raises:
        BackendError, GraphConstructionError, PolicyError, SettingsError: As for `evaluate`.

    Example:
        >>> from daglite import RetryPolicy, TimeoutPolicy, task
        >>> @task(retry=RetryPolicy(1, "constant", delay=2, hint=None))
        ... def fetch(url: str) -> str:
        ...     return url
        >>> found = explain(fetch.bind(url="a"), policies=PolicySet(timeout=10))
        >>> found.tasks[0].bounds.call.seconds  # two attempts of 10 s + 5 s, and the back-off
        32.0
        >>> explain(fetch.bind(url="a")).bound.reasons
        ("task 'fetch': nothing limits how long an attempt runs; give it a timeout",)
    """
    options = Options(
        default_backend=default_backend, policies=policies, overrides=overrides, settings=settings
    )
    nodes, planner = _session.plan(expr, options, "explain")
    steps: dict[TaskInfo, Step] = {}
    for node in nodes.values():
        if node.kind != "gather" and node.task not in steps:
            steps[node.task] = planner.step_of(node.task)
    bounds = {task: bounds_of(step.policies, step.backend) for task, step in steps.items()}
    sizes = sizes_of(nodes.values())
    path, critical_path = _critical_path(nodes, steps, bounds, sizes)
    counts = _counts(nodes.values(), sizes, steps)
    tasks = tuple(_explained(steps[task], bounds[task], counts[task]) for task in steps)
    return Explanation(tasks, _pools(steps, bounds, counts), path, critical_path)


def _critical_path(
    nodes: Mapping[NodeId, GraphNode],
    steps: Mapping[TaskInfo, Step],
    bounds: Mapping[TaskInfo, CallBounds],
    sizes: Mapping[NodeId, int | None],
) -> tuple[tuple[str, ...], Bound]:
    """Names of the tasks on the longest path, and how long it takes."""
    ends: dict[NodeId, float] = {}
    before: dict[NodeId, NodeId | None] = {}
    reasons: dict[str, None] = {}
    for node in nodes.values():
        last = max(node.dependencies, key=ends.__getitem__, default=None)
        took = _took(node, steps, bounds, sizes)
        reasons.update(dict.fromkeys(took.reasons))
        before[node.id] = last
        ends[node.id] = took.seconds + (0.0 if last is None else ends[last])
    if not ends:
        return (), Bound(0.0)
    at: NodeId | None = max(ends, key=ends.__getitem__)
    seconds = ends[max(ends, key=ends.__getitem__)]
    names: list[str] = []
    while at is not None:
        node = nodes[at]
        if node.kind != "gather":
            names.append(node.name)
        at = before[at]
    return tuple(reversed(names)), Bound(seconds, tuple(reasons))


def _took(
    node: GraphNode,
    steps: Mapping[TaskInfo, Step],
    bounds: Mapping[TaskInfo, CallBounds],
    sizes: Mapping[NodeId, int | None],
) -> Bound:
    """How long *node* takes with a free worker for every call."""
    if node.kind == "gather" or sizes[node.id] == 0:
        return Bound(0.0)
    call = bounds[node.task].call.named(f"task {node.name!r}")
    size = sizes[node.id]
    if node.kind == "task":
        return call
    timeout, waits = steps[node.task].policies.timeout, bounds[node.task].waits
    total = None if timeout is None else timeout.total
    if total is not None and any(wait.what != "retry budget" for wait in waits):
        # What waits for something else than a retry keeps the others from being started.
        return call.plus(_unknown(node.name)) if size is None else call.times(size)
    if size is not None and size > MOST_PARKED:
        # With so many parked, no further ones are started even where workers are free.
        return call.plus(call.times(size / MOST_PARKED))
    return call


def _unknown(name: str) -> Bound:
    why = f"task {name!r}: how many elements its map has is known only at run time"
    return Bound(math.inf, (why,))


def _pools(
    steps: Mapping[TaskInfo, Step],
    bounds: Mapping[TaskInfo, CallBounds],
    counts: Mapping[TaskInfo, _Count],
) -> tuple[WorkerPool, ...]:
    backends: dict[int, Backend] = {id(s.backend): s.backend for s in steps.values()}
    work: dict[int, list[Bound]] = {key: [] for key in backends}
    for task, (_, calls, _) in counts.items():
        each = bounds[task].work.named(f"task {task.name!r}")
        if calls is None:
            each = each.plus(_unknown(task.name))
        work[id(steps[task].backend)].append(each.times(1 if calls is None else calls))
    return tuple(
        WorkerPool(backend.name, backend.slots, total_of(work[key]).times(1 / backend.slots))
        for key, backend in backends.items()
    )


class _Count(NamedTuple):
    """How often a graph has a task; None: how many calls only the run knows."""

    nodes: int
    calls: int | None
    fewer: bool


def _counts(
    nodes: Collection[GraphNode],
    sizes: Mapping[NodeId, int | None],
    steps: Mapping[TaskInfo, Step],
) -> dict[TaskInfo, _Count]:
    losses = losses_of(nodes, lambda task: steps[task].drops_failed)
    counts: dict[TaskInfo, _Count] = {}
    for node in nodes:
        if node.kind != "gather":
            number, calls, fewer = counts.get(node.task, (0, 0, False))
            size = sizes[node.id]
            both = None if size is None or calls is None else calls + size
            # Its own losses are calls.
            fewer = fewer or bool(losses[node.id] - {node.id})
            counts[node.task] = _Count(number + 1, both, fewer)
    return counts


def _explained(step: Step, bounds: CallBounds, count: _Count) -> TaskExplanation:
    links = [name for name, _ in links_of(step.policies, step.backend)]
    return TaskExplanation(
        name=step.name,
        nodes=count.nodes,
        calls=count.calls,
        fewer=count.fewer,
        backend=step.backend.name,
        moved_for=step.moved_for,
        workers=step.backend.slots,
        policies=step.policies,
        origins=FrozenMapping(step.policies.origins),
        chain=(*links, f"backend {step.backend.name!r}"),
        bounds=bounds,
    )


def _lines(
    tasks: Sequence[TaskExplanation],
    pools: Sequence[WorkerPool],
    path: tuple[str, ...],
    critical_path: Bound,
    bound: Bound,
) -> Iterator[str]:
    if not tasks:
        yield "nothing to run"
        return
    for task in tasks:
        yield from _lines_of(task)
        yield ""
    yield "graph"
    yield f"  critical path  {critical_path}: {_shown(path)}"
    for pool in pools:
        workers = _counted(pool.workers, "worker")
        yield f"  work           {pool.work} on {workers} of {pool.backend!r}"
    yield f"  at most        {bound}" if not bound.unbounded else "  unbounded"
    for reason in bound.reasons:
        yield f"                 {reason}"


def _lines_of(task: TaskExplanation) -> Iterator[str]:
    most = "up to " if task.fewer else ""
    calls = "?" if task.calls is None else f"{most}{task.calls}"
    what = "call" if task.calls == 1 else "calls"
    nodes = f" of {task.nodes} nodes" if task.nodes > 1 else ""
    yield f"task {task.name!r}: {calls} {what}{nodes}"
    yield f"  chain     {' → '.join(task.chain)}"
    if task.moved_for:
        yield f"  moved     to {task.backend!r}, for {', '.join(task.moved_for)}"
    for slot, value in task.policies.given.items():
        if value is not None:
            yield f"  {slot:<9} {value!r:.200}  (from {task.origins.get(slot, '?')})"
    bounds = task.bounds
    yield f"  one call  {'' if bounds.call.unbounded else 'at most '}{bounds.call}"
    yield f"            {' + '.join(_parts_of(bounds))}{_capped(task.policies, bounds)}"
    for text in (*bounds.call.reasons, *bounds.notes):
        yield f"            {text}"


def _parts_of(bounds: CallBounds) -> Iterator[str]:
    yield f"{_counted(bounds.attempts, 'attempt')} of {bounds.run}"
    if bounds.back_off:
        yield f"back-off {format_duration(bounds.back_off)}"
    if bounds.hints:
        yield f"hints {format_duration(bounds.hints)}"
    for wait in bounds.waits:
        yield f"{wait.what} {wait.bound} of each {wait.each}"


def _capped(policies: PolicySet, bounds: CallBounds) -> str:
    timeout = policies.timeout
    if timeout is None or timeout.total is None:
        return ""
    total, grace = format_duration(timeout.total), format_duration(timeout.grace)
    return f", no more than the total of {total} + {grace}"


def _shown(path: tuple[str, ...]) -> str:
    if len(path) > _SHOWN:
        half = _SHOWN // 2
        path = (*path[:half], f"… {len(path) - _SHOWN} more …", *path[-half:])
    return " → ".join(path)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
