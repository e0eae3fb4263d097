"""
What a user would write without daglite: `graphlib` or networkx for the order, calls by hand.

A graph is a dict: key -> function, keys of the calls whose results it takes, other arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from graphlib import TopologicalSorter
from queue import SimpleQueue
from typing import Any, TypeAlias

from benchmarks.model import Make, Peer, Run
from benchmarks.workload import total

__all__ = ["GRAPHLIB", "GRAPHLIB_THREADS", "Calls", "graph_peers", "total_of"]

Calls: TypeAlias = dict[int, tuple[Callable[..., Any], tuple[int, ...], tuple[Any, ...]]]
Draw: TypeAlias = Callable[[int], Calls]
"""Size -> the calls; the last one gives the result."""

GRAPHLIB = "graphlib + calls"
GRAPHLIB_THREADS = "graphlib + ThreadPoolExecutor(2)"


def total_of(*xs: int) -> int:
    """Join results that come as arguments of their own."""
    return total(xs)


def graph_peers(draw: Draw, dask_most: int | None = None) -> list[Peer]:
    """
    Return the peers that run any graph of calls.

    Args:
        draw: Writes the calls down; that counts, like building any graph.
        dask_most: A size that dask can stand.
    """
    return [
        Peer(GRAPHLIB, _graphlib(draw)),
        Peer(GRAPHLIB_THREADS, _graphlib_threads(draw)),
        Peer("networkx order + calls", _networkx(draw), needs=["networkx"]),
        Peer("dask raw graph, sync", _dask_raw(draw), needs=["dask"], size=dask_most),
    ]


def _graphlib(draw: Draw) -> Make:
    def make(size: int) -> Run:
        def run() -> object:
            calls = draw(size)
            order = TopologicalSorter({key: needs for key, (_, needs, _) in calls.items()})
            results: dict[int, Any] = {}
            key = 0
            for key in order.static_order():
                func, needs, others = calls[key]
                results[key] = func(*[results[need] for need in needs], *others)
            return results[key]

        return run

    return make


def _graphlib_threads(draw: Draw) -> Make:
    def make(size: int) -> Run:
        pool = ThreadPoolExecutor(2)

        def run() -> object:
            calls = draw(size)
            order = TopologicalSorter({key: needs for key, (_, needs, _) in calls.items()})
            order.prepare()
            results: dict[int, Any] = {}
            keys: dict[Future[Any], int] = {}
            done: SimpleQueue[Future[Any]] = SimpleQueue()
            key = 0
            while order.is_active():
                for key in order.get_ready():
                    func, needs, others = calls[key]
                    future = pool.submit(func, *[results[need] for need in needs], *others)
                    keys[future] = key
                    future.add_done_callback(done.put)
                ended = done.get()
                key = keys.pop(ended)
                results[key] = ended.result()
                order.done(key)
            return results[key]

        return run

    return make


def _networkx(draw: Draw) -> Make:
    def make(size: int) -> Run:
        import networkx

        def run() -> object:
            calls = draw(size)
            graph = networkx.DiGraph()
            graph.add_nodes_from(calls)
            for key, (_, needs, _) in calls.items():
                for need in needs:
                    graph.add_edge(need, key)
            results: dict[int, Any] = {}
            key = 0
            for key in networkx.topological_sort(graph):
                func, needs, others = calls[key]
                results[key] = func(*[results[need] for need in needs], *others)
            return results[key]

        return run

    return make


def _dask_raw(draw: Draw) -> Make:
    def make(size: int) -> Run:
        import dask

        def run() -> object:
            calls = draw(size)
            # Keys are text, as an int would also stand for itself among the arguments.
            names = {key: f"n{key}" for key in calls}
            graph = {
                names[key]: (func, *[names[need] for need in needs], *others)
                for key, (func, needs, others) in calls.items()
            }
            return dask.get(graph, list(names.values())[-1])

        return run

    return make
