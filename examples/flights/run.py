"""
A year of flights out of New York, from a source that keeps failing.

    python examples/flights/run.py [--months 1,2] [--seed 16] [--out FOLDER]

Downloads 336,776 flights month by month from a flaky server (`source.py`), works out the delays
of every route (`pipeline.py`), and writes a table and a picture (`report.py`). However often the
source fails, the result is the same to the byte: its checksum is compared with the known one.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import build_pipeline
from source import FlakySource, read_files
from troubles import Troubles

from daglite import evaluate
from daglite.callbacks import ProgressBar
from daglite.exceptions import ExecutionError

HERE = Path(__file__).resolve().parent
YEAR = tuple(range(1, 13))

# Months -> SHA-256 of the table. It depends on the data alone: not on the seed, the order in
# which things got done, the version of Python or of a library.
CHECKSUMS = {
    YEAR: "2553b38ce8aadf744ea6ae2b193fd4882738a726a23006063b3a7e204ce3fd0e",
    (2,): "533a52dfd19c5e1ef120d1e4f55a82608c53e01c4a61d8e14ce950f456a7fd3a",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    options = read_arguments(arguments)
    try:
        return run(options.months, options.seed, options.out)
    except KeyboardInterrupt:
        # `evaluate` has already stopped what was running.
        print("\nstopped; no file was left half written")
        return 130


def run(months: tuple[int, ...], seed: int, out: Path) -> int:
    """Download, compute, write, and tell about it; return the exit status."""
    labels = {"download": [f"2013-{month:02}" for month in months]}
    troubles = Troubles(labels)
    with FlakySource(read_files(months), seed) as source:
        print(f"{len(months)} of 12 months, from http://{source.address}, which is unreliable")
        futures = build_pipeline(source.address, months, out)
        try:
            results = evaluate(
                futures,
                default_backend="threading",
                callbacks=[ProgressBar(), troubles],
            )
        except ExecutionError as error:
            print(f"\n{error}\n\nbefore that:\n{troubles.table()}")
            return 1
        requests = source.requests
    print(f"\n{requests} requests, {len(troubles)} failed:\n\n{troubles.table()}")
    print(f"\n{worst_routes(results['rows'])}")
    print(f"\n{results['table']}\n{results['picture']}")
    return check(results["content"], months)


def worst_routes(rows: Sequence[Mapping[str, str]], number: int = 5) -> str:
    """Return a few lines on the routes with the longest delays."""
    busy = [row for row in rows if int(row["flights"]) >= 100 and row["arr_delay_mean"]]
    busy.sort(key=lambda row: float(row["arr_delay_mean"]), reverse=True)
    lines = [f"{len(rows)} routes; the longest mean delays at arrival:"]
    lines += [
        f"  {row['origin']} -> {row['dest']}  {row['arr_delay_mean']:>6} min"
        f"  {row['flights']:>5} flights  {row['cancelled_percent']:>5} % cancelled"
        f"  {row['main_carrier']}"
        for row in busy[:number]
    ]
    return "\n".join(lines)


def check(content: bytes, months: tuple[int, ...]) -> int:
    """Compare the checksum of the table with the known one; return the exit status."""
    found = hashlib.sha256(content).hexdigest()
    known = CHECKSUMS.get(months)
    if known is None:
        print(f"checksum {found} (none is known for these months)")
        return 0
    if found == known:
        print(f"checksum {found}, as it should be")
        return 0
    print(f"checksum {found}, but it should be {known}")
    return 1


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument(
        "--months", type=month_numbers, default=YEAR, help="such as 1,2,12 (default: all)"
    )
    parser.add_argument("--seed", type=int, default=16, help="another seed, other troubles")
    parser.add_argument(
        "--out", type=Path, default=HERE / "out", help="folder to write to (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def month_numbers(text: str) -> tuple[int, ...]:
    """Return the months of "1,2,12", sorted, each once."""
    try:
        months = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give numbers such as 1,2,12") from None
    if not set(months) <= set(YEAR):
        raise argparse.ArgumentTypeError(f"{text!r}: months go from 1 to 12")
    return months


if __name__ == "__main__":
    sys.exit(main())
