"""What is the same for every attempt: its record, and its draws of chance."""

from __future__ import annotations

from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from daglite.core.call import Call, Outcome
from daglite.core.events import AttemptFailed
from daglite.core.kernel import Kernel
from daglite.exceptions import AttemptRecord, ExecutionError, describe

__all__ = ["draw", "let_go", "record_failure"]


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
    if error is not None:
        let_go(error)


_OURS = str(Path(__file__).parents[1])


def let_go(error: BaseException, *, beyond: bool = False) -> None:
    """
    Clear the links of the chain that *error* came through: they hold it.

    They have ended, but from 3.12 on Python keeps the frames that called the one in which it was
    caught, with all that was in them.

    Args:
        error: What an attempt raised.
        beyond: Also what stepped the chain, which has ended, too.
    """
    caught = error.__traceback__
    frame = None if caught is None else caught.tb_frame.f_back
    # A user's link, or whoever called the function, may be waiting meanwhile; so may a chain
    # that has had this one stepped.
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        if frame.f_code is _STEP and not beyond:
            return
        with suppress(RuntimeError):  # it hasn't ended
            frame.clear()
        frame = frame.f_back


_STEP = Kernel._step.__code__
