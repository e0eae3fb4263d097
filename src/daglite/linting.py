"""`lint`: what of a graph is allowed, but is hardly meant; nothing is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

from daglite._clock import SystemClock
from daglite.core.graph import GraphNode, NodeId, TaskInfo
from daglite.core.plan import Step
from daglite.core.protocols import Backend
from daglite.core.sizes import losses_of, parted_by, sizes_of
from daglite.exceptions import BackendError, PolicyError
from daglite.host_states import known_states
from daglite.lint_rules.registry import RULES
from daglite.lint_rules.subject import Severity, Subject
from daglite.middleware.build import prepare_states
from daglite.planner import Planner
from daglite.policies import PolicySet
from daglite.session import Options, Session
from daglite.settings import DagliteSettings, get_global_settings
from daglite.state.process import states_of
from daglite.state.registry import Kind, Registry, Scope

__all__ = ["Finding", "lint"]


@final
@dataclass(frozen=True)
class Finding:
    """
    Something that `lint` has found.

    Attributes:
        code: Which rule, such as "DGL003"; a code never changes its meaning.
        severity: "error": `evaluate` refuses the graph; "warning": hardly meant; "info": worth
            a look.
        task: Name of the task.
        message: What is the matter.
        fix: What to do.
    """

    code: str
    severity: Severity
    task: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.code} {self.severity}: task {self.task!r}: {self.message}; {self.fix}"


_session = Session(Options())


def lint(
    expr: Any,
    *,
    default_backend: str | Backend | None = None,
    policies: PolicySet | None = None,
    overrides: PolicySet | None = None,
    settings: DagliteSettings | None = None,
) -> tuple[Finding, ...]:
    """
    Look for policies of *expr* that contradict each other, or don't do what they seem to.

    Nothing is run. What `evaluate` would refuse because of its policies is an error here.

    Args:
        expr: A future, or a container of futures.
        default_backend: As for `evaluate`, and so are the others.

    Returns:
        What was found, in the order of the codes.

    Raises:
        BackendError, GraphConstructionError, PolicyError, SettingsError: The graph or the options
            themselves are wrong.

    Example:
        >>> from daglite import task
        >>> @task(retry=3)
        ... def fetch(url: str) -> str:
        ...     return url
        >>> for finding in lint(fetch.bind(url="a")):
        ...     print(finding.code, finding.severity, finding.fix)
        DGL003 warning give it a timeout, such as timeout=30
    """
    options = Options(
        default_backend=default_backend, policies=policies, overrides=overrides, settings=settings
    )
    nodes, planner = _session.plan(expr, options, "lint")
    directory = (settings or get_global_settings()).state_dir
    wider: dict[Scope, Registry | None] = {
        "process": states_of(SystemClock()).runs,
        "host": known_states(directory),
    }
    return tuple(_findings(nodes, planner, wider))


def _findings(
    nodes: Mapping[NodeId, GraphNode], planner: Planner, wider: Mapping[Scope, Registry | None]
) -> Iterator[Finding]:
    steps: dict[TaskInfo, Step] = {}
    for task in dict.fromkeys(node.task for node in nodes.values() if node.kind != "gather"):
        try:
            steps[task] = planner.step_of(task)
        except (PolicyError, BackendError) as error:
            yield Finding("DGL001", "error", task.name, *_parts_of(task.name, error))
    subjects = _subjects(nodes, steps)
    yield from _refused_states(subjects, wider)
    for rule in RULES:
        for advice in rule.look(subjects):
            yield Finding(rule.code, rule.severity, *advice)


def _subjects(nodes: Mapping[NodeId, GraphNode], steps: Mapping[TaskInfo, Step]) -> list[Subject]:
    sizes = sizes_of(nodes.values())
    losses = losses_of(nodes.values(), lambda task: task in steps and steps[task].drops_failed)
    owned: dict[TaskInfo, list[GraphNode]] = {task: [] for task in steps}
    for node in nodes.values():
        if node.kind != "gather" and node.task in owned:
            owned[node.task].append(node)
    subjects: list[Subject] = []
    for task, own in owned.items():
        maps = [node for node in own if node.kind == "map"]
        parting = frozenset().union(*(parted_by(node, losses) for node in maps))
        subjects.append(
            Subject(
                steps[task],
                task.func,
                calls=_if_known([sizes[node.id] for node in own], sum),
                largest_map=_if_known([sizes[node.id] for node in maps], _largest),
                parted_by=tuple(dict.fromkeys(nodes[each].name for each in sorted(parting))),
            )
        )
    return subjects


def _refused_states(
    subjects: list[Subject], wider: Mapping[Scope, Registry | None]
) -> Iterator[Finding]:
    states = Registry({scope: _LookedAt(known) for scope, known in wider.items()})
    for subject in subjects:
        try:
            prepare_states(subject.policies, states, subject.name)
        except PolicyError as error:
            yield Finding("DGL002", "error", subject.name, *_parts_of(subject.name, error))


@final
class _LookedAt:
    """The states of a wider scope, if there are any, for a graph that isn't run: none is made."""

    def __init__(self, states: Registry | None) -> None:
        self._states = states

    def obtain(self, kind: Kind, key: str, policy: Any, user: str) -> None:
        """Refuse what `evaluate` would refuse."""
        if self._states is not None:
            self._states.check(kind, key, policy, user)


def _parts_of(task: str, error: PolicyError | BackendError) -> tuple[str, str]:
    """Message and fix; what a finding says before them is left out."""
    message = error.problem
    for name in (f"task {task!r}", f"{task!r}"):
        message = message.removeprefix(f"{name}: ").removeprefix(f"{name} ")
    return message, "see the message" if error.fix is None else error.fix


def _largest(sizes: list[int]) -> int:
    return max(sizes, default=0)


def _if_known(sizes: list[int | None], of: Any) -> int | None:
    known = [size for size in sizes if size is not None]
    number: int = of(known)
    return number if len(known) == len(sizes) else None
