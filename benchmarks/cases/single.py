"""One call, and all that stands around it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.by_hand import Calls, graph_peers
from benchmarks.model import Peer, Race, Run, Target
from benchmarks.workload import add

__all__ = ["CASES"]


def _plain(size: int) -> Run:
    def run() -> object:
        value = 0
        for _ in range(size):
            value = add(1, 1)
        return value

    return run


def _daglite(size: int) -> Run:
    from daglite import evaluate, task

    step = task(add)

    def run() -> object:
        value = 0
        for _ in range(size):
            value = evaluate(step.bind(x=1, y=1))
        return value

    return run


def _daglite_threads(size: int) -> Run:
    from daglite import ThreadBackend, evaluate, task

    step = task(add)
    backend = ThreadBackend(max_workers=2)

    def run() -> object:
        value = 0
        for _ in range(size):
            value = evaluate(step.bind(x=1, y=1), default_backend=backend)
        return value

    return run


def _pool(size: int) -> Run:
    pool = ThreadPoolExecutor(2)

    def run() -> object:
        value = 0
        for _ in range(size):
            value = pool.submit(add, 1, 1).result()
        return value

    return run


def _delayed(size: int) -> Run:
    from dask import delayed

    step = delayed(add)

    def run() -> object:
        value = 0
        for _ in range(size):
            value = step(1, 1).compute(scheduler="sync")
        return value

    return run


def _pipefunc(size: int) -> Run:
    from pipefunc import PipeFunc, Pipeline

    pipeline = Pipeline([PipeFunc(add, output_name="sum")])

    def run() -> object:
        value = 0
        for _ in range(size):
            value = pipeline("sum", x=1, y=1)
        return value

    return run


def _one(size: int) -> Calls:
    return {0: (add, (), (1, 1))}


def _again(peer: Peer) -> Peer:
    """Return a peer that runs its graph of one call as often as the race says."""

    def make(size: int) -> Run:
        once = peer.make(1)

        def run() -> object:
            value: object = None
            for _ in range(size):
                value = once()
            return value

        return run

    return Peer(peer.name, make, peer.needs)


CASES = [
    Race(
        name="single",
        title="One evaluate of one task, warm",
        size=500,
        answer=lambda _: 2,
        peers=[
            Peer("plain call", _plain),
            Peer("daglite, sequential", _daglite, ["daglite"]),
            Peer("daglite, threading(2)", _daglite_threads, ["daglite"]),
            *[_again(peer) for peer in graph_peers(_one)],
            Peer("ThreadPoolExecutor(2)", _pool),
            Peer("dask.delayed, sync", _delayed, ["dask"]),
            Peer("pipefunc, built before", _pipefunc, ["pipefunc"]),
        ],
        targets=[Target("daglite, sequential", 15, measure="total")],
    )
]
