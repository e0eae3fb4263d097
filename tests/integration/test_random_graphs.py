"""Random graphs give the same values however they are run, and run each call once."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import pytest

from daglite import ThreadBackend, evaluate, task
from daglite._clock import VirtualClock


class Graph:
    """
    A random graph, and what its values must be.

    Args:
        seed: Decides everything.
        nodes: How many nodes to make.
        flaky: How often a call fails before it succeeds: up to this many times, on a seed.
    """

    def __init__(self, seed: int, nodes: int, flaky: int) -> None:
        self.calls: Counter[tuple[int, Any]] = Counter()
        self.finished = 0
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._flaky = flaky
        futures: list[Any] = []
        values: list[Any] = []
        for number in range(nodes):
            future, value = self._node(number, futures, values)
            futures.append(future)
            values.append(value)
        self.future = futures
        self.value = values

    def _work(self, number: int, key: Any) -> None:
        """Count the call, and fail as often as it should."""
        with self._lock:
            self.calls[number, key] += 1
            times = self.calls[number, key]
            if times <= hash((number, key)) % (self._flaky + 1):
                raise OSError(f"{number} {key} {times}")
            self.finished += 1

    def _task(self, number: int) -> Any:
        def combine(xs: Any, y: Any = 0) -> int:
            total = (sum(xs) if isinstance(xs, list) else xs) + y
            self._work(number, total)
            return total % 1009

        made = task(combine, name=f"t{number}")
        return made.with_options(retry=self._flaky) if self._flaky else made

    def _node(self, number: int, futures: list[Any], values: list[Any]) -> tuple[Any, Any]:
        chosen = self._random.sample(range(number), min(number, self._random.randrange(4)))
        made = self._task(number)
        scalar = [(f, v) for f, v in ((futures[i], values[i]) for i in chosen)]
        flat = [sum(v) if isinstance(v, list) else v for _, v in scalar]
        kind = self._random.choice(["bind", "bind", "list", "extend", "zip", "map"])
        lists = [(f, v) for f, v in scalar if isinstance(v, list)]
        if kind == "map" and lists:
            future, value = lists[0]
            return made.zip(xs=future), [v % 1009 for v in value]
        if kind == "extend":
            xs, ys = [number, number + 1], [1, 2, 3]
            return made.extend(xs=xs, y=iter(ys)), [(x + y) % 1009 for x in xs for y in ys]
        if kind == "zip":
            xs = list(range(self._random.randrange(5)))
            return made.zip(xs=xs, y=(x for x in xs)), [2 * x % 1009 for x in xs]
        if kind == "list" and all(not isinstance(v, list) for _, v in scalar):
            return made.bind(xs=[f for f, _ in scalar], y=number), (sum(flat) + number) % 1009
        if scalar:
            return made.bind(xs=scalar[0][0], y=number), (flat[0] + number) % 1009
        return made.bind(number), number % 1009


class Silent:
    def on_event(self, event: object) -> None:
        """Hear everything, say nothing."""


def check(seed: int, nodes: int) -> None:
    """Run the graph of *seed* in every way there is."""
    for flaky in (0, 2):
        for backend in ("sequential", "threading", ThreadBackend(1)):
            for callbacks in ([], [Silent()]):
                graph = Graph(seed, nodes, flaky)
                options: dict[str, Any] = {"default_backend": backend, "callbacks": callbacks}
                with evaluate.context(clock=VirtualClock(), **options) as ctx:
                    assert ctx.evaluate(graph.future) == graph.value, (seed, flaky, backend)
                assert graph.finished == sum(
                    len(value) if isinstance(value, list) else 1 for value in graph.value
                )


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed: int) -> None:
    """A few graphs of some ten nodes."""
    check(seed, 5 + 3 * seed)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_many_random_graphs() -> None:
    """Hundreds of graphs of up to a hundred nodes."""
    for seed in range(1000, 1300):
        check(seed, 10 + seed % 90)
