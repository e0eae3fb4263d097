"""Random graphs give the same values however they are run, and run each call as often as due."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import pytest

from daglite import MapTaskFuture, ThreadBackend, evaluate, task
from daglite._clock import VirtualClock


class Graph:
    """
    A random graph, and what its values and its calls must be.

    Each call is known by its node and by what it adds up, which decides how often it fails.

    Args:
        seed: Decides everything.
        nodes: How many nodes to make.
        flaky: How often a call fails before it succeeds: up to this many times, on a seed.
    """

    def __init__(self, seed: int, nodes: int, flaky: int) -> None:
        self.calls: Counter[tuple[int, int]] = Counter()
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._flaky = flaky
        self.futures: list[Any] = []
        self.values: list[Any] = []
        self._sums: list[list[int]] = []
        self._needs: list[list[int]] = []
        for number in range(nodes):
            self._add(number)

    def last(self, roots: int) -> tuple[list[Any], list[Any], Counter[tuple[int, int]]]:
        """The last *roots* nodes with their values, and the calls that this takes."""
        needed = set(range(len(self.futures) - roots, len(self.futures)))
        calls: Counter[tuple[int, int]] = Counter()
        for number in reversed(range(len(self.futures))):
            if number in needed:
                needed.update(self._needs[number])
                calls.update((number, total) for total in self._sums[number])
        for call in calls:
            calls[call] += self._failures(*call)
        return self.futures[-roots:], self.values[-roots:], calls

    def _failures(self, number: int, total: int) -> int:
        return hash((number, total)) % (self._flaky + 1)

    def _work(self, number: int, total: int) -> None:
        """Count the call, and fail as often as it should."""
        with self._lock:
            self.calls[number, total] += 1
            times = self.calls[number, total]
        if times <= self._failures(number, total):
            raise OSError(f"{number} {total} {times}")

    def _task(self, number: int) -> Any:
        def combine(xs: Any, y: Any = 0) -> int:
            total = (sum(xs) if isinstance(xs, list) else xs) + y
            self._work(number, total)
            return total % 1009

        made = task(combine, name=f"t{number}")
        return made.with_options(retry=self._flaky) if self._flaky else made

    def _add(self, number: int) -> None:
        """Make node *number*, which needs up to three of those before it."""
        drawn = self._random.sample(range(number), min(number, self._random.randrange(4)))
        kind = self._random.choice(["bind", "bind", "list", "extend", "zip", "map"])
        made, futures, values = self._task(number), self.futures, self.values
        lists = [i for i in drawn if isinstance(values[i], list)]
        needs: list[int] = []
        if kind == "map" and lists:
            needs = lists[:1]
            future, sums = made.zip(xs=futures[needs[0]]), list(values[needs[0]])
        elif kind == "extend":
            xs, ys = [number, number + 1], [1, 2, 3]
            future, sums = made.extend(xs=xs, y=iter(ys)), [x + y for x in xs for y in ys]
        elif kind == "zip":
            xs = list(range(self._random.randrange(5)))
            future, sums = made.zip(xs=xs, y=(x for x in xs)), [2 * x for x in xs]
        elif kind == "list" and not lists:
            needs = drawn
            future = made.bind(xs=[futures[i] for i in needs], y=number)
            sums = [sum(values[i] for i in needs) + number]
        elif drawn:
            needs = drawn[:1]
            value = values[needs[0]]
            future = made.bind(xs=futures[needs[0]], y=number)
            sums = [(sum(value) if isinstance(value, list) else value) + number]
        else:
            future, sums = made.bind(number), [number]
        results = [total % 1009 for total in sums]
        self.futures.append(future)
        self.values.append(results if isinstance(future, MapTaskFuture) else results[0])
        self._sums.append(sums)
        self._needs.append(needs)


class Silent:
    def on_event(self, event: object) -> None:
        """Hear everything, say nothing."""


def check(seed: int, nodes: int) -> None:
    """Run the graph of *seed* in every way there is, all of it and what its last nodes need."""
    for flaky in (0, 2):
        for backend in ("sequential", "threading", ThreadBackend(1)):
            for callbacks in ([], [Silent()]):
                for roots in (nodes, 1 + nodes // 8):
                    graph = Graph(seed, nodes, flaky)
                    futures, values, calls = graph.last(roots)
                    options: dict[str, Any] = {"default_backend": backend, "callbacks": callbacks}
                    with evaluate.context(clock=VirtualClock(), **options) as ctx:
                        assert ctx.evaluate(futures) == values, (seed, flaky, backend)
                    assert graph.calls == calls, (seed, flaky, backend)


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
