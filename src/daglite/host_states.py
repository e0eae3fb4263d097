"""
Where the states of policies with ``scope="host"`` come from.

    Session, protect, circuits ─► HostStates ─► registry of a directory ─► SharedBreaker, … ─► file

Runs on a clock of their own, such as a `VirtualClock`, live in another time than the machine, and
play what may never happen: theirs are shared by those on the same clock, and the file isn't
touched.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final
from weakref import WeakKeyDictionary

from daglite._clock import Clock, SystemClock, now_and_wall_time
from daglite.exceptions import PolicyError
from daglite.policies import CircuitBreaker, RateLimit, RetryBudget
from daglite.state.registry import Kind, Maker, Registry
from daglite.state.shared import SharedBreaker, SharedBucket, SharedBudget
from daglite.stores.host import HostFile, Row

__all__ = ["HostStates", "host_breakers", "known_states", "state_directory"]


@final
class HostStates:
    """
    The states of the machine: a `Source`.

    Args:
        clock: What tells the time to those who ask.
        directory: Where the file is; None: `state_directory` says.
    """

    def __init__(self, clock: Clock, directory: Path | None) -> None:
        self._clock = clock
        self._directory = directory
        self._own = Registry()

    def obtain(self, kind: Kind, key: str, policy: Any, user: str) -> Any:
        """The state of *key*, made if there is none in this process."""
        return self._registry().obtain(kind, key, policy, user)

    def _registry(self) -> Registry:
        clock = self._clock
        with _lock[0]:
            if not isinstance(clock, SystemClock):
                try:
                    return _of_clocks.setdefault(clock, self._own)
                except TypeError:
                    # A clock of the user's that can't be a key.
                    return self._own
            return _host(state_directory(self._directory)).registry


def state_directory(wanted: Path | None = None, env: Mapping[str, str] = os.environ) -> Path:
    """
    Where states lie that outlive a process.

    *wanted*, else ``DAGLITE_STATE_DIR``, else a directory ``daglite`` where the system has such
    things: ``XDG_STATE_HOME`` or ``~/.local/state``; on macOS ``~/Library/Application Support``;
    on Windows ``LOCALAPPDATA``.
    """
    given = wanted or env.get("DAGLITE_STATE_DIR")
    return Path(os.path.abspath(given)) if given else _customary(sys.platform, env) / "daglite"


def _customary(platform: str, env: Mapping[str, str]) -> Path:
    # Not `Path.home`, which raises if there is none: that is found out when the file is opened.
    home = Path(os.path.expanduser("~"))
    if platform == "win32":
        return Path(env.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if platform == "darwin":
        return home / "Library" / "Application Support"
    given = env.get("XDG_STATE_HOME")
    # The specification has relative paths ignored.
    return Path(given) if given and os.path.isabs(given) else home / ".local" / "state"


def host_breakers(directory: Path | None = None) -> list[SharedBreaker]:
    """
    The circuit breakers of the machine: those used in this process, then others in the file.

    Args:
        directory: Where the file is, besides those that are in use; see `HostStates`.
    """
    with _lock[0]:
        _host(state_directory(directory))
        hosts = list(_hosts.values())
    return [breaker for host in hosts for breaker in host.breakers()]


def known_states(directory: Path | None = None) -> Registry | None:
    """
    The states of the machine that this process uses; None: it has used none there so far.

    Args:
        directory: Where the file is, which is neither made nor opened; see `HostStates`.
    """
    with _lock[0]:
        host = _hosts.get(state_directory(directory))
    return None if host is None else host.registry


@final
class _Host:
    """One file, and the states of it that this process uses."""

    def __init__(self, directory: Path) -> None:
        self._file = HostFile(directory)
        makers: dict[Kind, Maker] = {
            "circuit breaker": self._breaker,
            "rate limit": self._bucket,
            "retry budget": self._budget,
        }
        self.registry = Registry(makers=makers)
        # Such as only other processes have used, by what their rows say.
        self._others: dict[Row, SharedBreaker] = {}

    def breakers(self) -> list[SharedBreaker]:
        own = [each for each in self.registry.breakers() if isinstance(each, SharedBreaker)]
        known = {each.key for each in own}
        for row in self._file.rows():
            if row.kind.startswith(_BREAKER) and row.key not in known:
                breaker = self._others.get(row) or self._read(row)
                if breaker is not None:
                    self._others[row] = breaker
                    own.append(breaker)
        return own

    def _read(self, row: Row) -> SharedBreaker | None:
        try:
            policy = CircuitBreaker.model_validate_json(row.policy)
        except PolicyError:
            # Of another version of daglite, perhaps: its own processes know what it means.
            return None
        return self._breaker(policy, row.key)

    def _breaker(self, policy: CircuitBreaker, key: str) -> SharedBreaker:
        # One that only watches isn't the one that stops calls.
        kind = _BREAKER if policy.mode == "on" else f"{_BREAKER}, {policy.mode}"
        # Errors are nobody's business but the task's; their classes may not be importable here.
        written = policy.model_dump_json(exclude={"key", "ignore"}, exclude_unset=True)
        cell = self._file.cell(kind, key, written)
        return SharedBreaker(policy, key, cell, now_and_wall_time)

    def _bucket(self, policy: RateLimit, key: str) -> SharedBucket:
        return SharedBucket(policy, self._file.cell("rate limit", key), now_and_wall_time)

    def _budget(self, policy: RetryBudget, key: str) -> SharedBudget:
        return SharedBudget(policy, self._file.cell("retry budget", key), now_and_wall_time)


_BREAKER = "circuit breaker"

_lock = [threading.Lock()]
_hosts: dict[Path, _Host] = {}
_of_clocks: WeakKeyDictionary[Clock, Registry] = WeakKeyDictionary()


def _host(directory: Path) -> _Host:
    host = _hosts.get(directory)
    if host is None:
        host = _hosts[directory] = _Host(directory)
    return host


def _after_fork() -> None:
    """Who held a lock in the parent isn't here; what is shared is in the file."""
    _lock[0] = threading.Lock()
    _hosts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
