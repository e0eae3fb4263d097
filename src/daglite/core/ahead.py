"""
Calls that run elsewhere, and enter their chain only where that has something to do.

    submit ─► done in time, and well ─► settled
        │ it failed, or takes longer than its limit
        └─► the chain, which finds what was done already in the call

Most calls succeed at once, and for those a chain costs more than all else that a run does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, final

from daglite.core.call import Call, Outcome
from daglite.core.dispatch import tell_if_abandoned
from daglite.core.kernel import Completion, Timer
from daglite.core.plan import Step
from daglite.core.run import Run

__all__ = ["Ahead", "Settle"]

Settle: TypeAlias = Callable[[Call, Outcome], None]


@final
class Ahead:
    """
    Begins the calls of one task in one run; all methods are for the kernel's thread.

    Args:
        run: The run.
        step: What the plan says of the task; its calls may begin `ahead`.
        settle: Takes how a call ended.
        enter: Sends one through its chain, which settles it.
    """

    def __init__(self, run: Run, step: Step, settle: Settle, enter: Callable[[Call], None]) -> None:
        self._run = run
        self._backend = step.backend
        self._settle = settle
        self._enter = enter
        self._chained = not step.bare
        timeout = step.policies.timeout
        self._total = None if timeout is None else timeout.total
        limits = [] if timeout is None else [timeout.attempt, timeout.total]
        self._limit = min((limit for limit in limits if limit is not None), default=None)
        # In the order in which they were begun, and so in that in which they can be late.
        self._under_way: dict[Call, None] = {}
        self._timer: Timer | None = None

    def begin(self, call: Call) -> None:
        """Send *call* to its backend."""
        kernel = self._run.kernel
        kernel.outstanding += 1
        self._under_way[call] = None
        if self._limit is not None:
            call.due = kernel.now()
            if self._total is not None:
                call.expires = call.due + self._total
            if self._timer is None:
                self._timer = kernel.call_later(self._limit, self._look)
        self._backend.submit(call, self._post)

    def drop(self) -> None:
        """End what is under way, and isn't wanted any more."""
        under_way, self._under_way = self._under_way, {}
        for call in under_way:
            self._run.kernel.outstanding -= 1
            call.cancelled = True
            self._backend.cancel(call)
            if self._limit is not None:
                tell_if_abandoned(call, self._backend)

    def _post(self, call: Call, outcome: Outcome) -> None:
        """From the thread that ran *call*."""
        call.answered = True
        self._run.kernel.post(self._arrived, call, outcome)

    def _arrived(self, call: Call, outcome: Outcome) -> None:
        if call.cancelled:
            return
        self._run.kernel.outstanding -= 1
        call.answered = False
        if call not in self._under_way:
            # Its chain waits for it by now.
            waiter, call.waiter = call.waiter, None
            waiter.set(outcome)
            return
        del self._under_way[call]
        if self._chained and outcome.error is not None:
            call.done_before = outcome
            self._enter(call)
        else:
            self._settle(call, outcome)

    def _look(self) -> None:
        """Have their chains wait for those that weren't done within their limit."""
        self._timer = None
        kernel, limit = self._run.kernel, self._limit
        assert limit is not None
        for call in tuple(self._under_way):
            assert call.due is not None
            left = call.due + limit - kernel.now()
            if left > 0:
                self._timer = kernel.call_later(left, self._look)
                return
            del self._under_way[call]
            arrival: Completion[Outcome] = Completion(kernel)
            call.waiter, call.begun = arrival, True
            self._enter(call)
