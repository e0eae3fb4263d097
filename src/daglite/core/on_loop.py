"""
One call of an async function, with the chain around it, in a task of the caller's event loop.

    caller's task ─► OnLoop.carry_out ─► kernel steps the chain ─► make_on_loop
                          ▲                                             │
                          └── awaits the function in place ◄────────────┤ untimed
                          └── awaits news: timer · message · end of ◄───┘ timed: a task of its own

The kernel is the one that runs graphs, but nobody waits in it: where it would, the caller's task
awaits a future that a timer of the loop, a message or the end of an attempt sets.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, final

from daglite._clock import Clock, VirtualClock
from daglite.core.call import Call, Outcome
from daglite.core.kernel import Activity, Cancelled, Completion, Kernel
from daglite.core.protocols import Next

__all__ = ["Attempt", "OnLoop", "make_on_loop"]

_under_way: dict[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]] = {}
"""Attempts that have a task: the loop itself holds tasks only weakly."""


def _held(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop) -> None:
    there = _under_way.get(loop)
    if there is None:
        # What a loop has left behind when it was closed never ends.
        for other in [each for each in tuple(_under_way) if each.is_closed()]:
            _under_way.pop(other, None)
        there = _under_way[loop] = set()
    there.add(task)


def _over(task: asyncio.Task[Any]) -> None:
    loop = task.get_loop()
    there = _under_way.get(loop)
    if there is not None:
        there.discard(task)
        if not there:
            _under_way.pop(loop, None)


async def make_on_loop(call: Call) -> Outcome:
    """Make *call* on the event loop of its run: the end of a chain."""
    before = call.done_before
    if before is not None:
        call.done_before = None
        return before
    on_loop: OnLoop = call.run.on_loop
    return await on_loop.make(call)


@final
class _Inbox(SimpleQueue[Any]):
    """Wakes somebody on the loop when a message comes, from whatever thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self._wake)


@final
class Attempt:
    """
    An attempt of an async function that may run out of time, in a task of its own.

    Args:
        make: Makes what is awaited.
        now: Tells the time.

    Attributes:
        started: When it began.
    """

    __slots__ = ("_news", "_now", "_on_end", "_outcome", "started", "task")

    def __init__(self, make: Callable[[], Awaitable[Any]], now: Callable[[], float]) -> None:
        self._now = now
        self.started = now()
        self._on_end: Callable[[Outcome], None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._outcome: Outcome | None = None
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self._made(make))
        _held(self.task, loop)
        self.task.add_done_callback(self._ended)

    async def within(self, limit: float) -> Outcome | None:
        """
        Wait *limit* seconds for its outcome; None: it is still under way.

        Raises:
            asyncio.CancelledError: The caller's task was cancelled; so is the attempt.
        """
        loop, until = asyncio.get_running_loop(), self.started + limit
        try:
            while self._outcome is None and (left := until - self._now()) > 0:
                self._news = loop.create_future()
                timer = loop.call_later(left, _set, self._news)
                try:
                    await self._news
                finally:
                    timer.cancel()
        except GeneratorExit:
            # Its loop is closed, and nothing is awaited any more.
            raise
        except BaseException:
            await _end(self.task)
            raise
        # Not kept: its error leads back to this attempt.
        outcome, self._outcome = self._outcome, None
        return outcome

    async def _made(self, make: Callable[[], Awaitable[Any]]) -> None:
        try:
            value = await make()
        except Exception as error:
            outcome = Outcome.of_failure(error, self.started, self._now())
        except BaseException:
            # The task keeps its cancellation, which leads to this frame, and so back to the task.
            del self
            raise
        else:
            outcome = Outcome(value, None, self.started, self._now() - self.started)
        # Not by a callback, for which the loop would have to turn once more.
        try:
            self._tell(outcome)
        finally:
            # Its error leads back to this frame.
            del outcome

    def _ended(self, task: asyncio.Task[None]) -> None:
        _over(task)
        # Asked for in any case, or the loop would say that nobody did.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._tell(Outcome.of_failure(error, self.started, self._now()))

    def hand_to(self, on_end: Callable[[Outcome], None]) -> None:
        """Have *on_end* take the outcome: at once, if it is there already."""
        self._on_end = on_end
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            on_end(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if self._on_end is not None:
            self._on_end(outcome)
            return
        # Where tasks start eagerly nobody waits yet.
        self._outcome = outcome
        if self._news is not None:
            _set(self._news)


def _set(news: asyncio.Future[None]) -> None:
    if not news.done():
        news.set_result(None)


async def _end(task: asyncio.Task[Any]) -> None:
    """As for a plain call: whoever is cancelled ends after what it waits for."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])


@final
class OnLoop:
    """
    Carries out one call on the running event loop.

    An untimed attempt is awaited in the caller's task, like a plain call.  One that may run out
    of time is a task of its own, for it must be cancelled alone.

    Args:
        clock: Tells the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox = _Inbox(self._loop, self._wake)
        self.kernel = Kernel(clock, self._inbox)
        self._virtual = clock if isinstance(clock, VirtualClock) else None
        self._news: asyncio.Future[None] | None = None
        self._asked: tuple[Call, Completion[Outcome]] | None = None
        self._task: asyncio.Task[Any] | None = None

    async def carry_out(self, enter: Next, call: Call) -> Outcome:
        """
        Send *call* through its chain.

        Raises:
            asyncio.CancelledError: The caller's task was cancelled, or the function raised it.
        """
        kernel = self.kernel
        activity = kernel.spawn(_through(enter, call))
        try:
            while not activity.done:
                asked, self._asked = self._asked, None
                if asked is None:
                    await self._until_news()
                else:
                    await self._in_place(*asked)
                kernel.turn(block=False)
        finally:
            if not activity.done:
                await self._give_up(activity)
            kernel.end()
            # Its cancellation leads to what the attempt was given.
            self._task = None
        if activity.error is not None:
            return Outcome(error=activity.error)
        outcome = activity.value
        # What the call was waited for by would lead from its error back to the call.
        del activity.value
        return outcome

    async def _give_up(self, activity: Activity[Outcome]) -> None:
        self.kernel.cancel(activity)
        self.kernel.turn(block=False)
        if self._task is not None:
            await _end(self._task)

    async def make(self, call: Call) -> Outcome:
        """Make *call*; on the kernel, as all of the chain."""
        if not (call.begun or call.may_start()):
            return Outcome.turned_away()
        if not call.target.timed:
            arrival: Completion[Outcome] = Completion(self.kernel)
            self._asked = call, arrival
            return await arrival
        arrival = call.waiter if call.begun else self._begin(call)
        call.begun, task = False, self._task
        if arrival.done:
            # A task that has started eagerly, and ended so.
            return arrival.value
        try:
            return await arrival
        except Cancelled:
            call.cancelled = True
            if call.target.on_expiry != "abandon" and task is not None:
                task.cancel()
            raise

    def adopt(self, call: Call, attempt: Attempt) -> None:
        """Have *call* be what *attempt*, which is under way, is an attempt of."""
        call.run.began = attempt.started
        call.begun = True
        self._follow(call, attempt)

    def _begin(self, call: Call) -> Completion[Outcome]:
        return self._follow(call, Attempt(call.invoke, self.kernel.now))

    def _follow(self, call: Call, attempt: Attempt) -> Completion[Outcome]:
        arrival: Completion[Outcome] = Completion(self.kernel)
        call.waiter, call.started = arrival, attempt.started
        self.kernel.outstanding += 1
        self._task = attempt.task
        attempt.hand_to(partial(self._came, call))
        return arrival

    async def _in_place(self, call: Call, arrival: Completion[Outcome]) -> None:
        now = self.kernel.now
        call.started = started = now()
        try:
            value = await call.invoke()
        except Exception as error:
            arrival.set(Outcome.of_failure(error, started, now()))
        else:
            arrival.set(Outcome(value, None, started, now() - started))
        finally:
            # The error leads back to this frame.
            del call, arrival

    def _came(self, call: Call, outcome: Outcome) -> None:
        self.kernel.outstanding -= 1
        waiter, call.waiter = call.waiter, None
        if not call.cancelled:
            waiter.set(outcome)
            self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _until_news(self) -> None:
        """Wait until it makes sense for the kernel to take a turn."""
        if not self._inbox.empty():
            return
        moment = self.kernel.next_moment()
        if self._virtual is not None and moment is not None and not self.kernel.outstanding:
            await asyncio.sleep(0)
            message = self._virtual.wait(self._inbox, moment, 0)
            if message is not None:
                message[0](*message[1])
            return
        self._news = self._loop.create_future()
        timer = None
        if moment is not None:
            timer = self._loop.call_later(max(moment - self.kernel.now(), 0.0), self._wake)
        try:
            await self._news
        finally:
            self._news = None
            if timer is not None:
                timer.cancel()


async def _through(enter: Next, call: Call) -> Outcome:
    return await enter(call)
