"""Waits of calls, which hold nothing."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol, final

from daglite.core.events import CallParked
from daglite.core.kernel import Completion, Kernel
from daglite.core.run import Run

__all__ = ["Bell", "Crowd", "Parked", "park"]


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
    call: _Waiting,
    seconds: float,
    reason: str,
    awaited: Completion[bool] | None = None,
    told: bool = False,
) -> bool:
    """
    Wait, holding no thread, no worker and no place in a map's window.

    Args:
        call: Who waits.
        seconds: For how long; ``inf``: until *awaited* comes.
        reason: What for, in a word or two.
        awaited: Ends the wait early when it is set to True.
        told: It needn't be told, as that was done for the same wait.

    Returns:
        Whether *awaited* came.
    """
    kernel = call.run.kernel
    if call.run.cancelled:
        # Whoever runs it sees that next, and ends this wait with all else.
        await Completion(kernel)
    if seconds <= 0:
        return awaited is not None and awaited.done
    with Parked(call, seconds, reason, told):
        if awaited is None:
            await kernel.sleep(seconds)
            return False
        return await _first(kernel, awaited, seconds)


@final
class Parked:
    """
    While *call* waits in the block, it holds no place in a map's window.

    Args:
        call: Who waits.
        seconds: For how long, as far as is known.
        reason: What for, in a word or two.
        told: It needn't be told, as that was done for the same wait.
    """

    __slots__ = ("_crowd", "_reason")

    def __init__(self, call: _Waiting, seconds: float, reason: str, told: bool = False) -> None:
        self._crowd, self._reason = call.crowd, reason
        if not told:
            attempt = call.attempt
            call.run.emit(
                CallParked, call.node_id, call.node_name, call.element, attempt, seconds, reason
            )

    def __enter__(self) -> None:
        if self._crowd is not None:
            self._crowd.parked(1, self._reason)

    def __exit__(self, *_: object) -> None:
        if self._crowd is not None:
            self._crowd.parked(-1, self._reason)


@final
class Bell:
    """
    Wakes one who waits again and again; calling it rings it, from any thread.

    Who waits already is woken, and who doesn't yet won't wait the next time.
    """

    __slots__ = ("_kernel", "_rung")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._rung: Completion[bool] = Completion(kernel)

    def __call__(self) -> None:
        self._kernel.post(self._ring)

    def _ring(self) -> None:
        self._rung.set(True)

    async def wait(self, seconds: float) -> None:
        """Wait until it is rung, or for *seconds*."""
        try:
            await _first(self._kernel, self._rung, seconds)
        finally:
            self._rung = Completion(self._kernel)


async def _first(kernel: Kernel, awaited: Completion[bool], seconds: float) -> bool:
    if seconds == math.inf:
        return await awaited
    timer = kernel.call_later(seconds, partial(awaited.set, False))
    try:
        return await awaited
    finally:
        kernel.forget(timer)
