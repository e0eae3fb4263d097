"""When a thread may be interrupted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from daglite.core.interrupts import (
    Interrupted,
    Interrupts,
    held_off,
    holding_off,
    interruptible,
    of_this_thread,
)


@pytest.fixture
def sent() -> list[str]:
    """What was set in the thread."""
    return []


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    """As if this were a pool's thread."""
    of_this_thread.interrupts = Interrupts()
    yield of_this_thread.interrupts
    of_this_thread.interrupts = None


def test_one_that_comes_while_they_are_held_off_is_raised_afterwards(
    interrupts: Interrupts, sent: list[str]
) -> None:
    done = []

    def work() -> None:
        with held_off(), held_off():
            interrupts.send(lambda: sent.append("set"))
            done.append("inner")

    with pytest.raises(Interrupted):
        work()
    assert (done, sent) == (["inner"], [])


def test_within_what_may_be_interrupted_they_come_at_once(
    interrupts: Interrupts, sent: list[str]
) -> None:
    body = interruptible(lambda: interrupts.send(lambda: sent.append("set")))
    holding_off(body)()
    assert sent == ["set"]


def test_one_that_is_due_comes_before_the_function(interrupts: Interrupts) -> None:
    called: list[int] = []

    def work() -> None:
        interrupts.send(lambda: None)
        interruptible(lambda: called.append(1))()

    with pytest.raises(Interrupted):
        holding_off(work)()
    assert called == []


def test_on_other_threads_nothing_is_held_off() -> None:
    assert holding_off(interruptible(lambda x: x))(3) == 3
    with held_off():
        assert of_this_thread.interrupts is None
