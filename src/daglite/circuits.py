"""
The circuit breakers that are there now: to look at them, and to open or reset one by hand.

They are those that the runs of this process share, those that protected functions share by a key,
those that the processes of this machine share,
and, inside of a task, those of its run.
"""

from __future__ import annotations

import logging

from daglite._clock import Clock, SystemClock
from daglite.core.current import call_on_this_thread
from daglite.exceptions import PolicyError
from daglite.host_states import host_breakers
from daglite.middleware.circuit import wake
from daglite.settings import get_global_settings
from daglite.state.answers import BreakerSnapshot, Transition
from daglite.state.process import states_of_all
from daglite.state.shared import AnyBreaker, SharedBreaker

__all__ = ["breakers", "force_open", "reset"]

_log = logging.getLogger("daglite")


def breakers() -> tuple[BreakerSnapshot, ...]:
    """
    How the circuit breakers stand: key, state, rates, and seconds until a probe may go.

    Breakers with ``scope="process"`` and those of protected functions that have a key, in the order
    in which they were first used; those with ``scope="host"``, also such as only other processes
    have used; and in a task those of its run.  One that lives by another clock than the system's is
    told by that clock.
    """
    return tuple(breaker.snapshot(clock.now()) for breaker, clock in _breakers().items())


def force_open(key: str) -> None:
    """
    Let no call through the circuit *key*, until `reset`.

    One with ``scope="host"`` is opened for all processes of this machine; where its file can't be
    used, for this process alone, and the ``daglite`` logger is told.

    Raises:
        PolicyError: There is no such circuit.
    """
    for breaker in _named(key):
        _tell(breaker, breaker.force_open(), "opened")


def reset(key: str) -> None:
    """
    Forget what the circuit *key* has seen, and close it; see `force_open`.

    Raises:
        PolicyError: There is no such circuit.
    """
    for breaker in _named(key):
        _tell(breaker, breaker.reset(), "reset")


def _tell(breaker: AnyBreaker, transition: Transition | None, done: str) -> None:
    if isinstance(breaker, SharedBreaker) and breaker.away:
        _log.warning(
            "the circuit %r is %s in this process alone: the file of shared states can't be used",
            breaker.key,
            done,
        )
    wake(() if transition is None else transition.wake)


def _named(key: str) -> list[AnyBreaker]:
    there = _breakers()
    found = [breaker for breaker in there if breaker.key == key]
    if not found:
        known = ", ".join(repr(breaker.key) for breaker in there) or "none"
        raise PolicyError(
            f"there is no circuit {key!r} that is shared in this process, or on this machine; "
            f"there is {known}. "
            "A circuit with scope='run' is seen only by the tasks of its run, and one of a "
            "protected function only if it has a key"
        )
    return found


def _breakers() -> dict[AnyBreaker, Clock]:
    """All that can be seen from here, each with its clock."""
    found: dict[AnyBreaker, Clock] = {}
    for clock, states in states_of_all():
        for breaker in (*states.runs.breakers(), *states.functions.breakers()):
            found.setdefault(breaker, clock)
    for of_host in host_breakers(get_global_settings().state_dir):
        found.setdefault(of_host, SystemClock())
    call = call_on_this_thread.call
    while call is not None and not call.run.of_graph:
        # A protected function sees what the task sees that called it.
        call = call.run.caller
    if call is not None and call.run.states is not None:
        for breaker in call.run.states.breakers():
            found.setdefault(breaker, call.run.kernel.clock)
    return found
