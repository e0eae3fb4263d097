"""
A callback that shows how far a run is.

    event ──► ProgressBar ──► RunTally          what is counted, one per run
                  └─────────► LiveDisplay       on a terminal, if rich is installed
                           or LineDisplay       everywhere else
"""

from __future__ import annotations

import atexit
import importlib
import io
import math
import sys
import threading
from collections.abc import Callable
from typing import Protocol, TextIO

from daglite.callbacks.lines import LineDisplay
from daglite.callbacks.quiet_stream import QuietStream
from daglite.callbacks.tally import RunTally
from daglite.core.events import Event, RunFinished, RunStarted

__all__ = ["ProgressBar"]


class ProgressBar:
    """
    Show the progress of runs, and one line with their counts when each one ends.

    On a terminal, with the optional package rich (`pip install daglite[progress]`), it is a live
    picture: a bar per run and per running map. Everywhere else, in a pipe or a CI or without
    rich, it is plain lines, at most one per map every 2 seconds, and one per finished node in
    a graph of up to 50 nodes (fewer in a larger one).

    One bar may serve many runs, also at once and from several threads. Only one live picture
    can be on a terminal: while one is there, others write plain lines.

    Limits: a logging handler that was given `sys.stderr` before the run writes across a live
    picture; `rich.logging.RichHandler`, or a log file, doesn't.

    Args:
        stream: Where to; None: `sys.stderr` as it is when a run starts. A stream that is
            closed, or whose reader is gone, is left alone; the run goes on.
        min_interval: Time between two live pictures in seconds, from 0.

    Raises:
        ValueError: *min_interval* is negative, or not finite.
        TypeError: *min_interval* is no number, or *stream* can't be written to.
    """

    def __init__(self, stream: TextIO | None = None, *, min_interval: float = 0.1) -> None:
        _check_stream(stream)
        _check_interval(min_interval)
        self._stream = stream
        self._min_interval = float(min_interval)
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._display: _Display | None = None

    def on_event(self, event: Event) -> None:
        """Count *event*, and show what has changed."""
        with self._lock:
            if isinstance(event, RunStarted):
                self._begin(event)
            run = self._runs.get(event.run_id)
            if run is None or self._display is None:
                return
            try:
                run.tally.count(event)
                self._display.show(event, run.tally, run.label)
            finally:
                if isinstance(event, RunFinished):
                    self._end(event.run_id)

    def close(self) -> None:
        """Take down what is shown, and forget the runs that haven't ended; it may be used on."""
        with self._lock:
            self._runs.clear()
            self._take_down()

    def _begin(self, event: RunStarted) -> None:
        if self._display is None:
            stream = QuietStream(sys.stderr if self._stream is None else self._stream)
            self._display = _open_display(stream, self._min_interval)
            # The end of a run takes it down, but a program may end without one.
            atexit.register(self.close)
        label = f"run {event.run_id[:8]}: " if self._runs else ""
        self._runs[event.run_id] = _Run(RunTally(event), label)

    def _end(self, run_id: str) -> None:
        del self._runs[run_id]
        if not self._runs:
            self._take_down()

    def _take_down(self) -> None:
        display, self._display = self._display, None
        if display is not None:
            atexit.unregister(self.close)
            display.close()


class _Display(Protocol):
    """A way to show progress."""

    def show(self, event: Event, tally: RunTally, label: str) -> None: ...

    def close(self) -> None: ...


class _Run:
    """One run that is going on, and what its lines begin with."""

    def __init__(self, tally: RunTally, label: str) -> None:
        self.tally = tally
        self.label = label


def _open_display(stream: QuietStream, min_interval: float) -> _Display:
    open_live = _find_live() if stream.isatty() else None
    live = open_live(stream, min_interval) if open_live is not None else None
    return live or LineDisplay(stream, min_interval)


def _find_live() -> Callable[[QuietStream, float], _Display | None] | None:
    """Return what opens a live picture; None: rich isn't installed."""
    try:
        live = importlib.import_module("daglite.callbacks.live")
    except ImportError:
        return None
    opener: Callable[[QuietStream, float], _Display | None] = live.open_live
    return opener


def _check_stream(stream: object) -> None:
    has_all = all(hasattr(stream, name) for name in ("write", "flush", "isatty"))
    if stream is None or (has_all and not isinstance(stream, (io.RawIOBase, io.BufferedIOBase))):
        return
    raise TypeError(
        f"ProgressBar({stream!r:.60}): give a text stream, such as sys.stdout or an open file, "
        f"or leave it out for sys.stderr"
    )


def _check_interval(min_interval: float) -> None:
    if isinstance(min_interval, bool) or not isinstance(min_interval, (int, float)):
        raise TypeError(
            f"ProgressBar(min_interval={min_interval!r}): give a number of seconds, such as 0.1"
        )
    if not math.isfinite(min_interval) or min_interval < 0:
        raise ValueError(
            f"ProgressBar(min_interval={min_interval!r}): give seconds from 0 on, such as 0.1"
        )
