"""
A value that isn't there yet: the base of `TaskFuture` and `MapTaskFuture`.

It guards against use as if it were the value, and pickles without recursion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, NoReturn, TypeVar

from daglite.core.graph import GraphBuilder, GraphNode, NodeId, new_id

__all__ = ["BaseTaskFuture", "Gathered"]

R_co = TypeVar("R_co", covariant=True)


class Gathered:
    """The builder of a gather node; see `daglite.core.gather`."""

    __slots__ = ("deps", "node")

    def __init__(self, node: GraphNode, deps: Sequence[GraphBuilder]) -> None:
        self.node = node
        self.deps = deps


class BaseTaskFuture(Generic[R_co]):
    """
    What a task will return, once `evaluate` has run it.

    Immutable.  Values that were bound are captured by reference: change a list after
    binding it, and the task sees the change.

    Attributes:
        node: The node of the graph that this future stands for.
        deps: The futures (and containers of futures) whose results it needs.
    """

    __slots__ = ("deps", "node")

    def __init__(self, node: GraphNode, deps: Sequence[GraphBuilder]) -> None:
        self.node = node
        self.deps = deps

    @property
    def id(self) -> NodeId:
        """The node's id: unique in this process."""
        return self.node.id

    @property
    def name(self) -> str:
        """The task's name."""
        return self.node.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} #{self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (_flatten(self),)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BaseTaskFuture):
            self._refuse(f"compared with {type(other).__name__}")
        return self is other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: object) -> NoReturn:
        self._refuse("ordered")

    __le__ = __gt__ = __ge__ = __lt__

    def __bool__(self) -> NoReturn:
        self._refuse("used as a condition")

    def __len__(self) -> NoReturn:
        self._refuse("asked for its length")

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterated over")

    def __contains__(self, item: object) -> NoReturn:
        self._refuse("searched")

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(
            f"{self!r} can't be {what}: it has no value yet. Call evaluate(future) to get one."
        )


def _flatten(root: GraphBuilder) -> list[tuple[type, GraphNode, list[int]]]:
    """List *root* and all it needs, inputs first: class, node, places of its inputs."""
    found = {root.node.id: root}
    todo = [root]
    while todo:
        for dep in todo.pop().deps:
            if dep.node.id not in found:
                found[dep.node.id] = dep
                todo.append(dep)
    place = {node_id: i for i, node_id in enumerate(sorted(found))}
    return [
        (type(found[i]), found[i].node, [place[dep.node.id] for dep in found[i].deps])
        for i in place
    ]


def _load(records: list[tuple[type, GraphNode, list[int]]]) -> Any:
    """The inverse of `_flatten`, under ids of this process."""
    ids: dict[NodeId, NodeId] = {}
    made: list[Any] = []
    for cls, node, deps in records:
        own = ids[node.id] = new_id()
        made.append(cls(node.renumbered(ids, own), tuple(made[i] for i in deps)))
    return made[-1]
