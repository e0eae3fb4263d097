"""What can be plugged in: backends, middlewares, callbacks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from daglite.core.call import Call, Outcome
from daglite.core.events import Event
from daglite.core.run import Run

__all__ = [
    "Backend",
    "Callback",
    "Capabilities",
    "Done",
    "ExecutionCallback",
    "Middleware",
    "Next",
]

Done: TypeAlias = Callable[[Call, Outcome], None]
"""Takes the outcome of a call, from any thread."""

Next: TypeAlias = Callable[[Call], Awaitable[Outcome]]
"""The rest of a chain."""


@dataclass(frozen=True)
class Capabilities:
    """
    What a backend can promise.

    Attributes:
        in_place: Untimed calls run on the caller's thread, one at a time.
        cancel: It can interrupt a call, where Python allows.
        kill: It can end a call for certain.
        limits: It can limit what a call uses: memory, CPU time, files, processes.
        shared_memory: Calls run on threads of this process, and see its objects.  A graph
            without policies is then run by calls named ``(walker)``, which do many nodes each.
    """

    in_place: bool = False
    cancel: bool = False
    kill: bool = False
    limits: bool = False
    shared_memory: bool = False

    @property
    def loses_workers(self) -> bool:
        """Whether a worker can die under a call: none does that is a thread of this process."""
        return self.kill or not (self.in_place or self.shared_memory)


@runtime_checkable
class Backend(Protocol):
    """
    Runs calls; knows no graph and no policy.

    One backend may serve many runs at once, and any of its methods may be called from any
    thread.
    """

    @property
    def name(self) -> str:
        """For messages; what is looked up is the name of its entry point."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can promise; a policy that needs more is refused before anything runs."""
        ...

    @property
    def slots(self) -> int:
        """How many calls can run at the same time, from 1; a map is given a few more."""
        ...

    def submit(self, call: Call, done: Done) -> None:
        """
        Have *call* run, and return at once.

        `run_here` runs it on the thread that it is called on.  Whoever runs it in another way
        asks `Call.may_start` when the worker is free and the function is the next thing to run
        (where workers are far away: when the call is handed to an idle one).  If it says no,
        `Outcome.turned_away` goes to *done* and the worker takes another call; it may be the
        same call again, later.  On yes `Call.started` is set when the function starts, for its
        timeout counts from there; who isn't told at once sets `Call.look`.

        Args:
            call: Not to be started any more once ``call.cancelled`` or ``call.run.stopped``.
            done: Called exactly once with *call* and its outcome, from any thread, before the
                worker starts another call; it needn't be if the call or its run is cancelled
                first.  Whatever the function raises is an `Outcome` too: `submit` raises
                nothing for it.
        """
        ...

    def cancel(self, call: Call) -> None:
        """Drop *call* if it hasn't started, else end or abandon it; its outcome isn't wanted."""
        ...

    def cancel_run(self, run: Run) -> None:
        """The same for all calls of *run*; called when it ends before they have."""
        ...

    def is_running(self, call: Call) -> bool:
        """Whether the cancelled *call* still runs somewhere."""
        ...

    def stack_of(self, call: Call) -> str | None:
        """Where *call* stands now, as text; None if that can't be told."""
        ...

    def close(self) -> None:
        """Start nothing more elsewhere, and give back what the backend holds; idempotent."""
        ...


class Middleware(Protocol):
    """
    A policy in action: passes a call on, and gets its outcome back.

    A task's exception never flies through the chain (it is `Outcome.error`); only a
    cancellation does, and must be let through.  What a middleware raises fails the call, or in
    ``around_attempt`` the attempt.

    One that calls *call_next* no more than once may have an attribute ``longest_wait``: for how
    many seconds it can hold up each call, or attempt, itself. `explain` counts with that.

    A `Policy` of your own with this method is a middleware, too.
    """

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        """
        Carry out *call*, mostly by ``await call_next(call)``.

        It runs on the thread of `evaluate`, and mustn't block it; it waits by `Call.park`.

        Args:
            call: The attempt; the whole call, in ``around_call``.
            call_next: The rest of the chain, with the backend at its end.
        """
        ...


class ExecutionCallback(Protocol):
    """
    Is told what happens in a run, on the thread of `evaluate`, which waits for it.

    A callback may have any of these methods and needn't have all; a class that derives from
    this one inherits those that it leaves out.  One that raises is reported once to the
    ``daglite`` logger and doesn't harm the run.  Ids are opaque, and unique in this process.
    """

    # Each has a body, so that type checkers let a class that derives leave it out.

    def on_node_start(self, node_id: int, node_name: str) -> None:
        """All that a node needs is there, and it begins; a map is one node."""
        return

    def on_node_complete(self, node_id: int, result: Any) -> None:
        """A node has its value; of a map, the list of its values."""
        return

    def on_node_error(self, node_id: int, error: Exception) -> None:
        """
        A node failed for good: no retry is left, or none would help.

        Args:
            node_id: The node.
            error: An `ExecutionError`; of a map, that of the element that failed it, if one did.
        """
        return

    def on_event(self, event: Event) -> None:
        """Whatever happens, these three included; see the events in `daglite.callbacks`."""
        return


class _OnNodeStart(Protocol):
    def on_node_start(self, node_id: Any, node_name: str) -> None: ...


class _OnNodeComplete(Protocol):
    def on_node_complete(self, node_id: Any, result: Any) -> None: ...


class _OnNodeError(Protocol):
    def on_node_error(self, node_id: Any, error: Exception) -> None: ...


class _OnEvent(Protocol):
    def on_event(self, event: Event) -> None: ...


Callback: TypeAlias = _OnNodeStart | _OnNodeComplete | _OnNodeError | _OnEvent
"""What `evaluate` takes as a callback: anything with one of the methods of `ExecutionCallback`."""
