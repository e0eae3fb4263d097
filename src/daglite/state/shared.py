"""
States that processes share: each is done as by one, with what a store remembers for all of them.

    Circuit, … ─► SharedBreaker ─► Cell.change:  lock · read ─► Breaker.load
                                                             ─► Breaker.permit, …  ─► answer
                                                 write · unlock ◄─ Breaker.dump

The machine is that of `Breaker`, `Bucket` and `Budget`; what it remembers lies in a `Cell`.
Where nobody has written since this process looked last, it isn't read again, and what would change
nothing isn't written.

Times: a machine lives by the monotonic clock of its process, a cell by the wall's.  It holds
seconds from the moment of its writing, and that moment.  Whoever reads takes off the seconds that
have passed since then, but never less than none.  So a clock that is put back makes no wait longer
than it was when it was written, and nothing comes from the future; one that is put forward ends
waits.

A cell that can't be reached makes no call fail: the machine goes on with what it remembers, for
this process alone, until the cell is back.  Permits and turns that were given in the meantime
mean nothing then, nor do earlier ones now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping
from enum import Enum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, final

from daglite.state.answers import BreakerSnapshot, Permit, Transition
from daglite.state.breaker import Breaker
from daglite.state.bucket import Bucket
from daglite.state.budget import Budget
from daglite.state.needs import BreakerPolicy, BucketPolicy, BudgetPolicy
from daglite.state.plain import read_number

__all__ = [
    "LOOK_EVERY",
    "AnyBreaker",
    "AnyBucket",
    "AnyBudget",
    "Cell",
    "News",
    "Said",
    "SharedBreaker",
    "SharedBucket",
    "SharedBudget",
    "Times",
]

R = TypeVar("R")

LOOK_EVERY = 1.0
"""Seconds after which who waits looks whether another process has changed something."""

_HELD = 60.0
"""Seconds that a retry counts for at least while it waits for its start."""

Times: TypeAlias = Callable[[], tuple[float, float]]
"""What time it is, at one moment: on the clock of this process's runs, and on the wall."""


class Said(Enum):
    """What a cell says besides text."""

    SAME = "what this process knows already"
    NOTHING = "nobody has written"
    AWAY = "it can't be reached"


News: TypeAlias = "str | Said"
"""What another process has written, or why there is no such thing."""


class Cell(Protocol):
    """
    A place for one text, in a store that processes share.

    It knows what this process has read or written last.
    """

    def peek(self, take: Callable[[News], R]) -> R:
        """Give *take* the news, one thread at a time; other processes may write meanwhile."""
        ...

    def change(self, work: Callable[[News], tuple[R, str | None]]) -> R:
        """
        Give *work* the news and write the text that it returns, as one step for all processes.

        None: there is nothing to write.  That it can't be reached, or written, is no error.
        """
        ...

    def alone(self, act: Callable[[], R]) -> R:
        """Do *act* while no thread of this process is in `peek` or `change`."""
        ...

    def complain(self, reason: str) -> None:
        """Report that what was read makes no sense: *reason*."""
        ...


class _Machine(Protocol):
    def dump(self, now: float) -> dict[str, Any]: ...

    def load(self, data: Mapping[str, Any], now: float) -> None: ...


M = TypeVar("M", bound=_Machine)


@final
class _Mirror(Generic[M]):
    """A machine of this process, and the cell that holds what it remembers."""

    def __init__(self, machine: M, cell: Cell, times: Times) -> None:
        self.machine = machine
        self.away = False
        self._cell = cell
        self._times = times
        # There is nothing to be read yet, or its time or sense is wrong: it must be written.
        self._stale = False
        self._part()

    def peek(self, ask: Callable[[M, float], R]) -> R | None:
        """What *ask* answers now; None: that needs a `change`."""

        def take(news: News) -> R | None:
            now, wall = self._times()
            self._take(news, now, wall)
            return None if self._stale else ask(self.machine, now)

        return self._cell.peek(take)

    def change(self, do: Callable[[M, float], tuple[R, bool]]) -> R:
        """Let the machine *do* something, which answers, and says whether it changed anything."""

        def work(news: News) -> tuple[R, str | None]:
            now, wall = self._times()
            self._take(news, now, wall)
            answer, changed = do(self.machine, now)
            if news is Said.AWAY or not (changed or self._stale):
                return answer, None
            self._stale = False
            data = {"at": wall, **self.machine.dump(now)}
            return answer, json.dumps(data, separators=(",", ":"))

        return self._cell.change(work)

    def tell(self, what: Callable[[M, float], None]) -> None:
        """Tell the machine *what* changes something, and answers nothing."""

        def do(machine: M, now: float) -> tuple[None, bool]:
            what(machine, now)
            return None, True

        self.change(do)

    def _take(self, news: News, now: float, wall: float) -> None:
        if news is Said.AWAY:
            if not self.away:
                self._part()
            self.away = True
            return
        self.away = False
        if news is Said.NOTHING:
            # Before it gives anything, so that all processes have one generation from the first.
            self._stale = True
        if not isinstance(news, str):
            return
        try:
            data = json.loads(news)
            if not isinstance(data, dict):
                raise ValueError("it is no mapping")
            passed = wall - read_number(data.get("at"))
            self.machine.load(data, now - max(passed, 0.0))
        except (ValueError, RecursionError) as error:
            self._cell.complain(str(error))
            self._part()
            self._stale = True
            return
        self._stale = passed < 0

    def _part(self) -> None:
        """Make permits and turns that were given worthless, and such that nobody else gives."""
        now, _ = self._times()
        data = self.machine.dump(now)
        for name in ("generation", "era"):
            if name in data:
                data[name] += int.from_bytes(os.urandom(5), "big")
        self.machine.load(data, now)


@final
class SharedBreaker:
    """
    A `Breaker` for all processes.

    It is told the time by its own clock, when it has the cell: that a caller says may be past.

    Attributes:
        passing, calm: None: whoever wants to call must ask.
    """

    passing: None = None
    calm: None = None

    def __init__(self, policy: BreakerPolicy, key: str, cell: Cell, times: Times) -> None:
        self.key = key
        self._cell = cell
        self._times = times
        self._mirror = _Mirror(Breaker(policy, key), cell, times)
        self._looked = times()[0]

    @property
    def away(self) -> bool:
        """Whether it goes on for this process alone."""
        return self._mirror.away

    def permit(self, now: float, waiter: Hashable | None = None) -> Permit | float:
        """Ask to make a call; see `Breaker.permit`."""
        passing = self._mirror.peek(lambda machine, now: machine.passing)
        if passing is not None:
            return passing

        def ask(machine: Breaker, now: float) -> tuple[Permit | float, bool]:
            answer = machine.permit(now, waiter)
            return answer, isinstance(answer, Permit) and answer.is_probe

        return self._mirror.change(ask)

    @property
    def last(self) -> Transition | None:
        """The last transition that was made in this process."""
        return self._mirror.machine.last

    def confirm(self, permit: Permit, now: float) -> Permit | None:
        """Look whether *permit* is still good; see `Breaker.confirm`."""
        passing = self._mirror.peek(lambda machine, now: machine.passing)
        if passing is not None:
            return passing

        def ask(machine: Breaker, now: float) -> tuple[Permit | None, bool]:
            confirmed = machine.confirm(permit, now)
            return confirmed, permit.is_probe or (confirmed is not None and confirmed.is_probe)

        return self._mirror.change(ask)

    def record(
        self, permit: Permit, now: float, *, failed: bool, took: float = 0.0
    ) -> Transition | None:
        """Say how a call ended; see `Breaker.record`."""
        if not failed and not permit.is_probe:
            changes = self._mirror.peek(lambda machine, now: machine.changes(permit))
            if changes is False:
                return None
        return self._mirror.change(
            lambda machine, now: (machine.record(permit, now, failed=failed, took=took), True)
        )

    def succeed(self, permit: Permit, began: float, now: float) -> Transition | None:
        """Say that a call returned; see `Breaker.succeed`."""
        return self.record(permit, now, failed=False, took=now - began)

    def give_back(self, permit: Permit) -> tuple[Hashable, ...]:
        """Say that a call brought neither success nor failure; see `Breaker.give_back`."""
        if not permit.is_probe:
            return ()
        return self._mirror.change(lambda machine, now: (machine.give_back(permit), True))

    def leave(self, waiter: Hashable) -> None:
        """Stop waiting for a permit."""
        self._cell.alone(lambda: self._mirror.machine.leave(waiter))

    def look(self) -> tuple[Hashable, ...]:
        """
        Look what other processes have done; all who wait in this one share a look.

        Returns:
            Who waits for a permit and should ask again now.
        """
        now = self._times()[0]
        if now - self._looked < LOOK_EVERY / 2:
            return ()
        self._looked = now
        woken = self._mirror.peek(lambda machine, now: machine.wake(now))
        if woken is None:
            woken = self._mirror.change(lambda machine, now: (machine.wake(now), False))
        return woken

    def force_open(self) -> Transition | None:
        """Let no call go until `reset`."""
        return self._mirror.change(lambda machine, now: (machine.force_open(), True))

    def reset(self) -> Transition | None:
        """Forget everything; see `Breaker.reset`."""
        return self._mirror.change(lambda machine, now: (machine.reset(), True))

    def snapshot(self, now: float) -> BreakerSnapshot:
        """How it stands."""
        shown = self._mirror.peek(lambda machine, now: machine.snapshot(now))
        if shown is None:
            shown = self._mirror.change(lambda machine, now: (machine.snapshot(now), False))
        return shown


@final
class SharedBucket:
    """
    A `Bucket` for all processes.

    Processes know of each other's tokens, but not who waits: each has a line of its own, and the
    first of each takes what there is.  One that is killed leaves nothing that others wait for.
    """

    def __init__(self, policy: BucketPolicy, cell: Cell, times: Times) -> None:
        self._cell = cell
        self._mirror = _Mirror(Bucket(policy), cell, times)

    def take(self, now: float) -> float:
        """Take a token for a call that starts now; see `Bucket.take`."""

        def do(machine: Bucket, now: float) -> tuple[float, bool]:
            wait = machine.take(now)
            return wait, not wait

        return self._mirror.change(do)

    def take_at_once(self, now: float) -> bool:
        """The same for a call that didn't ask."""

        def do(machine: Bucket, now: float) -> tuple[bool, bool]:
            taken = machine.take_at_once(now)
            return taken, taken

        return self._mirror.change(do)

    def ask(self, now: float, token: Hashable | None = None) -> float:
        """Ask to go; see `Bucket.ask`."""
        return self._seen(lambda machine, now: machine.ask(now, token))

    def leave(self, token: Hashable) -> Hashable | None:
        """Leave the line; return who should ask now, if anybody."""
        return self._cell.alone(lambda: self._mirror.machine.leave(token))

    def forgo(self) -> Hashable | None:
        """Of one who may go, and doesn't; return who should ask now, if anybody."""
        return self._cell.alone(self._mirror.machine.forgo)

    def wait(self, now: float, ahead: int = 0) -> float:
        """Seconds until one who comes now may go; see `Bucket.wait`."""
        return self._seen(lambda machine, now: machine.wait(now, ahead))

    def _seen(self, ask: Callable[[Bucket, float], float]) -> float:
        """What *ask* says, which changes nothing that others know of."""
        said = self._mirror.peek(ask)
        if said is None:
            said = self._mirror.change(lambda machine, now: (ask(machine, now), False))
        return said


@final
class SharedBudget:
    """
    A `Budget` for all processes.

    A retry that waits for its start counts for a minute at most, or for a window, if that is
    longer: its process may be gone.
    """

    def __init__(self, policy: BudgetPolicy, cell: Cell, times: Times) -> None:
        self._mirror = _Mirror(Budget(policy, max(policy.window, _HELD)), cell, times)

    def first_call(self, now: float) -> None:
        """Count a first call."""
        self._mirror.tell(lambda machine, now: machine.first_call(now))

    def reserve(self, now: float) -> float | None:
        """Ask for one retry; see `Budget.reserve`."""

        def ask(machine: Budget, now: float) -> tuple[float | None, bool]:
            answer = machine.reserve(now)
            return answer, answer == 0.0

        return self._mirror.change(ask)

    def spend(self, now: float) -> None:
        """The retry that was reserved starts."""
        self._mirror.tell(lambda machine, now: machine.spend(now))

    def give_back(self) -> None:
        """The retry that was reserved won't be made."""
        self._mirror.tell(lambda machine, now: machine.give_back())


AnyBreaker: TypeAlias = Breaker | SharedBreaker
AnyBucket: TypeAlias = Bucket | SharedBucket
AnyBudget: TypeAlias = Budget | SharedBudget
