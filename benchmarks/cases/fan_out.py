"""A map: one task over many elements."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.model import Peer, Race, Run, Target
from benchmarks.workload import inc

__all__ = ["CASES", "Silent"]


class Silent:
    """A callback that is told everything, and does nothing."""

    def on_node_start(self, node_id: int, node_name: str) -> None:
        """Do nothing."""

    def on_node_complete(self, node_id: int, result: object) -> None:
        """Do nothing."""

    def on_node_error(self, node_id: int, error: BaseException) -> None:
        """Do nothing."""

    def on_event(self, event: object) -> None:
        """Do nothing."""


def _plain(size: int) -> Run:
    def run() -> object:
        values = []
        for number in range(size):
            values.append(inc(number))
        return values

    return run


def _daglite(threads: bool, callbacks: bool) -> Callable[[int], Run]:
    def make(size: int) -> Run:
        from daglite import ThreadBackend, evaluate, task

        step = task(inc)
        how: dict[str, Any] = {}
        if threads:
            how["default_backend"] = ThreadBackend(max_workers=2)
        if callbacks:
            how["callbacks"] = [Silent()]

        def run() -> object:
            return evaluate(step.extend(x=range(size)), **how)

        return run

    return make


def _executor_map(size: int) -> Run:
    pool = ThreadPoolExecutor(2)

    def run() -> object:
        return list(pool.map(inc, range(size)))

    return run


def _joblib(jobs: int, size: int) -> Run:
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=jobs, backend="threading")

    def run() -> object:
        return parallel(delayed(inc)(number) for number in range(size))

    return run


def _dask_bag(scheduler: str, size: int) -> Run:
    from dask import bag

    def run() -> object:
        numbers = bag.from_sequence(range(size), npartitions=2)
        return list(numbers.map(inc).compute(scheduler=scheduler, num_workers=2))

    return run


def _pipefunc(size: int) -> Run:
    from pipefunc import PipeFunc, Pipeline

    def run() -> object:
        pipeline = Pipeline([PipeFunc(inc, output_name="y", mapspec="x[i] -> y[i]")])
        numbers = {"x": list(range(size))}
        results = pipeline.map(numbers, parallel=False, storage="dict", show_progress=False)
        return list(results["y"].output)

    return run


def _race(size: int) -> Race:
    return Race(
        name=f"map-{size}",
        title=f"Map over {size:,}",
        size=size,
        answer=lambda n: list(range(1, n + 1)),
        large=size > 10_000,
        peers=[
            Peer("plain loop", _plain),
            Peer("daglite, sequential", _daglite(False, False), ["daglite"]),
            Peer("daglite, sequential, all on", _daglite(False, True), ["daglite"]),
            Peer("daglite, threading(2)", _daglite(True, False), ["daglite"]),
            Peer("daglite, threading(2), all on", _daglite(True, True), ["daglite"]),
            Peer("executor.map(2)", _executor_map),
            Peer("joblib, n_jobs=1", lambda n: _joblib(1, n), ["joblib"]),
            Peer("joblib, threading(2)", lambda n: _joblib(2, n), ["joblib"]),
            Peer("dask.bag, 2 partitions, sync", lambda n: _dask_bag("sync", n), ["dask"]),
            Peer("dask.bag, 2 partitions, threads", lambda n: _dask_bag("threads", n), ["dask"]),
            Peer("pipefunc", _pipefunc, ["pipefunc"]),
        ],
        targets=[
            Target("daglite, sequential", 2.5),
            Target("daglite, sequential, all on", 8),
            Target("daglite, threading(2)", 0.1, against="executor.map(2)"),
        ],
    )


CASES = [_race(10_000), _race(100_000)]
