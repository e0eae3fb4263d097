"""
LineDisplay: few enough lines that a log stays readable.
"""

import io

import pytest

from daglite.callbacks.lines import LineDisplay
from daglite.callbacks.quiet_stream import QuietStream
from daglite.callbacks.tally import RunTally
from daglite.core.events import (
    AttemptFailed,
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunFinished,
    RunStarted,
)


class Run:
    """A run whose events are shown as lines."""

    def __init__(self, nodes, min_interval=0.1):
        self.stream = io.StringIO()
        self.display = LineDisplay(QuietStream(self.stream), min_interval)
        started = RunStarted("r1", 0.0, nodes, ("train",))
        self.tally = RunTally(started)
        self.tell(started)

    def tell(self, *events):
        for event in events:
            self.tally.count(event)
            self.display.show(event, self.tally, "")

    @property
    def lines(self):
        return self.stream.getvalue().splitlines()[1:]


def completed(node, time=1.0, elements=None):
    return NodeCompleted("r1", time, node, "load", 0.5, elements)


def test_a_run_says_that_it_starts():
    """The first line says how much there is to do."""
    assert Run(12).stream.getvalue() == "run started: 12 tasks\n"
    assert Run(1).stream.getvalue() == "run started: 1 task\n"


def test_a_small_graph_has_a_line_per_node():
    """Each task that is done is told."""
    run = Run(2)
    run.tell(completed(1), completed(2))
    assert run.lines == [
        "[1/2] load completed after 500ms",
        "[2/2] load completed after 500ms",
    ]


def test_a_large_graph_has_a_line_every_few_seconds():
    """10,000 tasks in 10 seconds are five lines, not 10,000."""
    run = Run(10_000)
    run.tell(*(completed(node, node / 1000) for node in range(10_000)))
    assert run.lines[0] == "[2001/10000] tasks completed, 0 retries, 0 failed"
    assert len(run.lines) == 4


def test_a_map_has_a_line_every_few_seconds():
    """Progress that comes ten times a second is told every two seconds."""
    run = Run(1)
    run.tell(NodeStarted("r1", 0.0, 1, "clean", 100))
    run.tell(AttemptFailed("r1", 0.5, 1, "clean", 0, 1, ValueError("bad"), 0.1))
    run.tell(*(MapProgress("r1", tenth / 10, 1, "clean", tenth, 100) for tenth in range(1, 100)))
    assert run.lines == [
        "clean: 20 of 100 elements done, 1 retry, 0 failed",
        "clean: 40 of 100 elements done, 1 retry, 0 failed",
        "clean: 60 of 100 elements done, 1 retry, 0 failed",
        "clean: 80 of 100 elements done, 1 retry, 0 failed",
    ]


def test_a_longer_interval_makes_fewer_lines():
    """An interval above two seconds holds for lines too."""
    run = Run(1, min_interval=5.0)
    run.tell(NodeStarted("r1", 0.0, 1, "clean", 100))
    run.tell(*(MapProgress("r1", tenth / 10, 1, "clean", tenth, 100) for tenth in range(1, 100)))
    assert run.lines == ["clean: 50 of 100 elements done, 0 retries, 0 failed"]


def test_a_map_of_unknown_size_counts():
    """Without a total there is a count."""
    run = Run(1)
    run.tell(NodeStarted("r1", 0.0, 1, "clean"), MapProgress("r1", 0.1, 1, "clean", 1, None))
    run.tell(MapProgress("r1", 3.0, 1, "clean", 17, None), completed(1, 4.0, 20))
    assert run.lines[0] == "clean: 17 elements done, 0 retries, 0 failed"
    assert run.lines[1] == "[1/1] load completed after 500ms: 20 elements"


def test_many_maps_of_a_large_graph_share_the_lines():
    """A thousand maps at once don't write a thousand lines every two seconds."""
    run = Run(1000)
    run.tell(*(NodeStarted("r1", 0.0, node, "clean", 100) for node in range(1000)))
    run.tell(*(MapProgress("r1", 3.0, node, "clean", 9, 100) for node in range(1000)))
    assert run.lines == ["clean: 9 of 100 elements done, 0 retries, 0 failed"]


@pytest.mark.parametrize("nodes", [20, 1000])
def test_failures_are_told_until_there_are_many(nodes):
    """The first ten failures have a line each; the rest are counted."""
    run = Run(nodes)
    for node in range(15):
        run.tell(NodeFailed("r1", 0.0, node, "load", None, ValueError("bad")))
    assert len(run.lines) == 10
    assert run.lines[0] == "load failed: ValueError: bad"
    assert run.lines[9] == "load failed: ValueError: bad (more are only counted)"
    run.tell(RunFinished("r1", 1.0, False, 1.0))
    assert run.lines[10] == f"0 of {nodes} tasks, 0 retries, 15 failed in 1.0 s"


def test_nothing_of_a_run_is_kept():
    """A display that serves many runs doesn't grow with them."""
    run = Run(1)
    run.tell(RunFinished("r1", 1.0, True, 1.0))
    assert run.display._paces == {}
