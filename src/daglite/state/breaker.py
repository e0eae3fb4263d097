"""
Whether the other side seems well enough to be called: the state of a circuit breaker.

              too many failures, or slow calls
    closed ───────────────────────────────────► open ◄───────────┐
       ▲                                          │              │ too many of them
       │ enough of them were well                 │ break is over│
       └───────────────── half_open ◄─────────────┘              │
                              └────────── `probes` results ──────┘

    forced_open · disabled · metrics_only     until `force_open` or `reset`

Each move begins a new generation, and results of calls that were let go in an earlier one say
nothing any more.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, final

from daglite.state.needs import BreakerPolicy
from daglite.state.waits import until
from daglite.state.windows import CountWindow, TimeWindow

__all__ = [
    "Breaker",
    "BreakerSnapshot",
    "BreakerState",
    "Permit",
    "Transition",
]

BreakerState = Literal["closed", "open", "half_open", "forced_open", "disabled", "metrics_only"]

_SLOTS = 100
"""Parts of a time window."""


@final
@dataclass(frozen=True, slots=True)
class Transition:
    """A breaker that went from one state to another."""

    key: str
    before: BreakerState
    after: BreakerState
    reason: str
    """For people, such as "5 failures in a row"."""
    retry_in: float | None
    """Seconds until a probe may go; None: calls may go. ``inf``: until somebody resets it."""
    wake: tuple[Hashable, ...]
    """Who waits for a permit and should ask again now, in the order in which they came."""


@final
class Permit:
    """
    Leave to make one call, which owes the breaker one `Breaker.record` or `Breaker.give_back`.

    Attributes:
        generation: The breaker's generation; it grows with each transition.
        is_probe: Whether the call is to find out if the other side is well again.
        transition: To half-open, if this permit brought it about.
    """

    __slots__ = ("generation", "is_probe", "transition")

    def __init__(
        self, generation: int, is_probe: bool = False, transition: Transition | None = None
    ) -> None:
        self.generation = generation
        self.is_probe = is_probe
        self.transition = transition


@final
@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """How a breaker stands."""

    key: str
    state: BreakerState
    failure_rate: float
    """From 0 to 1, over the window; while open or half-open, over the one it opened with."""
    slow_rate: float
    """The same for slow calls."""
    calls: int
    """Calls in the window."""
    retry_in: float | None
    """
    Seconds until asking for a permit makes sense; 0.0: a probe may go now.

    None: calls may go. ``inf``: until somebody resets it.
    """


@final
class Breaker:
    """
    Counts how calls end, and stops them while too many go wrong.

    Rates are looked at after every record, successes too, and only then: calls that grow too
    old for a time window open nothing.
    In half-open, places are held by probes that are out and within their lease, and by those
    that brought a result.  A result that comes after its lease, but before the next
    transition, counts: else probes that always take longer would keep it half-open for ever.
    With ``failure_rate=None`` one failed probe opens it again.

    Args:
        policy: When it opens, and for how long.
        key: What it is for.

    Attributes:
        passing: The permit that whoever asks is given at the moment; None: `permit` tells.
        calm: A permit with which a call that returns changes nothing: the last so many calls were
            all well, and none is ever slow.  None: there is none.
    """

    def __init__(self, policy: BreakerPolicy, key: str) -> None:
        self.key = key
        self.passing: Permit | None = None
        self.calm: Permit | None = None
        self._policy = policy
        self._slow_above = math.inf if policy.slow_call is None else policy.slow_call
        self._lease = policy.break_for if policy.probe_lease is None else policy.probe_lease
        self._lock = threading.Lock()
        self._window: CountWindow | TimeWindow = (
            TimeWindow(policy.window, _SLOTS)
            if policy.window_type == "time"
            else CountWindow(int(policy.window))
        )
        self._generation = 0
        self._streak = 0
        self._break = policy.break_for
        self._due = 0.0
        # When the lease of each probe ends that has brought nothing yet.
        self._probes: dict[Permit, float] = {}
        # Kept over an opening: whoever waits asks again, and is told a new time.
        self._waiting: dict[Hashable, None] = {}
        self._state: BreakerState = "closed" if policy.mode == "on" else policy.mode
        self._enter(self._state, 0.0)

    def permit(self, now: float, waiter: Hashable | None = None) -> Permit | float:
        """
        Ask to make a call.

        Args:
            now: Seconds.
            waiter: Whoever shall be named in the `Transition.wake` that ends a refusal early.
                It is forgotten when it is named, gets its permit, or leaves (`leave`).

        Returns:
            The permit, or the seconds after which it makes sense to ask again: above 0, and
            ``inf`` if only `reset` can help.
        """
        with self._lock:
            permit = self.passing
            if permit is not None:
                return permit
            answer = self._probe(now)
            if waiter is not None:
                if isinstance(answer, Permit):
                    self._waiting.pop(waiter, None)
                else:
                    self._waiting[waiter] = None
            return answer

    def record(
        self, permit: Permit, now: float, *, failed: bool, took: float = 0.0
    ) -> Transition | None:
        """
        Say how a call ended.

        Args:
            permit: What it was let go with.
            now: Seconds.
            failed: Whether it counts as a failure.
            took: Seconds that it ran.

        Returns:
            The transition that this brought about, if any.
        """
        slow = took > self._slow_above
        with self._lock:
            if permit.generation != self._generation:
                return None
            if permit.is_probe:
                return self._record_probe(permit, now, failed, slow)
            if self._state == "disabled":
                return None
            self.calm = None
            self._window.add(now, failed, slow)
            self._streak = self._streak + 1 if failed else 0
            if self._state == "metrics_only":
                return None
            why = self._why_open()
            return None if why is None else self._move("open", now, why)

    def succeed(self, permit: Permit, began: float, now: float) -> Transition | None:
        """
        `record` that a call returned, with nothing looked at that can't be while all is well.

        Args:
            permit: What it was let go with.
            began: When it started.
            now: Seconds.
        """
        took, window = now - began, self._window
        if took <= self._slow_above:
            with self._lock:
                # Without a failure or a slow call before it, a success can't open anything.
                if permit is self.passing and not window.failures and not window.slows:
                    self._streak = 0
                    if window.add_well(now) and self._slow_above == math.inf:
                        self.calm = permit
                    return None
        return self.record(permit, now, failed=False, took=took)

    def give_back(self, permit: Permit) -> tuple[Hashable, ...]:
        """
        Say that a call brought neither success nor failure: it was ignored, or cancelled.

        Returns:
            Who waits for a permit and should ask again now, because a probe's place is free.
        """
        with self._lock:
            if self._probes.pop(permit, None) is None:
                return ()
            return self._woken()

    def leave(self, waiter: Hashable) -> None:
        """Stop waiting for a permit."""
        with self._lock:
            self._waiting.pop(waiter, None)

    def force_open(self) -> Transition | None:
        """Let no call go until `reset`."""
        with self._lock:
            if self._state == "forced_open":
                return None
            return self._move("forced_open", 0.0, "forced open")

    def reset(self) -> Transition | None:
        """Forget everything, and go back to the state that the policy's mode begins with."""
        with self._lock:
            mode = self._policy.mode
            first: BreakerState = "closed" if mode == "on" else mode
            if first != self._state:
                return self._move(first, 0.0, "reset")
            self._enter(first, 0.0)
            return None

    def snapshot(self, now: float) -> BreakerSnapshot:
        """How it stands at *now*."""
        with self._lock:
            window = self._window
            window.trim(now)
            calls = window.calls
            return BreakerSnapshot(
                self.key,
                self._state,
                window.failures / calls if calls else 0.0,
                window.slows / calls if calls else 0.0,
                calls,
                self._retry_in(now),
            )

    # Everything below runs under the lock.

    def _why_open(self) -> str | None:
        policy, window = self._policy, self._window
        if policy.consecutive is not None and self._streak >= policy.consecutive:
            return _counted(self._streak, "failure") + " in a row"
        calls = window.calls
        if calls < policy.min_calls:
            return None
        if policy.failure_rate is not None and window.failures / calls >= policy.failure_rate:
            return f"{window.failures} of {_counted(calls, 'call')} failed"
        if policy.slow_call is not None and window.slows / calls >= policy.slow_rate:
            return f"{window.slows} of {_counted(calls, 'call')} took too long"
        return None

    def _probe(self, now: float) -> Permit | float:
        """A probe's permit, or the seconds until there may be one."""
        wait = self._retry_in(now)
        if wait:
            return wait
        moved = None
        if self._state == "open":
            moved = self._move("half_open", now, "the break is over")
        permit = Permit(self._generation, True, moved)
        self._probes[permit] = now + self._lease
        return permit

    def _retry_in(self, now: float) -> float | None:
        """Seconds until a probe may go; None if every call may."""
        if self._state == "open":
            return until(now, self._due)
        if self._state == "half_open":
            ends = [end for end in self._probes.values() if end > now]
            free = self._policy.probes - self._results - len(ends)
            return 0.0 if free > 0 else until(now, min(ends))
        return math.inf if self._state == "forced_open" else None

    def _record_probe(
        self, permit: Permit, now: float, failed: bool, slow: bool
    ) -> Transition | None:
        if self._probes.pop(permit, None) is None:
            return None
        self._results += 1
        self._failures += failed
        self._slows += slow
        probes = self._policy.probes
        if self._results < probes:
            return None
        limit = self._policy.failure_rate
        if self._failures if limit is None else self._failures / probes >= limit:
            why = f"{self._failures} of {_counted(probes, 'probe')} failed"
            return self._move("open", now, why)
        if self._policy.slow_call is not None and self._slows / probes >= self._policy.slow_rate:
            why = f"{self._slows} of {_counted(probes, 'probe')} took too long"
            return self._move("open", now, why)
        return self._move("closed", now, f"{_counted(probes, 'probe')} came back")

    def _move(self, state: BreakerState, now: float, reason: str) -> Transition:
        before = self._state
        self._enter(state, now)
        # Those who wait for the end of a break know when it is.
        wake = () if state == "half_open" else self._woken()
        return Transition(self.key, before, state, reason, self._retry_in(now), wake)

    def _enter(self, state: BreakerState, now: float) -> None:
        """Begin a new generation in *state*."""
        policy = self._policy
        self._generation += 1
        self._probes.clear()
        self._results = self._failures = self._slows = 0
        self.passing = self.calm = None
        if state == "open":
            grown = self._break * policy.break_factor if self._state == "half_open" else self._break
            self._break = min(grown, policy.max_break)
            self._due = now + self._break
        elif state not in ("half_open", "forced_open"):
            self._window.clear()
            self._streak = 0
            self._break = policy.break_for
            self.passing = Permit(self._generation)
        self._state = state

    def _woken(self) -> tuple[Hashable, ...]:
        woken = tuple(self._waiting)
        self._waiting.clear()
        return woken


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
