"""
LiveDisplay: what rich draws of a run on a terminal.
"""

import io
import sys
import threading

import pytest
from rich.console import Console
from rich.file_proxy import FileProxy

from daglite.callbacks import live
from daglite.callbacks.live import open_live
from daglite.callbacks.quiet_stream import QuietStream
from daglite.callbacks.tally import RunTally
from daglite.core.events import MapProgress, NodeFailed, NodeStarted, RunFinished, RunStarted


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)
    return Terminal()


@pytest.fixture
def display(terminal):
    opened = open_live(QuietStream(terminal), 60.0)
    yield opened
    opened.close()


def start(display, run_id="r1", nodes=12, label=""):
    started = RunStarted(run_id, 0.0, nodes, ("train",))
    tally = RunTally(started)
    display.show(started, tally, label)
    return tally


def drawn(display):
    """What is to be seen now, line by line, without colours."""
    text = io.StringIO()
    Console(file=text, width=100, color_system=None).print(display.picture())
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_a_run_is_one_line(display):
    """A run shows its counts."""
    start(display)
    (line,) = drawn(display)
    assert line.startswith("run ")
    assert "0/12 tasks, 0 retries, 0 failed, 0.0 s" in line


def test_a_running_map_has_a_bar_of_its_own(display):
    """A map shows how many of its elements are done."""
    tally = start(display)
    tally.count(NodeStarted("r1", 0.0, 1, "clean", 100))
    tally.count(MapProgress("r1", 1.0, 1, "clean", 40, 100))
    line = drawn(display)[1]
    assert line.split()[0] == "clean"
    assert line.endswith("40/100")


def test_a_map_of_unknown_size_has_a_count(display):
    """Without a total there is no bar."""
    tally = start(display)
    tally.count(MapProgress("r1", 1.0, 1, "clean", 17, None))
    assert drawn(display)[1].split() == ["clean", "17"]


def test_a_map_without_elements_is_full(display):
    """A map over nothing doesn't divide by nothing."""
    tally = start(display, nodes=0)
    tally.count(NodeStarted("r1", 0.0, 1, "clean", 0))
    assert drawn(display)[1].endswith("0/0")


def test_many_maps_and_nodes_stay_a_few_lines(display):
    """However much runs, the picture fits."""
    tally = start(display)
    for node in range(20):
        tally.count(NodeStarted("r1", 0.0, node, "clean", 100))
        tally.count(NodeStarted("r1", 0.0, 100 + node, "load"))
    lines = drawn(display)
    assert len(lines) == 8
    assert "15 more maps" in lines[6]
    assert "load, load, load, load, load and 15 more" in lines[7]


def test_a_name_in_brackets_is_no_markup(display, terminal):
    """A task may be called as it likes."""
    tally = start(display)
    tally.count(NodeStarted("r1", 0.0, 1, "[red]clean[/]", 9))
    assert "[red]clean[/]" in drawn(display)[1]
    display.show(NodeFailed("r1", 1.0, 1, "[red]clean[/]", 3, ValueError("bad")), tally, "")
    assert "[red]clean[/][3] failed: ValueError: bad" in terminal.getvalue()


def test_each_run_is_drawn_with_its_name(display):
    """Two runs at once are told apart, and one that ended is gone."""
    start(display)
    tally = start(display, "r2", label="run r2: ")
    assert [line.split("  ")[0].split(" ━")[0] for line in drawn(display)] == ["run", "run r2"]
    display.show(RunFinished("r2", 1.2, True, 1.2), tally, "run r2: ")
    assert len(drawn(display)) == 1


def test_failures_are_written_above_the_picture_until_there_are_many(display, terminal):
    """The first ten failures have a line each."""
    tally = start(display)
    for node in range(15):
        display.show(NodeFailed("r1", 1.0, node, "load", None, ValueError("bad")), tally, "")
    assert terminal.getvalue().count("load failed: ValueError: bad") == 10


def test_standard_output_that_goes_to_a_file_stays_there(terminal, monkeypatch):
    """`python job.py > out` keeps what the job prints."""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", terminal)
    display = open_live(QuietStream(terminal), 60.0)
    print("result")
    print("note", file=sys.stderr)
    display.close()
    assert file.getvalue() == "result\n"
    assert "note" in terminal.getvalue()


def test_closing_twice_is_closing_once(terminal):
    """A display gives the screen back once, and the next one gets it."""
    first = open_live(QuietStream(terminal), 60.0)
    assert open_live(QuietStream(terminal), 60.0) is None
    first.close()
    first.close()
    second = open_live(QuietStream(terminal), 0.0)
    assert second is not None
    second.close()


def test_a_display_that_cannot_start_leaves_the_screen_free(terminal, monkeypatch):
    """What goes wrong at the start doesn't keep later displays away."""

    def fail(*args, **options):
        raise RuntimeError("no thread")

    with monkeypatch.context() as patch:
        patch.setattr(live, "Live", fail)
        with pytest.raises(RuntimeError):
            open_live(QuietStream(terminal), 60.0)
    open_live(QuietStream(terminal), 60.0).close()


def test_a_forked_child_has_plain_streams(monkeypatch):
    """A child doesn't write through the console of its parent, whose lock may be held."""
    plain = io.StringIO()
    taken = threading.Lock()
    taken.acquire()
    monkeypatch.setattr(live, "_screen", taken)
    monkeypatch.setattr(sys, "stdout", FileProxy(Console(file=plain), plain))
    monkeypatch.setattr(sys, "stderr", FileProxy(Console(file=plain), plain))
    live._leave_screen_to_parent()
    assert (sys.stdout, sys.stderr) == (plain, plain)
    assert not live._screen.locked()
