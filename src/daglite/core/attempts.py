"""What is the same for every attempt: its record, its waits, and its draws of chance."""

from __future__ import annotations

import math
from functools import partial
from hashlib import blake2b

from daglite.core.call import Call, Outcome
from daglite.core.events import AttemptFailed, CallParked
from daglite.core.kernel import Completion, Kernel
from daglite.exceptions import AttemptRecord, ExecutionError, describe

__all__ = ["draw", "park", "record_failure"]


def draw(call: Call, seed: int | str, purpose: str = "") -> float:
    """A number in [0, 1) that depends on the seed, the attempt and the purpose alone."""
    name = f"{seed}|{call.node_name}|{call.index}|{call.element}|{call.attempt}{purpose}"
    return int.from_bytes(blake2b(name.encode(), digest_size=7).digest(), "big") / 2**56


def record_failure(call: Call, outcome: Outcome, *, why: str = "") -> None:
    """
    Keep in the call's history, and tell, that this attempt failed; once for each attempt.

    Args:
        call: The attempt.
        outcome: How it ended.
        why: What was wrong, where that isn't `Outcome.error`.
    """
    history = call.history
    if history and history[-1].number >= call.attempt:
        return
    run, error = call.run, outcome.error
    started = None if outcome.started is None else run.since(outcome.started)
    told = why if error is None else describe(error)
    history.append(
        AttemptRecord(call.attempt, started, outcome.ran, call.waited, told, outcome.worker)
    )
    run.emit(
        AttemptFailed,
        call.node_id,
        call.node_name,
        call.element,
        call.attempt,
        ExecutionError(why) if error is None else error,
        outcome.ran,
    )


async def park(
    call: Call, seconds: float, reason: str, awaited: Completion[bool] | None = None
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
        crowd.parked(1)
    try:
        if awaited is None:
            await kernel.sleep(seconds)
            return False
        return await _first(kernel, awaited, seconds)
    finally:
        if crowd is not None:
            crowd.parked(-1)


async def _first(kernel: Kernel, awaited: Completion[bool], seconds: float) -> bool:
    if seconds == math.inf:
        return await awaited
    timer = kernel.call_later(seconds, partial(awaited.set, False))
    try:
        return await awaited
    finally:
        kernel.forget(timer)
