"""
ProgressBar: which display it takes, and that it never harms a run or a terminal.
"""

import atexit
import io
import sys
import threading

import pytest

from daglite.callbacks import ProgressBar
from daglite.core.events import (
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunFinished,
    RunStarted,
)

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


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
def without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "daglite.callbacks.live", raising=False)


def begin(bar, run_id="r1", nodes=1):
    bar.on_event(RunStarted(run_id, 0.0, nodes, ("train",)))
    bar.on_event(NodeStarted(run_id, 0.0, 1, "train"))


def end(bar, run_id="r1", ok=True):
    if ok:
        bar.on_event(NodeCompleted(run_id, 1.0, 1, "train", 1.0))
    bar.on_event(RunFinished(run_id, 1.2, ok, 1.2))


def lines(stream):
    return stream.getvalue().splitlines()


def test_plain_lines_where_there_is_no_terminal():
    """In a pipe there are lines, and no control characters."""
    stream = io.StringIO()
    bar = ProgressBar(stream)
    begin(bar)
    end(bar)
    assert lines(stream) == [
        "run started: 1 task",
        "[1/1] train completed after 1s",
        "1 task, 0 retries, 0 failed in 1.2 s",
    ]


def test_a_live_picture_on_a_terminal(terminal):
    """On a terminal a picture is drawn, and taken away for the summary."""
    bar = ProgressBar(terminal)
    begin(bar)
    end(bar)
    text = terminal.getvalue()
    assert HIDE_CURSOR in text
    assert "1 task, 0 retries, 0 failed in 1.2 s" in text


def test_plain_lines_on_a_terminal_without_rich(terminal, without_rich):
    """rich is optional: without it a terminal gets lines."""
    bar = ProgressBar(terminal)
    begin(bar)
    end(bar)
    assert lines(terminal)[-1] == "1 task, 0 retries, 0 failed in 1.2 s"
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize(("variable", "value"), [("TERM", "dumb"), ("TTY_COMPATIBLE", "0")])
def test_plain_lines_on_a_terminal_that_cannot_draw(terminal, monkeypatch, variable, value):
    """A terminal without control characters gets lines."""
    monkeypatch.setenv(variable, value)
    bar = ProgressBar(terminal)
    begin(bar)
    end(bar)
    assert "\x1b" not in terminal.getvalue()


def test_standard_error_is_the_stream_of_the_moment(monkeypatch):
    """Without a stream, it is what `sys.stderr` is when the run starts."""
    bar = ProgressBar()
    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        begin(bar)
        end(bar)
        assert len(lines(stream)) == 3


def test_no_standard_error(monkeypatch):
    """A program without a console runs as well."""
    monkeypatch.setattr(sys, "stderr", None)
    bar = ProgressBar()
    begin(bar)
    end(bar)


@pytest.mark.parametrize("ok", [True, False])
def test_the_terminal_is_given_back(terminal, monkeypatch, ok):
    """After a run, good or bad, the cursor is there and the standard streams are the old ones."""
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = ProgressBar()
    begin(bar)
    assert sys.stdout is not terminal
    end(bar, ok=ok)
    assert (sys.stdout, sys.stderr) == (terminal, terminal)
    text = terminal.getvalue()
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_a_run_without_an_end_is_taken_down_by_close(terminal):
    """`close` gives the terminal back, and the bar may be used on."""
    bar = ProgressBar(terminal)
    begin(bar)
    bar.close()
    text = terminal.getvalue()
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    end(bar)
    assert terminal.getvalue() == text
    begin(bar, "r2")
    end(bar, "r2")
    assert "1 task" in terminal.getvalue()[len(text) :]


def test_a_program_that_ends_within_a_run_gives_the_terminal_back(terminal, monkeypatch):
    """While a picture is there, the interpreter's exit would take it down."""
    hooks = []
    monkeypatch.setattr(atexit, "register", hooks.append)
    monkeypatch.setattr(atexit, "unregister", hooks.remove)
    bar = ProgressBar(terminal)
    begin(bar)
    (hook,) = hooks
    hook()
    assert terminal.getvalue().rindex(SHOW_CURSOR) > terminal.getvalue().rindex(HIDE_CURSOR)
    assert hooks == []


def test_several_runs_after_one_another():
    """A bar counts each run from nothing."""
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for run_id in ("r1", "r2", "r3"):
        begin(bar, run_id)
        end(bar, run_id)
    assert lines(stream).count("1 task, 0 retries, 0 failed in 1.2 s") == 3


def test_two_runs_at_once_are_told_apart():
    """The lines of a run that began while another one went on name it."""
    stream = io.StringIO()
    bar = ProgressBar(stream)
    begin(bar, "aaaa1111-2222")
    begin(bar, "bbbb1111-2222")
    end(bar, "aaaa1111-2222")
    end(bar, "bbbb1111-2222", ok=False)
    assert lines(stream)[-2:] == [
        "1 task, 0 retries, 0 failed in 1.2 s",
        "run bbbb1111: 0 of 1 task, 0 retries, 0 failed in 1.2 s (stopped)",
    ]


def test_the_picture_stays_until_the_last_run_ends(terminal):
    """The end of one of two runs doesn't take down the picture of the other."""
    bar = ProgressBar(terminal)
    begin(bar, "r1")
    begin(bar, "r2")
    end(bar, "r1")
    assert SHOW_CURSOR not in terminal.getvalue()
    end(bar, "r2")
    assert SHOW_CURSOR in terminal.getvalue()


def test_a_second_bar_on_a_terminal_writes_lines(terminal):
    """Two pictures would draw over each other: the second bar writes lines."""
    first, second = ProgressBar(terminal), ProgressBar(terminal)
    begin(first, "r1")
    begin(second, "r2")
    end(first, "r1")
    end(second, "r2")
    assert terminal.getvalue().count(HIDE_CURSOR) == 1
    begin(second, "r3")
    end(second, "r3")
    assert terminal.getvalue().count(HIDE_CURSOR) == 2


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_two_runs_in_two_threads(terminal, kind):
    """Events may come from several threads at once."""
    stream = terminal if kind is Terminal else io.StringIO()
    bar = ProgressBar(stream, min_interval=0)
    together = threading.Barrier(2)
    errors = []

    def run(run_id):
        try:
            together.wait()
            bar.on_event(RunStarted(run_id, 0.0, 200, ("train",)))
            for node in range(200):
                bar.on_event(NodeStarted(run_id, 0.0, node, "load", 5))
                bar.on_event(MapProgress(run_id, 0.1, node, "load", 3, 5))
                bar.on_event(NodeCompleted(run_id, 0.2, node, "load", 0.1, 5))
            bar.on_event(RunFinished(run_id, 1.2, True, 1.2))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("r1", "r2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stream.getvalue().count("200 tasks, 0 retries, 0 failed in 1.2 s") == 2


@pytest.mark.parametrize("broken", [io.StringIO, Terminal])
def test_a_stream_that_is_closed_within_a_run(terminal, broken):
    """A stream that goes away never raises out of the callback."""
    stream = terminal if broken is Terminal else io.StringIO()
    bar = ProgressBar(stream)
    begin(bar)
    stream.close()
    bar.on_event(NodeFailed("r1", 1.0, 1, "train", None, ValueError("bad")))
    end(bar, ok=False)


def test_a_reader_that_is_gone_does_not_end_the_program(terminal):
    """rich would leave the program over a broken pipe; a progress bar must not."""

    class Gone(Terminal):
        def write(self, text):
            raise BrokenPipeError

    bar = ProgressBar(Gone())
    begin(bar)
    end(bar)


def test_a_display_that_fails_at_the_end_is_taken_down_all_the_same(monkeypatch):
    """Whatever goes wrong with a run's last line, its run is over for the bar."""

    class Failing(io.StringIO):
        def write(self, text):
            raise RuntimeError("full")

    bar = ProgressBar(Failing())
    with pytest.raises(RuntimeError):
        bar.on_event(RunStarted("r1", 0.0, 1, ()))
    with pytest.raises(RuntimeError):
        bar.on_event(RunFinished("r1", 1.0, True, 1.0))
    bar.on_event(NodeStarted("r1", 0.0, 1, "train"))


def test_events_of_a_run_that_nobody_announced_are_ignored():
    """A bar that comes late shows nothing, and doesn't fail."""
    stream = io.StringIO()
    end(ProgressBar(stream))
    assert stream.getvalue() == ""


@pytest.mark.parametrize("interval", [-1, float("nan"), float("inf")])
def test_an_interval_that_cannot_be_is_refused(interval):
    """Seconds are finite, from 0."""
    with pytest.raises(ValueError, match="min_interval"):
        ProgressBar(min_interval=interval)


@pytest.mark.parametrize("interval", ["0.1", None, True])
def test_an_interval_of_the_wrong_type_is_refused(interval):
    """Seconds are a number."""
    with pytest.raises(TypeError, match="min_interval"):
        ProgressBar(min_interval=interval)


@pytest.mark.parametrize("stream", ["x", 0.5, print, io.BytesIO()])
def test_a_stream_that_cannot_be_written_to_is_refused(stream):
    """At once, and not in the middle of a run."""
    with pytest.raises(TypeError, match=r"give a text stream, such as sys\.stdout"):
        ProgressBar(stream)
