"""
Change the code in small ways, one at a time, and see whether a test fails.

``python tools/mutants`` does it for FOLDERS, prints the changes that no test noticed, and exits
with 1 where a folder stays below ENOUGH. What was found is kept in ``.mutants.json``: ``--again``
runs only what no test noticed then, and what is new. ``python tools/mutants state
policies/retry.py`` looks at these alone.

cosmic-ray makes most of the changes; the runner is our own, because a start of Python and pytest
for each would take hours. It tries mutants of functions in place (`in_place`), and loads the
module anew for the others (`anew`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import hypothesis
from anew import find_failure, look_anew
from children import SURVIVED, look_at_all
from in_place import ANEW, look_in_place
from mutations import Mutation, find_mutations

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "daglite"
RECORD = ROOT / ".mutants.json"

FOLDERS = ["policies", "state", "middleware"]
TESTS = ["tests/unit", "tests/integration"]

ENOUGH = 0.9
"""Share of a folder's mutants that the tests have to notice."""

PRELOADED = [
    *["cloudpickle", "freezegun", "hypothesis.stateful", "psutil", "pydantic", "tenacity"],
    *["rich.progress", "rich.console"],
]
"""What isn't daglite, and would be loaded for every mutant that is loaded anew."""


def find_files(wanted: list[str]) -> list[Path]:
    """The modules of the folders and files in *wanted*, given as paths in src/daglite."""
    found = []
    for name in wanted:
        path = SOURCE / name
        found += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return found


def try_all(mutations: list[Mutation], jobs: int) -> Iterator[tuple[Mutation, str]]:
    """Each mutation with what became of it."""
    left = []
    for mutation, answer in look_in_place(mutations, TESTS, jobs):
        if answer == ANEW:
            left.append(mutation)
        else:
            yield mutation, answer
    if left:
        if failure := find_failure({mutation.path for mutation in left}, jobs):
            sys.exit(f"a test fails without a mutant: {failure}")
        yield from look_at_all(left, look_anew, jobs)


def report(results: Iterable[tuple[Mutation, str]]) -> bool:
    """Print a line for each folder; whether all have ENOUGH."""
    killed, survived = Counter[str](), Counter[str]()
    for mutation, answer in results:
        (survived if answer == SURVIVED else killed)[mutation.path.parent.name] += 1
    print(f"\n{'folder':<12} {'mutants':>8} {'killed':>8} {'survived':>8} {'rate':>8}")
    enough = True
    for folder in FOLDERS:
        if every := killed[folder] + survived[folder]:
            rate = killed[folder] / every
            enough = enough and rate >= ENOUGH
            counts = f"{every:>8} {killed[folder]:>8} {survived[folder]:>8}"
            print(f"{folder:<12} {counts} {rate:>8.1%}")
    return enough


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="mutants", description="Change the code in small ways; see whether a test fails."
    )
    parser.add_argument("paths", nargs="*", default=FOLDERS, help="folders and modules")
    parser.add_argument("--again", action="store_true", help="only what survived, and what is new")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time")
    options = parser.parse_args()
    os.chdir(ROOT)
    for name in PRELOADED:
        importlib.import_module(name)
    hypothesis.settings.register_profile(
        "mutants", max_examples=25, derandomize=True, deadline=None, database=None
    )

    record: dict[str, str] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    known, todo = [], []
    for path in find_files(options.paths):
        for mutation in find_mutations(path):
            if options.again and record.get(mutation.key, SURVIVED) != SURVIVED:
                known.append((mutation, record[mutation.key]))
            else:
                todo.append(mutation)
    print(f"{len(todo)} mutants", flush=True)
    found = []
    for mutation, answer in try_all(todo, options.jobs):
        found.append((mutation, answer))
        record[mutation.key] = answer
        if answer == SURVIVED:
            print(mutation, flush=True)
        if len(found) % 50 == 0 or len(found) == len(todo):
            RECORD.write_text(json.dumps(record))
    sys.exit(not report(known + found))


if __name__ == "__main__":
    main()
