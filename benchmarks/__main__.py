"""
Run the benchmarks::

    python -m benchmarks                         everything
    python -m benchmarks chain map-10000         cases whose names begin so
    python -m benchmarks --quick                 a first look, in a minute or two
    python -m benchmarks --check                 whether each peer still comes to its result
    python -m benchmarks --write docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import CASES
from benchmarks.model import Case, Race
from benchmarks.report import Report, replace_between_markers
from benchmarks.runner import Options, missing, run_probe, run_race

__all__ = ["main"]

_FEW = 20
"""Calls of a peer that is only checked."""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the cases that were asked for, and print their tables.

    Returns:
        0, or 1 when a run failed or came to a wrong result; a missed target is 0.
    """
    args = _parser().parse_args(argv)
    if args.list:
        print("\n".join(f"{name:20} {case.title}" for name, case in CASES.items()))
        return 0
    if args.check:
        return _check(_chosen(args.case, quick=False))
    options = _options(args)
    report = Report(options)
    for case in _chosen(args.case, options.quick):
        begun = time.perf_counter()
        sys.stderr.write(f"{case.name} ")
        table = _run(case, options, report)
        sys.stderr.write(f" {time.perf_counter() - begun:.0f} s\n")
        print(table, flush=True)
    print(report.summary(), flush=True)
    if args.write is not None:
        replace_between_markers(args.write, report.markdown())
    return 1 if report.failed else 0


def _run(case: Case, options: Options, report: Report) -> str:
    if isinstance(case, Race):
        return report.add_race(run_race(case, options))
    return report.add_probe(case, run_probe(case))


def _check(cases: Sequence[Case]) -> int:
    """Run each peer that is installed once, with few calls, and measure nothing."""
    wrong = ran = 0
    for race in cases:
        for peer in race.peers if isinstance(race, Race) else ():
            if missing(peer.needs):
                continue
            ran += 1
            size = min(race.size, _FEW)
            try:
                result = peer.make(size)()
                if result != race.answer(size):
                    raise AssertionError(f"{result!r:.80} instead of {race.answer(size)!r:.80}")
            except Exception as error:
                wrong += 1
                print(f"{race.name}: {peer.name}: {type(error).__name__}: {error}")
    print(f"{ran} peers, {wrong} of them wrong")
    return 1 if wrong else 0


def _chosen(asked: Sequence[str], quick: bool) -> list[Case]:
    unknown = [name for name in asked if not any(case.startswith(name) for case in CASES)]
    if unknown:
        raise SystemExit(f"no case begins with {', '.join(unknown)}; there are {', '.join(CASES)}")
    named = [c for c in CASES.values() if not asked or c.name.startswith(tuple(asked))]
    # What is asked for by its own name is run even if it's large.
    return [c for c in named if not (quick and c.large) or c.name in asked]


def _options(args: argparse.Namespace) -> Options:
    if args.quick:
        return Options(rounds=args.rounds or 3, budget=0.05, limit=3.0, slow=0.5, quick=True)
    return Options(rounds=args.rounds or Options.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="How fast daglite is, next to its peers."
    )
    parser.add_argument("case", nargs="*", help="beginnings of names of cases; none: all")
    parser.add_argument("--rounds", type=int, help="rounds of each race (7; quick: 3)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no large cases")
    parser.add_argument("--check", action="store_true", help="run each peer once, untimed")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="put the tables between the markers of PAGE"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
