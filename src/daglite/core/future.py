"""
A value that isn't there yet: the base of `TaskFuture` and `MapTaskFuture`.

It guards against use as if it were the value, and pickles without recursion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, NoReturn, TypeVar, final
from weakref import WeakValueDictionary

from daglite.core.graph import GraphNode, Node, NodeId, TaskInfo

__all__ = ["BaseTaskFuture"]

R_co = TypeVar("R_co", covariant=True)


class BaseTaskFuture(Node, Generic[R_co]):
    """
    What a task will return, once `evaluate` has run it: a node of the graph, seen from outside.

    Immutable.  Values that were bound are captured by reference: change a list after
    binding it, and the task sees the change.
    """

    __slots__ = ()

    task: TaskInfo

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task.name} #{self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (_flatten(self),)

    def __copy__(self) -> BaseTaskFuture[R_co]:
        return self

    def __deepcopy__(self, memo: object) -> BaseTaskFuture[R_co]:
        # A copy would be another node: what it stands for would run twice.
        return self

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


@final
class _Record:
    """A node as it is pickled: its inputs are named by their ids, `made` is the loaded node."""

    __slots__ = ("__weakref__", "args", "cls", "id", "made", "refs", "rest")

    def __init__(
        self,
        cls: type[Any],
        node_id: NodeId,
        args: tuple[Any, ...],
        refs: tuple[int, ...],
        rest: tuple[Any, ...],
    ) -> None:
        self.cls = cls
        self.id = node_id
        self.args = args
        self.refs = refs
        self.rest = rest
        self.made: Any = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _Record, (self.cls, self.id, self.args, self.refs, self.rest)

    @classmethod
    def of(cls, node: GraphNode) -> _Record:
        """The record of *node*; the same one as long as a pickler holds it."""
        record = _being_pickled.get(node.id)
        if record is None:
            args = list(node.args)
            for i in node.refs:
                args[i] = args[i].id
            rest = tuple(getattr(node, part) for part in node.parts)
            record = cls(type(node), node.id, tuple(args), node.refs, rest)
            _being_pickled[node.id] = record
        return record


_being_pickled: WeakValueDictionary[NodeId, _Record] = WeakValueDictionary()
"""So that a node which two futures need is one node again when both are loaded."""


def _flatten(root: Any) -> list[_Record]:
    """List *root* and all it needs, inputs first."""
    found: dict[NodeId, GraphNode] = {root.id: root}
    todo = [root]
    while todo:
        for node in todo.pop().inputs:
            if node.id not in found:
                found[node.id] = node
                todo.append(node)
    return [_Record.of(found[node_id]) for node_id in sorted(found)]


def _load(records: list[_Record]) -> Any:
    """Make the nodes anew, under ids of this process."""
    made: dict[NodeId, Any] = {}
    for record in records:
        if record.made is None:
            args = list(record.args)
            for i in record.refs:
                args[i] = made[args[i]]
            record.made = record.cls(tuple(args), record.refs, *record.rest)
        made[record.id] = record.made
    return made[records[-1].id]
