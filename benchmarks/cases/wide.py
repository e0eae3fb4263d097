"""Many calls that know nothing of each other, and one that joins them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.by_hand import GRAPHLIB, Calls, graph_peers, total_of
from benchmarks.model import Peer, Race, Run, Target
from benchmarks.workload import inc, total, wide_answer

__all__ = ["CASES", "daglite_sequential", "daglite_threads", "plain"]


def plain(size: int) -> Run:
    """Return the baseline."""

    def run() -> object:
        values = []
        for number in range(size):
            values.append(inc(number))
        return total(values)

    return run


def daglite_sequential(size: int) -> Run:
    """Return daglite on the caller's thread."""
    from daglite import evaluate, task

    step, join = task(inc), task(total)

    def run() -> object:
        return evaluate(join.bind(xs=[step.bind(x=number) for number in range(size)]))

    return run


def daglite_threads(size: int) -> Run:
    """Return daglite on two threads."""
    from daglite import ThreadBackend, evaluate, task

    step, join = task(inc), task(total)
    backend = ThreadBackend(max_workers=2)

    def run() -> object:
        joined = join.bind(xs=[step.bind(x=number) for number in range(size)])
        return evaluate(joined, default_backend=backend)

    return run


def _calls(size: int) -> Calls:
    calls: Calls = {key: (inc, (), (key,)) for key in range(size)}
    calls[size] = (total_of, tuple(range(size)), ())
    return calls


def _pool(size: int) -> Run:
    pool = ThreadPoolExecutor(2)

    def run() -> object:
        futures = [pool.submit(inc, number) for number in range(size)]
        return total([future.result() for future in futures])

    return run


def _joblib(size: int) -> Run:
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=2, backend="threading")

    def run() -> object:
        return total(parallel(delayed(inc)(number) for number in range(size)))

    return run


def _delayed(scheduler: str, size: int) -> Run:
    from dask import delayed

    step, join = delayed(inc), delayed(total)

    def run() -> object:
        joined = join([step(number) for number in range(size)])
        return joined.compute(scheduler=scheduler, num_workers=2)

    return run


def _pipefunc(size: int) -> Run:
    from pipefunc import PipeFunc, Pipeline

    def run() -> object:
        steps = [
            PipeFunc(inc, output_name="y", mapspec="x[i] -> y[i]"),
            PipeFunc(total, output_name="joined", renames={"xs": "y"}),
        ]
        numbers = {"x": list(range(size))}
        results = Pipeline(steps, validate_type_annotations=False).map(
            numbers, parallel=False, storage="dict", show_progress=False
        )
        return int(results["joined"].output)

    return run


def _race(size: int) -> Race:
    return Race(
        name=f"wide-{size}",
        title=f"Wide: {size:,} and a join",
        size=size,
        answer=wide_answer,
        large=size > 1_000,
        peers=[
            Peer("plain loop", plain),
            Peer("daglite, sequential", daglite_sequential, needs=["daglite"]),
            Peer("daglite, threading(2)", daglite_threads, needs=["daglite"]),
            *graph_peers(_calls),
            Peer("ThreadPoolExecutor(2)", _pool),
            Peer("joblib, threading(2)", _joblib, needs=["joblib"]),
            Peer("dask.delayed, sync", lambda n: _delayed("sync", n), ["dask"]),
            Peer("dask.delayed, threads", lambda n: _delayed("threads", n), ["dask"]),
            Peer("pipefunc (as a map)", _pipefunc, ["pipefunc"]),
        ],
        targets=[
            Target("daglite, sequential", 42),
            Target("daglite, sequential", 0.95, against=GRAPHLIB),
            Target("daglite, threading(2)", 0.6, against="ThreadPoolExecutor(2)"),
        ],
    )


CASES = [_race(1_000), _race(10_000)]
