"""What is the same for every attempt: its record, and its draws of chance."""

from __future__ import annotations

from hashlib import blake2b

from daglite.core.call import Call, Outcome
from daglite.core.events import AttemptFailed
from daglite.exceptions import AttemptRecord, ExecutionError, describe

__all__ = ["draw", "record_failure"]


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
        AttemptRecord(
            call.attempt,
            started,
            outcome.ran,
            call.waited,
            told,
            outcome.worker,
            outcome.cpu_time,
            outcome.peak_memory,
        )
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
