"""What was measured, as tables: plain text for the terminal, Markdown for the docs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from benchmarks.model import Probe, Reading
from benchmarks.runner import Lane, Options, RaceResult, Verdict, verdicts

__all__ = ["Report", "replace_between_markers"]

BEGIN = "<!-- benchmarks:begin -->"
END = "<!-- benchmarks:end -->"

_PEERS = (
    "dask",
    "joblib",
    "networkx",
    "pipefunc",
    "backoff",
    "pybreaker",
    "pyresilience",
    "stamina",
    "tenacity",
)

Row = Sequence[str]
Table = tuple[str, Row, list[Row]]
"""Title, header, rows."""


class Report:
    """Collects results and prints them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._tables: list[Table] = []
        self._targets: list[Row] = []
        self.missed = 0
        self.failed = 0

    def add_race(self, result: RaceResult) -> str:
        """Add a race; returns its table as text."""
        found = verdicts(result)
        self.failed += sum(lane.failed and "daglite" in lane.peer.name for lane in result.lanes)
        for verdict in found:
            self._judge(result.race.title, verdict.target.peer, _named(verdict), verdict.met)
        rows = [_lane_row(result, lane, found) for lane in result.lanes]
        unit = f"µs a {result.race.unit}"
        header = ["", unit, "median ×", "minima ×", "CPU ×", "targets, notes"]
        return self._add((result.race.title, header, rows))

    def add_probe(self, probe: Probe, readings: list[Reading] | str) -> str:
        """Add a probe; returns its table as text."""
        if isinstance(readings, str):
            self.failed += readings.startswith(("failed", ">"))
            return self._add((probe.title, ["", "measured", "target"], [[readings, "", ""]]))
        rows: list[Row] = []
        for reading in readings:
            value = f"{_figure(reading.value)} {reading.unit}"
            target = ""
            if reading.limit is not None:
                met = reading.value <= reading.limit
                limit = f"≤ {reading.limit:g} {reading.unit}"
                target = f"{limit}: {_word(met)}"
                self._judge(probe.title, reading.what, (limit, value), met)
            rows.append([reading.what, value, target])
        return self._add((probe.title, ["", "measured", "target"], rows))

    def summary(self) -> str:
        """Return the targets, met and missed, as text."""
        return _as_text(self._summary())

    def markdown(self) -> str:
        """Return everything as Markdown."""
        parts = [self._how(), _as_markdown(self._summary())]
        parts += [_as_markdown(table) for table in self._tables]
        return "\n\n".join(parts)

    def _add(self, table: Table) -> str:
        self._tables.append(table)
        return _as_text(table)

    def _judge(self, case: str, who: str, what: tuple[str, str], met: bool) -> None:
        self.missed += not met
        self._targets.append([case, who, *what, _word(met)])

    def _summary(self) -> Table:
        header = ["case", "what", "target", "measured", ""]
        met = len(self._targets) - self.missed
        failed = f", {self.failed} measurements failed" if self.failed else ""
        return f"Targets: {met} met, {self.missed} missed{failed}", header, self._targets

    def _how(self) -> str:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        return (
            f"Measured on {os.cpu_count()} cores ({platform.system()}, {platform.machine()}) "
            f"with {python}, in {self._options.rounds} rounds.\n"
            f"Peers: {', '.join(_versions())}."
        )


def replace_between_markers(page: Path, text: str) -> None:
    """
    Put *text* between the two markers of *page*.

    Raises:
        ValueError: The page doesn't have the markers.
    """
    old = page.read_text(encoding="utf-8")
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)
    if not pattern.search(old):
        raise ValueError(f"{page} needs the lines {BEGIN} and {END}")
    page.write_text(pattern.sub(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", old), encoding="utf-8")


def _lane_row(result: RaceResult, lane: Lane, found: Sequence[Verdict]) -> Row:
    name = lane.peer.name
    if lane.size != result.race.size and f"{lane.size:,}" not in name:
        name += f" (at {lane.size:,})"
    if not lane.samples:
        return [name, "", "", "", "", lane.note]
    first = result.race.peers[0].name
    judged = [v for v in found if v.target.peer == lane.peer.name]
    notes = [_sentence(verdict, verdict.against != first) for verdict in judged]
    notes += [lane.note] if lane.note else []
    figures = [lane.wall * 1e6]
    base = result.lane(first)
    if base is not None:
        figures += [result.median(lane, base), lane.wall / base.wall, lane.cpu / base.cpu]
    cells = [_figure(figure) for figure in figures] + [""] * (4 - len(figures))
    return [name, *cells, "; ".join(notes)]


def _sentence(verdict: Verdict, names_other: bool) -> str:
    limit, value = _named(verdict) if names_other else _bare(verdict)
    return f"{limit}: {value}, {_word(verdict.met)}"


def _bare(verdict: Verdict) -> tuple[str, str]:
    target, value = verdict.target, _figure(verdict.value)
    if target.measure == "ratio":
        return f"≤ {target.limit:g} ×", f"{value} ×"
    clock = " CPU" if target.by == "cpu" else ""
    sign = "+" if target.measure == "adds" else ""
    if target.limit >= 1_000:
        return f"≤ {sign}{target.limit / 1_000:g} ms{clock}", f"{_figure(verdict.value / 1e3)} ms"
    return f"≤ {sign}{target.limit:g} µs{clock}", f"{value} µs"


def _named(verdict: Verdict) -> tuple[str, str]:
    limit, value = _bare(verdict)
    if verdict.target.measure == "total":
        return limit, value
    return f"{limit} {'over ' * (verdict.target.measure == 'adds')}{verdict.against}", value


def _word(met: bool) -> str:
    return "met" if met else "**missed**"


def _figure(value: float) -> str:
    """Return three significant figures, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    # Adding nothing turns -0.0 into 0.0.
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{round(value, 3) + 0:.3f}"


def _versions() -> list[str]:
    found = []
    for name in _PEERS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found or ["none installed"]


def _as_text(table: Table) -> str:
    title, header, rows = table
    lines = [[cell.replace("**", "") for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [title, "-" * len(title)]
    for line in lines:
        first, *others = line
        cells = [first.ljust(widths[0])]
        for cell, width in zip(others, widths[1:], strict=True):
            cells.append(cell.rjust(width) if width <= 12 else cell.ljust(width))
        text.append("  ".join(cells).rstrip())
    return "\n".join(text) + "\n"


def _as_markdown(table: Table) -> str:
    title, header, rows = table
    numbers = [cell.endswith(("×", "measured")) or cell.startswith("µs") for cell in header]
    lines = [
        f"### {title}",
        "",
        f"| {' | '.join(header)} |",
        f"|{'|'.join('---:' if right else '---' for right in numbers)}|",
        *[f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows],
    ]
    return "\n".join(lines)
