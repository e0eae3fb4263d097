"""Calls that use memory, CPU time, and what numerical libraries use; they load nothing of ours."""

from __future__ import annotations

import importlib
import itertools
import mmap
import os
import time
from typing import Any

from tests.backends.faults import MB


def hold(size: int, how: str) -> int:
    """Have *size* bytes in use for a moment."""
    if how == "pieces":
        kept = [b"x" * MB for _ in range(size // MB)]
        return len(kept)
    if how == "at once":
        return len(b"x" * size)
    if how == "shared":
        shared = mmap.mmap(-1, size)
        for start in range(0, size, mmap.PAGESIZE):
            shared[start] = 1
        time.sleep(0.3)
        return len(shared)
    assert how == "children"
    for _ in range(4):
        if not os.fork():
            held = b"x" * (size // 4)
            time.sleep(0.3)
            os._exit(len(held) > size)
    return sum(os.wait()[1] for _ in range(4))


def burn(seconds: float) -> float:
    """Use CPU time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(itertools.repeat(1, 10_000))
    return seconds


def burn_in_child(seconds: float) -> int:
    """The same, in a child that has ended when this returns."""
    child = os.fork()
    if not child:
        burn(seconds)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def leave(size: int, seconds: float) -> int:
    """Leave a child process behind that holds so much and then uses CPU time; its number."""
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        held = b"x" * size
        burn(seconds)
        os.write(told, b".")
        time.sleep(60)
        os._exit(len(held) > size)
    os.read(heard, 1)
    return child


def multiply(size: int) -> float:
    """With numpy, whose BLAS makes threads."""
    numpy: Any = importlib.import_module("numpy")
    matrix = numpy.ones((size, size))
    return float((matrix @ matrix).sum())


def group(rows: int) -> float:
    """With pandas."""
    pandas: Any = importlib.import_module("pandas")
    frame = pandas.DataFrame({"key": range(rows), "value": 1.0})
    frame["key"] %= 10
    return float(frame.groupby("key")["value"].sum().sum())


def array(size: int) -> Any:
    """Of numpy, with so many bytes."""
    numpy: Any = importlib.import_module("numpy")
    return numpy.arange(size // 8)


def sum_of(values: Any) -> float:
    return float(values.sum())
