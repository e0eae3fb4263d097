"""The call that runs on this thread, as the function that it runs may see it."""

from __future__ import annotations

import threading
from typing import final

from daglite._clock import SystemClock
from daglite.core.call import Call
from daglite.core.own_loop import carried
from daglite.worker.here import Facts, here

__all__ = ["CurrentCall", "call_on_this_thread", "current_call"]


class _OnThisThread(threading.local):
    call: Call | None = None


call_on_this_thread = _OnThisThread()
"""Set by whoever runs a call, around it."""

carried.append(call_on_this_thread)
carried.append(here)


@final
class CurrentCall:
    """
    What a running function may know of its call.

    Attributes:
        run_id: The run.
        node_id: The node; unique in this process.
        node_name: The task's name.
        element: Which element of a map, from 0; None outside of maps.
        attempt: From 1.
        remaining: Seconds until the whole call must be done; None: no such limit.
        idempotency_key: The same for each attempt of this call, and for no other call.
    """

    __slots__ = (
        "attempt",
        "element",
        "idempotency_key",
        "node_id",
        "node_name",
        "remaining",
        "run_id",
    )

    def __init__(self, facts: Facts, remaining: float | None) -> None:
        self.run_id = facts.run_id
        self.node_id = facts.node_id
        self.node_name = facts.node_name
        self.element = facts.element
        self.attempt = facts.attempt
        self.remaining = remaining
        element = "" if self.element is None else f"/{self.element}"
        self.idempotency_key = f"{facts.run_id}/{facts.ordinal}{element}"


def current_call() -> CurrentCall:
    """
    Ask, from inside a task, about the call that is running.

    Raises:
        RuntimeError: No call of a run is running on this thread.
    """
    call = call_on_this_thread.call
    while call is not None and not call.run.of_graph:
        # Of a protected function, which has no call of its own to tell about.
        call = call.run.caller
    if call is not None:
        return CurrentCall(call.facts, call.remaining())
    facts = here.facts
    if facts is None:
        raise RuntimeError(
            "current_call() tells about the call of a task while evaluate() runs it, "
            "but no such call is running on this thread"
        )
    left = None if facts.expires is None else facts.expires - SystemClock.now()
    return CurrentCall(facts, left)
