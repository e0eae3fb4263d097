"""What a node costs as graphs grow; each size is a peer."""

from __future__ import annotations

from benchmarks.cases import chain, layered
from benchmarks.model import Make, Peer, Race, Target
from benchmarks.workload import chain_answer, layered_answer

__all__ = ["CASES"]

_SIZES = (100, 1_000, 10_000, 100_000)


def _peers(how: str, make: Make) -> list[Peer]:
    return [Peer(f"{how}, {size:,}", make, ["daglite"], size) for size in _SIZES]


CASES = [
    Race(
        name="growth-chain",
        title="Cost of a node as a chain grows (against 100 nodes)",
        size=100,
        answer=chain_answer,
        unit="node",
        large=True,
        peers=[
            *_peers("daglite, sequential", chain.daglite_sequential),
            *_peers("daglite, threading(2)", chain.daglite_threads),
        ],
        targets=[
            Target("daglite, sequential, 10,000", 1.15, against="daglite, sequential, 100"),
            Target("daglite, sequential, 100,000", 1.8, against="daglite, sequential, 100"),
        ],
    ),
    Race(
        name="growth-layered",
        title="Cost of a node as random layers grow (against 100 nodes)",
        size=100,
        answer=layered_answer,
        unit="node",
        large=True,
        peers=[
            *_peers("plain loop", layered.plain),
            *_peers("daglite, sequential", layered.daglite_sequential),
        ],
    ),
]
