"""One attempt to run a task's function: what is passed down the chain, and what comes back."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol, cast, final

from daglite._clock import wall_time
from daglite.core.no_waits import no_waits
from daglite.core.parking import Crowd, park
from daglite.core.run import Run
from daglite.exceptions import AttemptRecord, PolicyError
from daglite.policies.limits import ResourceLimits
from daglite.policies.timeout import Expiry
from daglite.worker.here import Facts

__all__ = ["Admit", "Call", "Outcome", "Target", "called"]

_ROUNDING = 1e-6
"""Seconds that a limit may come too early by, as moments are rounded."""


def called(body: Callable[..., Any], args: Sequence[Any], kwnames: tuple[str, ...]) -> Any:
    """Call *body* with *args*, of which the last ones go to the parameters in *kwnames*."""
    named = len(kwnames)
    if not named:
        return body(*args)
    return body(*args[:-named], **dict(zip(kwnames, args[-named:], strict=True)))


class Target:
    """
    What calls of one task have in common; compiled once for a plan.

    Attributes:
        name: The task's name.
        body: The plain function to run.
        tags: The task's tags.
        timed: Whether a timeout may end its calls.
        on_expiry: What shall happen to a call that isn't wanted any more.
        grace: Seconds such a call may take to end before it is reported.
        limits: What each of its calls may use; None: anything.
        prompt: A call is only to be handed to a worker that is free to start it.
    """

    __slots__ = ("body", "grace", "limits", "name", "on_expiry", "prompt", "tags", "timed")

    def __init__(
        self,
        name: str,
        body: Callable[..., Any],
        tags: tuple[str, ...] = (),
        timed: bool = False,
        on_expiry: Expiry | None = None,
        grace: float = 5.0,
        limits: ResourceLimits | None = None,
        prompt: bool = False,
    ) -> None:
        self.name = name
        self.body = body
        self.tags = tags
        self.timed = timed
        self.on_expiry = on_expiry
        self.grace = grace
        self.limits = limits
        self.prompt = prompt


class Admit(Protocol):
    """Has the last word on one call: whether it starts, in the moment when it would."""

    def __call__(self) -> bool:
        """
        Whether the call may start here and now; once it may, the answer stays.

        From any thread; it neither waits nor raises.
        """
        ...

    def ended(self, outcome: Outcome) -> None:
        """The call has ended, on the thread that tells of it, before its worker takes another."""
        ...


@final
class Call:
    """
    One attempt: which function, with what, for which node, and which attempt it is.

    Attributes:
        run: The run that it belongs to.
        target: What it has in common with the task's other calls.
        node_id: The node.
        index: The node's place in the graph, from 0: the same in each run of the same graph.
        element: Which element of a map, from 0; None outside of maps.
        args: Arguments in call order, the last ones by name.
        kwnames: Names of the last ones.
        attempt: From 1.
        started: When the function started to run, on the kernel's clock; set by the backend.
        expires: When the whole call must be done, on the kernel's clock; None: never.
        crowd: The map that it is an element of, which is told when it is parked.
        cancelled: Its outcome isn't wanted any more; if it hasn't started it needn't.
        idle: The function isn't running at the moment: there is nothing to interrupt.
        worker: Name of the thread or process that runs it; set by the backend.
        stack: Where it stood when its time was up, if the backend can tell.
        place: Where it runs; for the backend alone.
    """

    # What only some calls have stands on the class: a call is made for each node.
    admit: Admit | None = None
    """Asked in the moment when the function would start, which it only does on True."""
    answered = False
    """Its outcome is there, and only waits for the run to look at it."""
    attempt = 1
    begun = False
    """It was started before the chain was entered, which waits for it."""
    cancelled = False
    crowd: Crowd | None = None
    done_before: Outcome | None = None
    """The outcome of an attempt that was made before the chain was entered."""
    due: float | None = None
    """When the whole call began, if that was before the chain was entered."""
    expires: float | None = None
    granted: Any = None
    """The breaker's permit that it was made with, before the chain was entered."""
    held: Callable[[], None] | None = None
    """Gives back the place of the bulkhead that it has, if it was `begun` with one."""
    growth = (1.0, 1.0)
    """What its limits of memory and of CPU time are multiplied by."""
    idle = False
    look: Callable[[Call], None] | None = None
    """Asked with the call: sets `started` if the function has; of a backend that isn't told."""
    place: Any = None
    repeats = 0
    """How often this attempt was made before; see `repeated` and `beside`."""
    results: list[Any] | None = None
    """Results so far of a map that runs straight: their number is the element."""
    stack: str | None = None
    start_by: float | None = None
    """The last moment at which it may start, on the kernel's clock; None: any will do."""
    started: float | None = None
    struck = False
    """Chaos has told that it struck it."""
    successor: Call | None = None
    """The next attempt, once there is one."""
    waited = 0.0
    """Seconds of back-off before this attempt."""
    waiter: Any = None
    worker: str | None = None
    _history: list[AttemptRecord]

    def __init__(
        self,
        run: Run,
        target: Target,
        node_id: int,
        index: int,
        element: int | None,
        args: tuple[Any, ...],
        kwnames: tuple[str, ...],
    ) -> None:
        self.run = run
        self.target = target
        self.node_id = node_id
        self.index = index
        self.element = element
        self.args = args
        self.kwnames = kwnames

    @property
    def history(self) -> list[AttemptRecord]:
        """The attempts that have failed so far; shared by all attempts of a call."""
        history: list[AttemptRecord] | None = self.__dict__.get("_history")
        if history is None:
            history = self._history = []
        return history

    def again(self, waited: float) -> Call:
        """The next attempt of the same call, after a wait of *waited* seconds."""
        call = self.repeated()
        call.attempt = self.attempt + 1
        call.repeats = 0
        call.waited = waited
        return call

    def repeated(self) -> Call:
        """The same attempt once more, to be started afresh."""
        call = self.beside()
        call.crowd = self.crowd
        self.successor = call
        return call

    def beside(self) -> Call:
        """The same attempt once more, while this one goes on: of no crowd, nobody's successor."""
        call = Call(
            self.run,
            self.target,
            self.node_id,
            self.index,
            self.element,
            self.args,
            self.kwnames,
        )
        call.attempt = self.attempt
        call.repeats = self.repeats + 1
        call.expires = self.expires
        call.start_by = self.start_by
        call._history = self.history
        call.waited = self.waited
        if self.growth is not Call.growth:
            call.growth = self.growth
        return call

    @property
    def latest(self) -> Call:
        """The last attempt that there is of the same call."""
        call = self
        while call.successor is not None:
            call = call.successor
        return call

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def node_name(self) -> str:
        """The task's name."""
        return self.target.name

    @property
    def facts(self) -> Facts:
        """What its function may know of it; `expires` stands on the kernel's clock."""
        return Facts(*self.plain_facts(self.expires))

    def plain_facts(self, expires: float | None) -> tuple[Any, ...]:
        """The same as a plain tuple, for which it *expires* on some other clock."""
        element = self.element if self.results is None else len(self.results)
        target = self.target
        run_id = self.run.id
        return run_id, self.node_id, target.name, self.index, element, self.attempt, expires

    def remaining(self) -> float | None:
        """Seconds until the whole call must be done; None without such a limit."""
        return None if self.expires is None else self.expires - self.run.kernel.now()

    @property
    def overdue(self) -> bool:
        """Whether its total is over, and it had started, in this attempt or in a later one."""
        left = self.remaining()
        if left is None or left > _ROUNDING:
            return False
        ended = (record for record in self.history if record.number >= self.attempt)
        return self.latest.started is not None or any(r.started is not None for r in ended)

    def now(self) -> float:
        """Seconds on the clock of the run, which never goes back; for differences alone."""
        return self.run.kernel.now()

    def wall_time(self) -> datetime:
        """
        The date and the time of day, in UTC.

        On a `VirtualClock` its seconds count from the begin of 1970: it starts at another moment
        with ``VirtualClock(moment.timestamp())``.
        """
        return datetime.fromtimestamp(wall_time(self.run.kernel.clock), timezone.utc)

    async def park(self, seconds: float, reason: str) -> None:
        """
        Wait in a middleware: the call holds no thread, no worker and no place meanwhile.

        The event `CallParked` tells of it.  Within `policies_off` it returns at once, so wait once
        for as long as it takes, and not until a clock says that the time has come.

        Args:
            seconds: For how long; no wait if it is 0 or less.
            reason: What for, in a word or two.

        Raises:
            PolicyError: *seconds* is infinite, or no number.
        """
        given: object = seconds
        if not isinstance(given, (int, float)) or not math.isfinite(given):
            raise PolicyError(f"call.park takes a number of seconds, not {given!r:.60}")
        if no_waits:
            # The others' turn, lest who polls keep them from what it waits for.
            await self.run.kernel.sleep(0)
        else:
            await park(self, seconds, reason)

    def may_start(self) -> bool:
        """
        Whether it may start here and now, as a backend has to ask right before it runs it.

        If not, what the backend hands back is `Outcome.turned_away`.
        """
        return self.admit is None or self.admit()

    def invoke(self) -> Any:
        """Run the function here and now."""
        return called(self.target.body, self.args, self.kwnames)


@final
class _Loaded:
    """An attribute that is loaded when it is first asked for, where it wasn't set before."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    # Without `__set__` it gives way to what an instance has of that name.
    def __get__(self, outcome: Outcome, owner: type) -> Any:
        # Once, and let go: it holds all that came with the value.
        outcome.__dict__.pop("_load")(outcome)
        return outcome.__dict__[self._name]


@final
class Outcome:
    """
    How an attempt ended.

    Attributes:
        value: What the function returned, if it did.
        error: What it raised, or what else went wrong; None when all is well.
        started: When it started, on the kernel's clock; None: it never did.
        ran: Seconds that it ran.
        worker: Name of the thread or process.
        note: Why nothing more was tried, where that isn't obvious.
        away: The call wasn't started, since `Call.may_start` said no: it is no attempt.
        too_late: The call wasn't started, since that can't be by `Call.start_by`; the note says
            what held it up.
    """

    value: Any = cast(Any, _Loaded())
    error: BaseException | None = cast(Any, _Loaded())
    _failed = True
    _load: Callable[[Outcome], None]
    away = False
    note: str | None = None
    too_late = False
    cpu_time: float | None = None
    """Seconds of CPU time that it used; None: nobody measured."""
    peak_memory: int | None = None
    """The most bytes that its process held meanwhile; None: nobody measured."""

    def __init__(
        self,
        value: Any = None,
        error: BaseException | None = None,
        started: float | None = None,
        ran: float = 0.0,
        worker: str | None = None,
    ) -> None:
        self.value = value
        self.error = error
        self.started = started
        self.ran = ran
        self.worker = worker

    @classmethod
    def to_be_loaded(cls, load: Callable[[Outcome], None], *, failed: bool) -> Outcome:
        """
        An outcome whose `value` and `error` come when somebody first asks for one of them.

        Args:
            load: Sets both; called on the thread that asks, of which there is one.
            failed: Whether there is an error, as far as one can tell without looking.
        """
        # Not through `__init__`, which would set what comes later.
        outcome = cls.__new__(cls)
        outcome.started = outcome.worker = None
        outcome.ran = 0.0
        outcome._load, outcome._failed = load, failed
        return outcome

    @property
    def known_error(self) -> BaseException | None:
        """Its error; None where that can be told without the value being loaded."""
        return self.error if self._failed else None

    @classmethod
    def turned_away(cls) -> Outcome:
        """The outcome of a call that mustn't start now; whoever sent it sends it again."""
        outcome = cls()
        outcome.away = True
        return outcome

    @classmethod
    def of_failure(cls, error: BaseException, started: float | None, ended: float) -> Outcome:
        """The outcome of a call on this thread that raised *error*."""
        ran = 0.0 if started is None else ended - started
        return cls(None, error, started, ran, threading.current_thread().name)

    @property
    def ok(self) -> bool:
        """Whether the function returned."""
        return self.error is None
