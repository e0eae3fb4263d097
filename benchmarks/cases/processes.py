"""Calls in processes: short ones, one at a time, large results, and what a kill costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from benchmarks.model import Peer, Probe, Race, Reading, Run, Target
from benchmarks.workload import die, inc

__all__ = ["CASES"]

_WORKERS = 2
_LARGE = 200_000_000
"""Bytes of a large result."""

_KILLS = 20


def _executor(size: int) -> Run:
    pool = ProcessPoolExecutor(_WORKERS, mp_context=get_context("fork"))

    def run() -> object:
        return [future.result() for future in [pool.submit(inc, n) for n in range(size)]]

    return run


def _pebble(timeout: float | None) -> Callable[[int], Run]:
    def make(size: int) -> Run:
        from pebble import ProcessPool

        pool = ProcessPool(_WORKERS, context=get_context("fork"))

        def run() -> object:
            futures = [pool.schedule(inc, args=[n], timeout=timeout) for n in range(size)]
            return [future.result() for future in futures]

        return run

    return make


def _loky(size: int) -> Run:
    from loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=_WORKERS, timeout=None)

    def run() -> object:
        return [future.result() for future in [pool.submit(inc, n) for n in range(size)]]

    return run


def _daglite(**options: Any) -> Callable[[int], Run]:
    def make(size: int) -> Run:
        from daglite import ProcessBackend, evaluate, task

        backend = ProcessBackend(_WORKERS)
        step = task(inc).with_options(**options)

        def run() -> object:
            return evaluate(step.extend(x=range(size)), default_backend=backend)

        return run

    return make


def _executor_by_one(size: int) -> Run:
    pool = ProcessPoolExecutor(_WORKERS, mp_context=get_context("fork"))

    def run() -> object:
        value = 0
        for _ in range(size):
            value = pool.submit(inc, value).result()
        return value

    return run


def _daglite_by_one(size: int) -> Run:
    from daglite import ProcessBackend, evaluate, task

    backend = ProcessBackend(_WORKERS)
    step = task(inc)

    def run() -> object:
        future: Any = 0
        for _ in range(size):
            future = step.bind(x=future)
        return evaluate(future, default_backend=backend)

    return run


def _ones(size: int) -> Any:
    import numpy as np

    return np.ones(size, dtype=np.uint8)


def _executor_large(size: int) -> Run:
    pool = ProcessPoolExecutor(_WORKERS, mp_context=get_context("fork"))

    def run() -> object:
        return [pool.submit(_ones, _LARGE).result().nbytes for _ in range(size)]

    return run


def _daglite_large(size: int) -> Run:
    from daglite import ProcessBackend, evaluate, task

    backend = ProcessBackend(_WORKERS)
    step = task(_ones)

    def run() -> object:
        return [
            evaluate(step.bind(size=_LARGE), default_backend=backend).nbytes for _ in range(size)
        ]

    return run


@contextmanager
def _backend() -> Iterator[Any]:
    from daglite import ProcessBackend

    with ProcessBackend(_WORKERS) as backend:
        yield backend


def _idle() -> list[Reading]:
    from daglite import evaluate, task

    with _backend() as backend:
        evaluate(task(inc).extend(x=range(100)), default_backend=backend)
        before = time.process_time()
        time.sleep(2)
        idle = (time.process_time() - before) / 2
    return [Reading("CPU time of the driver of an idle pool, for each second", idle * 1e3, "ms", 1)]


def _replacement() -> list[Reading]:
    from daglite import evaluate, task
    from daglite.exceptions import WorkerDiedError

    waits = []
    with _backend() as backend:
        evaluate(task(inc).bind(x=1), default_backend=backend)
        for _ in range(_KILLS):
            began = time.perf_counter()
            for _ in range(_WORKERS):
                try:
                    evaluate(task(die).bind(x=1), default_backend=backend)
                except WorkerDiedError:
                    continue
            evaluate(task(inc).bind(x=1), default_backend=backend)
            waits.append((time.perf_counter() - began) / _WORKERS)
    median = statistics.median(waits) * 1e3
    return [Reading("a worker is dead and replaced after, median", median, "ms", 30)]


_SHORT = Race(
    name="processes-10000",
    title="10,000 short calls in 2 processes",
    size=10_000,
    answer=lambda n: list(range(1, n + 1)),
    peers=[
        Peer("ProcessPoolExecutor, fork", _executor),
        Peer("daglite", _daglite(), ["daglite"]),
        Peer("daglite, timeout", _daglite(timeout=30), ["daglite"]),
        Peer(
            "daglite, timeout, memory, CPU time",
            _daglite(timeout=30, max_memory="2GB", max_cpu_time=30),
            ["daglite"],
        ),
        Peer("pebble", _pebble(None), ["pebble"]),
        Peer("pebble, timeout", _pebble(30), ["pebble"]),
        Peer("loky", _loky, ["loky"]),
    ],
    targets=[
        Target("daglite", 1 / 4),
        Target("daglite, timeout", 1 / 3),
        Target("daglite, timeout, memory, CPU time", 1 / 2),
    ],
)

_BY_ONE = Race(
    name="processes-by-one",
    title="1,000 calls in a process, one after the other",
    size=1_000,
    answer=lambda n: n,
    peers=[
        Peer("ProcessPoolExecutor, fork", _executor_by_one),
        Peer("daglite", _daglite_by_one, ["daglite"]),
    ],
    targets=[Target("daglite", 1)],
)

_RESULTS = Race(
    name="processes-large",
    title="Results of 200 MB out of a process",
    size=3,
    answer=lambda n: [_LARGE] * n,
    peers=[
        Peer("ProcessPoolExecutor, fork", _executor_large, ["numpy"]),
        Peer("daglite", _daglite_large, ["daglite", "numpy"]),
    ],
    targets=[Target("daglite", 1 / 2)],
)

CASES = [
    _SHORT,
    _BY_ONE,
    _RESULTS,
    Probe("processes-idle", "An idle pool of processes", _idle, ["daglite"]),
    Probe("processes-killed", "A worker that is killed", _replacement, ["daglite"]),
]
