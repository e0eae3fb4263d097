"""What a rule looks at, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, final

from daglite.bounds import attempts_of
from daglite.core.plan import Step
from daglite.policies import CircuitBreaker, PolicySet

__all__ = [
    "Advice",
    "Found",
    "Rule",
    "Rules",
    "Severity",
    "Subject",
    "by_key",
    "keyed",
    "needed_by",
]

Severity: TypeAlias = Literal["error", "warning", "info"]


@final
@dataclass(frozen=True)
class Subject:
    """
    A task as its plan has it.

    Attributes:
        step: What the plan says of it.
        function: Its function.
        calls: How many calls the graph has of it; None: only the run knows.
        largest_map: Elements of its largest map; 0: it has none; None: only the run knows.
        parted_by: Names of maps whose losses part what its maps zip.
    """

    step: Step
    function: Callable[..., Any]
    calls: int | None
    largest_map: int | None
    parted_by: tuple[str, ...]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.step.name

    @property
    def policies(self) -> PolicySet:
        """Resolved."""
        return self.step.policies

    @property
    def attempts(self) -> int:
        """How many attempts a call can be, hedges aside, from 1."""
        return attempts_of(self.policies.retry, self.step.backend)

    @property
    def calls_of_attempt(self) -> int:
        """How many calls an attempt can be, its hedges among them, from 1."""
        return 1 if self.policies.hedge is None else 1 + self.policies.hedge.max_hedges


class Advice(NamedTuple):
    """What a rule has found: to which task, what, and what to do."""

    task: str
    message: str
    fix: str


class Rule(NamedTuple):
    """A rule, which looks at all tasks of a graph."""

    code: str
    severity: Severity
    look: Callable[[Sequence[Subject]], Iterator[Advice]]


Found: TypeAlias = tuple[str, str] | None
"""Message and fix."""


@final
class Rules:
    """The rules about one thing, each put in by a decorator with its code and severity."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def of_graph(self, code: str, severity: Severity) -> Callable[[Any], Any]:
        """For a function of all tasks, which yields an `Advice` for each thing found."""

        def add(look: Callable[[Sequence[Subject]], Iterator[Advice]]) -> Any:
            self._rules.append(Rule(code, severity, look))
            return look

        return add

    def of_task(self, code: str, severity: Severity) -> Callable[[Any], Any]:
        """For a function of one task, which returns message and fix, or None."""

        def add(look: Callable[[Subject], Found]) -> Any:
            def look_at_all(subjects: Sequence[Subject]) -> Iterator[Advice]:
                for subject in subjects:
                    found = look(subject)
                    if found is not None:
                        yield Advice(subject.name, *found)

            self._rules.append(Rule(code, severity, look_at_all))
            return look

        return add


def by_key(subjects: Sequence[Subject], slot: str) -> Mapping[str, list[Subject]]:
    """Key -> the tasks whose policy in *slot* has it, or has the name of the task for it."""
    users: dict[str, list[Subject]] = {}
    for subject in subjects:
        policy = keyed(subject, slot)
        if policy is not None:
            users.setdefault(policy.key or subject.name, []).append(subject)
    return users


def keyed(of: Subject, slot: str) -> Any:
    """The policy in *slot*, which has a key; "budget" is that of the retries."""
    if slot == "budget":
        return None if of.policies.retry is None else of.policies.retry.budget
    return getattr(of.policies, slot)


def needed_by(breaker: CircuitBreaker) -> int:
    """How many calls a closed circuit must have seen before it can open, from 1."""
    needed = [breaker.consecutive] if breaker.consecutive is not None else []
    return min([*needed, breaker.min_calls] if breaker.needs_window else needed)
