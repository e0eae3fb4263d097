"""What can be known to be wrong with a graph before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from daglite.core.annotations import element_type, list_of
from daglite.core.compatibility import is_compatible
from daglite.core.describe import describe
from daglite.core.graph import (
    GatherNode,
    GraphNode,
    MapTaskNode,
    NodeId,
    TaskInfo,
    TaskNode,
    argument_names,
)
from daglite.core.hints import hints_of
from daglite.exceptions import GraphConstructionError

__all__ = ["check_edges"]

Hints: TypeAlias = Mapping[str, object]

_known: WeakKeyDictionary[Any, Hints] = WeakKeyDictionary()


def check_edges(nodes: Mapping[NodeId, GraphNode]) -> None:
    """
    Check every reference between *nodes*, and its types where both ends are annotated.

    Raises:
        GraphConstructionError: Names both ends.
    """
    # Consumer -> source task and place of the edges that are fine; None: nothing to check.
    # Which parameter a place is, and whether it takes one element each, may differ from call
    # to call of a task: what decides it belongs to the key. A call that passes everything by
    # position is told by its task alone.
    fine: dict[object, set[tuple[object, int]] | None] = {}
    for node in nodes.values():
        refs = node.refs
        if not refs:
            continue
        args, seen = node.args, None
        if type(node) is not GatherNode:
            shape: object = node.task
            if type(node) is MapTaskNode or node.kwnames:
                shape = (shape, len(args), node.kwnames, node[5:])
            if shape not in fine:
                fine[shape] = set() if _hints(node.task) else None
            seen = fine[shape]
        for place in refs:
            source = nodes.get(args[place])
            if source is None:
                raise GraphConstructionError(
                    f"task {node.name!r} refers to node {args[place]}, which isn't in the graph"
                )
            if seen is None:
                continue
            edge = (source[1], place if type(source) is TaskNode else ~place)
            if edge not in seen:
                if type(node) is not GatherNode and type(source) is not GatherNode:
                    one_each = type(node) is MapTaskNode and place in node.mapped
                    _check_types(source, node, argument_names(node)[place], one_each)
                seen.add(edge)


def _hints(task: TaskInfo) -> Hints:
    hints = _known.get(task)
    if hints is None:
        hints = _known[task] = hints_of(task.func)
    return hints


def _check_types(
    source: TaskNode | MapTaskNode, node: TaskNode | MapTaskNode, parameter: str, one_each: bool
) -> None:
    made, wanted = _hints(source.task), _hints(node.task)
    if "return" not in made or parameter not in wanted:
        return
    given = list_of(made["return"]) if type(source) is MapTaskNode else made["return"]
    passed = element_type(given) if one_each else given
    if not is_compatible(passed, wanted[parameter]):
        each = f" (each an element of {describe(given)})" if one_each else ""
        raise GraphConstructionError(
            f"task {source.name!r} returns {describe(given)}, but parameter {parameter!r} of "
            f"task {node.name!r} takes {describe(wanted[parameter])}"
            f"{each}; change one of the annotations, or put a task between them that converts"
        )
