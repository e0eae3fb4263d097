"""What policies remember as long as the process lives, for each clock: its times are its own."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import NamedTuple

from daglite._clock import Clock, SystemClock
from daglite.state.registry import Registry

__all__ = ["ProcessStates", "states_of", "states_of_all"]


class ProcessStates(NamedTuple):
    """The states of those who live by one clock."""

    runs: Registry
    """Those of policies with ``scope="process"``."""
    functions: Registry
    """Those of protected functions whose policies name a key; it has `runs` for its process."""


def _none() -> ProcessStates:
    runs = Registry()
    return ProcessStates(runs, Registry({"process": runs}))


_system = SystemClock()
_of_system = _none()
_of_others: dict[int, tuple[Callable[[], Clock | None], ProcessStates]] = {}
"""A clock's id -> the clock, as long as somebody else has it, and its states."""


def states_of(clock: Clock) -> ProcessStates:
    """What those who live by *clock* remember together; all system clocks are one."""
    if isinstance(clock, SystemClock):
        return _of_system
    number = id(clock)
    known = _of_others.get(number)
    if known is None:
        # By the id, as a clock may have no hash; no two that live have the same.
        known = _of_others.setdefault(number, (_weakly(clock), _none()))
    return known[1]


def states_of_all() -> list[tuple[Clock, ProcessStates]]:
    """All that there are, each with its clock."""
    others = [(clock(), states) for clock, states in tuple(_of_others.values())]
    return [
        (_system, _of_system),
        *((clock, states) for clock, states in others if clock is not None),
    ]


def _weakly(clock: Clock) -> Callable[[], Clock | None]:
    number = id(clock)
    try:
        return weakref.ref(clock, lambda _: _of_others.pop(number, None))
    except TypeError:
        # It has slots: so it is kept.
        return lambda: clock
