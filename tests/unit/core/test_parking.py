"""How calls wait, and what they know of the time."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from freezegun import freeze_time

from daglite._clock import SystemClock
from daglite.callbacks import CallParked
from daglite.core.call import Call, Target
from daglite.core.kernel import Kernel
from daglite.core.parking import park
from daglite.core.run import Listeners, Run
from daglite.exceptions import PolicyError
from daglite.testing import RecordedEvents, VirtualClock, policies_off


class Crowd:
    """Counts who is parked."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.reasons: list[str] = []

    def parked(self, by: int, reason: str) -> None:
        self.now += by
        self.reasons.append(reason)
        self.most = max(self.most, self.now)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(start=100)


@pytest.fixture
def events() -> RecordedEvents:
    return RecordedEvents()


@pytest.fixture
def call(clock: VirtualClock, events: RecordedEvents) -> Call:
    run = Run("r", Kernel(clock), Listeners([events]), seed="r")
    return Call(run, Target("work", print), 7, 0, 3, (), ())


@pytest.mark.parametrize("crowd", [None, Crowd()])
def test_parking(
    call: Call, clock: VirtualClock, events: RecordedEvents, crowd: Crowd | None
) -> None:
    """It takes its time, is told, and its map knows of it as long as it lasts."""
    call.crowd = crowd
    call.run.kernel.run(park(call, 30, "retry"))
    assert clock.now() == 130
    assert events.events == [CallParked("r", 0, 7, "work", 3, 1, 30, "retry")]
    if crowd is not None:
        assert (crowd.now, crowd.most) == (0, 1)
        assert crowd.reasons == ["retry", "retry"]


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_wait(call: Call, clock: VirtualClock, events: RecordedEvents, seconds: float) -> None:
    """Nothing happens, and nothing is told."""
    call.run.kernel.run(park(call, seconds, "retry"))
    assert (clock.now(), events.events) == (100, [])


def test_a_cancelled_wait_gives_its_place_back(call: Call, clock: VirtualClock) -> None:
    """The map's count is right again, whatever ended the wait."""
    crowd = call.crowd = Crowd()
    kernel = call.run.kernel

    async def limited() -> bool:
        with kernel.deadline(5) as scope:
            await park(call, 30, "retry")
        return scope.expired

    assert kernel.run(limited()) is True
    assert (clock.now(), crowd.now, crowd.most) == (105, 0, 1)


def test_a_middleware_parks(call: Call, clock: VirtualClock, events: RecordedEvents) -> None:
    """By a method of its call: the same wait, and the same event."""
    crowd = call.crowd = Crowd()
    call.run.kernel.run(call.park(30, "office hours"))
    assert (clock.now(), crowd.now, crowd.most) == (130, 0, 1)
    assert events.events == [CallParked("r", 0, 7, "work", 3, 1, 30, "office hours")]


@pytest.mark.parametrize("seconds", [0, -1.5])
def test_a_middleware_need_not_wait(
    call: Call, clock: VirtualClock, events: RecordedEvents, seconds: float
) -> None:
    """What is over already isn't waited for."""
    call.run.kernel.run(call.park(seconds, "nothing"))
    assert (clock.now(), events.events) == (100, [])


@pytest.mark.parametrize(
    "seconds", [float("inf"), float("nan"), "30s", None, timedelta(seconds=1)], ids=repr
)
def test_waits_have_an_end(call: Call, seconds: Any) -> None:
    """A wait without one, or no number of seconds, is refused."""
    with pytest.raises(PolicyError, match=r"call\.park takes a number of seconds, not "):
        call.run.kernel.run(call.park(seconds, "ever"))


def test_others_have_their_turn_without_waits(call: Call, clock: VirtualClock) -> None:
    """Within `policies_off` no time passes, but what a middleware looks out for may come."""
    kernel, came = call.run.kernel, []

    async def polls() -> int:
        polled = 0
        while not came:
            await call.park(60, "an answer")
            polled += 1
        return polled

    with policies_off():
        polling = kernel.spawn(polls())
        kernel.post(came.append, 1)
        while not polling.done:
            kernel.turn()
    assert (polling.value, clock.now()) == (1, 100)


def test_a_call_knows_the_time(call: Call, clock: VirtualClock) -> None:
    """That of its run, and the date on a virtual clock is what that says."""
    assert (call.now(), call.wall_time().timestamp()) == (100, 100)
    clock.advance(0.25)
    assert call.now() == 100.25
    assert call.wall_time() == datetime(1970, 1, 1, 0, 1, 40, 250_000, timezone.utc)


def test_the_date_of_the_system() -> None:
    """On the system's clock it is the system's date; the two clocks differ."""
    run = Run("r", Kernel(SystemClock()), Listeners([]), seed="r")
    call = Call(run, Target("work", print), 7, 0, None, (), ())
    with freeze_time("2024-03-02 20:15", real_asyncio=True):
        assert call.wall_time() == datetime(2024, 3, 2, 20, 15, tzinfo=timezone.utc)
    before = time.monotonic()
    assert before <= call.now() <= time.monotonic()
