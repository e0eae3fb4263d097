"""Calls on the caller's thread, one at a time, in a fixed order."""

from __future__ import annotations

from functools import partial
from typing import final

from daglite.backends.pool import Abandoned, ThreadPool
from daglite.core.call import Call
from daglite.core.protocols import Capabilities, Done
from daglite.core.run import Run

__all__ = ["SequentialBackend"]

_IDLE = 8
"""Helper threads that are kept for the next timed calls."""


@final
class SequentialBackend:
    """
    Runs calls in place; good for debugging, and for tasks that are quick.

    A call with a timeout can't be left while it runs on the caller's own thread: it runs on a
    helper thread, and the caller waits.

    Args:
        max_abandoned: Calls out of time but still running, above which new timed calls fail.
    """

    name: str = "sequential"
    capabilities: Capabilities = Capabilities(in_place=True, cancel=True)
    slots: int = 1

    def __init__(self, *, max_abandoned: int = 128) -> None:
        self.max_abandoned = max_abandoned
        # No lock: a run asks on its own thread alone, and the rest is one step each.
        self._helpers: dict[Run, ThreadPool] = {}
        self._idle: list[ThreadPool] = []
        self._abandoned = Abandoned()

    def __repr__(self) -> str:
        return "SequentialBackend()"

    def __reduce__(self) -> tuple[partial[SequentialBackend], tuple[()]]:
        return partial(SequentialBackend, max_abandoned=self.max_abandoned), ()

    def submit(self, call: Call, done: Done) -> None:
        """Run the timed *call* on the run's helper thread."""
        self._helper(call.run).submit(call, done)

    def cancel(self, call: Call) -> None:
        """Drop *call*, or interrupt and abandon it."""
        self._helper(call.run).cancel(call)

    def cancel_run(self, run: Run) -> None:
        """End what *run* still has on its helper thread, and take that back."""
        helper = self._helpers.pop(run, None)
        if helper is not None:
            helper.cancel_run(run)
            if len(self._idle) < _IDLE:
                self._idle.append(helper)
            else:
                helper.close()

    def is_running(self, call: Call) -> bool:
        """Whether the cancelled *call* still runs."""
        return self._helper(call.run).is_running(call)

    def stack_of(self, call: Call) -> str | None:
        """Where *call* stands now, as text."""
        return self._helper(call.run).stack_of(call)

    def close(self) -> None:
        """End the idle helper threads."""
        while (helper := self._spare()) is not None:
            helper.close()

    def _helper(self, run: Run) -> ThreadPool:
        helper = self._helpers.get(run)
        if helper is None:
            helper = self._helpers[run] = self._spare() or ThreadPool(
                1,
                max_abandoned=self.max_abandoned,
                name="daglite-helper",
                shared=self._abandoned,
            )
        return helper

    def _spare(self) -> ThreadPool | None:
        # Not asked for first whether there is one: another run may take it meanwhile.
        try:
            return self._idle.pop()
        except IndexError:
            return None
