"""Activities, deadlines and timers, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from daglite._clock import VirtualClock
from daglite.core.kernel import Cancelled, Completion, Kernel
from daglite.exceptions import PolicyError


@pytest.fixture
def kernel():
    return Kernel(VirtualClock())


def test_sleep_takes_virtual_time_only(kernel):
    """A day passes at once."""

    async def main():
        await kernel.sleep(86_400)
        return kernel.now()

    assert kernel.run(main()) == 86_400


@pytest.mark.parametrize(
    ("inner", "outer", "expired"),
    [(1, 5, (True, False)), (5, 1, (False, True)), (3, 3, (False, True))],
)
def test_the_earlier_of_two_nested_deadlines_ends_the_block(kernel, inner, outer, expired):
    """Each scope swallows its own cancellation and no other's."""

    async def main():
        with kernel.deadline(outer) as wide:
            with kernel.deadline(inner) as narrow:
                await kernel.sleep(100)
            await kernel.sleep(0)
        return narrow.expired, wide.expired, kernel.now()

    assert kernel.run(main()) == (*expired, min(inner, outer))


def test_a_timer_that_lost_wakes_nobody(kernel):
    """The sleep that a deadline has cut off doesn't end a later one."""

    async def main():
        with kernel.deadline(1):
            await kernel.sleep(10)
        await kernel.sleep(100)
        return kernel.now()

    assert kernel.run(main()) == 101


def test_two_deadlines_that_pass_in_one_turn(kernel):
    """Each ends its own block: the wider one doesn't wait for what comes after the narrower."""

    async def main():
        kernel.call_later(1, lambda: kernel.clock.advance(9))
        with kernel.deadline(5) as wide:
            with kernel.deadline(3) as narrow:
                await kernel.sleep(100)
            await kernel.sleep(100)
        return narrow.expired, wide.expired, kernel.now()

    assert kernel.run(main()) == (True, True, 10)


def test_equal_timers_keep_their_order(kernel):
    """Those for the same moment go off in the order in which they were set."""
    fired = []

    async def main():
        for number in range(50):
            kernel.call_later(1, lambda number=number: fired.append(number))
        await kernel.sleep(1)

    kernel.run(main())
    assert fired == list(range(50))


def test_messages_that_never_end_hold_no_timer_up(kernel):
    """Who posts a message in every message gets one turn after the other."""
    messages = 0

    def again():
        nonlocal messages
        messages += 1
        kernel.clock.advance(1)
        if messages < 100:
            kernel.post(again)

    async def main():
        kernel.post(again)
        await kernel.sleep(5)
        return messages

    assert kernel.run(main()) <= 6


def test_a_message_that_came_in_time_beats_the_deadline(kernel):
    """What arrived before the kernel looked at its timers is not late."""

    async def main():
        arrival: Completion[str] = Completion(kernel)

        def busy():
            # The kernel is held up past the deadline while the message lies in its inbox.
            kernel.post(arrival.set, "here")
            kernel.clock.advance(10)

        kernel.call_later(1, busy)
        kernel.call_later(2, lambda: None)
        with kernel.deadline(20) as far, kernel.deadline(11.5):
            value = await arrival
        return value, far.expired

    assert kernel.run(main()) == ("here", False)


def test_messages_wake_before_timers_fire(kernel):
    """With both due in the same turn the message wins."""

    async def main():
        arrival: Completion[str] = Completion(kernel)
        with kernel.deadline(5) as scope:
            kernel.post(arrival.set, "here")
            kernel.clock.advance(6)
            value = await arrival
        return value, scope.expired

    assert kernel.run(main()) == ("here", False)


def test_cancel_runs_finally_blocks(kernel):
    """A cancelled activity ends with `Cancelled`, and cleans up."""
    cleaned = []

    async def work():
        try:
            await kernel.sleep(100)
        finally:
            cleaned.append(kernel.now())

    async def main():
        activity = kernel.spawn(work())
        await kernel.sleep(1)
        kernel.cancel(activity)
        ended = await kernel.wait(activity)
        kernel.cancel(activity)
        return ended.error

    assert isinstance(kernel.run(main()), Cancelled)
    assert cleaned == [1]


def test_first_of_gives_the_faster_one(kernel):
    """The others go on."""

    async def after(seconds):
        await kernel.sleep(seconds)
        return seconds

    async def main():
        slow, fast = kernel.spawn(after(9)), kernel.spawn(after(2))
        first = await kernel.first_of(slow, fast)
        assert first is fast
        assert not slow.done
        return (await kernel.wait(slow)).value

    assert kernel.run(main()) == 9


def test_a_moving_deadline_asks_again(kernel):
    """It ends the block only when nothing remains; None stops asking."""
    asked = iter([4.0, 0.0])

    async def main():
        with kernel.moving_deadline(lambda: next(asked), first=1) as scope:
            await kernel.sleep(100)
        assert (scope.expired, kernel.now()) == (True, 5)
        with kernel.moving_deadline(lambda: None, first=1) as scope:
            await kernel.sleep(100)
        return scope.expired

    assert kernel.run(main()) is False


def test_forgotten_timers_are_thrown_away(kernel):
    """Thousands of deadlines that were met leave no heap behind."""
    timers = [kernel.call_later(1_000, lambda: None) for _ in range(5_000)]
    for timer in timers:
        kernel.forget(timer)
        kernel.forget(timer)
    assert len(kernel._timers) < 1_100


def test_errors_come_out_of_run(kernel):
    """What the main coroutine raises is raised; outside of it no activity is current."""

    async def main():
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        kernel.run(main())
    with pytest.raises(RuntimeError, match="no activity"):
        _ = kernel.current


def test_what_asyncio_waits_for_is_refused(kernel):
    """Where it is awaited, as often as that is tried; the loop goes on."""
    refused = []

    async def main():
        for _ in range(2):
            try:
                await asyncio.sleep(0)
            except PolicyError as error:
                refused.append(str(error))
        await kernel.sleep(3)
        await asyncio.sleep(0)

    with pytest.raises(PolicyError, match=r"await call\.park\(seconds, reason\)"):
        kernel.run(main())
    assert len(refused) == 2
    assert kernel.now() == 3
