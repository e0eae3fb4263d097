"""
Events: facts that don't change, each with a line for a log.
"""

import dataclasses
import math
import pickle

import pytest

from daglite.core import events
from daglite.core.events import (
    AttemptFailed,
    CallAbandoned,
    CallHedged,
    CallMeasured,
    CallParked,
    CircuitChanged,
    ElementFailed,
    Event,
    FallbackUsed,
    FaultInjected,
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    ProbeFailed,
    RunFinished,
    RunStarted,
)

LINES = [
    (RunStarted("r1", 0.0, 12, ("train",)), "run r1 started: 12 tasks, for train"),
    (RunStarted("r1", 0.0, 1, ()), "run r1 started: 1 task"),
    (RunStarted("r1", 0.0, 5, tuple("abcde")), "run r1 started: 5 tasks, for a, b, c and 2 more"),
    (RunFinished("r1", 1.2, True, 1.2), "run r1 finished after 1.2s"),
    (RunFinished("r1", 1.2, False, 0.25), "run r1 failed after 250ms"),
    (NodeStarted("r1", 0.0, 3, "load"), "load started"),
    (NodeStarted("r1", 0.0, 3, "clean", 100), "clean started: 100 elements"),
    (NodeStarted("r1", 0.0, 3, "clean", 0), "clean started: 0 elements"),
    (NodeCompleted("r1", 1.0, 3, "load", 0.0), "load completed after 0s"),
    (NodeCompleted("r1", 1.0, 3, "clean", 90.0, 1), "clean completed after 1m30s: 1 element"),
    (NodeFailed("r1", 1.0, 3, "load", None, ValueError("bad")), "load failed: ValueError: bad"),
    (NodeFailed("r1", 1.0, 3, "clean", 0, KeyError()), "clean[0] failed: KeyError"),
    (ElementFailed("r1", 1.0, 3, "clean", 7, OSError("no")), "clean[7] failed: OSError: no"),
    (MapProgress("r1", 1.0, 3, "clean", 40, 100), "clean: 40 of 100 elements done"),
    (MapProgress("r1", 1.0, 3, "clean", 40, None), "clean: 40 elements done"),
    (MapProgress("r1", 1.0, 3, "clean", 0, 1), "clean: 0 of 1 element done"),
    (MapProgress("r1", 1.0, 3, "clean", 1, None), "clean: 1 element done"),
    (
        AttemptFailed("r1", 1.0, 3, "clean", 7, 2, OSError("gone"), 0.5),
        "clean[7] attempt 2 failed after 500ms: OSError: gone",
    ),
    (
        ProbeFailed("r1", 1.0, 3, "load", None, 2, OSError("down"), 0.5),
        "load failed as a probe after 500ms: OSError: down",
    ),
    (
        CallParked("r1", 1.0, 3, "load", None, 1, 2.0, "retry"),
        "load waits 2s after attempt 1 (retry)",
    ),
    (
        CallParked("r1", 1.0, 3, "load", None, 1, math.inf, "bulkhead"),
        "load waits after attempt 1 (bulkhead)",
    ),
    (
        CallHedged("r1", 1.0, 3, "load", None, 2, 0.5),
        "load attempt 2 is hedged after 500ms",
    ),
    (
        CallMeasured("r1", 1.0, 3, "load", 4, 2, 1.5, 0.25, 12_000_000),
        "load[4] attempt 2 ran 1.5s (250ms of CPU time, 12MB at most)",
    ),
    (
        CircuitChanged("r1", 1.0, "api", "open", "half_open", "the break is over", None),
        "circuit api is half open: the break is over",
    ),
    (
        FallbackUsed("r1", 1.0, 3, "load", 2, OSError("down")),
        "load[2] falls back after OSError: down",
    ),
    (
        FaultInjected("r1", 1.0, 3, "load", None, 2, "latency"),
        "load attempt 2 is struck by chaos (latency)",
    ),
    (
        CallAbandoned("r1", 1.0, 3, "load", None, 1, 35.0),
        "load attempt 1 abandoned after 35s, and still runs",
    ),
]
EVENTS = [event for event, _ in LINES]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(("event", "line"), LINES)
def test_an_event_reads_as_one_line(event, line):
    """An event's text is a short sentence."""
    assert str(event) == line


@pytest.mark.parametrize("message", ["one\ntwo", "x" * 10_000])
def test_an_error_of_any_message_stays_one_short_line(message):
    """An error's message can't break a log line in two, or fill a page."""
    line = str(NodeFailed("r1", 0.0, 1, "load", None, ValueError(message)))
    assert "\n" not in line
    assert len(line) < 600


def test_an_error_that_cannot_be_printed_is_named():
    """An exception whose `str` fails doesn't take the log down with it."""
    assert "Unprintable" in str(NodeFailed("r1", 0.0, 1, "load", None, Unprintable()))


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_cannot_be_changed(event):
    """Callbacks may watch, not change."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.run_id = "r2"
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_survives_pickle(event):
    """An event can be sent to another process."""
    copy = pickle.loads(pickle.dumps(event))
    assert type(copy) is type(event)
    assert str(copy) == str(event)


def test_all_events_are_listed_and_tried_here():
    """No event is forgotten: not in `__all__`, and not in this file."""
    listed = {getattr(events, name) for name in events.__all__} - {Event}
    assert listed == set(Event.__subclasses__()) & listed == {type(event) for event in EVENTS}


def test_events_of_the_same_content_are_equal():
    """Two events that say the same are the same."""
    assert NodeStarted("r1", 0.0, 3, "load") == NodeStarted("r1", 0.0, 3, "load", None)
    assert NodeStarted("r1", 0.0, 3, "load") != NodeStarted("r1", 0.0, 4, "load")
