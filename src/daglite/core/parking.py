"""Waits of calls, which hold nothing."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

from daglite.core.events import CallParked
from daglite.core.kernel import Completion, Kernel
from daglite.core.run import Run

__all__ = ["Crowd", "park"]


class Crowd(Protocol):
    """Calls that are started as others end: a map."""

    def parked(self, by: int, reason: str) -> None:
        """Count *by* (1 or -1) more of them as waiting, for what *reason* says in a word or two."""
        ...


class _Waiting(Protocol):
    """What there is to know of a call that waits."""

    run: Run
    node_id: int
    element: int | None
    attempt: int
    crowd: Crowd | None

    @property
    def node_name(self) -> str: ...


async def park(
    call: _Waiting, seconds: float, reason: str, awaited: Completion[bool] | None = None
) -> bool:
    """
    Wait, holding no thread, no worker and no place in a map's window.

    Args:
        call: Who waits.
        seconds: For how long; ``inf``: until *awaited* comes.
        reason: What for, in a word or two.
        awaited: Ends the wait early when it is set to True.

    Returns:
        Whether *awaited* came.
    """
    kernel = call.run.kernel
    if call.run.cancelled:
        # Whoever runs it sees that next, and ends this wait with all else.
        await Completion(kernel)
    if seconds <= 0:
        return awaited is not None and awaited.done
    call.run.emit(
        CallParked, call.node_id, call.node_name, call.element, call.attempt, seconds, reason
    )
    crowd = call.crowd
    if crowd is not None:
        crowd.parked(1, reason)
    try:
        if awaited is None:
            await kernel.sleep(seconds)
            return False
        return await _first(kernel, awaited, seconds)
    finally:
        if crowd is not None:
            crowd.parked(-1, reason)


async def _first(kernel: Kernel, awaited: Completion[bool], seconds: float) -> bool:
    if seconds == math.inf:
        return await awaited
    timer = kernel.call_later(seconds, partial(awaited.set, False))
    try:
        return await awaited
    finally:
        kernel.forget(timer)
