"""
Progress as a live picture on a terminal, drawn by rich.

The one module that imports rich; `progress` loads it by name, when a terminal is there.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO, cast

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

from daglite.callbacks.quiet_stream import QuietStream
from daglite.callbacks.tally import RunTally, TallyView
from daglite.core.events import Event, NodeFailed, RunFinished, RunStarted

__all__ = ["LiveDisplay", "open_live"]

_MOST_FAILURES = 10
_MOST_MAPS = 5
_BAR_WIDTH = 30
# Faster than this, a terminal shows nothing more.
_SHORTEST_INTERVAL = 0.02

# Held by the display that is on the terminal: two would draw over each other.
_screen = threading.Lock()


def open_live(stream: QuietStream, min_interval: float) -> LiveDisplay | None:
    """
    Return a display on *stream*; None: it can't be drawn on, or another one is there.

    Args:
        stream: The terminal.
        min_interval: Time between two pictures in seconds, from 0; never under 0.02.
    """
    console = Console(file=cast(TextIO, stream), highlight=False, markup=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    if not _screen.acquire(blocking=False):
        return None
    try:
        return LiveDisplay(console, max(min_interval, _SHORTEST_INTERVAL))
    except BaseException:
        _screen.release()
        raise


class LiveDisplay:
    """
    Show a bar for each run and each of its running maps, and leave one line when it ends.

    rich draws on a thread of its own, which reads only what a `RunTally` hands out: events
    cost the run no drawing. While the picture is there, what is printed to the terminal
    appears above it.
    """

    def __init__(self, console: Console, interval: float) -> None:
        self._console = console
        self._lock = threading.Lock()
        # run id -> its tally, what it is called, and when it began on the console's clock
        self._runs: dict[str, tuple[RunTally, str, float]] = {}
        self._failures: dict[str, int] = {}
        self._open = True
        self._live = Live(
            console=console,
            get_renderable=self.picture,
            refresh_per_second=1 / interval,
            transient=True,
            # Standard output that goes to a file must go on going there.
            redirect_stdout=_is_terminal(sys.stdout),
            redirect_stderr=_is_terminal(sys.stderr),
        )
        self._live.start()

    def show(self, event: Event, tally: RunTally, label: str) -> None:
        """Take in a run's start and end, and write failures above the picture."""
        if isinstance(event, RunStarted):
            with self._lock:
                self._runs[event.run_id] = (tally, label, self._console.get_time())
        elif isinstance(event, NodeFailed):
            failures = self._failures[event.run_id] = self._failures.get(event.run_id, 0) + 1
            if failures <= _MOST_FAILURES:
                self._console.print(Text(f"{label}{event}", style="red"))
        elif isinstance(event, RunFinished):
            with self._lock:
                self._runs.pop(event.run_id, None)
            self._failures.pop(event.run_id, None)
            self._console.print(Text(f"{label}{tally.view().summary(event)}"))

    def close(self) -> None:
        """Take the picture away, and give back the cursor and the standard streams."""
        if self._open:
            self._open = False
            try:
                self._live.stop()
            finally:
                _screen.release()

    def picture(self) -> Table:
        """Return what is to be seen now."""
        with self._lock:
            runs = list(self._runs.values())
        grid = Table.grid(padding=(0, 1))
        for tally, label, began in runs:
            _add_run(grid, tally.view(_MOST_MAPS), label, self._console.get_time() - began)
        return grid


def _add_run(grid: Table, view: TallyView, label: str, elapsed: float) -> None:
    counts = f"{view.done}/{view.nodes} tasks, {view.troubles}, {elapsed:.1f} s"
    grid.add_row(Text(label.rstrip(": ") or "run"), _bar(view.done, view.nodes), Text(counts))
    for map_count in view.maps:
        bar = "" if map_count.total is None else _bar(map_count.done, map_count.total)
        grid.add_row(Text(f"  {map_count.name}"), bar, Text(str(map_count)))
    if view.running_maps > len(view.maps):
        grid.add_row(Text(f"  {view.running_maps - len(view.maps)} more maps"))
    if view.names:
        more = view.running - len(view.names)
        names = ", ".join(view.names) + (f" and {more} more" if more else "")
        grid.add_row(Text("  running"), Text(names))


def _bar(done: int, total: int) -> Bar:
    return Bar(total=max(total, 1), completed=done if total else 1, width=_BAR_WIDTH)


def _is_terminal(stream: TextIO | None) -> bool:
    return QuietStream(stream).isatty()


def _leave_screen_to_parent() -> None:
    """
    Give a forked child its own plain streams.

    The lock of the parent's console may be held by a thread that doesn't exist here.
    """
    global _screen
    _screen = threading.Lock()
    if isinstance(sys.stdout, FileProxy):
        sys.stdout = cast(TextIO, sys.stdout.rich_proxied_file)
    if isinstance(sys.stderr, FileProxy):
        sys.stderr = cast(TextIO, sys.stderr.rich_proxied_file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_screen_to_parent)
