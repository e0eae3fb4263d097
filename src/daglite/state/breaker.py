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
from collections.abc import Hashable, Mapping
from typing import Any, final

from daglite.state.answers import BreakerSnapshot, BreakerState, Permit, Transition
from daglite.state.needs import BreakerPolicy
from daglite.state.plain import read_list, read_number, read_whole
from daglite.state.waits import until
from daglite.state.windows import CountWindow, TimeWindow

__all__ = [
    "Breaker",
    "BreakerSnapshot",
    "BreakerState",
    "Permit",
    "Transition",
]

_SLOTS = 100
"""Parts of a time window."""


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
        last: The last transition that was made here; None: there was none yet.
        calm: A permit with which a call that returns changes nothing: the last so many calls were
            all well, and none is ever slow.  None: there is none.
    """

    def __init__(self, policy: BreakerPolicy, key: str) -> None:
        self.key = key
        self.passing: Permit | None = None
        self.calm: Permit | None = None
        self.last: Transition | None = None
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
        self._tickets = 0
        # When the lease of each probe ends that has brought nothing yet, by its ticket.
        self._probes: dict[int, float] = {}
        # Kept over an opening: whoever waits asks again, and is told a new time.
        self._waiting: dict[Hashable, None] = {}
        self._first: BreakerState = "closed" if policy.mode == "on" else policy.mode
        self._state: BreakerState = self._first
        self._enter(self._first, 0.0)

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

    def confirm(self, permit: Permit, now: float) -> Permit | None:
        """
        Look whether *permit* is still good, in the moment when its call would start.

        A probe's lease begins anew.  One whose round or lease is over, and a call that was let
        go before the breaker opened, get another permit if there is one now.

        Returns:
            The permit that the call has from now on, instead of *permit*.  None: it mustn't
            start; *permit* is still to be given back.
        """
        with self._lock:
            passing = self.passing
            if passing is not None:
                return passing
            if permit.generation == self._generation:
                if self._probes.get(permit.ticket, now) > now:
                    self._probes[permit.ticket] = now + self._lease
                    return permit
                self._probes.pop(permit.ticket, None)
            answer = self._probe(now)
            return answer if isinstance(answer, Permit) else None

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
            if why is not None:
                return self._move("open", now, why)
            self._calm_down()
            return None

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
            if permit.generation != self._generation:
                return ()
            if self._probes.pop(permit.ticket, None) is None:
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
            if self._first != self._state:
                return self._move(self._first, 0.0, "reset")
            self._enter(self._first, 0.0)
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

    def changes(self, permit: Permit) -> bool:
        """Whether a call that returns would make any difference."""
        return self.calm is None or permit.generation != self.calm.generation

    def wake(self, now: float) -> tuple[Hashable, ...]:
        """Who waits and should ask again, if that makes sense at *now*."""
        with self._lock:
            return () if self._retry_in(now) else self._woken()

    def dump(self, now: float) -> dict[str, Any]:
        """What it remembers, but not who waits, as plain data; times are seconds from *now*."""
        with self._lock:
            return {
                "state": self._state,
                "generation": self._generation,
                "tickets": self._tickets,
                "streak": self._streak,
                "break": self._break,
                "due": self._due - now,
                "probes": [[ticket, end - now] for ticket, end in self._probes.items()],
                "results": [self._results, self._failures, self._slows],
                "window": self._window.dump(now),
            }

    def load(self, data: Mapping[str, Any], now: float) -> None:
        """
        Remember what `dump` said at *now*, in place of all else; who waits goes on waiting.

        No break, lease or window is longer than the policy says, whatever *data* does: a breaker
        with another policy may have written it.

        Raises:
            ValueError: *data* makes no sense; nothing has changed.
        """
        policy = self._policy
        state: Any = data.get("state")
        moving = ("open", "half_open") if policy.mode == "on" else ()
        if state not in (self._first, "forced_open", *moving):
            raise ValueError(f"{state!r} is no state")
        generation, tickets, streak = (
            read_whole(data.get(name)) for name in ("generation", "tickets", "streak")
        )
        length = min(max(read_number(data.get("break")), policy.break_for), policy.max_break)
        due = now + min(read_number(data.get("due")), length)
        probes = {
            read_whole(ticket): now + min(read_number(left), self._lease)
            for ticket, left in read_list(data.get("probes"), 2)
        }
        results, failures, slows = map(read_whole, read_list(data.get("results"))[:3])
        if results >= policy.probes:
            results = failures = slows = 0
        with self._lock:
            self._window.load(data.get("window"), now)
            if generation != self._generation or state != self._state:
                passing = state not in ("open", "half_open", "forced_open")
                self.passing = Permit(generation) if passing else None
            self._state, self._generation, self._tickets = state, generation, tickets
            self._streak, self._break, self._due, self._probes = streak, length, due, probes
            self._results, self._failures, self._slows = results, failures, slows
            self.calm = None
            self._calm_down()

    # Everything below runs under the lock.

    def _calm_down(self) -> None:
        """Remember that nothing but a failure, or a slow call, makes a difference from here on."""
        window = self._window
        well = window.full and not window.failures and self._slow_above == math.inf
        if well and self.passing is not None:
            self.calm = self.passing

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
        self._tickets += 1
        self._probes[self._tickets] = now + self._lease
        return Permit(self._generation, self._tickets, moved)

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
        if self._probes.pop(permit.ticket, None) is None:
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
        retry_in = self._retry_in(now)
        self.last = Transition(self.key, before, state, reason, retry_in, wake, self._generation)
        return self.last

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
