"""
RunTally: what a progress display counts of one run.
"""

import pytest

from daglite.callbacks.tally import MapCount, RunTally
from daglite.core.events import (
    AttemptFailed,
    ElementFailed,
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunFinished,
    RunStarted,
)


def started(node, name="load", elements=None):
    return NodeStarted("r1", 0.0, node, name, elements)


def completed(node, name="load", elements=None):
    return NodeCompleted("r1", 1.0, node, name, 1.0, elements)


def failed(node, name="load", element=None):
    return NodeFailed("r1", 1.0, node, name, element, ValueError("bad"))


def attempt(node, number=1, element=None):
    return AttemptFailed("r1", 1.0, node, "load", element, number, ValueError("bad"), 0.1)


def lost(node, element):
    return ElementFailed("r1", 1.0, node, "load", element, ValueError("bad"))


def tallied(*events, nodes=12):
    tally = RunTally(RunStarted("r1", 0.0, nodes, ("train",)))
    for event in events:
        tally.count(event)
    return tally


def summary(*events, nodes=12, ok=True, elapsed=1.2):
    view = tallied(*events, nodes=nodes).view()
    return view.summary(RunFinished("r1", elapsed, ok, elapsed))


def test_the_summary_of_a_good_run():
    """The last line says how many tasks, retries and failures, and how long."""
    events = [event for node in range(12) for event in (started(node), completed(node))]
    retries = [attempt(0), attempt(0, 2), attempt(5)]
    assert summary(*retries, *events) == "12 tasks, 3 retries, 0 failed in 1.2 s"


def test_the_summary_of_one_task():
    """One is not many."""
    text = summary(attempt(0), started(0), completed(0), nodes=1, elapsed=0.04)
    assert text == "1 task, 1 retry, 0 failed in 0.0 s"


def test_the_summary_of_a_failed_run():
    """A run that failed says how far it came."""
    text = summary(started(0), completed(0), started(1), failed(1), ok=False)
    assert text == "1 of 12 tasks, 0 retries, 1 failed in 1.2 s"


def test_the_summary_of_an_interrupted_run():
    """A run that ended early without a failure was stopped."""
    text = summary(started(0), ok=False)
    assert text == "0 of 12 tasks, 0 retries, 0 failed in 1.2 s (stopped)"


def test_the_last_failed_attempt_of_a_call_is_no_retry():
    """Three failed attempts of a call that failed were two retries."""
    view = tallied(attempt(0), attempt(0, 2), attempt(0, 3), failed(0)).view()
    assert (view.retries, view.failed) == (2, 1)


def test_a_failure_without_an_attempt_takes_no_retry_away():
    """A call that ran out of time before it ran leaves the count of retries alone."""
    assert tallied(attempt(0), failed(1)).view().retries == 1


def test_a_node_fails_once_however_many_elements_fail():
    """Failures are counted in nodes, as tasks are."""
    view = tallied(failed(1, element=0), failed(1, element=5), failed(2)).view()
    assert view.failed == 2


def test_a_running_map_shows_done_and_total():
    """A map's counts are the last ones that were told."""
    tally = tallied(started(1, "clean", 100))
    assert tally.view().maps == (MapCount("clean", 0, 100),)
    tally.count(MapProgress("r1", 1.0, 1, "clean", 40, 100))
    assert tally.view().maps == (MapCount("clean", 40, 100),)
    assert str(tally.view().maps[0]) == "40/100"


def test_a_map_of_unknown_size_counts():
    """A node whose size is unknown turns into a map when it says how far it is."""
    tally = tallied(started(1, "clean"))
    assert (tally.view().names, tally.view().maps) == (("clean",), ())
    tally.count(MapProgress("r1", 1.0, 1, "clean", 17, None))
    assert (tally.view().names, tally.view().maps) == ((), (MapCount("clean", 17, None),))
    assert str(tally.view().maps[0]) == "17"


@pytest.mark.parametrize("end", [completed(1, "clean", 9), failed(1, "clean")])
def test_a_node_that_ended_is_not_shown_as_running(end):
    """What is done, well or badly, is gone from what runs."""
    view = tallied(started(1, "clean", 9), started(2), end).view()
    assert (view.running_maps, view.running) == (0, 1)


def test_late_progress_does_not_bring_a_failed_map_back():
    """A map that failed stays gone, though its last elements still report."""
    view = tallied(started(1, "clean", 9), failed(1), MapProgress("r1", 2.0, 1, "clean", 9, 9))
    assert view.view().running_maps == 0


def test_a_view_names_only_the_first_few():
    """However much runs at once, a view stays small and says how much there is."""
    nodes = [started(node) for node in range(100)]
    maps = [started(node, "clean", 9) for node in range(100, 150)]
    view = tallied(*nodes, *maps).view(most=3)
    assert (len(view.names), view.running, len(view.maps), view.running_maps) == (3, 100, 3, 50)


def test_failed_elements_of_a_map_that_goes_on():
    """The last attempt of each is no retry, and no node has failed."""
    events = [started(0, elements=9), attempt(0, 1, 4), attempt(0, 2, 4), lost(0, 4)]
    view = tallied(*events, attempt(0, 1, 5), lost(0, 5)).view()
    assert (view.retries, view.failed) == (1, 0)


def test_a_map_with_too_many_failed_elements():
    """Its own failure takes no retry away: that was done with each element."""
    events = [started(0, elements=9), attempt(0, 1, 3), attempt(0, 1, 4), lost(0, 4), failed(0)]
    view = tallied(*events).view()
    assert (view.retries, view.failed) == (1, 1)
    assert tallied(*events[:-1], attempt(0, 1, 5), failed(0, element=5)).view().retries == 1
