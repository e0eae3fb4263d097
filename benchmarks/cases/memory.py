"""Bytes a node: built, and at the peak of a run."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from graphlib import TopologicalSorter
from typing import Any, TypeAlias

from benchmarks.model import Probe, Reading
from benchmarks.workload import layers, same

__all__ = ["CASES"]

_NODES = 10_000

Built: TypeAlias = Any
Shape: TypeAlias = tuple[Callable[[], Built], Callable[[Built], object]]
"""What builds a graph, and what runs it."""


def _any(xs: list[int]) -> int:
    return 7


def _daglite() -> list[Reading]:
    readings = []
    for name, shape in _daglite_shapes().items():
        built, peak = _measured(shape)
        readings.append(Reading(f"{name}: a node built", built, "bytes", 500))
        readings.append(Reading(f"{name}: a node at the peak of a run", peak, "bytes", 1_000))
    return readings


def _daglite_shapes() -> dict[str, Shape]:
    from daglite import ThreadBackend, evaluate, task

    one, three, join = task(same), task(_three), task(_any)
    backend = ThreadBackend(max_workers=2)
    width, wiring = layers(_NODES)

    def chain() -> Built:
        node: Any = one.bind(x=7)
        for _ in range(_NODES - 1):
            node = one.bind(x=node)
        return node

    def wide() -> Built:
        return join.bind(xs=[one.bind(x=7) for _ in range(_NODES)])

    def layered() -> Built:
        values = [one.bind(x=7) for _ in range(width)]
        for layer in wiring:
            values = [three.bind(a=values[a], b=values[b], c=values[c]) for a, b, c in layer]
        return join.bind(xs=values)

    def on_threads(built: Built) -> object:
        return evaluate(built, default_backend=backend)

    shapes: dict[str, Shape] = {}
    for build in (chain, wide, layered):
        shapes[f"{build.__name__}, sequential"] = build, evaluate
        shapes[f"{build.__name__}, threading(2)"] = build, on_threads
    return shapes


def _three(a: int, b: int, c: int) -> int:
    return 7


def _networkx() -> list[Reading]:
    import networkx

    def build() -> Built:
        graph = networkx.DiGraph()
        graph.add_node(0, func=same, others=(7,))
        for key in range(1, _NODES):
            graph.add_node(key, func=same, others=())
            graph.add_edge(key - 1, key)
        return graph

    def run(graph: Built) -> object:
        results: dict[int, int] = {}
        key = 0
        for key in networkx.topological_sort(graph):
            node = graph.nodes[key]
            needs = [results[need] for need in graph.predecessors(key)]
            results[key] = node["func"](*needs, *node["others"])
        return results[key]

    return _readings("networkx, chain", (build, run))


def _graphlib() -> list[Reading]:
    def build() -> Built:
        calls: dict[int, Any] = {0: (same, (), (7,))}
        for key in range(1, _NODES):
            calls[key] = (same, (key - 1,), ())
        return calls

    def run(calls: Built) -> object:
        order = TopologicalSorter({key: needs for key, (_, needs, _) in calls.items()})
        results: dict[int, int] = {}
        key = 0
        for key in order.static_order():
            func, needs, others = calls[key]
            results[key] = func(*[results[need] for need in needs], *others)
        return results[key]

    return _readings("graphlib + calls, chain", (build, run))


def _readings(name: str, shape: Shape) -> list[Reading]:
    built, peak = _measured(shape)
    return [
        Reading(f"{name}: a node built", built, "bytes"),
        Reading(f"{name}: a node at the peak of a run", peak, "bytes"),
    ]


def _measured(shape: Shape) -> tuple[float, float]:
    """Return the bytes a node of a built graph, and of all that is held at a run's peak."""
    build, run = shape
    assert run(build()) == 7
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        built = build()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert run(built) == 7
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / _NODES, (peak - before) / _NODES


CASES = [
    Probe("memory", f"Memory of {_NODES:,} nodes, daglite", _daglite, ["daglite"]),
    Probe("memory-networkx", f"Memory of {_NODES:,} nodes, networkx", _networkx, ["networkx"]),
    Probe("memory-graphlib", f"Memory of {_NODES:,} nodes, graphlib", _graphlib),
]
