"""Workers, and their launcher, that somebody else kills: only what runs is lost, nothing twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from daglite import MapPolicy, ProcessBackend, RetryPolicy, evaluate, task
from daglite.backends.processes import deaths
from daglite.exceptions import BackendError, WorkerDiedError
from tests.backends import starts
from tests.backends.faults import Mark, is_killed, same
from tests.backends.journal import Journal, eventually
from tests.backends.leftovers import Leftovers, is_alive
from tests.backends.starts import hang, started, times_started

MANY = [
    pytest.param(1_500, 10, id="short"),
    pytest.param(20_000, 50, id="long", marks=pytest.mark.nightly),
]
"""Calls, and workers that are killed meanwhile."""

SEED = 2_026


def launcher_of(backend: ProcessBackend) -> int:
    """The process that has made the workers."""
    return psutil.Process(backend.processes[0]).ppid()


def kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        # It was dead already.
        return


@contextmanager
def killing(backend: ProcessBackend, kills: int) -> Iterator[list[int]]:
    """Kill any worker from time to time, until there were so many; yield those that were."""
    chance = random.Random(SEED)
    killed: list[int] = []
    over = threading.Event()

    def strike() -> None:
        while not over.wait(chance.uniform(0.01, 0.04)):
            workers = [worker for worker in backend.processes if worker not in killed]
            if workers and len(killed) < kills:
                victim = chance.choice(workers)
                killed.append(victim)
                kill(victim)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("calls", "kills"), MANY)
def test_random_kills(calls: int, kills: int, leftovers: Leftovers, tmp_path: Path) -> None:
    """Each call ends with its value or a `WorkerDiedError`, and none is begun twice."""
    begun = task(started, map_policy=MapPolicy("collect")).fix(folder=tmp_path)
    with ProcessBackend(4) as backend, killing(backend, kills) as killed:
        rounds, lost, ran = 0, 0, 0
        # Until enough were killed under calls, however fast they are.
        while ran < calls or len(killed) < kills:
            values = evaluate(begun.zip(x=range(ran, ran + calls // 5)), default_backend=backend)
            for x, value in enumerate(values, ran):
                assert value == x or isinstance(value, WorkerDiedError)
                lost += value != x
            ran += len(values)
            rounds += 1
    begins = times_started(tmp_path)
    assert set(begins) <= set(range(ran))
    assert all(times == 1 for times in begins.values())
    assert ran - lost <= len(begins) <= ran
    # A death costs the call that ran, if one did.
    assert lost <= len(killed)
    assert len(killed) == kills


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("calls", "kills"), MANY)
def test_random_kills_and_retries(
    calls: int, kills: int, leftovers: Leftovers, tmp_path: Path
) -> None:
    """With retries every value is right, though many workers die."""
    patient = task(started, retry=RetryPolicy(2, "none", infrastructure_retries=5))
    begun = patient.fix(folder=tmp_path)
    with ProcessBackend(4) as backend, killing(backend, kills) as killed:
        ran = 0
        while ran < calls or len(killed) < kills:
            some = range(ran, ran + calls // 5)
            assert evaluate(begun.zip(x=some), default_backend=backend) == list(some)
            ran += len(some)
    assert max(times_started(tmp_path).values()) <= 6
    assert len(killed) == kills


@pytest.mark.parametrize("start_method", ["launcher", "spawn"])
def test_an_idle_worker_is_killed(start_method: Any, leftovers: Leftovers) -> None:
    """Nobody notices: another takes its place."""
    with ProcessBackend(2, start_method=start_method) as backend:
        squares = task(same).zip(x=range(20))
        for _ in range(3):
            assert evaluate(squares, default_backend=backend) == list(range(20))
            before = backend.processes
            for worker in before:
                kill(worker)
            # In this very moment, too.
            assert evaluate(squares, default_backend=backend) == list(range(20))
            assert eventually(lambda b=before: not set(b) & set(backend.processes), 2)


@pytest.mark.parametrize("start_method", ["launcher", "spawn"])
def test_the_launcher_is_killed(start_method: Any, leftovers: Leftovers, journal: Journal) -> None:
    """What runs is lost, with what it has started; all else is run by another launcher's."""
    hangs = task(hang, map_policy=MapPolicy("collect")).fix(journal=journal)
    with ProcessBackend(3, start_method=start_method) as backend:

        def strike() -> None:
            assert eventually(lambda: len(journal.notes) == 3)
            launchers.append(launcher_of(backend))
            kill(launchers[0])

        launchers: list[int] = []
        striking = threading.Thread(target=strike)
        striking.start()
        values = evaluate(hangs.zip(x=range(20)), default_backend=backend)
        striking.join()
        lost = [value for value in values if isinstance(value, WorkerDiedError)]
        assert len(lost) == 3
        assert [value for value in values if value not in lost] == list(range(3, 20))
        assert launcher_of(backend) != launchers[0]
        # The next one isn't killed for that.
        assert evaluate(task(same).zip(x=range(20)), default_backend=backend) == list(range(20))
    assert sorted(map(int, journal.notes)) == list(range(20))


def test_a_launcher_that_is_killed_when_idle(leftovers: Leftovers) -> None:
    """Nobody notices, again and again."""
    with ProcessBackend(2) as backend:
        for _ in range(5):
            squares = task(same).zip(x=range(20))
            assert evaluate(squares, default_backend=backend) == list(range(20))
            workers = backend.processes
            kill(launcher_of(backend))
            # The system ends them a moment after it.
            assert eventually(lambda w=workers: not any(map(is_alive, w)), 2)


def test_workers_that_die_before_they_are_ready(leftovers: Leftovers) -> None:
    """A pool whose workers never come to life says so; it doesn't make them for ever."""
    for options in ({"initializer": starts.die}, {"preload": ["tests.backends.deadly"]}):
        with ProcessBackend(2, **options) as backend:
            began = time.monotonic()
            for _ in range(2):
                with pytest.raises(BackendError, match=r"dies?.* before|dies: ") as caught:
                    evaluate(task(same).bind(1), default_backend=backend)
                assert "exit code 9" in str(caught.value)
            assert time.monotonic() - began < 10


def test_the_kernel_ran_out_of_memory(
    leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A `SIGKILL` of nobody's is probably the kernel's, where that has counted one more."""
    kills = iter([3, 3, 4, 4])
    monkeypatch.setattr(deaths, "_oom_kills", lambda: next(kills))
    dies = task(is_killed).bind(Mark(tmp_path / "mark"))
    hints: list[str | None] = []
    with ProcessBackend(1) as backend:
        for _ in range(3):
            with pytest.raises(WorkerDiedError) as caught:
                evaluate(dies, default_backend=backend)
            hints.append(caught.value.hint)
    assert [hint is not None and "OOM killer" in hint for hint in hints] == [False, True, False]


def test_an_initializer_that_raises(leftovers: Leftovers) -> None:
    """Each call fails with what it said."""
    with ProcessBackend(2, initializer=starts.fail) as backend:
        for _ in range(2):
            with pytest.raises(BackendError, match="ValueError: not today"):
                evaluate(task(same).zip(x=range(20)), default_backend=backend)


def test_who_dies_first_is_counted_once(leftovers: Leftovers, tmp_path: Path) -> None:
    """Killed all at once, four workers cost four calls."""
    napping = task(starts.nap, map_policy=MapPolicy("collect")).fix(folder=tmp_path)
    with ProcessBackend(4) as backend:

        def strike() -> None:
            assert eventually(lambda: len(times_started(tmp_path)) == 4)
            for worker in backend.processes:
                kill(worker)

        striking = threading.Thread(target=strike)
        striking.start()
        values = evaluate(napping.zip(x=range(20)), default_backend=backend)
        striking.join()
    kinds = Counter(type(value) for value in values)
    assert kinds == {WorkerDiedError: 4, int: 16}
    assert times_started(tmp_path) == dict.fromkeys(range(20), 1)
