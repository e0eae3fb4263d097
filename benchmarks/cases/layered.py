"""Random layers: every call takes three results of the layer before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from benchmarks.by_hand import GRAPHLIB, Calls, graph_peers, total_of
from benchmarks.model import Peer, Race, Run, Target
from benchmarks.workload import layered_answer, layers, mix, source, total

__all__ = ["CASES", "daglite_sequential", "daglite_threads", "plain"]


def plain(size: int) -> Run:
    """Return the baseline: a loop that keeps its results by node, as the wiring is random."""
    width, wiring = layers(size)
    wires = []
    for depth, layer in enumerate(wiring):
        start = depth * width
        wires += [(start + a, start + b, start + c) for a, b, c in layer]

    def run() -> object:
        results = {}
        node = 0
        for node in range(width):
            results[node] = source(node)
        for a, b, c in wires:
            node += 1
            results[node] = mix(results[a], results[b], results[c])
        return total([results[key] for key in range(node - width + 1, node + 1)])

    return run


def daglite_sequential(size: int) -> Run:
    """Return daglite on the caller's thread."""
    from daglite import evaluate, task

    first, step, join = task(source), task(mix), task(total)
    width, wiring = layers(size)

    def run() -> object:
        values = [first.bind(x=number) for number in range(width)]
        for layer in wiring:
            values = [step.bind(a=values[a], b=values[b], c=values[c]) for a, b, c in layer]
        return evaluate(join.bind(xs=values))

    return run


def daglite_threads(size: int) -> Run:
    """Return daglite on two threads."""
    from daglite import ThreadBackend, evaluate, task

    first, step, join = task(source), task(mix), task(total)
    backend = ThreadBackend(max_workers=2)
    width, wiring = layers(size)

    def run() -> object:
        values = [first.bind(x=number) for number in range(width)]
        for layer in wiring:
            values = [step.bind(a=values[a], b=values[b], c=values[c]) for a, b, c in layer]
        return evaluate(join.bind(xs=values), default_backend=backend)

    return run


def _calls(size: int) -> Calls:
    width, wiring = layers(size)
    calls: Calls = {key: (source, (), (key,)) for key in range(width)}
    start = 0
    for layer in wiring:
        for place, (a, b, c) in enumerate(layer, start + width):
            calls[place] = (mix, (start + a, start + b, start + c), ())
        start += width
    calls[start + width] = (total_of, tuple(range(start, start + width)), ())
    return calls


def _pool(size: int) -> Run:
    pool = ThreadPoolExecutor(2)
    width, wiring = layers(size)

    def run() -> object:
        futures = [pool.submit(source, number) for number in range(width)]
        for layer in wiring:
            values = [future.result() for future in futures]
            futures = [pool.submit(mix, values[a], values[b], values[c]) for a, b, c in layer]
        return total([future.result() for future in futures])

    return run


def _delayed(scheduler: str, size: int) -> Run:
    from dask import delayed

    first, step, join = delayed(source), delayed(mix), delayed(total)
    width, wiring = layers(size)

    def run() -> object:
        values = [first(number) for number in range(width)]
        for layer in wiring:
            values = [step(values[a], values[b], values[c]) for a, b, c in layer]
        return join(values).compute(scheduler=scheduler, num_workers=2)

    return run


def _pipefunc(size: int) -> Run:
    from pipefunc import PipeFunc, Pipeline

    width, wiring = layers(size)

    def run() -> object:
        steps = [PipeFunc(source, output_name=f"n0_{i}", bound={"x": i}) for i in range(width)]
        for depth, layer in enumerate(wiring):
            for i, places in enumerate(layer):
                renames = {p: f"n{depth}_{x}" for p, x in zip("abc", places, strict=True)}
                steps.append(PipeFunc(mix, output_name=f"n{depth + 1}_{i}", renames=renames))
        pipeline = Pipeline(steps)
        return total([pipeline(f"n{len(wiring)}_{i}") for i in range(width)])

    return run


def _race(size: int) -> Race:
    return Race(
        name=f"layered-{size}",
        title=f"Random layers: {size:,}, each with 3 inputs, and a join",
        size=size,
        answer=layered_answer,
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
            Target("daglite, sequential", 22),
            Target("daglite, sequential", 1.1, against=GRAPHLIB),
            Target("daglite, threading(2)", 0.75, against="ThreadPoolExecutor(2)"),
        ],
    )


CASES = [_race(1_000), _race(10_000)]
