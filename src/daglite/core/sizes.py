"""How many calls maps make, as far as a graph tells before it runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from daglite.core.elements import length_of
from daglite.core.graph import GraphNode, MapTaskNode, NodeId, TaskInfo

__all__ = ["losses_of", "parted_by", "sizes_of"]


def sizes_of(nodes: Iterable[GraphNode]) -> dict[NodeId, int | None]:
    """
    How many calls each node makes at most; None where only the run knows.

    Args:
        nodes: Each after its inputs.
    """
    sizes: dict[NodeId, int | None] = {}
    for node in nodes:
        if node.kind == "gather":
            sizes[node.id] = 0
        else:
            sizes[node.id] = 1 if node.kind == "task" else _size_of(node, sizes)
    return sizes


def _size_of(node: MapTaskNode, sizes: Mapping[NodeId, int | None]) -> int | None:
    lengths: list[int] = []
    for place in node.mapped:
        source = node.args[place]
        if place not in node.refs:
            length = length_of(source)
        else:
            # A map makes a list with an element for each of its calls.
            length = sizes[source.id] if source.kind == "map" else None
        if length is None:
            return None
        lengths.append(length)
    return min(lengths) if node.mode == "zip" else math.prod(lengths)


def losses_of(
    nodes: Iterable[GraphNode], skips: Callable[[TaskInfo], bool]
) -> dict[NodeId, frozenset[NodeId]]:
    """
    The maps whose failed elements may be missing in what each node gives.

    Args:
        nodes: Each after its inputs.
        skips: Whether maps of a task leave failed elements out.
    """
    losses: dict[NodeId, frozenset[NodeId]] = {}
    for node in nodes:
        found: frozenset[NodeId] = frozenset()
        if node.kind == "map":
            found = found.union(*(losses[source.id] for source in _mapped(node)))
            if skips(node.task):
                found |= {node.id}
        losses[node.id] = found
    return losses


def parted_by(node: MapTaskNode, losses: Mapping[NodeId, frozenset[NodeId]]) -> frozenset[NodeId]:
    """
    The maps whose losses part what *node* zips: they are missing in some of it, not in all.

    What a task gives that is no map isn't looked at: it may have left out the same.
    """
    given = [losses[source.id] for source in _mapped(node) if source.kind != "task"]
    given += [frozenset() for place in node.mapped if place not in node.refs]
    if node.mode != "zip" or not given:
        return frozenset()
    return frozenset().union(*given) - frozenset.intersection(*given)


def _mapped(node: MapTaskNode) -> list[GraphNode]:
    """The nodes whose results *node* goes through."""
    return [node.args[place] for place in node.mapped if place in node.refs]
