"""
A process that shares states with others: ``python host_worker.py WHAT DIRECTORY ARGUMENT``.

It prints what it has done, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from daglite._clock import now_and_wall_time
from daglite.state.answers import Permit
from daglite.state.shared import SharedBreaker, SharedBucket, SharedBudget
from daglite.stores.host import HostFile
from tests.unit.state.wanted import WantedBreaker, WantedBucket, WantedBudget

PROBES = WantedBreaker(consecutive=1, break_for=0.02, probes=3, probe_lease=60)
RATE = WantedBucket(200, burst=5)
BUDGET = WantedBudget(0.5, min_per_second=0.05, window=60)
LEASE = WantedBreaker(consecutive=1, break_for=0.05, probe_lease=1)
PROCESSES = 4

# Patient, so that a busy machine lets none of them go on alone.
PATIENCE = 30.0


def breaker(directory: Path, wanted: WantedBreaker) -> SharedBreaker:
    file = HostFile(directory, patience=PATIENCE)
    return SharedBreaker(wanted, "db", file.cell("circuit breaker", "db"), now_and_wall_time)


def budget(directory: Path) -> SharedBudget:
    file = HostFile(directory, patience=PATIENCE)
    return SharedBudget(BUDGET, file.cell("retry budget", "db"), now_and_wall_time)


def together(directory: Path, what: str) -> None:
    """Wait until all processes are so far."""
    (directory / f"{what}-{os.getpid()}").touch()
    while len(list(directory.glob(f"{what}-*"))) < PROCESSES:
        time.sleep(0.001)


def probe(directory: Path, seconds: str) -> Any:
    """Call what fails in every second round; tell the probes, and the transitions."""
    mine, probes, moves = breaker(directory, PROBES), [], []
    together(directory, "begin")
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        answer = mine.permit(0)
        if not isinstance(answer, Permit):
            time.sleep(min(answer, 0.001))
            continue
        if answer.transition is not None:
            moves.append(answer.transition.after)
        failed = not answer.is_probe or answer.generation % 3 == 0
        if answer.is_probe:
            probes.append((answer.generation, answer.ticket))
            time.sleep(0.001)
        moved = mine.record(answer, 0, failed=failed)
        if moved is not None:
            moves.append(moved.after)
    return {"probes": probes, "moves": moves, "away": mine.away}


def turns(directory: Path, seconds: str) -> Any:
    """Take tokens as there are some; tell the moment of each."""
    looks, taken = [0.0], []

    def times() -> tuple[float, float]:
        looks[0], wall = now_and_wall_time()
        return looks[0], wall

    cell = HostFile(directory, patience=PATIENCE).cell("rate limit", "db")
    mine = SharedBucket(RATE, cell, times)
    together(directory, "begin")
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        wait = mine.take(0)
        if not wait:
            # The moment at which it had the file, however long it has waited for it.
            taken.append(looks[0])
        time.sleep(wait)
    return taken


def retries(directory: Path, number: str) -> Any:
    """Make so many first calls, then as many retries as all of them allow; tell how many."""
    mine, made = budget(directory), 0
    together(directory, "begin")
    for _ in range(int(number)):
        mine.first_call(0)
    together(directory, "called")
    for attempt in range(2 * int(number)):
        if mine.reserve(0) == 0:
            made += 1
            if attempt % 2:
                mine.spend(0)
    return made


def for_ever(directory: Path, argument: str) -> Any:
    """One transaction after the other, until it is killed."""
    mine, other = budget(directory), breaker(directory, PROBES)
    print("begun", flush=True)
    while True:
        mine.first_call(0)
        answer = other.permit(0)
        if isinstance(answer, Permit):
            other.record(answer, 0, failed=False)


def hold_a_probe(directory: Path, argument: str) -> Any:
    """Take the probe, and hang."""
    mine = breaker(directory, LEASE)
    while not isinstance(mine.permit(0), Permit):
        time.sleep(0.005)
    print("begun", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    done = globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
    print(json.dumps(done))
