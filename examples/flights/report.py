"""
What the demo hands out: a table, a picture, and how they get into their files.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from routes import Airport

__all__ = ["draw_picture", "make_csv", "write_file"]

Row = Mapping[str, str]

# How many routes the right half of the picture compares.
COMPARED = 15


def make_csv(rows: Sequence[Row]) -> bytes:
    """Return *rows* as CSV, the same bytes on every system."""
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def draw_picture(rows: Sequence[Row], airports: Mapping[str, Airport]) -> bytes:
    """Return a PNG: where the flights go, and what poor weather does to them."""
    # Not pyplot: that keeps a list of figures which threads would share.
    figure = Figure(figsize=(14, 7), layout="constrained")
    on_map, compared = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_map(figure, on_map, rows, airports)
    _draw_comparison(compared, rows)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()


def _draw_map(
    figure: Figure, axes: Axes, rows: Sequence[Row], airports: Mapping[str, Airport]
) -> None:
    # The large dots first, so that none hides a small one.
    drawn = sorted(rows, key=lambda row: int(row["flights"]), reverse=True)
    drawn = [row for row in drawn if row["dest"] in airports and row["arr_delay_mean"]]
    for row in drawn:
        ends = airports[row["origin"]], airports[row["dest"]]
        axes.plot(
            [end.longitude for end in ends],
            [end.latitude for end in ends],
            color="lightgrey",
            linewidth=0.6,
            zorder=1,
        )
    dots = axes.scatter(
        [airports[row["dest"]].longitude for row in drawn],
        [airports[row["dest"]].latitude for row in drawn],
        s=[4 + int(row["flights"]) / 40 for row in drawn],
        c=[float(row["arr_delay_mean"]) for row in drawn],
        cmap="coolwarm",
        vmin=-20,
        vmax=20,
        zorder=2,
    )
    axes.set(
        title="From New York: mean delay at arrival, size by number of flights",
        xlabel="longitude",
        ylabel="latitude",
    )
    figure.colorbar(dots, ax=axes, label="minutes", shrink=0.7)


def _draw_comparison(axes: Axes, rows: Sequence[Row]) -> None:
    known = [
        row
        for row in rows
        if row["arr_delay_mean_fair_weather"] and row["arr_delay_mean_poor_weather"]
    ]
    busiest = sorted(known, key=lambda row: int(row["flights"]))[-COMPARED:]
    places = range(len(busiest))
    for weather, shift in (("fair", 0.2), ("poor", -0.2)):
        axes.barh(
            [place + shift for place in places],
            [float(row[f"arr_delay_mean_{weather}_weather"]) for row in busiest],
            height=0.4,
            label=f"{weather} weather",
        )
    axes.set_yticks(list(places), [f"{row['origin']} → {row['dest']}" for row in busiest])
    axes.set(title="The busiest routes by weather", xlabel="mean delay at arrival, minutes")
    axes.legend()


def write_file(path: Path, content: bytes) -> Path:
    """
    Write a file at once: whoever looks finds the old one or the new one, never half of one.

    A task that may be retried, abandoned or interrupted should write like this.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path
