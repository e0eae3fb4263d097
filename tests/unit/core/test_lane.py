"""One at a time, first come first served."""

from __future__ import annotations

from daglite._clock import VirtualClock
from daglite.core.kernel import Kernel
from daglite.core.lane import Lane


def test_cancelled_waiters_lose_nobody_a_turn():
    """One cancelled in the queue leaves it; one cancelled at its turn hands it on."""
    kernel, lane, seen = Kernel(VirtualClock()), Lane(), []

    async def use(name):
        await lane.enter(kernel)
        seen.append(name)
        await kernel.sleep(1)
        lane.leave()

    async def main():
        first, second, third, fourth = [kernel.spawn(use(i)) for i in range(4)]
        kernel.cancel(second)
        await kernel.wait(second)
        await kernel.wait(first)
        # The third has been given its turn by now, or is about to take it.
        await kernel.wait(third)
        await kernel.wait(fourth)

    kernel.run(main())
    assert seen == [0, 2, 3]
    assert lane.free == 1


def test_a_turn_that_comes_with_a_cancellation_is_passed_on():
    """The lane isn't lost with the one who can't use it any more."""
    kernel, lane = Kernel(VirtualClock()), Lane()

    async def use():
        await lane.enter(kernel)
        lane.leave()

    async def main():
        await lane.enter(kernel)
        second, third = kernel.spawn(use()), kernel.spawn(use())
        lane.leave()
        kernel.cancel(second)
        await kernel.wait(third)
        return second.done, third.error

    assert kernel.run(main()) == (True, None)
    assert lane.free == 1
