"""
The far side: one process, one peer, asked for one round after the other.

    runner ──"first"──► worker    prepared, run once: how long it took
           ──"round"──► worker    best of several repeats: wall and CPU time
           ──  None ──► worker    ends
"""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from benchmarks.cases import CASES
from benchmarks.model import Probe, Race, Run

__all__ = ["Failed", "Sample", "serve_peer", "serve_probe"]

FEWEST = 3
"""Repeats in a round, however long one takes."""

MOST = 200
"""Repeats in a round, however short one is."""


@dataclass(frozen=True)
class Sample:
    """
    The best of one round.

    Attributes:
        wall: Seconds on the clock.
        cpu: Seconds of CPU, of all threads and of ended child processes.
    """

    wall: float
    cpu: float


@dataclass(frozen=True)
class Failed:
    """The peer raised, or came to another result."""

    message: str


def serve_peer(pipe: Connection, case: str, peer: str, budget: float) -> None:
    """
    Measure a peer whenever the runner asks for it.

    Args:
        budget: Seconds that the repeats of a round may take, where they aren't the fewest.
    """

    def rounds() -> None:
        race = CASES[case]
        assert isinstance(race, Race)
        found = race.peer(peer)
        size = found.size or race.size
        answer = race.answer(size)
        run = found.make(size)
        pipe.send("prepared")
        while (asked := pipe.recv()) is not None:
            fewest, most = (1, 1) if asked == "first" else (FEWEST, MOST)
            pipe.send(_round(run, answer, budget, fewest, most))

    _guarded(pipe, rounds)


def serve_probe(pipe: Connection, case: str) -> None:
    """Take the readings of a probe."""

    def readings() -> None:
        probe = CASES[case]
        assert isinstance(probe, Probe)
        pipe.send(probe.measure())

    _guarded(pipe, readings)


def _guarded(pipe: Connection, serve: Callable[[], None]) -> None:
    os.setpgid(0, 0)
    try:
        serve()
    except Exception as error:
        pipe.send(Failed(f"{type(error).__name__}: {error}".split("\n", 1)[0][:120]))
    # Some peers leave threads behind that would keep the process.
    pipe.close()
    os._exit(0)


def _round(run: Run, answer: object, budget: float, fewest: int, most: int) -> Sample:
    best_wall = best_cpu = float("inf")
    repeats, spent = 0, 0.0
    gc.collect()
    while repeats < fewest or (spent < budget and repeats < most):
        children, cpu, wall = _children(), time.process_time(), time.perf_counter()
        result = run()
        wall = time.perf_counter() - wall
        cpu = time.process_time() - cpu + _children() - children
        if result != answer:
            raise AssertionError(f"{result!r:.80} instead of {answer!r:.80}")
        del result
        best_wall, best_cpu = min(best_wall, wall), min(best_cpu, cpu)
        repeats += 1
        spent += wall
    return Sample(best_wall, best_cpu)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
