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
    typed: dict[TaskInfo, bool] = {}
    fine: set[tuple[TaskInfo, type, TaskInfo, str, bool]] = set()
    for node in nodes.values():
        refs = node.refs
        if not refs:
            continue
        args = node.args
        if type(node) is GatherNode:
            checked = False
        else:
            task = node.task
            known = typed.get(task)
            checked = typed.setdefault(task, bool(_hints(task))) if known is None else known
        for place in refs:
            source = nodes.get(args[place])
            if source is None:
                raise GraphConstructionError(
                    f"task {node.name!r} refers to node {args[place]}, which isn't in the graph"
                )
            if checked and type(node) is not GatherNode and type(source) is not GatherNode:
                # Its place alone doesn't name a parameter that is passed by keyword.
                parameter = argument_names(node)[place]
                one_each = type(node) is MapTaskNode and place in node.mapped
                edge = (source.task, type(source), node.task, parameter, one_each)
                if edge not in fine:
                    _check_types(source, node, parameter, one_each)
                    fine.add(edge)


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
        each = "each an element of " if one_each else ""
        raise GraphConstructionError(
            f"task {source.name!r} returns {describe(given)}, but parameter {parameter!r} of "
            f"task {node.name!r} takes {describe(wanted[parameter])}"
            + (f" ({each}{describe(given)})" if one_each else "")
            + "; change one of the annotations, or put a task between them that converts"
        )
