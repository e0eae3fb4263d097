"""
The calls themselves: functions that do next to nothing, and the shapes they're wired into.

Every peer gets the same functions, annotated as a user would write them.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterable
from functools import cache

__all__ = [
    "Layers",
    "add",
    "chain_answer",
    "die",
    "inc",
    "layered_answer",
    "layers",
    "mix",
    "same",
    "source",
    "total",
    "wide_answer",
]

Layers = tuple[int, tuple[tuple[tuple[int, int, int], ...], ...]]
"""Sources, then for each layer, for each of its nodes: three places in the layer before."""


def add(x: int, y: int) -> int:
    """Do next to nothing, with two arguments."""
    return x + y


def die(x: int) -> None:
    """Kill the process that this is called in; here, where a fresh one has little to import."""
    os.kill(os.getpid(), signal.SIGKILL)


def inc(x: int) -> int:
    """Do next to nothing, with one argument."""
    return x + 1


def source(x: int) -> int:
    """Return *x*."""
    return x


def mix(a: int, b: int, c: int) -> int:
    """Do next to nothing, with three arguments; the result stays small."""
    return a ^ b ^ c


def same(x: int) -> int:
    """Return one and the same small int, so that results take no memory."""
    return 7


def total(xs: Iterable[int]) -> int:
    """Join: as cheap as anything that looks at all results can be."""
    return sum(xs)


@cache
def layers(size: int) -> Layers:
    """Draw *size* nodes in layers, seeded: ten to a layer, or up to a hundred if there are many."""
    width = max(10, min(100, size // 20))
    draw = random.Random(f"layers {size}")
    places = range(width)
    depth = size // width - 1
    return width, tuple(tuple(_three(draw, places) for _ in places) for _ in range(depth))


def chain_answer(size: int) -> int:
    """Return the end of a chain of `add(x, 1)` from 0."""
    return size


def wide_answer(size: int) -> int:
    """Return the sum of `inc` over the first numbers."""
    return size * (size + 1) // 2


def layered_answer(size: int) -> int:
    """Return the sum of the last layer."""
    width, wiring = layers(size)
    values = list(range(width))
    for layer in wiring:
        values = [values[a] ^ values[b] ^ values[c] for a, b, c in layer]
    return sum(values)


def _three(draw: random.Random, places: range) -> tuple[int, int, int]:
    a, b, c = draw.sample(places, 3)
    return a, b, c
