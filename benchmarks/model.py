"""
What is measured, as data: races between peers, probes, and their targets.

A *race* runs the same calls in several ways, one worker process for each; what counts are the
ratios.  A *probe* is measured once, in a process of its own, where a ratio says nothing (bytes,
or whether a limit was kept).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["Case", "Make", "Peer", "Probe", "Race", "Reading", "Run", "Target"]

Run: TypeAlias = Callable[[], object]
"""What is timed; its result is compared with the race's answer every time."""

Make: TypeAlias = Callable[[int], Run]
"""
Size -> what is timed.

Called once, in the worker, before the clock starts: it imports the peer's library, makes pools
and wraps functions.  Building the graph belongs into what it returns.
"""


@dataclass(frozen=True)
class Peer:
    """
    One way of making a race's calls.

    Attributes:
        needs: Modules without which the peer is left out.
        size: Calls that it makes, where it can't stand as many as the others.
    """

    name: str
    make: Make
    needs: Sequence[str] = ()
    size: int | None = None


@dataclass(frozen=True)
class Target:
    """
    What a peer has to reach.

    Attributes:
        limit: At most this: a factor for `ratio`, microseconds a call for `adds` and `total`.
        against: The peer that it's compared with; None is the race's baseline.
        measure: `ratio` of the two, what the peer `adds` to the other, or its own `total`.
        by: Which clock; always the smallest value seen.
    """

    peer: str
    limit: float
    against: str | None = None
    measure: Literal["ratio", "adds", "total"] = "ratio"
    by: Literal["wall", "cpu"] = "wall"


@dataclass(frozen=True)
class Race:
    """
    The same calls, made by several peers.

    Attributes:
        size: Calls that a peer makes in one repeat.
        answer: Size -> the result that each peer must come to.
        peers: The first one is the baseline.
        large: Left out of a quick run.
        unit: What a call is called in the table.
    """

    name: str
    title: str
    size: int
    answer: Callable[[int], object]
    peers: Sequence[Peer]
    targets: Sequence[Target] = field(default=())
    large: bool = False
    unit: str = "call"

    def peer(self, name: str) -> Peer:
        """Return the peer called *name*."""
        return next(peer for peer in self.peers if peer.name == name)


@dataclass(frozen=True)
class Reading:
    """
    One number of a probe.

    Attributes:
        limit: At most this is the target; None is no target.
    """

    what: str
    value: float
    unit: str
    limit: float | None = None


@dataclass(frozen=True)
class Probe:
    """
    Something that is measured once.

    Attributes:
        measure: Takes the readings, and asserts what must be so.
        needs: Modules without which the probe is left out.
    """

    name: str
    title: str
    measure: Callable[[], list[Reading]]
    needs: Sequence[str] = ()
    large: bool = False


Case: TypeAlias = Race | Probe
