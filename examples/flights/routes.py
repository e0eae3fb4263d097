"""
What is counted about a route, and the numbers that come out of it.

Counts are whole numbers and can be added up in any order, so the result is the same however the
work was split. A mean or a median has no such sum: those are worked out once, at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Airport", "Route", "RouteTally", "add_up", "make_rows"]

Route = tuple[str, str]
"""Origin and destination, as airport codes."""


@dataclass(frozen=True)
class Airport:
    """Where an airport is, in degrees."""

    name: str
    latitude: float
    longitude: float


@dataclass
class RouteTally:
    """
    The counts of one route.

    Attributes:
        miles: Length of the route.
        flights: Number of flights that were planned.
        cancelled: How many of them never took off.
        diverted: How many took off and didn't arrive where they should.
        departures: Delay in minutes -> number of flights; negative: too early.
        arrivals: The same for arrivals, by the weather at departure: "poor", "fair", "unknown".
        carriers: Carrier's code -> number of flights.
        seats: Sum over those flights whose plane is known, `known_planes` of them.
    """

    miles: int = 0
    flights: int = 0
    cancelled: int = 0
    diverted: int = 0
    departures: Counter[int] = field(default_factory=Counter)
    arrivals: dict[str, Counter[int]] = field(default_factory=dict)
    carriers: Counter[str] = field(default_factory=Counter)
    seats: int = 0
    known_planes: int = 0

    def add(self, other: RouteTally) -> None:
        """Take the counts of *other* into this one."""
        self.miles = max(self.miles, other.miles)
        self.flights += other.flights
        self.cancelled += other.cancelled
        self.diverted += other.diverted
        self.departures.update(other.departures)
        for weather, delays in other.arrivals.items():
            self.arrivals.setdefault(weather, Counter()).update(delays)
        self.carriers.update(other.carriers)
        self.seats += other.seats
        self.known_planes += other.known_planes


def add_up(parts: Iterable[Mapping[Route, RouteTally]]) -> dict[Route, RouteTally]:
    """Return one tally per route from many."""
    total: dict[Route, RouteTally] = {}
    for part in parts:
        for route, tally in part.items():
            total.setdefault(route, RouteTally()).add(tally)
    return total


def make_rows(
    tallies: Mapping[Route, RouteTally],
    airports: Mapping[str, Airport],
    airlines: Mapping[str, str],
) -> list[dict[str, str]]:
    """Return the rows of the final table, sorted by route: column -> text."""
    return [_row(route, tally, airports, airlines) for route, tally in sorted(tallies.items())]


def _row(
    route: Route,
    tally: RouteTally,
    airports: Mapping[str, Airport],
    airlines: Mapping[str, str],
) -> dict[str, str]:
    origin, dest = route
    arrivals: Counter[int] = Counter()
    for delays in tally.arrivals.values():
        arrivals.update(delays)
    # Of two carriers with as many flights, the first of the alphabet.
    main_carrier = min(tally.carriers, key=lambda code: (-tally.carriers[code], code))
    return {
        "origin": origin,
        "dest": dest,
        # A few airports of the Caribbean are in the flights, but not among the airports.
        "dest_name": airports[dest].name if dest in airports else "",
        "miles": str(tally.miles),
        "flights": str(tally.flights),
        "carriers": str(len(tally.carriers)),
        "main_carrier": airlines.get(main_carrier, main_carrier),
        "cancelled_percent": _ratio(100 * tally.cancelled, tally.flights),
        "diverted_percent": _ratio(100 * tally.diverted, tally.flights),
        "dep_delay_mean": _mean(tally.departures),
        "dep_delay_median": _median(tally.departures),
        "arr_delay_mean": _mean(arrivals),
        "arr_delay_median": _median(arrivals),
        "arr_delay_mean_fair_weather": _mean(tally.arrivals.get("fair", Counter())),
        "arr_delay_mean_poor_weather": _mean(tally.arrivals.get("poor", Counter())),
        "seats_mean": _ratio(tally.seats, tally.known_planes),
    }


def _mean(counts: Counter[int]) -> str:
    return _ratio(sum(value * number for value, number in counts.items()), counts.total())


def _median(counts: Counter[int]) -> str:
    """Return the middle of the counted values, or half-way between the middle two."""
    total = counts.total()
    return _ratio(_at(counts, (total - 1) // 2) + _at(counts, total // 2), 2) if total else ""


def _at(counts: Counter[int], place: int) -> int:
    """Return the value at *place* (from 0), were all counted values laid out in order."""
    for value in sorted(counts):
        place -= counts[value]
        if place < 0:
            return value
    raise IndexError("there are fewer values")


def _ratio(dividend: int, divisor: int) -> str:
    """Return the ratio of two whole numbers as text with two decimals; "" if there is none."""
    return f"{dividend / divisor:.2f}" if divisor else ""
