"""Calls that end when they are killed, and calls that are dropped: nobody else's is."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from daglite import MapPolicy, ProcessBackend, TimeoutPolicy, evaluate, task
from daglite.exceptions import TaskTimeoutError
from tests.backends.faults import same
from tests.backends.journal import Journal, eventually
from tests.backends.leftovers import Leftovers
from tests.backends.starts import fails_late, lasting, started, times_started
from tests.backends.tasks import hanging


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("calls", "seconds"),
    [
        pytest.param(80, 0.03, id="short"),
        pytest.param(400, 0.05, id="long", marks=pytest.mark.nightly),
    ],
)
def test_a_timeout_equal_to_the_duration(
    calls: int, seconds: float, leftovers: Leftovers, tmp_path: Path
) -> None:
    """Each call returns or is late, and has begun once; calls beside them lose nothing."""
    lasts = task(lasting, timeout=seconds, map_policy=MapPolicy("collect")).fix(
        folder=tmp_path, seconds=seconds
    )
    innocent = task(started).fix(folder=tmp_path).zip(x=range(calls, 3 * calls))
    with ProcessBackend(3) as backend:
        values, others = evaluate([lasts.zip(x=range(calls)), innocent], default_backend=backend)
        assert evaluate(task(same).zip(x=range(20)), default_backend=backend) == list(range(20))
    for x, value in enumerate(values):
        assert value == x or type(value) is TaskTimeoutError
    assert others == list(range(calls, 3 * calls))
    assert times_started(tmp_path) == dict.fromkeys(range(3 * calls), 1)


def test_late_ones_among_short_ones(leftovers: Leftovers, tmp_path: Path) -> None:
    """Calls that lie ahead at a worker that is killed are run by another, once."""
    varied = task(lasting, timeout=TimeoutPolicy(0.1), map_policy=MapPolicy("collect")).fix(
        folder=tmp_path
    )
    seconds = [10.0 if x % 100 == 50 else 0.0 for x in range(600)]
    with ProcessBackend(2) as backend:
        pairs = varied.zip(x=range(600), seconds=seconds)
        values = evaluate(pairs, default_backend=backend)
    late = [x for x, value in enumerate(values) if type(value) is TaskTimeoutError]
    assert late == [50, 150, 250, 350, 450, 550]
    assert [value for value in values if isinstance(value, int)] == [
        x for x in range(600) if x not in late
    ]
    assert times_started(tmp_path) == dict.fromkeys(range(600), 1)


def test_a_run_that_fails_takes_only_its_own_calls(
    leftovers: Leftovers, journal: Journal, tmp_path: Path
) -> None:
    """Two runs share the workers; one is given up with many calls sent ahead."""
    short = task(started).fix(folder=tmp_path)

    def fail_often() -> None:
        for _ in range(10):
            bad = task(fails_late).zip(x=range(500))
            with pytest.raises(ValueError, match="late"):
                evaluate(bad, default_backend=backend)

    with ProcessBackend(2) as backend:
        failing = threading.Thread(target=fail_often)
        failing.start()
        values = evaluate(short.zip(x=range(5_000)), default_backend=backend)
        failing.join()
    assert values == list(range(5_000))
    assert times_started(tmp_path) == dict.fromkeys(range(5_000), 1)


def test_closed_while_calls_run(leftovers: Leftovers, journal: Journal) -> None:
    """Each gets an error, and none is left; also those that come too late."""
    backend = ProcessBackend(2)
    errors: list[Any] = []

    def run() -> None:
        try:
            evaluate(hanging.bind(journal, 1), default_backend=backend)
        except Exception as error:
            errors.append(error)

    runs = [threading.Thread(target=run) for _ in range(6)]
    for thread in runs:
        thread.start()
    assert eventually(lambda: len(journal.notes) == 2)
    began = time.monotonic()
    backend.close()
    backend.close()
    for thread in runs:
        thread.join(5)
    assert time.monotonic() - began < 2
    assert ["the process pool is closed" in str(error) for error in errors] == [True] * 6
    with pytest.raises(Exception, match="the process pool is closed"):
        evaluate(task(same).bind(1), default_backend=backend)


def test_closed_while_calls_come(leftovers: Leftovers) -> None:
    """Whatever the moment, nobody waits for ever."""
    told: list[str] = []
    for seconds in (0.0, 0.001, 0.01, 0.1, 0.3):
        backend = ProcessBackend(2)
        over = threading.Event()

        def run(backend: ProcessBackend = backend, over: threading.Event = over) -> None:
            while not over.is_set():
                try:
                    evaluate(task(same).zip(x=range(10)), default_backend=backend)
                except Exception as error:
                    told.append(str(error))
                    return

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        backend.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        over.set()
    assert ["the process pool is closed" in text for text in told] == [True] * 15
