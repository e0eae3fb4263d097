"""
What a run knows of a node: the arguments that have come in, and who waits for its value.

    frame of a node ── feed(value) ─► args of each consumer ─► those that miss nothing are ready

A value goes straight to where it is needed and nothing else holds it, so it is let go when the
last node that needs it has run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, final

from daglite.core.graph import GraphNode, NodeId

__all__ = ["Frame", "frames_of"]


_NOTHING: Mapping[NodeId, Any] = MappingProxyType({})


@final
class Frame:
    """
    A node that has not run yet.

    Attributes:
        node: The node.
        index: Its place in the graph, from 0.
        args: Its arguments in call order, as soon as a value for one has come in.
        missing: How many of these places are still to be filled.
        consumers: The frames its value goes to, each followed by the place of its arguments.
        lost: It will never run, as something it needs has failed.
    """

    __slots__ = ("args", "consumers", "index", "lost", "missing", "node")

    def __init__(self, node: GraphNode, index: int) -> None:
        self.node = node
        self.index = index
        self.args: list[Any] | None = None
        self.missing = len(node.refs)
        self.consumers: list[Any] = []
        self.lost = False

    def fill(self, place: int, value: Any) -> None:
        """*value* has come in for *place*."""
        if self.args is None:
            # Not before, or all nodes that wait would have their own.
            self.args = list(self.node.args)
        self.args[place] = value
        self.missing -= 1

    def feed(self, value: Any, ready: Callable[[Frame], object]) -> None:
        """Pass *value* on to the consumers; tell *ready* of those that have everything now."""
        targets = iter(self.consumers)
        for consumer in targets:
            place = next(targets)
            if consumer.lost:
                continue
            # What `fill` does, without the call.
            if consumer.args is None:
                consumer.args = list(consumer.node.args)
            consumer.args[place] = value
            consumer.missing -= 1
            if not consumer.missing:
                ready(consumer)

    def take_args(self) -> tuple[Any, ...]:
        """The arguments, all there; from now on they are the caller's alone."""
        args, self.args = self.args, None
        return self.node.args if args is None else tuple(args)

    def lose_consumers(self) -> list[NodeId]:
        """Give up all that needs this node's value, near or far; return the ids, each once."""
        lost: list[NodeId] = []
        todo: list[Frame] = [self]
        while todo:
            for consumer in todo.pop().consumers[::2]:
                if not consumer.lost:
                    consumer.lost = True
                    consumer.args = None
                    lost.append(consumer.node.id)
                    todo.append(consumer)
        return lost


def frames_of(
    nodes: Iterable[GraphNode], first: int = 0, known: Mapping[NodeId, Any] = _NOTHING
) -> dict[NodeId, Frame]:
    """
    A frame for each of *nodes*.

    Args:
        nodes: The rest of a graph, each after its inputs.
        first: The place of the first one in the whole graph.
        known: Node id -> value, for inputs that aren't among *nodes*.
    """
    frames: dict[NodeId, Frame] = {}
    for index, node in enumerate(nodes, first):
        frame = frames[node.id] = Frame(node, index)
        if not node.refs:
            continue
        args = node.args
        for place in node.refs:
            needed = args[place].id
            source = frames.get(needed)
            if source is None:
                frame.fill(place, known[needed])
            else:
                targets = source.consumers
                targets.append(frame)
                targets.append(place)
    return frames
