"""
The graph as data: nodes that hold what they are called with, and among it their inputs.

A node's arguments stand in call order: first those passed by position, then one for each
name in `kwnames`.  Where a position is listed in `refs`, the argument is a node, and its
result goes there.  The futures that users hold are such nodes themselves, with methods to go
on with: binding makes one object, and nothing is copied to get from a future to its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, final
from weakref import WeakValueDictionary

from typing_extensions import Self

from daglite.core.signature import Signature
from daglite.exceptions import GraphConstructionError
from daglite.policies import PolicySet

__all__ = [
    "GatherNode",
    "GraphNode",
    "MapMode",
    "MapTaskNode",
    "Node",
    "NodeId",
    "ParamInput",
    "TaskInfo",
    "TaskNode",
    "new_id",
]

NodeId: TypeAlias = int
"""Opaque, unique in this process; a node's inputs have smaller ids than itself."""

MapMode: TypeAlias = Literal["extend", "zip"]
ParamKind: TypeAlias = Literal["value", "ref", "sequence", "sequence_ref"]

new_id: Callable[[], NodeId] = count(1).__next__


class ParamInput(NamedTuple):
    """
    Where a parameter's value comes from.

    ``value``: given as it is.  ``ref``: the result of node `ref`.  ``sequence``: one
    element of `value` for each call.  ``sequence_ref``: one element of the result of `ref`.
    """

    kind: ParamKind
    value: Any = None
    ref: NodeId | None = None


class TaskInfo(Protocol):
    """What the graph, the plan and the engine need to know of a task."""

    @property
    def func(self) -> Callable[..., Any]: ...
    @property
    def name(self) -> str: ...
    @property
    def backend(self) -> Any: ...
    @property
    def tags(self) -> tuple[str, ...]: ...
    @property
    def policies(self) -> PolicySet: ...
    @property
    def signature(self) -> Signature: ...
    @property
    def steps(self) -> MutableMapping[Any, Any]:
        """What plans say of it, by planner; weak, so that neither keeps the other alive."""
        ...


class Node:
    """
    What all nodes have. Immutable, and equal to itself alone.

    Args:
        args: Arguments in call order.
        refs: Places of those that are nodes.
        rest: The fields named in `parts`.

    Attributes:
        id: Given when the node is made: its inputs have smaller ones.
        parts: Names of the fields that only this kind of node has.

    Raises:
        GraphConstructionError: Something else than a node stands at one of the places.
    """

    __slots__ = ("args", "id", "refs")

    parts: ClassVar[tuple[str, ...]] = ()

    id: NodeId
    args: tuple[Any, ...]
    refs: tuple[int, ...]

    def __init__(self, args: tuple[Any, ...], refs: tuple[int, ...], *rest: Any) -> None:
        for place in refs:
            if not isinstance(args[place], Node):
                raise GraphConstructionError(
                    f"a node refers to {args[place]!r:.60}, which isn't a node of a graph"
                )
        write = super().__setattr__
        write("id", new_id())
        write("args", args)
        write("refs", refs)
        for name, value in zip(self.parts, rest, strict=True):
            write(name, value)

    def __setattr__(self, name: str, value: Any, /) -> None:
        raise AttributeError(f"{self!r} can't be changed")

    def __delattr__(self, name: str, /) -> None:
        raise AttributeError(f"{self!r} can't be changed")

    def __reduce__(self) -> tuple[Any, ...]:
        return _load, (_flatten(self),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        # A copy would be another node: what it stands for would run twice.
        return self

    @property
    def inputs(self) -> tuple[GraphNode, ...]:
        """The nodes whose results are arguments, in call order."""
        return tuple(self.args[i] for i in self.refs)

    @property
    def dependencies(self) -> tuple[NodeId, ...]:
        """Their ids."""
        return tuple(node.id for node in self.inputs)


class _Calls(Node):
    """What nodes that call a task have in common."""

    __slots__ = ()

    task: TaskInfo
    kwnames: tuple[str, ...]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def func(self) -> Callable[..., Any]:
        """The task's plain function."""
        return self.task.func

    @property
    def argument_names(self) -> tuple[str, ...]:
        """Names of the parameters that there are arguments for, in the order of `args`."""
        by_position = len(self.args) - len(self.kwnames)
        return (*self.task.signature.names[:by_position], *self.kwnames)

    def _inputs(self, mapped: tuple[int, ...] = ()) -> Iterator[tuple[str, ParamInput]]:
        for i, (name, given) in enumerate(zip(self.argument_names, self.args, strict=True)):
            if i in self.refs:
                yield name, ParamInput("sequence_ref" if i in mapped else "ref", ref=given.id)
            else:
                yield name, ParamInput("sequence" if i in mapped else "value", value=given)


class TaskNode(_Calls):
    """One call of a task."""

    __slots__ = ("kwnames", "task")

    kind: ClassVar[Literal["task"]] = "task"
    parts = ("task", "kwnames")

    @property
    def kwargs(self) -> Mapping[str, ParamInput]:
        """Parameter name -> where its value comes from."""
        return MappingProxyType(dict(self._inputs()))


class MapTaskNode(_Calls):
    """
    Many calls of a task, one for each element.

    `args` holds the fixed arguments and, at the positions in `mapped`, a sequence of
    elements (or, where `refs` lists the position too, the node that makes it).  `mapped` is
    in the order the sequences were given: with mode ``extend`` the first varies slowest.
    """

    __slots__ = ("kwnames", "mapped", "mode", "task")

    kind: ClassVar[Literal["map"]] = "map"
    parts = ("task", "kwnames", "mode", "mapped")

    mode: MapMode
    mapped: tuple[int, ...]

    @property
    def fixed_kwargs(self) -> Mapping[str, ParamInput]:
        """Parameter name -> input, for those that are the same in each call."""
        return self._kwargs(lambda kind: not kind.startswith("sequence"))

    @property
    def mapped_kwargs(self) -> Mapping[str, ParamInput]:
        """Parameter name -> input, for those that differ from call to call."""
        return self._kwargs(lambda kind: kind.startswith("sequence"))

    def _kwargs(self, wanted: Callable[[str], bool]) -> Mapping[str, ParamInput]:
        inputs = dict(self._inputs(self.mapped))
        return MappingProxyType({name: i for name, i in inputs.items() if wanted(i.kind)})


class GatherNode(Node):
    """
    Puts results into a container: a list, dict, ... that was given with futures in it.

    `build` makes the container from its items; it runs in place and belongs to no task.
    """

    __slots__ = ("build",)

    kind: ClassVar[Literal["gather"]] = "gather"
    parts = ("build",)

    build: Callable[[Sequence[Any]], Any]

    @property
    def name(self) -> str:
        """For messages; a gather node has no name of its own."""
        return "(gather)"


GraphNode: TypeAlias = TaskNode | MapTaskNode | GatherNode


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
