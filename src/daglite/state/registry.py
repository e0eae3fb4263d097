"""Which state belongs to which key: made when it is first asked for, one for all who share it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, TypeAlias, final
from weakref import WeakSet

from daglite.exceptions import PolicyError
from daglite.state.breaker import Breaker
from daglite.state.bucket import Bucket
from daglite.state.budget import Budget
from daglite.state.needs import BreakerPolicy, BucketPolicy, BudgetPolicy, PermitsPolicy
from daglite.state.permits import Permits
from daglite.state.shared import AnyBreaker, AnyBucket, AnyBudget

__all__ = ["Definition", "Kind", "Maker", "Registry", "Scope", "Source", "States"]

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


class Definition(NamedTuple):
    """Something with a name of its own, which is another one when its cell or module runs again."""

    place: str
    """Module and qualified name."""
    number: int
    """The object's id."""

    def replaces(self, other: Definition | None) -> bool:
        return other is not None and self.place == other.place and self.number != other.number


class _Entry(NamedTuple):
    policy: Any
    scope: Scope
    user: str
    state: Any
    holders: WeakSet[Registry] | None
    """Whom it was lent to; None: it is for whoever asks here, for good."""

    def agrees(self, policy: Any, scope: Scope) -> bool:
        same = self.policy is policy or self.policy == policy
        return bool(same) and self.scope == scope

    @property
    def free(self) -> bool:
        """Whether nobody uses it any more."""
        return self.holders is not None and not self.holders

    def outlived(self, holder: Registry | None) -> bool:
        """Whether only what *holder* takes the place of still uses it, if anything does."""
        if self.holders is None or holder is None:
            return False
        owner = holder.owner
        return all(owner is not None and owner.replaces(each.owner) for each in self.holders)


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

    A registry is itself a `Source`: that of the process is handed to those of its runs.  It
    remembers to which of them it has lent a state, and as soon as nobody has that any more, its
    key is free for another policy.
    After a fork the child's states begin anew: of the parent's calls it has none.
    Limits: all who share a state must tell it the time of one clock.

    Args:
        beyond: Where the states of wider scopes come from.
        makers: What makes the states of its own scope; None: such as know this process alone.
        owner: What it is the registry of, if that can be defined again.
    """

    def __init__(
        self,
        beyond: Mapping[Scope, Source] | None = None,
        makers: Mapping[Kind, Maker] | None = None,
        owner: Definition | None = None,
    ) -> None:
        self._beyond = dict(beyond or {})
        self._makers = _MAKERS if makers is None else makers
        self.owner = owner
        self._lock = threading.Lock()
        # Those of wider scopes too, once they were asked for here.
        self._entries: dict[tuple[Kind, str], _Entry] = {}
        _registries.add(self)

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
        if entry is not None and entry.policy != policy and not entry.free:
            _refuse(kind, key, (entry.user, user), "policy", (entry.policy, policy))

    def lend(
        self, kind: Kind, key: str, policy: Any, user: str, holder: Registry, scope: Scope
    ) -> Any:
        """
        The state of *key*, for *holder* until that ends or leaves.

        Args:
            kind, key, policy, user: As for `obtain`.
            holder: Who gets it.
            scope: Who shares it; what has no wider registry for that has it here.
        """
        return self._find(
            kind, key, policy, user, scope if scope in self._beyond else "run", holder
        )

    def leave(self) -> None:
        """Give back what was lent, at a run's end: tracebacks may keep the registry for long."""
        with self._lock:
            entries = list(self._entries.items())
        for name, entry in entries:
            source = self._beyond.get(entry.scope)
            if isinstance(source, Registry):
                source._taken_back(name, self)

    def _taken_back(self, name: tuple[Kind, str], holder: Registry) -> None:
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or entry.holders is None:
                return
            entry.holders.discard(holder)
        source = self._beyond.get(entry.scope)
        if isinstance(source, Registry):
            source._taken_back(name, holder)

    def _find(
        self,
        kind: Kind,
        key: str,
        policy: Any,
        user: str,
        scope: Scope,
        holder: Registry | None = None,
    ) -> Any:
        source = self._beyond.get(scope)
        if source is None and scope != "run":
            raise PolicyError(
                f"{user!r} asks for a {kind} with scope={scope!r}, which can't be shared "
                "that far here",
                fix=f"use {_one_of(list(dict.fromkeys(['run', *self._beyond])))}",
            )
        with self._lock:
            entry = self._entries.get((kind, key))
        if entry is None or (not entry.agrees(policy, scope) and entry.outlived(holder)):
            state = self._made(source, kind, key, policy, user, scope, holder)
            made = _Entry(policy, scope, user, state, None if holder is None else WeakSet())
            entry = self._entered((kind, key), entry, made)
        if entry.policy is not policy and entry.policy != policy:
            _refuse(kind, key, (entry.user, user), "policy", (entry.policy, policy))
        if entry.scope != scope:
            _refuse(kind, key, (entry.user, user), "scope", (entry.scope, scope))
        if holder is not None and isinstance(source, Registry):
            # It has to know of each holder: the first one may end before the others.
            state = source.lend(kind, key, policy, user, holder, scope)
            if state is not entry.state:
                # There it was given up while nobody used it.
                entry = self._entered((kind, key), entry, entry._replace(state=state))
        if holder is not None and entry.holders is not None:
            with self._lock:
                entry.holders.add(holder)
        return entry.state

    def _made(
        self,
        source: Source | None,
        kind: Kind,
        key: str,
        policy: Any,
        user: str,
        scope: Scope,
        holder: Registry | None,
    ) -> Any:
        # Not under the lock: it may have to ask far away.
        if source is None:
            return self._makers[kind](policy, key)
        if isinstance(source, Registry):
            return source.lend(kind, key, policy, user, holder or self, scope)
        return source.obtain(kind, key, policy, user)

    def _entered(self, name: tuple[Kind, str], before: _Entry | None, made: _Entry) -> _Entry:
        """The entry of *name*: *made*, unless another thread has made one in place of *before*."""
        with self._lock:
            there = self._entries.get(name)
            if there is not None and there is not before:
                return there
            self._entries[name] = made
            return made

    def _renew(self) -> dict[int, tuple[Any, Callable[[], Any]]]:
        """In a forked child: the states, by their ids, each with what makes one like it anew."""
        self._lock = threading.Lock()
        return {
            id(entry.state): (entry.state, partial(_MAKERS[kind], entry.policy, key))
            for (kind, key), entry in self._entries.items()
            if type(entry.state) in _OURS
        }


_OURS = (Breaker, Bucket, Budget, Permits)
"""States that know this process alone."""

_registries: WeakSet[Registry] = WeakSet()


def _refuse(
    kind: Kind, key: str, users: tuple[str, str], what: str, both: tuple[object, object]
) -> NoReturn:
    first, second = users
    if first == second:
        who = f"{first!r} uses the {kind} {key!r} with more than one {what}"
    else:
        who = f"{first!r} and {second!r} share the {kind} {key!r}, but not its {what}"
    raise PolicyError(
        f"{who}: {both[0]!r} and {both[1]!r}", fix="give both the same, or another key"
    )


def _one_of(names: list[str]) -> str:
    quoted = [repr(name) for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)


def _after_fork() -> None:
    """
    Begin anew: who had a lock or a place in the parent isn't here.

    States stay the objects that they are, as those who use them hold on to them.
    """
    states: dict[int, tuple[Any, Callable[[], Any]]] = {}
    for registry in tuple(_registries):
        states.update(registry._renew())
    for state, made in states.values():
        held = state.taken if type(state) is Permits else 0
        vars(state).update(vars(made()))
        if held:
            state.inherit(held)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
