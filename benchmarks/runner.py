"""
Rounds and statistics.

    round 1:  A B C      one worker process per peer, all alive from the first round
    round 2:  B C A      to the last; only one of them works at a time, and the others
    round 3:  C A B      wait on their pipe

What disturbs the machine for a while disturbs all peers alike.  Each round keeps the best of
several repeats; over the rounds stand the median of the ratios, the ratio of the smallest
times, and the ratio of the smallest CPU times.  Where the three agree, a number is solid.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from benchmarks.model import Peer, Probe, Race, Reading, Target
from benchmarks.worker import Failed, Sample, serve_peer, serve_probe

__all__ = [
    "Lane",
    "Options",
    "RaceResult",
    "Verdict",
    "missing",
    "run_probe",
    "run_race",
    "verdicts",
]

_spawn = multiprocessing.get_context("spawn")

PREPARE = 60.0
"""Seconds for a worker to start, import its library and prepare."""

PATIENCE = 120.0
"""Seconds for a round, and for a probe."""

_DIED = "the worker process died"


@dataclass(frozen=True)
class Options:
    """
    How thoroughly to measure.

    Attributes:
        rounds: How many; fewer than seven are for a first look.
        budget: Seconds for the repeats of one peer in one round.
        limit: Seconds after which a peer's first repeat is given up.
        slow: Seconds from which on a peer's first repeat is its only one.
        quick: Leave the large cases out.
    """

    rounds: int = 7
    budget: float = 0.15
    limit: float = 10.0
    slow: float = 1.5
    quick: bool = False


@dataclass
class Lane:
    """
    One peer's part of a race.

    Attributes:
        samples: One for each round, in seconds a call; a single one for a slow peer.
        note: Why there are none, or fewer.
    """

    peer: Peer
    size: int
    samples: list[Sample]
    note: str = ""
    failed: bool = False

    @property
    def wall(self) -> float:
        """The smallest time a call, in seconds."""
        return min(sample.wall for sample in self.samples)

    @property
    def cpu(self) -> float:
        """The smallest CPU time a call, in seconds."""
        return min(sample.cpu for sample in self.samples)


@dataclass
class RaceResult:
    """What came out: a lane for each peer, in the order of the race."""

    race: Race
    lanes: list[Lane]

    def lane(self, name: str) -> Lane | None:
        """Return the lane of the peer called *name*, if it was measured."""
        return next((x for x in self.lanes if x.peer.name == name and x.samples), None)

    def median(self, lane: Lane, base: Lane) -> float:
        """Return the median over the rounds of the ratio of two lanes."""
        if min(len(lane.samples), len(base.samples)) < 2:
            middle = [statistics.median(s.wall for s in x.samples) for x in (lane, base)]
            return middle[0] / middle[1]
        pairs = zip(lane.samples, base.samples, strict=False)
        return statistics.median(ours.wall / theirs.wall for ours, theirs in pairs)


@dataclass(frozen=True)
class Verdict:
    """A target, and what was measured: a factor, or microseconds a call."""

    target: Target
    against: str
    value: float

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.value <= self.target.limit


@dataclass
class _Worker:
    lane: Lane
    process: BaseProcess
    pipe: Connection
    alive: bool = True

    def ask(self, question: str, patience: float) -> Any:
        """Return the answer, or None when it takes longer than *patience* seconds."""
        try:
            self.pipe.send(question)
        except OSError:
            return Failed(_DIED)
        return _receive(self.pipe, patience)

    def take(self, answer: Any, patience: float) -> bool:
        """Keep an answer; False means that the worker is done with."""
        if isinstance(answer, Sample):
            size = self.lane.size
            self.lane.samples.append(Sample(answer.wall / size, answer.cpu / size))
            return True
        self.lane.failed = isinstance(answer, Failed)
        self.lane.note = answer.message if isinstance(answer, Failed) else f"> {patience:g} s"
        return False

    def end(self) -> None:
        _end(self.process, self.pipe)
        self.alive = False


def run_race(race: Race, options: Options) -> RaceResult:
    """Measure all peers of *race* that are installed."""
    lanes = [Lane(peer, peer.size or race.size, []) for peer in race.peers]
    workers: list[_Worker] = []
    try:
        for lane in lanes:
            absent = missing(lane.peer.needs)
            if absent:
                lane.note = f"not installed: {', '.join(absent)}"
                continue
            worker = _start(lane, race, options)
            workers.append(worker)
            if not _first(worker, options):
                worker.end()
        racing = [worker for worker in workers if worker.alive]
        for number in range(options.rounds):
            turn = number % len(racing) if racing else 0
            for worker in racing[turn:] + racing[:turn]:
                if worker.alive and not worker.take(worker.ask("round", PATIENCE), PATIENCE):
                    worker.end()
            _say(".")
    finally:
        for worker in workers:
            worker.end()
    return RaceResult(race, lanes)


def run_probe(probe: Probe) -> list[Reading] | str:
    """Take the readings of *probe*, or say why there are none."""
    absent = missing(probe.needs)
    if absent:
        return f"not installed: {', '.join(absent)}"
    process, pipe = _process(serve_probe, probe.name)
    answer = _receive(pipe, PATIENCE)
    _end(process, pipe)
    if isinstance(answer, Failed):
        return f"failed: {answer.message}"
    readings: list[Reading] | None = answer
    return f"> {PATIENCE:g} s" if readings is None else readings


def verdicts(result: RaceResult) -> list[Verdict]:
    """Compare a race's targets with what was measured."""
    found = []
    for target in result.race.targets:
        against = target.against or result.race.peers[0].name
        lane, base = result.lane(target.peer), result.lane(against)
        if lane is None or base is None:
            continue
        ours, theirs = getattr(lane, target.by), getattr(base, target.by)
        value = {
            "ratio": ours / theirs,
            "adds": (ours - theirs) * 1e6,
            "total": ours * 1e6,
        }[target.measure]
        found.append(Verdict(target, against, value))
    return found


def missing(needs: Sequence[str]) -> list[str]:
    """Those modules of *needs* that aren't installed."""
    return [name for name in needs if importlib.util.find_spec(name) is None]


def _process(target: Callable[..., None], *args: Any) -> tuple[BaseProcess, Connection]:
    here, there = _spawn.Pipe()
    process = _spawn.Process(target=target, args=(there, *args))
    process.start()
    there.close()
    return process, here


def _start(lane: Lane, race: Race, options: Options) -> _Worker:
    process, pipe = _process(serve_peer, race.name, lane.peer.name, options.budget)
    return _Worker(lane, process, pipe)


def _first(worker: _Worker, options: Options) -> bool:
    """Run the peer once; True means that it goes into the rounds."""
    prepared = _receive(worker.pipe, PREPARE)
    if prepared != "prepared":
        return worker.take(prepared, PREPARE)
    answer = worker.ask("first", options.limit)
    if isinstance(answer, Sample) and answer.wall < options.slow:
        return True
    if worker.take(answer, options.limit):
        worker.lane.note = "measured once"
    return False


def _end(process: BaseProcess, pipe: Connection) -> None:
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        # Also the processes of its pools, which would outlive it and keep our output open.
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    pipe.close()


def _receive(pipe: Connection, patience: float) -> Any:
    try:
        return pipe.recv() if pipe.poll(patience) else None
    except EOFError:
        return Failed(_DIED)


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
