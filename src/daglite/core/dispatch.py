"""
The innermost link of every chain: hands a call to its backend and waits for the outcome.

    chain ─► Dispatch ─► backend.submit ─► (a thread runs the function)
                ▲                                     │ done(call, outcome)
                └──── Completion ◄── inbox ◄──────────┘
"""

from __future__ import annotations

import threading
from typing import final

from daglite.core.call import Call, Outcome
from daglite.core.current import call_on_this_thread
from daglite.core.events import CallAbandoned
from daglite.core.interrupts import Interrupted
from daglite.core.kernel import Cancelled, Completion
from daglite.core.protocols import Backend

__all__ = ["Dispatch", "run_here", "tell_if_abandoned"]


def run_here(call: Call) -> Outcome:
    """
    Run *call* on this thread, if it may start now.

    A `KeyboardInterrupt` is the user's, and flies on.
    """
    if call.admit is not None and not call.admit():
        return Outcome.turned_away()
    kernel = call.run.kernel
    call.started = started = kernel.now()
    outcome = Outcome(started=started)
    outer, call_on_this_thread.call = call_on_this_thread.call, call
    try:
        outcome.value = call.invoke()
    except (KeyboardInterrupt, Interrupted):
        raise
    except BaseException as error:
        outcome.error = error
    finally:
        call_on_this_thread.call = outer
    outcome.ran = kernel.now() - started
    outcome.worker = threading.current_thread().name
    try:
        return outcome
    finally:
        # Its error leads back to this frame.
        del outcome


@final
class Dispatch:
    """Runs calls on *backend*; the end of a chain."""

    __slots__ = ("_backend",)

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def __call__(self, call: Call) -> Outcome:
        before = call.done_before
        if before is not None:
            call.done_before = None
            return before
        if not self._backend.capabilities.in_place:
            return await self._elsewhere(call)
        lane = call.run.lane
        await lane.enter(call.run.kernel)
        try:
            if call.target.timed:
                return await self._elsewhere(call)
            return run_here(call)
        finally:
            lane.leave()

    def ahead(self, call: Call, limit: float) -> Outcome | None:
        """
        Begin the timed *call*, whose chain hasn't been entered, and wait for its outcome.

        Args:
            call: An attempt that holds all it needs.
            limit: For how long, in seconds.

        Returns:
            The outcome; None: it is still under way, and its chain has to wait for it.
        """
        run, kernel = call.run, call.run.kernel
        until = kernel.now() + limit
        arrival = self._begin(call)
        while True:
            # At once: the helper thread can't go on before this one waits.
            kernel.turn(until=until)
            if arrival.done:
                return arrival.value
            if run.cancelled or kernel.now() >= until:
                call.begun = True
                return None

    def _begin(self, call: Call) -> Completion[Outcome]:
        kernel = call.run.kernel
        arrival: Completion[Outcome] = Completion(kernel)
        call.waiter = arrival
        # A middleware may send the same attempt twice.
        call.started, call.answered = None, False
        kernel.outstanding += 1
        self._backend.submit(call, _post)
        return arrival

    async def _elsewhere(self, call: Call) -> Outcome:
        arrival = call.waiter if call.begun else self._begin(call)
        call.begun = False
        try:
            outcome: Outcome = await arrival
        except Cancelled:
            if not arrival.done:
                call.run.kernel.outstanding -= 1
                self._drop(call)
            raise
        return outcome

    def _drop(self, call: Call) -> None:
        """End *call*, whose outcome isn't wanted any more, and say so if that doesn't work."""
        backend = self._backend
        if call.started is None and call.look is not None:
            call.look(call)
        call.stack = backend.stack_of(call)
        # Here, so that a late answer is dropped whatever the backend makes of it.
        call.cancelled = True
        backend.cancel(call)
        tell_if_abandoned(call, backend)


def tell_if_abandoned(call: Call, backend: Backend) -> None:
    """Say so if *call*, which was cancelled, still runs when its grace is over."""
    if call.started is None:
        return
    kernel = call.run.kernel

    def look() -> None:
        if backend.is_running(call):
            elapsed = kernel.now() - (call.started or 0.0)
            call.run.emit(
                CallAbandoned, call.node_id, call.node_name, call.element, call.attempt, elapsed
            )

    kernel.call_later(call.target.grace, look)


def _post(call: Call, outcome: Outcome) -> None:
    """From the thread that ran *call*."""
    admit = call.admit
    call.answered = True
    call.run.kernel.post(_arrived, call, outcome)
    # After that: what a circuit refuses because of this failure arrives later than it.
    if admit is not None and not outcome.away:
        admit.ended(outcome)


def _arrived(call: Call, outcome: Outcome) -> None:
    # From here on it is a middleware that takes its time.
    call.answered = False
    if not call.cancelled:
        call.run.kernel.outstanding -= 1
        # It holds the outcome: an error would lead back to the call.
        waiter, call.waiter = call.waiter, None
        waiter.set(outcome)
