"""Where the time of a node goes: bind it, build the graph, run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.model import Make, Peer, Race, Run
from benchmarks.workload import add, inc, layers, mix, source, total

__all__ = ["CASES"]

_SIZE = 1_000

Bind = Callable[[int], Callable[[], Any]]
Then = Callable[[], Callable[[Any], object]]


def _chain(size: int) -> Callable[[], Any]:
    from daglite import task

    step = task(add)

    def bind() -> Any:
        value: Any = 0
        for _ in range(size):
            value = step.bind(x=value, y=1)
        return value

    return bind


def _wide(size: int) -> Callable[[], Any]:
    from daglite import task

    step, join = task(inc), task(total)
    return lambda: join.bind(xs=[step.bind(x=number) for number in range(size)])


def _layered(size: int) -> Callable[[], Any]:
    from daglite import task

    first, step, join = task(source), task(mix), task(total)
    width, wiring = layers(size)

    def bind() -> Any:
        values = [first.bind(x=number) for number in range(width)]
        for layer in wiring:
            values = [step.bind(a=values[a], b=values[b], c=values[c]) for a, b, c in layer]
        return join.bind(xs=values)

    return bind


def _bound() -> Callable[[Any], object]:
    return lambda future: None


def _built() -> Callable[[Any], object]:
    from daglite import build_graph

    return build_graph


def _run() -> Callable[[Any], object]:
    from daglite import evaluate

    return evaluate


def _run_threads() -> Callable[[Any], object]:
    from daglite import ThreadBackend, evaluate

    backend = ThreadBackend(max_workers=2)
    return lambda future: evaluate(future, default_backend=backend)


def _phase(bind: Bind, then: Then) -> Make:
    def make(size: int) -> Run:
        new, further = bind(size), then()

        def run() -> object:
            further(new())
            return True

        return run

    return make


def _peers(shape: str, bind: Bind) -> Iterator[Peer]:
    yield Peer(f"{shape}: bind", _phase(bind, _bound), ["daglite"])
    yield Peer(f"{shape}: bind, build_graph", _phase(bind, _built), ["daglite"])
    yield Peer(f"{shape}: bind, evaluate, sequential", _phase(bind, _run), ["daglite"])
    yield Peer(f"{shape}: bind, evaluate, threading(2)", _phase(bind, _run_threads), ["daglite"])


CASES = [
    Race(
        name="phases",
        title=f"Where the time of a node goes, {_SIZE:,} nodes (against binding a chain)",
        size=_SIZE,
        answer=lambda _: True,
        unit="node",
        peers=[
            *_peers("chain", _chain),
            *_peers("wide", _wide),
            *_peers("layered", _layered),
        ],
    )
]
