"""For tests of graphs: time that costs nothing, calls that end as told, and what happened."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar, final

from daglite._clock import VirtualClock
from daglite.core.call import Call, Outcome
from daglite.core.dispatch import run_here
from daglite.core.events import Event
from daglite.core.no_waits import no_waits
from daglite.core.protocols import Capabilities, Done
from daglite.core.run import Run
from daglite.exceptions import BackendError

__all__ = [
    "Fails",
    "Hangs",
    "RecordedEvents",
    "ScriptedBackend",
    "ScriptedCall",
    "Takes",
    "VirtualClock",
    "policies_off",
]

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Event)

_OF_FUNCTION: Final[Any] = object()


@final
@dataclass(frozen=True)
class Takes:
    """
    An attempt that succeeds.

    Attributes:
        seconds: How long it takes, in virtual seconds from 0.
        value: What it returns; left out, the task's function is run, and how it ends counts.
    """

    seconds: float = 0.0
    value: Any = _OF_FUNCTION


@final
@dataclass(frozen=True)
class Fails:
    """
    An attempt that fails.

    Attributes:
        error: What it raises.
        after: How long it takes, in virtual seconds from 0.
    """

    error: BaseException
    after: float = 0.0


@final
@dataclass(frozen=True)
class Hangs:
    """An attempt that never ends and can't be interrupted; what cancels it must abandon it."""


Ending: TypeAlias = Takes | Fails | Hangs
Script: TypeAlias = Mapping[str, Ending | Sequence[Ending]] | Callable[[Call], Ending | None] | None


@final
@dataclass
class ScriptedCall:
    """
    One attempt that a `ScriptedBackend` was given.

    Attributes:
        name: The task's name.
        element: Which element of a map, from 0; None outside of maps.
        attempt: From 1.
        started: When it got a place to run, on the clock; None: it never did.
    """

    name: str
    element: int | None
    attempt: int
    started: float | None = None


@final
class ScriptedBackend:
    """
    A backend whose calls take virtual time and end as a script says.

    Calls wait in a queue, in the order in which they come, until a place is free.  All happens
    on the thread of `evaluate`, in the same order each time.

    Args:
        clock: The clock of the context in which it is used.
        script: Task name -> how its attempts end: one ending for all of them, or a list whose
            first is for attempt 1 of each call.  Or a function of the call, whose
            ``node_name``, ``element`` and ``attempt`` tell which it is.  A call that the
            script says nothing of (not in the mapping, past the end of a list, None) runs its
            task's function and takes no time.
        slots: How many calls run at the same time, from 1.  Abandoned ones don't count.

    Attributes:
        calls: The attempts, in the order in which they were submitted.

    Raises:
        BackendError: *slots* or *script* is of the wrong kind.

    Example:
        >>> from daglite import RetryPolicy, evaluate, task
        >>> @task(retry=RetryPolicy(2, "constant", delay="1m", jitter="none"), timeout=30)
        ... def fetch(url: str) -> str:
        ...     raise AssertionError("no test calls this")
        >>> clock = VirtualClock()
        >>> script = {"fetch": [Hangs(), Fails(OSError("busy"), after=2), Takes(3, "page")]}
        >>> backend = ScriptedBackend(clock, script)
        >>> with evaluate.context(clock=clock, default_backend=backend) as ctx:
        ...     ctx.evaluate(fetch.bind(url="http://localhost"))
        'page'
        >>> clock.now()
        155.0
        >>> [call.started for call in backend.calls]
        [0.0, 90.0, 152.0]
    """

    name: str = "scripted"
    capabilities: Capabilities = Capabilities(cancel=True)

    def __init__(self, clock: VirtualClock, script: Script = None, *, slots: int = 4) -> None:
        given: object = slots
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise BackendError(f"ScriptedBackend: slots is a number from 1 up, not {slots!r}")
        if not (script is None or callable(script) or isinstance(script, Mapping)):
            raise BackendError(
                "ScriptedBackend: script is a mapping of task names to endings, "
                f"or a function of the call, not {script!r:.60}"
            )
        self.slots = slots
        self.calls: list[ScriptedCall] = []
        self._clock = clock
        self._script = script
        self._queue: deque[tuple[Call, Done]] = deque()
        self._running: dict[Call, Done] = {}
        self._hanging: set[Call] = set()
        self._records: dict[Call, ScriptedCall] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"ScriptedBackend(slots={self.slots})"

    def submit(self, call: Call, done: Done) -> None:
        """Queue *call*; it starts when virtual time next may pass and a place is free."""
        record = ScriptedCall(call.node_name, call.element, call.attempt)
        self.calls.append(record)
        if self._closed:
            done(call, Outcome(error=BackendError("this ScriptedBackend is closed")))
        elif call.run.kernel.clock is not self._clock:
            # Else nobody would ever let its time pass.
            wrong = "the run has another clock; write evaluate.context(clock=...) with its own"
            done(call, Outcome(error=BackendError(f"ScriptedBackend: {wrong}")))
        else:
            self._records[call] = record
            self._clock.hold(1)
            self._queue.append((call, done))
            self._soon(self._fill)

    def cancel(self, call: Call) -> None:
        """Drop *call*, or end it; one that hangs is abandoned."""
        call.cancelled = True
        if call in self._records:
            self._settle(call)

    def cancel_run(self, run: Run) -> None:
        """The same for all calls of *run*."""
        for call in [call for call in self._records if call.run is run]:
            self.cancel(call)

    def is_running(self, call: Call) -> bool:
        """Whether the cancelled *call* hangs."""
        return call in self._hanging

    def stack_of(self, call: Call) -> str | None:
        """None: there is no stack."""
        return None

    def close(self) -> None:
        """Take no more calls."""
        self._closed = True

    # -- places -------------------------------------------------------------------

    def _soon(self, action: Callable[[], None]) -> None:
        self._clock.call_at(self._clock.now(), action)

    def _fill(self) -> None:
        """Start what waits while there are places."""
        while self._queue and len(self._running) < self.slots:
            call, done = self._queue.popleft()
            self._running[call] = done
            self._start(call)

    def _settle(self, call: Call) -> None:
        """*call* isn't under way any more, in whatever way it has ended."""
        del self._records[call]
        self._clock.hold(-1)
        if self._running.pop(call, None) is None:
            self._queue = deque(entry for entry in self._queue if entry[0] is not call)
        else:
            self._soon(self._fill)

    def _start(self, call: Call) -> None:
        if not call.may_start():
            # It will come again, and is no attempt before that.
            done, record = self._running[call], self._records[call]
            self.calls = [each for each in self.calls if each is not record]
            self._settle(call)
            done(call, Outcome.turned_away())
            return
        now = self._clock.now()
        call.started = self._records[call].started = now
        call.worker = self.name
        try:
            ending = self._ending_of(call)
        except Exception as error:
            # A fault of the script: told where a test looks.
            ending = Fails(error)
        if isinstance(ending, Hangs):
            self._hanging.add(call)
            return
        if isinstance(ending, Fails):
            outcome, seconds = Outcome(error=ending.error), ending.after
        elif ending.value is _OF_FUNCTION:
            outcome, seconds = run_here(call), ending.seconds
        else:
            outcome, seconds = Outcome(ending.value), ending.seconds
        # The function itself may have let time pass.
        until = max(now + seconds, self._clock.now())
        outcome.started, outcome.ran, outcome.worker = now, until - now, self.name
        self._clock.call_at(until, lambda: self._end(call, outcome))

    def _end(self, call: Call, outcome: Outcome) -> None:
        done = self._running.get(call)
        if done is not None:
            self._settle(call)
            done(call, outcome)

    def _ending_of(self, call: Call) -> Takes | Fails | Hangs:
        script, found = self._script, None
        if isinstance(script, Mapping):
            found = script.get(call.node_name)
            if isinstance(found, Sequence):
                found = found[call.attempt - 1] if call.attempt <= len(found) else None
        elif script is not None:
            found = script(call)
        if found is None:
            return Takes()
        if isinstance(found, (Takes, Fails, Hangs)):
            return found
        raise BackendError(
            f"the script has {found!r:.60} for attempt {call.attempt} of task "
            f"{call.node_name!r}; write Takes(...), Fails(...) or Hangs()"
        )


@final
class RecordedEvents:
    """
    A callback that keeps the events of its runs.

    Attributes:
        events: In the order in which they happened.

    Example:
        >>> from daglite import evaluate, task
        >>> events = RecordedEvents()
        >>> evaluate(task(lambda: 1, name="one").bind(), callbacks=[events])
        1
        >>> events.names()
        ['RunStarted', 'NodeStarted', 'NodeCompleted', 'RunFinished']
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        """Keep *event*."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of that type."""
        return [event for event in self.events if isinstance(event, kind)]

    def names(self) -> list[str]:
        """The names of the events' types."""
        return [type(event).__name__ for event in self.events]


@final
class policies_off:  # noqa: N801
    """
    Let no policy wait, for as long as a block or a function runs: for tests of your own code.

    * Back-offs take no time: a failed call is tried again at once, as often as its policy says.
    * Circuit breakers, rate limits and retry budgets are neither asked nor told: calls go, and
      what happens leaves no trace for the next test.
    * `Call.park`, by which your own middlewares wait, returns at once.

    All else stays: timeouts, fallbacks, bulkheads, which errors are retried, the longest hint.
    Holds for the whole process: all threads, event loops and runs, `protect` too.  What waits
    already when it begins isn't woken.  Blocks may be nested, and overlap on several threads: the
    policies are back when the last one ends.

    Example:
        >>> from daglite import RetryPolicy, protect
        >>> tries = []
        >>> @protect(retry=RetryPolicy(3, "constant", delay="1m"))
        ... def fetch() -> str:
        ...     tries.append(1)
        ...     if len(tries) < 3:
        ...         raise ConnectionError("busy")
        ...     return "page"
        >>> with policies_off():
        ...     fetch()
        'page'
    """

    def __enter__(self) -> None:
        no_waits.append(None)

    def __exit__(self, *_: object) -> None:
        no_waits.pop()

    def __call__(self, func: F, /) -> F:
        """
        Run *func*, a function or an ``async def``, in such a block: ``@policies_off()``.

        Raises:
            TypeError: *func* is a class, or a generator function, whose body runs after its call.
        """
        made: Any
        lazy = inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func)
        if lazy or isinstance(func, type) or not callable(func):
            raise TypeError(
                f"@policies_off() is for functions, not {func!r:.60}; write "
                "'with policies_off():' inside"
            )
        if inspect.iscoroutinefunction(func):

            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await func(*args, **kwargs)

            made = run_async
        else:

            def run(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return func(*args, **kwargs)

            made = run
        made = functools.wraps(func)(made)
        wrapped: F = made
        return wrapped
