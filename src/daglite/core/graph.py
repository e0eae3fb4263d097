"""
The graph as data: nodes that name their inputs by id.

A node's arguments stand in call order: first those passed by position, then one for each
name in `kwnames`.  Where a position is listed in `refs`, the argument is the id of the node
whose result goes there.  Nodes are tuples underneath: immutable, cheap, and picklable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, final

from daglite.core.signature import Signature
from daglite.policies import PolicySet

__all__ = [
    "GatherNode",
    "GraphBuilder",
    "GraphNode",
    "MapMode",
    "MapTaskNode",
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


@final
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


@final
class TaskNode(NamedTuple):
    """One call of a task."""

    id: NodeId
    task: TaskInfo
    args: tuple[Any, ...]
    kwnames: tuple[str, ...]
    refs: tuple[int, ...]

    @property
    def kind(self) -> Literal["task"]:
        """Tells the three kinds of node apart."""
        return "task"

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def func(self) -> Callable[..., Any]:
        """The task's plain function."""
        return self.task.func

    @property
    def kwargs(self) -> Mapping[str, ParamInput]:
        """Parameter name -> where its value comes from."""
        return MappingProxyType(dict(_inputs(self)))

    @property
    def dependencies(self) -> tuple[NodeId, ...]:
        """Ids of the nodes whose results are arguments, in call order."""
        return tuple(self.args[i] for i in self.refs)

    def renumbered(self, ids: Mapping[NodeId, NodeId], own: NodeId) -> TaskNode:
        """The same node under the id *own*, its inputs' ids replaced by *ids*."""
        return self._replace(id=own, args=_renumber(self.args, self.refs, ids))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return object.__hash__(self)


@final
class MapTaskNode(NamedTuple):
    """
    Many calls of a task, one for each element.

    `args` holds the fixed arguments and, at the positions in `mapped`, a sequence of
    elements (or, where `refs` lists the position too, the id of the node that makes it).
    `mapped` is in the order the sequences were given: with mode ``extend`` the first varies
    slowest.
    """

    id: NodeId
    task: TaskInfo
    args: tuple[Any, ...]
    kwnames: tuple[str, ...]
    refs: tuple[int, ...]
    mode: MapMode
    mapped: tuple[int, ...]

    @property
    def kind(self) -> Literal["map"]:
        """Tells the three kinds of node apart."""
        return "map"

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def func(self) -> Callable[..., Any]:
        """The task's plain function."""
        return self.task.func

    @property
    def fixed_kwargs(self) -> Mapping[str, ParamInput]:
        """Parameter name -> input, for those that are the same in each call."""
        return self._kwargs(lambda kind: not kind.startswith("sequence"))

    @property
    def mapped_kwargs(self) -> Mapping[str, ParamInput]:
        """Parameter name -> input, for those that differ from call to call."""
        return self._kwargs(lambda kind: kind.startswith("sequence"))

    def _kwargs(self, wanted: Callable[[str], bool]) -> Mapping[str, ParamInput]:
        inputs = dict(_inputs(self, frozenset(self.mapped)))
        return MappingProxyType({name: i for name, i in inputs.items() if wanted(i.kind)})

    @property
    def dependencies(self) -> tuple[NodeId, ...]:
        """Ids of the nodes whose results are arguments or sequences, in call order."""
        return tuple(self.args[i] for i in self.refs)

    def renumbered(self, ids: Mapping[NodeId, NodeId], own: NodeId) -> MapTaskNode:
        """The same node under the id *own*, its inputs' ids replaced by *ids*."""
        return self._replace(id=own, args=_renumber(self.args, self.refs, ids))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return object.__hash__(self)


@final
class GatherNode(NamedTuple):
    """
    Puts results into a container: a list, dict, ... that was given with futures in it.

    `build` makes the container from its items; it runs in place and belongs to no task.
    """

    id: NodeId
    build: Callable[[Sequence[Any]], Any]
    args: tuple[Any, ...]
    refs: tuple[int, ...]

    @property
    def kind(self) -> Literal["gather"]:
        """Tells the three kinds of node apart."""
        return "gather"

    @property
    def name(self) -> str:
        """For messages; a gather node has no name of its own."""
        return "(gather)"

    @property
    def dependencies(self) -> tuple[NodeId, ...]:
        """Ids of the nodes whose results are items."""
        return tuple(self.args[i] for i in self.refs)

    def renumbered(self, ids: Mapping[NodeId, NodeId], own: NodeId) -> GatherNode:
        """The same node under the id *own*, its inputs' ids replaced by *ids*."""
        return self._replace(id=own, args=_renumber(self.args, self.refs, ids))

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return object.__hash__(self)


GraphNode: TypeAlias = TaskNode | MapTaskNode | GatherNode


class GraphBuilder(Protocol):
    """What `build_graph` needs: a node, and the builders of its inputs."""

    @property
    def node(self) -> GraphNode: ...
    @property
    def deps(self) -> Sequence[GraphBuilder]: ...


def _renumber(
    args: tuple[Any, ...], refs: tuple[int, ...], ids: Mapping[NodeId, NodeId]
) -> tuple[Any, ...]:
    changed = list(args)
    for i in refs:
        changed[i] = ids[args[i]]
    return tuple(changed)


def argument_names(node: TaskNode | MapTaskNode) -> tuple[str, ...]:
    """Names of the parameters that *node* has arguments for, in the order of `args`."""
    by_position = len(node.args) - len(node.kwnames)
    return (*node.task.signature.names[:by_position], *node.kwnames)


def _inputs(
    node: TaskNode | MapTaskNode, mapped: frozenset[int] = frozenset()
) -> Iterator[tuple[str, ParamInput]]:
    refs = frozenset(node.refs)
    for i, (name, given) in enumerate(zip(argument_names(node), node.args, strict=True)):
        if i in refs:
            yield name, ParamInput("sequence_ref" if i in mapped else "ref", ref=given)
        else:
            yield name, ParamInput("sequence" if i in mapped else "value", value=given)
