"""Which state belongs to which key: made when it is first asked for, one for all who share it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, TypeAlias, final

from daglite.exceptions import PolicyError
from daglite.state.breaker import Breaker
from daglite.state.bucket import Bucket
from daglite.state.budget import Budget
from daglite.state.needs import BreakerPolicy, BucketPolicy, BudgetPolicy, PermitsPolicy
from daglite.state.permits import Permits
from daglite.state.shared import AnyBreaker, AnyBucket, AnyBudget

__all__ = ["Kind", "Maker", "Registry", "Scope", "Source", "States"]

Kind: TypeAlias = Literal["circuit breaker", "rate limit", "bulkhead", "retry budget"]
"""What a key is a key of; one name may serve several kinds."""

Scope: TypeAlias = Literal["run", "process", "host"]
"""Who shares a state: the tasks of one run, all runs of the process, all processes."""


class Source(Protocol):
    """Where states come from that live longer than one run."""

    def obtain(self, kind: Kind, key: str, policy: Any, user: str) -> Any:
        """
        The state of *key*, made if there is none.

        Raises:
            PolicyError: The key is in use with another policy.
        """
        ...


class States(Protocol):
    """What gives policies their states; see `Registry`."""

    def breaker(self, policy: Any, key: str, user: str, scope: Scope) -> AnyBreaker:
        """The circuit breaker of *key*."""
        ...

    def bucket(self, policy: Any, key: str, user: str, scope: Scope) -> AnyBucket:
        """The rate limit of *key*."""
        ...

    def permits(self, policy: Any, key: str, user: str) -> Permits:
        """The bulkhead of *key*."""
        ...

    def budget(self, policy: Any, key: str, user: str, scope: Scope) -> AnyBudget:
        """The retry budget of *key*."""
        ...


class _Entry(NamedTuple):
    policy: Any
    scope: Scope
    user: str
    state: Any


Maker: TypeAlias = Callable[[Any, str], Any]
"""Makes a state from its policy and its key."""

_MAKERS: dict[Kind, Maker] = {
    "circuit breaker": Breaker,
    "rate limit": lambda policy, key: Bucket(policy),
    "bulkhead": lambda policy, key: Permits(policy),
    "retry budget": lambda policy, key: Budget(policy),
}


@final
class Registry:
    """
    The states of one scope, by kind and key.

    A registry is itself a `Source`: that of the process is handed to those of its runs.
    Limits: all who share a state must tell it the time of one clock.

    Args:
        beyond: Where the states of wider scopes come from.
        makers: What makes the states of its own scope; None: such as know this process alone.
    """

    def __init__(
        self,
        beyond: Mapping[Scope, Source] | None = None,
        makers: Mapping[Kind, Maker] | None = None,
    ) -> None:
        self._beyond = dict(beyond or {})
        self._makers = _MAKERS if makers is None else makers
        self._lock = threading.Lock()
        # Those of wider scopes too, once they were asked for here.
        self._entries: dict[tuple[Kind, str], _Entry] = {}

    def breaker(
        self, policy: BreakerPolicy, key: str, user: str, scope: Scope = "run"
    ) -> AnyBreaker:
        """
        The circuit breaker of *key*.

        Args:
            policy: What it is made from, if this is the first to ask.
            key: What it is for.
            user: Who asks, for messages: the name of a task.
            scope: Who shares it.

        Raises:
            PolicyError: The key is in use with another policy or scope, or nothing here has that
                scope.
        """
        state: AnyBreaker = self._find("circuit breaker", key, policy, user, scope)
        return state

    def bucket(self, policy: BucketPolicy, key: str, user: str, scope: Scope = "run") -> AnyBucket:
        """The rate limit of *key*; see `breaker`."""
        state: AnyBucket = self._find("rate limit", key, policy, user, scope)
        return state

    def permits(self, policy: PermitsPolicy, key: str, user: str, scope: Scope = "run") -> Permits:
        """The bulkhead of *key*; see `breaker`."""
        state: Permits = self._find("bulkhead", key, policy, user, scope)
        return state

    def budget(self, policy: BudgetPolicy, key: str, user: str, scope: Scope = "run") -> AnyBudget:
        """The retry budget of *key*; see `breaker`."""
        state: AnyBudget = self._find("retry budget", key, policy, user, scope)
        return state

    def breakers(self) -> tuple[AnyBreaker, ...]:
        """All circuit breakers that were asked for here, in that order."""
        with self._lock:
            entries = list(self._entries.items())
        return tuple(entry.state for (kind, _), entry in entries if kind == "circuit breaker")

    def obtain(self, kind: Kind, key: str, policy: Any, user: str) -> Any:
        """The state of *key* in this registry's own scope, as a `Source` gives it."""
        return self._find(kind, key, policy, user, "run")

    def check(self, kind: Kind, key: str, policy: Any, user: str) -> None:
        """
        Look whether `obtain` would give *user* a state; none is made.

        Raises:
            PolicyError: The key is in use with another policy.
        """
        with self._lock:
            entry = self._entries.get((kind, key))
        if entry is not None and entry.policy != policy:
            _refuse(kind, key, (entry.user, user), "policy", (entry.policy, policy))

    def _find(self, kind: Kind, key: str, policy: Any, user: str, scope: Scope) -> Any:
        source = None
        if scope != "run":
            source = self._beyond.get(scope)
            if source is None:
                raise PolicyError(
                    f"task {user!r} asks for a {kind} with scope={scope!r}, which can't be shared "
                    "that far here",
                    fix=f"use {_one_of(['run', *self._beyond])}",
                )
        with self._lock:
            entry = self._entries.get((kind, key))
        if entry is None:
            # Not under the lock: it may have to ask far away.
            if source is None:
                state = self._makers[kind](policy, key)
            else:
                state = source.obtain(kind, key, policy, user)
            made = _Entry(policy, scope, user, state)
            with self._lock:
                entry = self._entries.setdefault((kind, key), made)
        if entry.policy is not policy and entry.policy != policy:
            _refuse(kind, key, (entry.user, user), "policy", (entry.policy, policy))
        if entry.scope != scope:
            _refuse(kind, key, (entry.user, user), "scope", (entry.scope, scope))
        return entry.state


def _refuse(
    kind: Kind, key: str, users: tuple[str, str], what: str, both: tuple[object, object]
) -> NoReturn:
    first, second = users
    if first == second:
        who = f"task {first!r} uses the {kind} {key!r} with more than one {what}"
    else:
        who = f"tasks {first!r} and {second!r} share the {kind} {key!r}, but not its {what}"
    raise PolicyError(
        f"{who}: {both[0]!r} and {both[1]!r}", fix="give both the same, or another key"
    )


def _one_of(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
