"""How failed attempts are recorded."""

from __future__ import annotations

from typing import Any

import pytest

from daglite.callbacks import AttemptFailed
from daglite.core.attempts import record_failure
from daglite.core.call import Call, Outcome, Target
from daglite.core.kernel import Kernel
from daglite.core.run import Listeners, Run
from daglite.exceptions import AttemptRecord, ExecutionError
from daglite.testing import RecordedEvents, VirtualClock


class Map:
    """Whose element the call is."""

    def parked(self, by: int) -> None:
        pass


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


def test_a_record(call: Call, events: RecordedEvents) -> None:
    """It counts from the run's begin, and is told."""
    error = ValueError("bad")
    record_failure(call, Outcome(None, error, started=102, ran=5, worker="w"))
    assert call.history == [AttemptRecord(1, 2, 5, 0, "ValueError: bad", "w")]
    assert events.events == [AttemptFailed("r", 0, 7, "work", 3, 1, error, 5)]


def test_each_attempt_is_recorded_once(call: Call, events: RecordedEvents) -> None:
    """Whoever comes second, as the innermost knows best."""
    record_failure(call, Outcome(error=ValueError("first")))
    record_failure(call, Outcome(error=ValueError("second")))
    assert [record.error for record in call.history] == ["ValueError: first"]
    assert len(events.events) == 1


def test_attempts_share_their_history(call: Call) -> None:
    """The next attempt knows its number, the wait before it, and all records."""
    record_failure(call, Outcome(error=ValueError("a")))
    call.expires, call.crowd = 500.0, Map()
    second = call.again(waited=4)
    record_failure(second, Outcome(error=ValueError("b")))
    third = second.again(waited=8)
    assert (third.attempt, third.expires, third.crowd) == (3, 500.0, call.crowd)
    assert call.latest is second.latest is third.latest is third
    assert [(r.number, r.waited) for r in call.history] == [(1, 0), (2, 4)]
    assert third.history is call.history


def test_one_beside_another(call: Call) -> None:
    """It is the same attempt, but no element of the map, and nobody's successor."""
    call.expires, call.crowd, call.waited = 500.0, Map(), 4
    beside = call.beside()
    assert (beside.attempt, beside.repeats, beside.expires, beside.waited) == (1, 1, 500.0, 4)
    assert beside.history is call.history
    assert beside.crowd is None
    assert call.latest is call
    assert beside.beside().repeats == 2


def test_a_reason_that_is_no_error(call: Call, events: RecordedEvents) -> None:
    """A refused result is a failed attempt too."""
    record_failure(call, Outcome(value=-1), why="refused -1")
    assert call.history[0].error == "refused -1"
    (event,) = events.of(AttemptFailed)
    assert isinstance(event.error, ExecutionError)
    assert str(event.error) == "refused -1"


def test_one_that_never_started(call: Call) -> None:
    """Its record says so."""
    record_failure(call, Outcome(error=ValueError("late")))
    assert (call.history[0].started, call.history[0].worker) == (None, None)


def test_a_call_tells_what_is_left(call: Call, clock: VirtualClock) -> None:
    """Of its total; None without one."""
    assert call.remaining() is None
    call.expires = 110.0
    clock.advance(4)
    assert call.remaining() == 6


def test_arguments(call: Call) -> None:
    """The last ones are passed by name."""

    def body(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return args, kwargs

    call.target.body = body
    call.args = (1, 2, 3)
    assert call.invoke() == ((1, 2, 3), {})
    call.kwnames = ("b", "c")
    assert call.invoke() == ((1,), {"b": 2, "c": 3})
