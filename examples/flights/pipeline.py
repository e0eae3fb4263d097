"""
The tasks of the demo, and how they hang together.

    download × 12 ─► parse_flights × 12 ─► split_by_carrier × 12 ─► list_groups
                                                                        │ about 185 groups
    weather ─► parse_weather ───────────────────────┐             clean × 185
                                                    └─────► join_weather × 185
    planes ─► parse_planes ────────────────────────────────► count_routes × 185
    airports ─► parse_airports ─┐                                  add_up
    airlines ─► parse_airlines ─┴───────────────────────────────► make_rows
                                                     ┌──────────────┴───┐
                                                 make_csv        draw_picture
                                                     │                  │
                                                 write_file       write_file

Binding runs nothing: `build_pipeline` returns in a moment, and `evaluate` does the work.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from mishaps import strike
from report import draw_picture, make_csv, write_file
from routes import Airport, Route, RouteTally, add_up, make_rows
from source import flights_path, table_path

from daglite import ProcessBackend, RetryPolicy, TaskFuture, ThreadBackend, TimeoutPolicy, task
from daglite.exceptions import MemoryLimitError

__all__ = ["build_pipeline"]

# Miles, miles per hour, inches: where fair weather ends.
POOR_VISIBILITY = 3.0
POOR_WIND = 23.0
POOR_RAIN = 0.02
# No wind was ever faster at these airports; the one reading above it is a broken sensor's.
FASTEST_WIND = 120.0


class SourceError(Exception):
    """The source answered, but not with the file."""


class SourceBusyError(SourceError):
    """
    The source wants to be left alone for a while.

    A retry waits for what the attribute `retry_after` says, instead of its own back-off.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


# --- download -----------------------------------------------------------------


@task(
    # Up to 6 calls each. Waits of up to 0.2, 0.4, 0.8, ... s, random so that those who failed
    # together don't come back together; the seed makes the random waits repeatable.
    retry=RetryPolicy(
        5,
        "exponential",
        delay="200ms",
        max_delay="3s",
        # Only what may be better next time. A file that isn't there is an error at once.
        retry_on=(SourceError, HTTPException, ConnectionError, TimeoutError),
        seed=2013,
    ),
    # For each call, from the moment it starts to run. A thread that waits for a socket can't be
    # interrupted, so a call that is over its time is left alone, and another takes its place.
    timeout=TimeoutPolicy(3, grace=1),
    # Be kind to the source: four downloads at a time. The other tasks don't wait for these four.
    backend=ThreadBackend(max_workers=4),
    tags=("http",),
)
def download(address: str, path: str) -> bytes:
    """Get one file; the code knows nothing of retries and timeouts."""
    connection = HTTPConnection(address)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status == 200:
        return body
    if response.status == 404:
        raise FileNotFoundError(f"{path}: there is no such file")
    message = f"{response.status} {response.reason}"
    wait = response.getheader("Retry-After")
    if wait is None:
        raise SourceError(message)
    raise SourceBusyError(f"{message}, retry after {wait} s", retry_after=float(wait))


# --- parse --------------------------------------------------------------------


@task
def parse_flights(body: bytes) -> pd.DataFrame:
    """Read one month of flights."""
    return pd.read_csv(BytesIO(body))


@task
def parse_weather(body: bytes) -> pd.DataFrame:
    """Return "poor" or "fair" per airport and hour."""
    weather = pd.read_csv(BytesIO(body)).drop_duplicates(["origin", "time_hour"])
    weather = weather[~(weather["wind_speed"] > FASTEST_WIND)]
    poor = (
        (weather["visib"] < POOR_VISIBILITY)
        | (weather["wind_speed"] > POOR_WIND)
        | (weather["precip"] > POOR_RAIN)
    )
    words = poor.map({True: "poor", False: "fair"})
    return weather[["origin", "time_hour"]].assign(weather=words)


@task
def parse_planes(body: bytes) -> dict[str, int]:
    """Return tail number -> seats."""
    return {row["tailnum"]: int(row["seats"]) for row in _read_rows(body)}


@task
def parse_airports(body: bytes) -> dict[str, Airport]:
    """Return airport code -> airport."""
    return {
        row["faa"]: Airport(row["name"], float(row["lat"]), float(row["lon"]))
        for row in _read_rows(body)
    }


@task
def parse_airlines(body: bytes) -> dict[str, str]:
    """Return carrier's code -> its name."""
    return {row["carrier"]: row["name"] for row in _read_rows(body)}


def _read_rows(body: bytes) -> csv.DictReader[str]:
    return csv.DictReader(StringIO(body.decode("utf-8")))


# --- split, clean, join -------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """The flights of one carrier in one month."""

    month: int
    carrier: str
    flights: pd.DataFrame


@task
def split_by_carrier(flights: pd.DataFrame) -> list[Group]:
    """Split one month's flights."""
    return [
        Group(int(some["month"].iloc[0]), str(carrier), some)
        for carrier, some in flights.groupby("carrier")
    ]


@task
def list_groups(months: list[list[Group]]) -> list[Group]:
    """Make one list out of one list per month."""
    return [group for month in months for group in month]


# What computes runs in processes, where a call that leaks, hangs or dies costs nobody else
# anything. pandas is imported once, before the workers are made.
in_process = task(
    backend=ProcessBackend(preload=["pandas"]),
    max_memory="500MB",
    timeout=4,
    retry=RetryPolicy(2, delay="100ms", retry_on=(MemoryLimitError, TimeoutError), seed=2013),
)


@in_process
def clean(group: Group) -> Group:
    """Drop what was recorded twice, and say of each flight what became of it."""
    strike(group.month, group.carrier)
    flights = group.flights.drop_duplicates(["day", "flight", "origin", "sched_dep_time"])
    cancelled = flights["dep_time"].isna()
    flights = flights.assign(
        cancelled=cancelled,
        diverted=flights["arr_delay"].isna() & ~cancelled,
        tailnum=flights["tailnum"].fillna(""),
    )
    return replace(group, flights=flights)


@in_process
def join_weather(group: Group, weather: pd.DataFrame) -> Group:
    """Add to each flight the weather at its airport in the hour of its departure."""
    strike(group.month, group.carrier)
    flights = group.flights.merge(
        weather, on=["origin", "time_hour"], how="left", validate="many_to_one"
    )
    flights["weather"] = flights["weather"].fillna("unknown")
    return replace(group, flights=flights)


# --- count --------------------------------------------------------------------

_COUNTED = [
    *("origin", "dest", "distance", "tailnum", "weather"),
    *("cancelled", "diverted", "dep_delay", "arr_delay"),
]


@in_process
def count_routes(group: Group, seats: dict[str, int]) -> dict[Route, RouteTally]:
    """Count one group's flights, route by route."""
    strike(group.month, group.carrier)
    tallies: dict[Route, RouteTally] = {}
    for row in group.flights[_COUNTED].itertuples(index=False, name=None):
        origin, dest, miles, tailnum, weather, cancelled, diverted, dep_delay, arr_delay = row
        tally = tallies.setdefault((origin, dest), RouteTally(miles=int(miles)))
        tally.flights += 1
        tally.carriers[group.carrier] += 1
        if tailnum in seats:
            tally.seats += seats[tailnum]
            tally.known_planes += 1
        if cancelled:
            tally.cancelled += 1
            continue
        tally.departures[int(dep_delay)] += 1
        if diverted:
            tally.diverted += 1
        else:
            tally.arrivals.setdefault(weather, Counter())[int(arr_delay)] += 1
    return tallies


# --- the graph ----------------------------------------------------------------


def build_pipeline(address: str, months: Sequence[int], out: Path) -> dict[str, TaskFuture[Any]]:
    """
    Return what there is to be had: the rows, the CSV's content, and the two written files.

    Args:
        address: Host and port of the source.
        months: Which months of the year, from 1.
        out: Folder of the files to write.
    """
    # `fix` binds what is the same for all; `extend` makes one call for each element.
    get = download.fix(address=address)
    bodies = get.extend(path=[flights_path(month) for month in months])
    groups = bodies.map(parse_flights).map(split_by_carrier).join(list_groups)

    # An own name for each of these, so that progress and errors tell them apart.
    def table(name: str) -> TaskFuture[bytes]:
        return get.with_options(name=f"download {name}").bind(path=table_path(name))

    # A future may be fixed like any other value: each element gets the same weather.
    weather = table("weather").then(parse_weather)
    seats = table("planes").then(parse_planes)
    counted = (
        groups.map(clean).map(join_weather.fix(weather=weather)).map(count_routes.fix(seats=seats))
    )
    airports = table("airports").then(parse_airports)
    rows = task(make_rows).bind(
        # A plain function becomes a task wherever one is needed.
        tallies=counted.join(task(add_up)),
        airports=airports,
        airlines=table("airlines").then(parse_airlines),
    )
    content = rows.then(task(make_csv))
    picture = task(draw_picture).bind(rows=rows, airports=airports)
    write = task(write_file)
    return {
        "rows": rows,
        "content": content,
        "table": write.bind(path=out / "routes.csv", content=content),
        "picture": write.bind(path=out / "routes.png", content=picture),
    }
