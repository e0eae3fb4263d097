"""A chain: every call takes the result of the one before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.by_hand import GRAPHLIB, Calls, graph_peers
from benchmarks.model import Peer, Race, Run, Target
from benchmarks.workload import add, chain_answer

__all__ = ["CASES", "daglite_sequential", "daglite_threads", "plain"]


def plain(size: int) -> Run:
    """Return the baseline."""

    def run() -> object:
        value = 0
        for _ in range(size):
            value = add(value, 1)
        return value

    return run


def daglite_sequential(size: int) -> Run:
    """Return daglite on the caller's thread."""
    from daglite import evaluate, task

    step = task(add)

    def run() -> object:
        value: Any = 0
        for _ in range(size):
            value = step.bind(x=value, y=1)
        return evaluate(value)

    return run


def daglite_threads(size: int) -> Run:
    """Return daglite on two threads."""
    from daglite import ThreadBackend, evaluate, task

    step = task(add)
    backend = ThreadBackend(max_workers=2)

    def run() -> object:
        value: Any = 0
        for _ in range(size):
            value = step.bind(x=value, y=1)
        return evaluate(value, default_backend=backend)

    return run


def _calls(size: int) -> Calls:
    calls: Calls = {0: (add, (), (0, 1))}
    for key in range(1, size):
        calls[key] = (add, (key - 1,), (1,))
    return calls


def _pool(size: int) -> Run:
    pool = ThreadPoolExecutor(2)

    def run() -> object:
        value = 0
        for _ in range(size):
            value = pool.submit(add, value, 1).result()
        return value

    return run


def _delayed(scheduler: str, size: int) -> Run:
    from dask import delayed

    step = delayed(add)

    def run() -> object:
        value: Any = 0
        for _ in range(size):
            value = step(value, 1)
        return value.compute(scheduler=scheduler, num_workers=2)

    return run


def _pipefunc(size: int) -> Run:
    from pipefunc import PipeFunc, Pipeline

    def run() -> object:
        steps = [
            PipeFunc(add, output_name=f"n{i + 1}", renames={"x": f"n{i}"}, bound={"y": 1})
            for i in range(size)
        ]
        return Pipeline(steps)(f"n{size}", n0=0)

    return run


def _race(size: int) -> Race:
    return Race(
        name=f"chain-{size}",
        title=f"Chain of {size:,}",
        size=size,
        answer=chain_answer,
        large=size > 1_000,
        peers=[
            Peer("plain loop", plain),
            Peer("daglite, sequential", daglite_sequential, needs=["daglite"]),
            Peer("daglite, threading(2)", daglite_threads, needs=["daglite"]),
            *graph_peers(_calls),
            Peer("ThreadPoolExecutor(2)", _pool),
            Peer("dask.delayed, sync", lambda n: _delayed("sync", n), ["dask"], size=1_000),
            Peer("dask.delayed, threads", lambda n: _delayed("threads", n), ["dask"], size=1_000),
            Peer("pipefunc", _pipefunc, ["pipefunc"], size=100),
        ],
        targets=[
            Target("daglite, sequential", 50),
            Target("daglite, sequential", 0.8, against=GRAPHLIB),
            Target("daglite, threading(2)", 0.7, against="ThreadPoolExecutor(2)"),
        ],
    )


CASES = [_race(1_000), _race(10_000)]
