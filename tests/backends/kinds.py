"""
The backends that the contract is for, and the ways to run on them.

A task that needs its own backend is given the name of the kind: a live backend can't be sent
to another process, where the name finds one as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from daglite import (
    Backend,
    PolicySet,
    ProcessBackend,
    SequentialBackend,
    ThreadBackend,
    TimeoutPolicy,
    evaluate,
    find_backend,
)
from tests.backends.journal import WAIT


@dataclass(frozen=True)
class Kind:
    """
    A kind of backend, and the limits that tests may set on it.

    Attributes:
        make: Makes one.
        shared: There is one for the whole process, which no test may close.
        short: A timeout in seconds for calls that hang: they have begun by then, even where
            their total includes that a place to run must be made first.
        ample: A timeout in seconds that a call which does next to nothing never reaches, even
            on a busy machine.
    """

    make: Callable[[], Backend]
    shared: bool = False
    short: float = 0.2
    ample: float = 1.0


KINDS: dict[str, Kind] = {
    "sequential": Kind(SequentialBackend),
    "threading": Kind(lambda: find_backend("threading"), shared=True),
    "one thread": Kind(lambda: ThreadBackend(1)),
    "four threads": Kind(lambda: ThreadBackend(4)),
    "processes": Kind(
        lambda: ProcessBackend(2, preload=["tests.backends.tasks"]), short=0.5, ample=2.0
    ),
}


class Deaf:
    """Listens, and does nothing."""

    def on_event(self, event: object) -> None:
        pass


WAYS: dict[str, dict[str, Any]] = {
    "bare": {},
    "timed": {"policies": PolicySet(timeout=TimeoutPolicy(WAIT))},
    "watched": {"callbacks": [Deaf()]},
}
"""What makes the engine take another path, name -> options of `evaluate`."""

_made: dict[str, Backend] = {}


def backend_of(kind: str) -> Backend:
    """The backend of that kind: one in each process, made when it is first asked for."""
    if kind not in _made:
        _made[kind] = KINDS[kind].make()
    return _made[kind]


def close_backend_of(kind: str) -> None:
    """Close it, unless it is shared; the next who asks gets a new one."""
    made = _made.pop(kind)
    if not KINDS[kind].shared:
        made.close()


def run_on(kind: str, way: str, expr: Any, **options: Any) -> Any:
    """`evaluate` on the backend of that kind, in that way."""
    return evaluate(expr, default_backend=backend_of(kind), **WAYS[way], **options)
