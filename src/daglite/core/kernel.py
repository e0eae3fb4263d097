"""
The kernel: steps coroutines on the caller's thread, with timers and one inbox.

    spawn ─► Activity ─► send() ─► coroutine runs until it waits
                 ▲                          │
                 │                 Sleep · Completion · Activity
              ready ◄── timers (heap) ◄─────┤
                 ▲                          │
                 └── inbox (SimpleQueue) ◄──┘── other threads: post(receive, *message)

Nothing here knows of tasks or policies.
An activity runs until it waits; what it waits for puts it back among the ready ones.
Messages, and those whom they wake, come before timers, so a call that ended in time is never
said to be late.
A cancellation is thrown in at the point where the coroutine waits; only the `deadline`
scope it came from may swallow it.

Source: the vocabulary is that of trio's nurseries and cancel scopes, reduced to what a
scheduler of calls needs.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar, final

from daglite._clock import Clock
from daglite.exceptions import PolicyError

__all__ = ["Activity", "Cancelled", "Completion", "Deadline", "Kernel", "Timer"]

T = TypeVar("T")

_alone = nullcontext()

_COMPACT_ABOVE = 512
"""Cancelled timers in the heap before it is rebuilt."""


@final
class Cancelled(BaseException):
    """Thrown into an activity that shall end; `scope` is the deadline it came from, if any."""

    def __init__(self, scope: Deadline | None) -> None:
        super().__init__()
        self.scope = scope


@final
class Timer:
    """An entry of the kernel's heap."""

    __slots__ = ("action", "order", "when")

    def __init__(self, when: float, order: int, action: Callable[[], None]) -> None:
        self.when = when
        self.order = order
        self.action: Callable[[], None] | None = action

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self.order) < (other.when, other.order)


class _Awaitable(Generic[T]):
    """Something an activity can wait for: the kernel calls `arm` with whom to wake."""

    __slots__ = ()

    def arm(self, kernel: Kernel, waiter: Activity[Any], turn: int) -> None:
        raise NotImplementedError

    def __await__(self) -> Generator[_Awaitable[T], T, T]:
        return (yield self)


def _foreign(awaited: object) -> PolicyError:
    return PolicyError(
        f"{awaited!r:.60} is for asyncio, which doesn't run this code; "
        "a middleware waits with: await call.park(seconds, reason)"
    )


@final
class _Sleep(_Awaitable[None]):
    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def arm(self, kernel: Kernel, waiter: Activity[Any], turn: int) -> None:
        kernel.call_later(self.seconds, lambda: kernel.wake(waiter, turn, None))


@final
class Completion(_Awaitable[T]):
    """A value that comes later; set once, from the kernel's thread; later ones are dropped."""

    __slots__ = ("_kernel", "_waiters", "done", "value")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._waiters: list[tuple[Activity[Any], int]] = []
        self.done = False
        self.value: T

    def set(self, value: T) -> None:
        if self.done:
            return
        self.done = True
        self.value = value
        for waiter, turn in self._waiters:
            self._kernel.wake(waiter, turn, value)
        self._waiters.clear()

    def arm(self, kernel: Kernel, waiter: Activity[Any], turn: int) -> None:
        if self.done:
            kernel.wake(waiter, turn, self.value)
        else:
            self._waiters.append((waiter, turn))


@final
class Activity(Generic[T]):
    """A coroutine under way. Read `value` or `error` when `done`."""

    __slots__ = ("_cancels", "_coro", "_ended", "_on_done", "_turn", "done", "error", "value")

    def __init__(
        self,
        coro: Coroutine[Any, Any, T],
        on_done: Callable[[Activity[T]], None] | None,
    ) -> None:
        self._coro = coro
        self._on_done = on_done
        # Each time it waits an activity takes a new turn, so that a wake-up for an
        # earlier wait (a timer that lost the race) finds nobody.
        self._turn = 0
        # Cancellations that haven't been thrown yet, oldest first.
        self._cancels: list[Deadline | None] = []
        self.done = False
        self.value: T
        self.error: BaseException | None = None
        self._ended: Completion[Activity[T]] | None = None

    def ended(self, kernel: Kernel) -> Completion[Activity[T]]:
        """Something to wait for, which is set when this has ended."""
        if self._ended is None:
            self._ended = Completion(kernel)
            if self.done:
                self._ended.set(self)
        return self._ended


@final
class Deadline:
    """
    A scope that ends what runs in it after some time; see `Kernel.deadline`.

    `expired` tells, after the block, whether it did.
    """

    __slots__ = ("_activity", "_kernel", "_when", "_timer", "expired")

    def __init__(self, kernel: Kernel, when: Callable[[], float | None], first: float) -> None:
        self._kernel = kernel
        self._when = when
        self.expired = False
        self._activity = kernel.current
        self._timer = kernel.call_later(first, self._look)

    def _look(self) -> None:
        remaining = self._when()
        if remaining is not None and remaining > 0:
            self._timer = self._kernel.call_later(remaining, self._look)
        elif remaining is not None:
            self._kernel.cancel(self._activity, self)

    def __enter__(self) -> Deadline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._kernel.forget(self._timer)
        if isinstance(error, Cancelled) and error.scope is self:
            self.expired = True
            return True
        # It fired, but the block ended before it was told.
        self._kernel.uncancel(self._activity, self)
        return False


@final
class Kernel:
    """
    One loop, for one run, on one thread.

    Args:
        clock: Tells the time and waits.
        inbox: Where other threads leave messages; None: a new one.
    """

    def __init__(self, clock: Clock, inbox: SimpleQueue[Any] | None = None) -> None:
        self._clock = clock
        # Read for each call: not through a method of our own.
        self.now: Callable[[], float] = clock.now
        """Seconds on the kernel's clock."""
        self._inbox: SimpleQueue[Any] = SimpleQueue() if inbox is None else inbox
        self._ready: deque[tuple[Activity[Any], int, Any]] = deque()
        self._timers: list[Timer] = []
        self._forgotten = 0
        self._order = count()
        self._current: Activity[Any] | None = None
        self.while_waiting: Callable[[], AbstractContextManager[None]] | None = None
        """Entered while the thread only waits; None: nothing."""
        self.outstanding = 0
        """Calls under way elsewhere, each of which will post a message."""

    @property
    def current(self) -> Activity[Any]:
        """The activity that is being stepped."""
        if self._current is None:
            raise RuntimeError("no activity is running")
        return self._current

    @property
    def clock(self) -> Clock:
        """What the kernel takes its time from."""
        return self._clock

    def post(self, receive: Callable[..., None], *message: Any) -> None:
        """From any thread: have ``receive(*message)`` called on the kernel's thread."""
        self._inbox.put((receive, message))

    # -- activities ---------------------------------------------------------------

    def spawn(
        self,
        coro: Coroutine[Any, Any, T],
        on_done: Callable[[Activity[T]], None] | None = None,
    ) -> Activity[T]:
        """
        Start *coro* and run it until it first waits.

        Args:
            coro: What to run.
            on_done: Called with the activity when it has ended, in whatever way.
        """
        activity = Activity(coro, on_done)
        self._step(activity, None)
        return activity

    def sleep(self, seconds: float) -> _Awaitable[None]:
        """Wait for *seconds* on the kernel's clock."""
        return _Sleep(seconds)

    async def wait(self, activity: Activity[T]) -> Activity[T]:
        """Wait until *activity* has ended; its error isn't raised here."""
        return await activity.ended(self)

    async def first_of(self, *activities: Activity[T]) -> Activity[T]:
        """Wait until one of *activities* has ended, and return that one."""
        first: Completion[Activity[T]] = Completion(self)
        watchers = [self.spawn(self._forward(a, first)) for a in activities]
        try:
            return await first
        finally:
            for watcher in watchers:
                self.cancel(watcher)

    async def _forward(self, activity: Activity[T], to: Completion[Activity[T]]) -> None:
        to.set(await activity.ended(self))

    def deadline(self, seconds: float) -> Deadline:
        """End what runs in the ``with`` block after *seconds*; the scope's `expired` tells."""
        end = self.now() + seconds
        return Deadline(self, lambda: end - self.now(), seconds)

    def moving_deadline(self, remaining: Callable[[], float | None], first: float) -> Deadline:
        """
        A deadline whose moment isn't known yet.

        Args:
            remaining: Asked when the timer goes off: seconds still to wait; None stops asking.
            first: Seconds until it is asked first.
        """
        return Deadline(self, remaining, first)

    def cancel(self, activity: Activity[Any], scope: Deadline | None = None) -> None:
        """Throw `Cancelled` into *activity* where it waits; nothing happens if it has ended."""
        if not activity.done:
            activity._cancels.append(scope)
            self.wake(activity, activity._turn, None)

    def uncancel(self, activity: Activity[Any], scope: Deadline) -> None:
        """Take back a cancellation by *scope* that hasn't been thrown yet."""
        if scope in activity._cancels:
            activity._cancels.remove(scope)

    def wake(self, activity: Activity[Any], turn: int, value: Any) -> None:
        """Have *activity* go on with *value*, if it still waits its turn number *turn*."""
        self._ready.append((activity, turn, value))

    def _step(self, activity: Activity[Any], value: Any) -> None:
        outer, self._current = self._current, activity
        activity._turn += 1
        turn = activity._turn
        try:
            if activity._cancels:
                awaited = activity._coro.throw(Cancelled(activity._cancels.pop(0)))
            else:
                awaited = activity._coro.send(value)
            while not isinstance(awaited, _Awaitable):
                awaited = activity._coro.throw(_foreign(awaited))
        except StopIteration as stop:
            activity.value = stop.value
            self._finish(activity)
        except (Exception, Cancelled) as error:
            activity.error = error
            self._finish(activity)
        else:
            awaited.arm(self, activity, turn)
            if activity._cancels:
                self.wake(activity, turn, None)
        finally:
            self._current = outer

    def _finish(self, activity: Activity[Any]) -> None:
        activity.done = True
        if activity._ended is not None:
            activity._ended.set(activity)
        if activity._on_done is not None:
            activity._on_done(activity)

    # -- timers -------------------------------------------------------------------

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Do *action* on the kernel's thread in *seconds*."""
        timer = Timer(self.now() + seconds, next(self._order), action)
        heapq.heappush(self._timers, timer)
        return timer

    def forget(self, timer: Timer) -> None:
        """Don't do what *timer* was for."""
        if timer.action is None:
            return
        timer.action = None
        self._forgotten += 1
        if self._forgotten > _COMPACT_ABOVE and self._forgotten * 2 > len(self._timers):
            self._timers = [t for t in self._timers if t.action is not None]
            heapq.heapify(self._timers)
            self._forgotten = 0

    def next_moment(self) -> float | None:
        """When the next timer goes off; None: there is none."""
        timers = self._timers
        while timers and timers[0].action is None:
            heapq.heappop(timers)
            self._forgotten -= 1
        return timers[0].when if timers else None

    def _fire(self) -> None:
        now = self.now()
        while (moment := self.next_moment()) is not None and moment <= now:
            timer = heapq.heappop(self._timers)
            action, timer.action = timer.action, None
            if action is not None:
                action()

    # -- the loop -----------------------------------------------------------------

    def turn(self, *, block: bool = True, until: float | None = None) -> None:
        """
        Handle what has happened: messages, then timers, each with the activities they wake.

        Args:
            block: Wait for something to happen when nothing has.
            until: Wait no longer than up to this moment; None: as long as it takes.
        """
        inbox = self._inbox
        if block and not self._ready and inbox.empty():
            moment = self.next_moment() if self._timers else None
            if until is not None and (moment is None or until < moment):
                moment = until
            with _alone if self.while_waiting is None else self.while_waiting():
                message = self._clock.wait(inbox, moment, self.outstanding)
            if message is not None:
                message[0](*message[1])
        # No more than have arrived by now, or a fast backend would keep timers waiting.
        for _ in range(inbox.qsize()):
            receive, payload = inbox.get()
            receive(*payload)
        self._step_ready()
        if self._timers:
            self._fire()
            self._step_ready()

    def end(self) -> None:
        """Let go what still waits, though it never takes a turn again: it leads back here."""
        self._timers.clear()
        self._ready.clear()
        self._forgotten = 0

    def _step_ready(self) -> None:
        ready = self._ready
        while ready:
            activity, turn, value = ready.popleft()
            if turn == activity._turn and not activity.done:
                self._step(activity, value)

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run *coro* to its end, and return or raise what it did."""
        activity = self.spawn(coro)
        while not activity.done:
            self.turn()
        if activity.error is not None:
            raise activity.error
        return activity.value
