"""What only the process backend does; its faults are in files of their own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from daglite import (
    Bulkhead,
    CircuitBreaker,
    ProcessBackend,
    ResourceLimits,
    RetryPolicy,
    current_call,
    evaluate,
    find_backend,
    task,
)
from daglite.callbacks import CallMeasured, CircuitChanged
from daglite.exceptions import BackendError, ExecutionError, MemoryLimitError
from daglite.settings import DagliteSettings
from tests.backends.journal import WAIT, Journal, eventually
from tests.backends.light import loaded


@pytest.fixture(scope="module")
def backend() -> Iterator[ProcessBackend]:
    with ProcessBackend(2) as made:
        yield made


def test_a_worker_is_light() -> None:
    """One that runs a plain function has loaded no pydantic, and of daglite the lowest floors."""
    with ProcessBackend(1) as fresh:
        (names,) = evaluate(task(loaded).zip(x=[1]), default_backend=fresh)
    assert not {"pydantic", "psutil", "tenacity", "asyncio"} & set(names)
    ours = {name.split(".")[1] for name in names if name.startswith("daglite.")}
    assert ours == {"_clock", "_codec", "_made_errors", "_units", "exceptions", "worker"}


def test_a_workers_process(backend: ProcessBackend) -> None:
    """A call runs in another process, which the next call finds as it was."""
    pid = task(lambda: os.getpid())
    there = evaluate(pid.bind(), default_backend=backend)
    assert there != os.getpid()
    assert there in backend.processes


def test_what_a_call_knows(backend: ProcessBackend) -> None:
    """The same as anywhere, with the time that is left, and a key that stays."""

    @task(timeout={"total": 30})
    def look(x: int) -> tuple[Any, ...]:
        call = current_call()
        return (
            call.run_id,
            call.node_name,
            call.element,
            call.attempt,
            call.idempotency_key,
            (call.remaining),
        )

    (first, second) = evaluate(look.zip(x=[1, 2]), default_backend=backend)
    assert first[0] == second[0]
    assert (first[1:4], second[1:4]) == (("look", 0, 1), ("look", 1, 1))
    assert first[4] != second[4]
    assert 0 < first[5] < 30


class Measures:
    def __init__(self) -> None:
        self.events: list[CallMeasured] = []

    def on_event(self, event: object) -> None:
        if isinstance(event, CallMeasured):
            self.events.append(event)


def test_what_a_call_has_used(backend: ProcessBackend) -> None:
    """CPU time and memory are told of each call, with limits or without."""

    @task
    def work(megabytes: int) -> int:
        held = bytearray(megabytes * 10**6)
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        return len(held)

    told = Measures()
    evaluate(work.zip(megabytes=[1, 60]), default_backend=backend, callbacks=told)
    small, large = sorted(told.events, key=lambda event: event.element or 0)
    assert 0.1 <= small.cpu_time < 1
    assert small.ran >= 0.09
    assert 50e6 < large.peak_memory - small.peak_memory < 70e6


def test_limits_grow(backend: ProcessBackend) -> None:
    """After a breach the next attempt may use more; the record tells what each had."""

    @task(
        limits=ResourceLimits("100MB", grow=2),
        retry=RetryPolicy(2, "none", retry_on=MemoryLimitError),
    )
    def hungry() -> int:
        if current_call().attempt < 3:
            held = []
            while True:
                held.append(bytearray(10**6))
        return len(bytearray(150 * 10**6))

    assert evaluate(hungry.bind(), default_backend=backend) == 150_000_000
    fewer = hungry.with_options(retry=RetryPolicy(1, "none", retry_on=MemoryLimitError))
    with pytest.raises(MemoryLimitError) as caught:
        evaluate(fewer.bind(), default_backend=backend)
    assert caught.value.limit == 200_000_000
    first, second = caught.value.attempts
    assert 80e6 < (first.peak_memory or 0) <= 101e6
    assert 180e6 < (second.peak_memory or 0) <= 201e6


def test_calls_that_wait_for_leave_arent_sent_ahead(
    backend: ProcessBackend, journal: Journal
) -> None:
    """Each is handed to a worker that is free to start it."""

    @task(bulkhead=Bulkhead(2))
    def noted(x: int) -> int:
        journal.note(x)
        if x == 0:
            journal.hang()
        return x

    def look() -> None:
        # All others pass the one that hangs.
        eventually(lambda: len(journal.notes) == 40)
        journal.open()

    watcher = threading.Thread(target=look)
    watcher.start()
    assert evaluate(noted.zip(x=range(40)), default_backend=backend) == list(range(40))
    watcher.join(WAIT)


def test_a_long_call_holds_up_no_short_one(backend: ProcessBackend, journal: Journal) -> None:
    """What was sent behind it is taken back."""

    @task
    def mostly_short(x: int) -> int:
        journal.note(x)
        if x == 900:
            journal.hang()
        return x

    def look() -> None:
        eventually(lambda: len(journal.notes) == 1_000)
        journal.open()

    watcher = threading.Thread(target=look)
    watcher.start()
    began = time.monotonic()
    assert evaluate(mostly_short.zip(x=range(1_000)), default_backend=backend) == list(range(1_000))
    watcher.join(WAIT)
    assert time.monotonic() - began < WAIT / 2
    assert sorted(map(int, journal.notes)) == list(range(1_000))


def test_promised_memory(journal: Journal) -> None:
    """Calls that would have more than there is to give wait, and others don't."""

    @task(max_memory="300MB")
    def entering(x: int) -> int:
        journal.note("in")
        time.sleep(0.02)
        journal.note("out")
        return x

    with ProcessBackend(2, memory=500_000_000) as backend:
        assert evaluate(entering.zip(x=range(6)), default_backend=backend) == list(range(6))
    assert journal.notes == ["in", "out"] * 6


def test_cpus_are_counted(journal: Journal) -> None:
    """A call that needs all of them runs alone."""

    @task(limits=ResourceLimits(cpus=2))
    def entering(x: int) -> int:
        journal.note("in")
        time.sleep(0.02)
        journal.note("out")
        return x

    with ProcessBackend(2) as backend:
        assert evaluate(entering.zip(x=range(4)), default_backend=backend) == list(range(4))
    assert journal.notes == ["in", "out"] * 4


def test_the_shared_pool() -> None:
    """By name there is one for the process, in the size that the settings say."""
    shared = find_backend("process")
    assert find_backend("multiprocessing") is shared
    assert isinstance(shared, ProcessBackend)
    assert shared.slots == len(os.sched_getaffinity(0))
    three = DagliteSettings(max_parallel_processes=3)
    with evaluate.context(settings=three, default_backend="process") as ctx:
        pid = task(lambda x: os.getpid())
        assert os.getpid() not in ctx.evaluate(pid.zip(x=range(3)))
    assert find_backend("process", processes=three.processes).slots == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_workers": 0}, "max_workers is a number from 1 up, not 0"),
        ({"max_workers": 1.5}, "max_workers is a whole number, not 1.5"),
        ({"max_workers": True}, "max_workers is a whole number, not True"),
        ({"max_calls_per_worker": -1}, "max_calls_per_worker is a number from 1 up, not -1"),
        ({"memory": 0}, "memory is a number from 1 up, not 0"),
        ({"start_method": "fork"}, "start_method is 'launcher' or 'spawn', not 'fork'"),
        ({"poll_interval": 0}, "poll_interval is seconds above 0, not 0"),
        ({"poll_interval": "50ms"}, "poll_interval is seconds above 0, not '50ms'"),
        ({"preload": "numpy"}, r"preload is a list of names of modules, not 'numpy'; write \['nu"),
        ({"preload": 3}, "preload is a list of names of modules, not 3"),
        ({"preload": [3]}, "preload has 3, which names no module"),
        ({"initializer": 3}, "initializer is a function, not 3"),
        ({"environment": [1]}, r"environment is a dict of variables, not \[1\]"),
        ({"environment": {"A=B": "1"}}, "environment has 'A=B', which names none"),
        ({"environment": {"A": 1}}, "environment has A=1; its value is text"),
    ],
)
def test_nonsense(options: dict[str, Any], told: str) -> None:
    """It is refused when the backend is made."""
    with pytest.raises(BackendError, match=told):
        ProcessBackend(**options)


def test_workers_are_replaced(journal: Journal) -> None:
    """After so many calls; no call is lost or done twice."""
    pid = task(lambda x: os.getpid())
    with ProcessBackend(1, max_calls_per_worker=10) as backend:
        pids = evaluate(pid.zip(x=range(100)), default_backend=backend)
    assert len(set(pids)) == 10
    assert {pids.count(each) for each in pids} == {10}


def test_what_workers_are_given() -> None:
    """Variables, modules that are there already, and a function that is called first."""

    def prepare() -> None:
        os.environ["PREPARED"] = "yes"

    @task
    def look() -> tuple[str | None, bool, str | None]:
        return os.environ.get("COLOUR"), "colorsys" in sys.modules, os.environ.get("PREPARED")

    with ProcessBackend(
        1, environment={"COLOUR": "red"}, preload=["colorsys"], initializer=prepare
    ) as backend:
        assert evaluate(look.bind(), default_backend=backend) == ("red", True, "yes")


def test_a_closed_backend() -> None:
    """It runs nothing any more, and says so."""
    backend = ProcessBackend(1)
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="the process pool is closed"):
        evaluate(task(lambda: 1).bind(), default_backend=backend)


def test_a_dead_dependency_sees_few_calls(backend: ProcessBackend, journal: Journal) -> None:
    """Each asks its circuit in the moment when a worker is free: threshold + W - 1."""

    @task(circuit_breaker=CircuitBreaker(consecutive=5, on_open="fail"))
    def call(x: int) -> None:
        journal.note(x)
        raise ConnectionError("down")

    with pytest.raises(ExecutionError):
        evaluate([call.bind(x) for x in range(100)], default_backend=backend, on_failure="continue")
    assert 5 <= len(journal.notes) <= 5 + backend.slots - 1


def test_a_probe_whose_worker_dies(journal: Journal) -> None:
    """It is a failure, and frees its place: the next probe closes the circuit."""

    @task(
        retry=RetryPolicy(1, "none", infrastructure_retries=3),
        circuit_breaker=CircuitBreaker(consecutive=1, break_for=0.1, on_open="park"),
    )
    def call(x: int) -> int:
        number = journal.note("call")
        if number == 1:
            raise ConnectionError("down")
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    changes: list[tuple[str, str]] = []

    class Circuits:
        def on_event(self, event: object) -> None:
            if isinstance(event, CircuitChanged):
                changes.append((event.before, event.after))

    with ProcessBackend(1) as one:
        found = evaluate(call.zip(x=range(20)), default_backend=one, callbacks=Circuits())
    assert found == list(range(20))
    assert changes == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
