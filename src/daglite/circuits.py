"""
The circuit breakers that are there now: to look at them, and to open or reset one by hand.

They are those that the runs of this process share, and, inside of a task, those of its run.
"""

from __future__ import annotations

from collections.abc import Iterator

from daglite._clock import SystemClock
from daglite.core.current import call_on_this_thread
from daglite.exceptions import PolicyError
from daglite.middleware.circuit import wake
from daglite.session import process_states
from daglite.state.breaker import Breaker, BreakerSnapshot

__all__ = ["breakers", "force_open", "reset"]


def breakers() -> tuple[BreakerSnapshot, ...]:
    """
    How the circuit breakers stand: key, state, rates, and seconds until a probe may go.

    Breakers with ``scope="process"``, and in a task those of its run, in the order in which
    they were first used.
    """
    now = _now()
    return tuple(breaker.snapshot(now) for breaker in _breakers())


def force_open(key: str) -> None:
    """
    Let no call through the circuit *key*, until `reset`.

    Raises:
        PolicyError: There is no such circuit.
    """
    for breaker in _named(key):
        transition = breaker.force_open()
        wake(() if transition is None else transition.wake)


def reset(key: str) -> None:
    """
    Forget what the circuit *key* has seen, and close it.

    Raises:
        PolicyError: There is no such circuit.
    """
    for breaker in _named(key):
        transition = breaker.reset()
        wake(() if transition is None else transition.wake)


def _named(key: str) -> list[Breaker]:
    found = [breaker for breaker in _breakers() if breaker.key == key]
    if not found:
        known = ", ".join(repr(breaker.key) for breaker in _breakers()) or "none"
        raise PolicyError(
            f"there is no circuit {key!r} that is shared in this process; there is {known}. "
            "A circuit with scope='run' is seen only by the tasks of its run"
        )
    return found


def _breakers() -> Iterator[Breaker]:
    yield from process_states().breakers()
    call = call_on_this_thread.call
    if call is not None and call.run.states is not None:
        shared = set(process_states().breakers())
        own: tuple[Breaker, ...] = call.run.states.breakers()
        yield from (breaker for breaker in own if breaker not in shared)


def _now() -> float:
    call = call_on_this_thread.call
    return SystemClock().now() if call is None else call.run.kernel.now()
