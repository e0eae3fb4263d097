"""The limit of a whole call: queueing, attempts and back-off together."""

from __future__ import annotations

from typing import Any

import pytest

from daglite import RetryPolicy, TimeoutPolicy, current_call, task
from daglite.callbacks import AttemptFailed
from daglite.exceptions import ExecutionError, TaskTimeoutError
from daglite.testing import Fails, Hangs, ScriptedBackend, Takes
from tests.unit.lab import Lab


@task(timeout=TimeoutPolicy(total=60))
def work(x: int = 0) -> int:
    return x


RETRIED = work.with_options(retry=RetryPolicy(9, "constant", delay=25, jitter="none"))


def records(error: ExecutionError) -> list[tuple[Any, ...]]:
    return [(a.number, a.started, a.ran, a.waited, a.error) for a in error.attempts]


LATE = "TaskTimeoutError: wasn't done within its total of 60 s"


def test_in_the_first_attempt(lab: Lab) -> None:
    """The call ends at its total."""
    with pytest.raises(TaskTimeoutError, match="within its total of 60 s") as caught:
        lab(work.bind(), {"work": Hangs()})
    error = caught.value
    assert lab.clock.now() == 60
    assert (error.limit, error.elapsed, error.kind) == (60, 60, "total")
    assert records(error) == [(1, 0, 60, 0, LATE)]


@pytest.mark.parametrize("seconds", [59, 60])
def test_in_time(lab: Lab, seconds: float) -> None:
    """A call that is done at the very moment isn't late."""
    assert lab(work.bind(x=1), {"work": Takes(seconds)}) == 1


def test_in_a_later_attempt(lab: Lab) -> None:
    """The attempt that was under way is in the history too, and is told."""
    with pytest.raises(TaskTimeoutError) as caught:
        lab(RETRIED.bind(), {"work": [Fails(OSError("a"), 5), Hangs()]})
    assert lab.clock.now() == 60
    assert records(caught.value) == [(1, 0, 5, 0, "OSError: a"), (2, 30, 30, 25, LATE)]
    assert [event.attempt for event in lab.events.of(AttemptFailed)] == [1, 2]


def test_in_the_back_off(lab: Lab) -> None:
    """A wait is cut off; the attempts before it are the history."""
    with pytest.raises(TaskTimeoutError) as caught:
        lab(RETRIED.bind(), {"work": Fails(OSError("a"), 5)})
    assert lab.clock.now() == 60
    assert records(caught.value) == [
        (1, 0, 5, 0, "OSError: a"),
        (2, 30, 5, 25, "OSError: a"),
    ]


def test_in_the_queue(lab: Lab) -> None:
    """Waiting for a place counts; the record says that it never started."""
    other = task(lambda: 0, name="other")
    with pytest.raises(TaskTimeoutError) as caught:
        lab([other.bind(), work.bind()], {"other": Takes(100, 0)}, slots=1)
    assert lab.clock.now() == 60
    assert records(caught.value) == [(1, None, 0, 0, LATE)]
    assert caught.value.attempts[0].worker is None


def test_it_is_never_retried(lab: Lab) -> None:
    """Not even where `retry_on` names timeouts."""
    retry = RetryPolicy(5, "none", retry_on=TimeoutError)
    with pytest.raises(TaskTimeoutError) as caught:
        lab(work.with_options(retry=retry).bind(), {"work": Hangs()})
    assert caught.value.kind == "total"
    assert (len(lab.backend.calls), lab.clock.now()) == (1, 60)


def test_with_a_limit_of_each_attempt(lab: Lab) -> None:
    """Both hold: attempts end at theirs, the call at its total."""
    both = RETRIED.with_options(timeout=TimeoutPolicy(10, total=60))
    with pytest.raises(TaskTimeoutError) as caught:
        lab(both.bind(), {"work": Hangs()})
    assert lab.clock.now() == 60
    assert caught.value.kind == "total"
    assert [(a.started, a.ran) for a in caught.value.attempts] == [(0, 10), (35, 10)]
    assert lab(both.bind(x=3), {"work": [Hangs(), Takes(9)]}) == 3


def test_where_both_have_passed_unseen(lab: Lab) -> None:
    """After both have, the call is over: it isn't sent to wait for another attempt."""
    both = RETRIED.with_options(timeout=TimeoutPolicy(10, total=60))
    lab.clock.call_at(5, lambda: lab.clock.advance(65))
    with pytest.raises(TaskTimeoutError) as caught:
        lab(both.bind(), {"work": Hangs()})
    assert lab.clock.now() == 70
    assert caught.value.kind == "total"
    assert len(lab.backend.calls) == 1


def test_where_both_end_at_once(lab: Lab) -> None:
    """The call fails once, at that moment."""
    both = work.with_options(timeout=TimeoutPolicy(60, total=60))
    with pytest.raises(TaskTimeoutError) as caught:
        lab(both.bind(), {"work": Hangs()})
    assert lab.clock.now() == 60
    assert len(caught.value.attempts) == 1


def test_each_call_has_its_own(lab: Lab) -> None:
    """A node's total begins when its inputs are there."""
    chain = work.bind(x=work.bind(x=work.bind(x=1)))
    assert lab(chain, {"work": Takes(50)}) == 1
    assert lab.clock.now() == 150
    first = task(lambda: 0, name="first").bind()
    with pytest.raises(TaskTimeoutError) as caught:
        lab(work.bind(x=first), {"first": Takes(50), "work": Hangs()})
    assert caught.value.elapsed == 60


@pytest.mark.parametrize("timeout", [TimeoutPolicy(total=60), TimeoutPolicy(60)])
def test_the_stack_of_the_hung_call(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, timeout: TimeoutPolicy
) -> None:
    """The error shows it, where the backend can tell; of a limit of each attempt, too."""
    monkeypatch.setattr(ScriptedBackend, "stack_of", lambda self, call: f"in {call.node_name}")
    with pytest.raises(TaskTimeoutError) as caught:
        lab(work.with_options(timeout=timeout).bind(), {"work": Hangs()})
    assert caught.value.stack == "in work"


def test_the_function_sees_what_is_left(lab: Lab) -> None:
    """`current_call().remaining` goes down from attempt to attempt."""
    left: list[float | None] = []

    def look() -> None:
        left.append(current_call().remaining)
        if len(left) < 3:
            raise OSError

    made = task(look).with_options(
        timeout=TimeoutPolicy(total=60), retry=RetryPolicy(2, "constant", delay=25, jitter="none")
    )
    lab(made.bind())
    lab(task(look).bind())
    assert left == [60, 35, 10, None]


def test_what_is_seen_from_outside(lab: Lab) -> None:
    """A middleware around the call gets the outcome of the attempt that was under way."""
    seen: list[tuple[Any, ...]] = []

    async def watch(call: Any, call_next: Any) -> Any:
        outcome = await call_next(call)
        seen.append((outcome.ok, outcome.started, outcome.ran, outcome.worker))
        return outcome

    with pytest.raises(TaskTimeoutError):
        lab(
            RETRIED.with_options(around_call=watch).bind(), {"work": [Fails(OSError(), 5), Hangs()]}
        )
    assert seen == [(False, 30, 30, "scripted")]


@pytest.mark.parametrize("refused", [False, True])
def test_what_is_seen_of_a_total_that_ends_a_back_off(lab: Lab, refused: bool) -> None:
    """The last attempt has run no longer than until its own end."""
    seen: list[tuple[Any, ...]] = []

    async def watch(call: Any, call_next: Any) -> Any:
        outcome = await call_next(call)
        seen.append((outcome.ok, outcome.started, outcome.ran, outcome.worker))
        return outcome

    retry = RetryPolicy(9, "constant", delay=25, jitter="none", retry_on_result=lambda x: x == 0)
    watched = work.with_options(around_call=watch, retry=retry)
    with pytest.raises(TaskTimeoutError):
        lab(watched.bind(), {"work": Takes(5, 0) if refused else Fails(OSError(), 5)})
    assert seen == [(False, 30, 5, "scripted")]
    assert lab.clock.now() == 60
