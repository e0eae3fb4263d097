"""Policies with ``scope="host"``, in real processes that share a file."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import daglite
from tests.backends import host_runs, host_worker
from tests.backends.host_worker import PROCESSES
from tests.backends.journal import WAIT

ROOT = Path(__file__).parents[2]


class Machine:
    """Starts processes on one directory, and ends those that are left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, what: str, argument: object = "", script: Any = host_worker
    ) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(Path(daglite.__file__).parents[1]), str(ROOT)])
        process = subprocess.Popen(
            [sys.executable, script.__file__, what, str(self.directory), str(argument)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "DAGLITE_STATE_DIR": str(self.directory)},
        )
        self._started.append(process)
        return process

    def together(self, what: str, argument: object, seconds: float = 0.0) -> list[Any]:
        """What each of some processes tells that do the same at once, for so long."""
        processes = [self.start(what, argument) for _ in range(PROCESSES)]
        return [told(each, WAIT + seconds) for each in processes]

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


def told(process: subprocess.Popen[str], timeout: float = WAIT) -> Any:
    output, _ = process.communicate("go on\n", timeout=timeout)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


def begun(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "state")
    yield made
    made.close()


LENGTHS = [1.0, pytest.param(60.0, marks=[pytest.mark.nightly, pytest.mark.timeout(300)])]


@pytest.mark.parametrize("seconds", LENGTHS)
def test_probes_over_all_processes(machine: Machine, seconds: float) -> None:
    """Of each round exactly so many, each once; and every move is made by one process."""
    all_told = machine.together("probe", seconds, seconds)
    assert not any(each["away"] for each in all_told)
    probes = [tuple(probe) for each in all_told for probe in each["probes"]]
    assert len(set(probes)) == len(probes)
    rounds = Counter(generation for generation, _ in probes)
    last = max(rounds)
    assert {count for generation, count in rounds.items() if generation != last} == {3}
    assert rounds[last] <= 3
    moves = Counter(move for each in all_told for move in each["moves"])
    assert moves["half_open"] == len(rounds) > 3
    assert moves["closed"] > 1
    # Each opening has its half-open, but for the last one, and each of them ends once.
    assert moves["open"] - moves["half_open"] in (0, 1)
    # Of those that share them, more than one had some.
    assert sum(bool(each["probes"]) for each in all_told) > 1


@pytest.mark.parametrize("seconds", LENGTHS)
def test_a_rate_over_all_processes(machine: Machine, seconds: float) -> None:
    """No more than rate times T plus burst in any T; and no fewer than that in all."""
    all_told = machine.together("turns", seconds, seconds)
    turns = sorted(moment for each in all_told for moment in each)
    rate, burst = host_worker.RATE.rate, host_worker.RATE.burst
    fewest = float("inf")
    for number, moment in enumerate(turns):
        beyond_rate = number - rate * moment
        fewest = min(fewest, beyond_rate)
        # Half a millisecond: the clocks of process and wall aren't read in one instant.
        assert beyond_rate - fewest + 1 <= burst + 0.1
    length = turns[-1] - turns[0]
    # They are busy with other things, too.
    assert len(turns) >= 0.3 * rate * length


def test_a_budget_over_all_processes(machine: Machine) -> None:
    """Exactly as many retries as all first calls allow."""
    made = machine.together("retries", 50)
    assert sum(made) == 50 * PROCESSES // 2 + 3


def test_processes_that_are_killed(machine: Machine) -> None:
    """In the middle of their transactions: the file stays whole, and others go on."""
    for _ in range(2):
        processes = [machine.start("for_ever") for _ in range(3)]
        for process in processes:
            begun(process)
        time.sleep(0.05)
        for process in processes:
            process.kill()
            process.wait(WAIT)
    mine = host_worker.budget(machine.directory)
    mine.first_call(0)
    assert not mine._mirror.away
    mine._mirror._cell._file.close()  # type: ignore[attr-defined]
    (path,) = machine.directory.glob("*.sqlite3")
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = connection.execute("SELECT kind, data FROM states").fetchall()
    connection.close()
    assert all(json.loads(data) for _, data in rows)
    assert len(rows) == 2
    assert not [each for each in machine.directory.iterdir() if "damaged" in each.name]


def test_a_process_that_is_killed_with_its_probe(machine: Machine) -> None:
    """Its place is free when the lease ends, and no earlier."""
    mine = host_worker.breaker(machine.directory, host_worker.LEASE)
    mine.record(mine.permit(0), 0, failed=True)  # type: ignore[arg-type]
    holder = begun(machine.start("hold_a_probe"))
    holder.kill()
    holder.wait(WAIT)
    left = mine.permit(0)
    assert isinstance(left, float)
    assert 0 < left <= 1
    time.sleep(left)
    while isinstance(mine.permit(0), float):
        # The clock on the wall goes at its own pace.
        time.sleep(0.001)
    assert mine.snapshot(0).state == "half_open"
    mine._cell._file.close()  # type: ignore[attr-defined]


def test_runs_at_once(machine: Machine) -> None:
    """Two runs keep one rate; they wait for a circuit, and go when another process resets it."""
    operator = begun(machine.start("by_hand", "api", host_runs))
    runs = [machine.start("run", "api", host_runs) for _ in range(2)]
    for run in runs:
        begun(run)
    time.sleep(0.2)
    assert all(run.poll() is None for run in runs)
    assert told(operator) == ["failed", "forced_open", "refused"]
    starts = sorted(start for run in runs for start in told(run))
    assert len(starts) == 40
    # The last of forty turns of 20 ms; whoever wakes late goes late.
    assert starts[-1] - starts[0] >= 39 * 0.02 - 0.1
