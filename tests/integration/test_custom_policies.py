"""A policy of a user, from end to end and everywhere that it can stand, in virtual time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from daglite import (
    Call,
    Next,
    Outcome,
    PolicySet,
    RetryPolicy,
    ThreadBackend,
    TimeoutPolicy,
    evaluate,
    evaluate_async,
    explain,
    protect,
    task,
)
from daglite.callbacks import CallParked
from daglite.exceptions import ExecutionError, TaskTimeoutError
from daglite.testing import Fails, RecordedEvents, ScriptedBackend, Takes, VirtualClock
from tests.unit.office_hours import OfficeHours

BERLIN = ZoneInfo("Europe/Berlin")
SATURDAY = datetime(2024, 3, 2, 12, 0, tzinfo=BERLIN)
MONDAY_9 = datetime(2024, 3, 4, 9, 0, tzinfo=BERLIN)
MONDAY_11 = datetime(2024, 3, 4, 11, 0, tzinfo=BERLIN)
TUESDAY_9 = datetime(2024, 3, 5, 9, 0, tzinfo=BERLIN)
HOUR = 3600.0

Body = Callable[[], Any]


def on_sequential(body: Body, clock: VirtualClock, **options: Any) -> Any:
    with evaluate.context(clock=clock) as ctx:
        return ctx.evaluate(task(body, name="work", **options).bind())


def on_threads(body: Body, clock: VirtualClock, **options: Any) -> Any:
    with evaluate.context(clock=clock, default_backend="threading") as ctx:
        return ctx.evaluate(task(body, name="work", **options).bind())


def by_evaluate_async(body: Body, clock: VirtualClock, **options: Any) -> Any:
    async def main() -> Any:
        with evaluate.context(clock=clock) as ctx:
            return await ctx.evaluate_async(task(body, name="work", **options).bind())

    return asyncio.run(main())


def by_protect(body: Body, clock: VirtualClock, **options: Any) -> Any:
    return protect(body, name="work", clock=clock, **options)()


def by_async_protect(body: Body, clock: VirtualClock, **options: Any) -> Any:
    async def work() -> Any:
        return body()

    return asyncio.run(protect(work, name="work", clock=clock, **options)())


@pytest.fixture(
    params=[on_sequential, on_threads, by_evaluate_async, by_protect, by_async_protect],
    ids=lambda way: way.__name__,
)
def way(request: pytest.FixtureRequest) -> Callable[..., Any]:
    way: Callable[..., Any] = request.param
    return way


@pytest.fixture(params=["around_call", "around_attempt"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def at(moment: datetime) -> VirtualClock:
    return VirtualClock(moment.timestamp())


def date_of(clock: VirtualClock) -> datetime:
    return datetime.fromtimestamp(clock.now(), BERLIN)


@pytest.mark.parametrize(
    ("moment", "opening"),
    [
        (SATURDAY, MONDAY_9),
        (MONDAY_9, MONDAY_9),
        (MONDAY_11, MONDAY_11),
        (MONDAY_9.replace(hour=3), MONDAY_9),
        (MONDAY_9.replace(hour=17), TUESDAY_9),
        # The nights in which summer begins and ends.
        (datetime(2024, 3, 29, 17, tzinfo=BERLIN), datetime(2024, 4, 1, 9, tzinfo=BERLIN)),
        (datetime(2024, 10, 25, 17, tzinfo=BERLIN), datetime(2024, 10, 28, 9, tzinfo=BERLIN)),
    ],
)
def test_it_waits_until_the_office_is_open(
    way: Callable[..., Any], place: str, moment: datetime, opening: datetime
) -> None:
    """To the second, wherever it stands and whoever runs it."""
    clock = at(moment)
    policy = OfficeHours()
    assert way(lambda: date_of(clock), clock, **{place: policy}) == opening
    assert clock.now() - moment.timestamp() <= policy.longest_wait


def test_each_attempt_is_asked_for(way: Callable[..., Any]) -> None:
    """Around the attempt, a retry waits for the morning; around the call, it doesn't."""
    retry = RetryPolicy(3, "constant", delay=4 * HOUR, max_delay=4 * HOUR, jitter="none")
    for place, last in [("around_attempt", TUESDAY_9), ("around_call", MONDAY_9.replace(hour=17))]:
        clock = at(MONDAY_9)
        tries: list[datetime] = []

        def work(clock: VirtualClock = clock, tries: list[datetime] = tries) -> int:
            tries.append(date_of(clock))
            if len(tries) < 3:
                raise ConnectionError("busy")
            return len(tries)

        assert way(work, clock, retry=retry, **{place: OfficeHours()}) == 3
        assert tries == [MONDAY_9, MONDAY_9.replace(hour=13), last]


def test_a_total_ends_the_wait(way: Callable[..., Any]) -> None:
    """Around the attempt it counts, and nothing has run."""
    clock = at(SATURDAY)
    calls: list[int] = []
    timeout = TimeoutPolicy(total=HOUR)
    with pytest.raises(TaskTimeoutError, match="total") as caught:
        way(lambda: calls.append(1), clock, timeout=timeout, around_attempt=OfficeHours())
    assert clock.now() == SATURDAY.timestamp() + HOUR
    assert ([each.started for each in caught.value.attempts], calls) == ([None], [])


def test_a_total_begins_after_the_wait(way: Callable[..., Any]) -> None:
    """Around the call it doesn't count."""
    clock = at(SATURDAY)
    timeout = TimeoutPolicy(total=HOUR)
    assert way(lambda: 1, clock, timeout=timeout, around_call=OfficeHours()) == 1
    assert date_of(clock) == MONDAY_9


def test_what_a_middleware_raises_is_an_error_of_the_call(
    way: Callable[..., Any], place: str
) -> None:
    """It has the history, and around the attempt it is tried again."""
    clock = at(MONDAY_9)

    async def fails(call: Call, call_next: Next) -> Outcome:
        await call.park(5, "a ticket")
        raise ConnectionError("no ticket")

    with pytest.raises(ConnectionError, match=r"'work' failed.*: ConnectionError: no t") as caught:
        way(lambda: 1, clock, retry=RetryPolicy(2, "none"), **{place: fails})
    assert isinstance(caught.value, ExecutionError)
    numbers = [1, 2, 3] if place == "around_attempt" else [1]
    assert [each.number for each in caught.value.attempts] == numbers
    assert clock.now() == MONDAY_9.timestamp() + 5 * len(numbers)


def test_in_a_set(place: str) -> None:
    """Of a run's policies, with what `explain` says of it, and what the events tell."""
    clock, events = at(SATURDAY), RecordedEvents()
    backend = ScriptedBackend(clock, slots=1)
    work = task(lambda x: x, name="work").with_options(timeout=TimeoutPolicy(10, grace=0))
    policies = PolicySet.model_validate_json(
        PolicySet(**{place: OfficeHours(opens=8)}).model_dump_json()
    )
    calls = work.extend(x=[1, 2, 3])
    with evaluate.context(clock=clock, default_backend=backend, callbacks=[events]) as ctx:
        assert ctx.evaluate(calls, policies=policies) == [1, 2, 3]
    waited = MONDAY_9.timestamp() - HOUR - SATURDAY.timestamp()
    parked = [(each.seconds, each.reason, each.element) for each in events.of(CallParked)]
    assert parked == [(waited, "office hours", element) for element in range(3)]
    explained = explain(calls, policies=policies, default_backend=backend)
    assert explained.tasks[0].bounds.call.seconds == OfficeHours(opens=8).longest_wait + 10
    assert waited <= explained.bound.seconds
    assert f"{place} 2d16h of each" in explained


@pytest.mark.parametrize("backend", ["sequential", ThreadBackend(1)])
def test_who_waits_holds_nothing(place: str, backend: Any) -> None:
    """Everything else goes on meanwhile, though there is one thread for all."""
    clock = at(SATURDAY)
    done: list[tuple[str, datetime]] = []

    def note(name: str) -> None:
        done.append((name, date_of(clock)))

    waits = task(note, name="waits").with_options(**{place: OfficeHours()})
    with evaluate.context(clock=clock, default_backend=backend) as ctx:
        ctx.evaluate([waits.bind("waited"), task(note, name="works").bind("worked")])
    assert done == [("worked", SATURDAY), ("waited", MONDAY_9)]


def test_a_failure_elsewhere_ends_the_wait(place: str) -> None:
    """The run is over at once, and the policy's turn to clean up comes."""
    clock = VirtualClock()
    ended: list[float] = []

    async def parks(call: Call, call_next: Next) -> Outcome:
        try:
            await call.park(HOUR, "an hour")
        finally:
            ended.append(call.now())
        return await call_next(call)

    backend = ScriptedBackend(clock, {"fails": Fails(OSError("down"), after=3), "waits": Takes()})
    waits = task(lambda: 1, name="waits").with_options(**{place: parks})
    with (
        evaluate.context(clock=clock, default_backend=backend) as ctx,
        pytest.raises(OSError, match="down"),
    ):
        ctx.evaluate([waits.bind(), task(lambda: 1, name="fails").bind()])
    assert ended == [3]


class Parks:
    """Says when it begins to wait, and when it has ended that."""

    def __init__(self, began: Callable[[], Any]) -> None:
        self.began = began
        self.ended = threading.Event()

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        self.began()
        try:
            await call.park(HOUR, "an hour")
        finally:
            self.ended.set()
        return await call_next(call)


@pytest.mark.parametrize("kind", ["evaluate_async", "protect"])
def test_cancellation_ends_the_wait(place: str, kind: str) -> None:
    """On the system's clock: whoever awaits it cancels it while it is parked."""
    worked: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        parks = Parks(lambda: loop.call_soon_threadsafe(running.cancel))
        options: Any = {place: parks}

        async def work() -> None:
            worked.append(1)

        if kind == "protect":
            running = asyncio.ensure_future(protect(work, **options)())
        else:
            running = asyncio.ensure_future(evaluate_async(task(work, **options).bind()))
        with pytest.raises(asyncio.CancelledError):
            await running
        assert parks.ended.wait(5)

    asyncio.run(main())
    assert worked == []


def test_a_wait_in_a_task_ends_with_the_task(place: str) -> None:
    """Of a protected function there: the task's timeout ends its wait, on the system's clock."""
    parks = Parks(lambda: None)
    options: Any = {place: parks}
    made = task(protect(lambda: 1, name="inner", **options), name="outer", timeout=0.05)
    with pytest.raises(TaskTimeoutError):
        evaluate(made.bind(), default_backend="threading")
    assert parks.ended.wait(5)
