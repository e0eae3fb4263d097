"""A backend whose calls end as told, in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from daglite._clock import VirtualClock
from daglite.core.call import Call, Outcome
from daglite.core.dispatch import run_here
from daglite.core.protocols import Capabilities, Done
from daglite.core.run import Run
from daglite.exceptions import BackendError
from daglite.testing.endings import OF_FUNCTION, Ending, Fails, Hangs, Takes

__all__ = ["ScriptedBackend", "ScriptedCall"]

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
        strict: Whether a call that the script says nothing of fails, with a `BackendError`; a
            script that means the function says ``Takes()``.

    Attributes:
        calls: The attempts, in the order in which they were submitted.

    Raises:
        BackendError: *slots*, *script* or *strict* is of the wrong kind, or *strict* without a
            script.

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
    capabilities: Capabilities = Capabilities(cancel=True, kill=True, limits=True)

    def __init__(
        self,
        clock: VirtualClock,
        script: Script = None,
        *,
        slots: int = 4,
        strict: bool = False,
    ) -> None:
        given: object = slots
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            raise BackendError(f"ScriptedBackend: slots is a number from 1 up, not {slots!r}")
        if not (script is None or callable(script) or isinstance(script, Mapping)):
            raise BackendError(
                "ScriptedBackend: script is a mapping of task names to endings, "
                f"or a function of the call, not {script!r:.60}"
            )
        _check_strict(strict, script)
        self.slots = slots
        self.calls: list[ScriptedCall] = []
        self._clock = clock
        self._script = script
        self._strict = strict
        self._queue: deque[tuple[Call, Done]] = deque()
        self._running: dict[Call, Done] = {}
        self._hanging: set[Call] = set()
        self._records: dict[Call, ScriptedCall] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"ScriptedBackend(slots={self.slots})"

    @property
    def unused(self) -> tuple[str, ...]:
        """The names in the script that no call had; of a script that is a function, none."""
        if not isinstance(self._script, Mapping):
            return ()
        asked = {call.name for call in self.calls}
        return tuple(name for name in self._script if name not in asked)

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
        elif ending.value is OF_FUNCTION:
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
            if self._strict:
                raise _nothing_for(call, script)
            return Takes()
        if isinstance(found, (Takes, Fails, Hangs)):
            return found
        raise BackendError(
            f"the script has {found!r:.60} for attempt {call.attempt} of task "
            f"{call.node_name!r}; write Takes(...), Fails(...) or Hangs()"
        )


def _check_strict(strict: object, script: Script) -> None:
    if not isinstance(strict, bool):
        raise BackendError(f"ScriptedBackend: strict is True or False, not {strict!r:.60}")
    if strict and script is None:
        raise BackendError("ScriptedBackend: strict=True needs a script")


def _nothing_for(call: Call, script: Script) -> BackendError:
    fix = "return Takes() to run its function"
    if isinstance(script, Mapping):
        fix = f"it has {', '.join(map(repr, script))}; write Takes() to run its function"
    return BackendError(
        f"the script says nothing of attempt {call.attempt} of task {call.node_name!r}", fix=fix
    )
