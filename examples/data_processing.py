"""
Extract, transform, load: untidy CSV files of three shops become one table of sales by region.

    python examples/data_processing.py

Standard library only. The files are made first, in a temporary folder; one of them can't be
read at the first try, as on a network drive that is waking up.

    read × 3 ─► split × 3 ─► list_chunks ─► clean × 12 ─► aggregate × 12 ─► add_up ─► load
                                                │
                                          list_rejects
"""

from __future__ import annotations

import csv
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from io import StringIO
from pathlib import Path
from typing import Any

from daglite import RetryPolicy, current_call, evaluate, task

SHOPS = ("harbour", "market", "station")
REGIONS = ("east", "north", "south", "west")
ROWS_PER_SHOP = 1000
ROWS_PER_CHUNK = 250

Row = dict[str, str]


@dataclass(frozen=True)
class Sale:
    """A row that makes sense."""

    region: str
    pieces: int
    price: Decimal


@dataclass(frozen=True)
class Cleaned:
    """The sales of one chunk, and why its other rows are none."""

    sales: list[Sale]
    rejected: list[str]


@dataclass
class Totals:
    """What was sold: region -> pieces, and region -> money."""

    pieces: Counter[str] = field(default_factory=Counter)
    money: dict[str, Decimal] = field(default_factory=dict)

    def add(self, region: str, pieces: int, money: Decimal) -> None:
        """Count something sold in *region*."""
        self.pieces[region] += pieces
        self.money[region] = self.money.get(region, Decimal()) + money


# --- extract --------------------------------------------------------------------


@task(retry=RetryPolicy(3, "exponential", delay="50ms", retry_on=OSError))
def read(path: Path) -> str:
    """Read one file."""
    if path.stem == "market" and current_call().attempt == 1:
        raise OSError(f"{path.name}: the drive isn't ready")
    return path.read_text(encoding="utf-8")


@task
def split(text: str) -> list[list[Row]]:
    """Cut one file into chunks, which are cleaned at the same time."""
    rows = list(csv.DictReader(StringIO(text)))
    return [rows[start : start + ROWS_PER_CHUNK] for start in range(0, len(rows), ROWS_PER_CHUNK)]


@task
def list_chunks(files: list[list[list[Row]]]) -> list[list[Row]]:
    """Make one list of all chunks."""
    return [chunk for file in files for chunk in file]


# --- transform ------------------------------------------------------------------


@task
def clean(chunk: list[Row]) -> Cleaned:
    """Read each row, or say what is wrong with it: one bad row is no reason to fail."""
    cleaned = Cleaned([], [])
    for row in chunk:
        try:
            cleaned.sales.append(read_sale(row))
        except ValueError as problem:
            cleaned.rejected.append(str(problem))
    return cleaned


def read_sale(row: Row) -> Sale:
    """
    Return the sale of one row.

    Raises:
        ValueError: The row makes no sense.
    """
    region = row["region"].strip().lower()
    if region not in REGIONS:
        raise ValueError("no such region" if region else "no region")
    try:
        pieces, price = int(row["pieces"]), Decimal(row["price"].replace(",", "."))
    except (ValueError, InvalidOperation):
        raise ValueError("not a number") from None
    if pieces <= 0:
        raise ValueError("nothing sold")
    return Sale(region, pieces, price)


@task
def aggregate(cleaned: Cleaned) -> Totals:
    """Add up one chunk."""
    totals = Totals()
    for sale in cleaned.sales:
        totals.add(sale.region, sale.pieces, sale.pieces * sale.price)
    return totals


@task
def add_up(parts: list[Totals]) -> Totals:
    """Add up all chunks."""
    totals = Totals()
    for part in parts:
        for region, pieces in part.pieces.items():
            totals.add(region, pieces, part.money[region])
    return totals


@task
def list_rejects(chunks: list[Cleaned]) -> Counter[str]:
    """Count the reasons why rows were left out."""
    return Counter(reason for chunk in chunks for reason in chunk.rejected)


# --- load -----------------------------------------------------------------------


@task
def load(totals: Totals, path: Path) -> Path:
    """Write the table; the rename at the end means that nobody ever sees half of it."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["region", "pieces", "money"])
        for region in sorted(totals.pieces):
            writer.writerow([region, totals.pieces[region], totals.money[region]])
    return unfinished.replace(path)


def main() -> None:
    """Make the files, run the graph over them, and print what came out."""
    with tempfile.TemporaryDirectory() as folder:
        sources = [make_file(Path(folder), shop) for shop in SHOPS]
        chunks = read.extend(path=sources).map(split).join(list_chunks)
        cleaned = chunks.map(clean)
        totals = cleaned.map(aggregate).join(add_up)
        table = load.bind(totals=totals, path=Path(folder) / "sales.csv")

        result: dict[str, Any] = evaluate(
            {"table": table, "totals": totals, "rejects": cleaned.join(list_rejects)},
            default_backend="threading",
        )
        print(result["table"].read_text(encoding="utf-8"))
    rejects = result["rejects"]
    print("left out: " + ", ".join(f"{n} for {reason!r}" for reason, n in sorted(rejects.items())))
    print(
        f"{len(SHOPS) * ROWS_PER_SHOP} rows read, {rejects.total()} left out, "
        f"{result['totals'].pieces.total()} pieces sold "
        f"for {sum(result['totals'].money.values()):,}"
    )


# --- the input ------------------------------------------------------------------


def make_file(folder: Path, shop: str) -> Path:
    """Write the file of one shop; the same one each time."""
    path = folder / f"{shop}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["region", "pieces", "price"])
        writer.writerows(make_rows(random.Random(shop)))
    return path


def make_rows(draw: random.Random) -> Iterable[Sequence[str]]:
    """Return rows as people type them: here and there something is odd, or wrong."""
    for _ in range(ROWS_PER_SHOP):
        region = draw.choice([*REGIONS * 8, "East ", " WEST", "", "abroad"])
        pieces = draw.choice([*map(str, range(1, 25)), "0", "a dozen"])
        cents = draw.randrange(100, 10_000)
        price = f"{cents // 100}{draw.choice('.,')}{cents % 100:02}"
        yield region, pieces, price


if __name__ == "__main__":
    main()
