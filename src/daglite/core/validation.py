"""What can be known to be wrong with a graph before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from daglite.core.annotations import element_type, gives_elements, list_of
from daglite.core.compatibility import is_compatible
from daglite.core.describe import describe
from daglite.core.graph import (
    GraphNode,
    MapTaskNode,
    NodeId,
    TaskInfo,
    TaskNode,
)
from daglite.core.hints import hints_of
from daglite.exceptions import GraphConstructionError

__all__ = ["check_edges"]

Hints: TypeAlias = Mapping[str, object]

_known: WeakKeyDictionary[Any, Hints] = WeakKeyDictionary()


def check_edges(nodes: Mapping[NodeId, GraphNode]) -> None:
    """
    Check the types of every edge between *nodes* that is annotated at both ends.

    Raises:
        GraphConstructionError: Names both ends.
    """
    # Shape of a call -> for each place, whose results are fine there; None: nothing to check.
    # Which parameter a place is, and whether it takes one element each, may differ from call
    # to call of a task: what decides it belongs to the shape. A call that passes everything
    # by position is told by its task alone.
    fine: dict[object, list[set[object]] | None] = {}
    for node in nodes.values():
        refs = node.refs
        if not refs or node.kind == "gather":
            continue
        args, task = node.args, node.task
        shape: object = task
        if node.kind == "map":
            shape = (task, len(args), node.kwnames, node.mapped)
        elif node.kwnames:
            shape = (task, len(args), node.kwnames)
        if shape not in fine:
            places = max(len(args), task.signature.positional)
            fine[shape] = [set() for _ in range(places)] if _hints(task) else None
        known = fine[shape]
        if known is None:
            continue
        for place in refs:
            source = args[place]
            kind = source.kind
            if kind == "task":
                made_by = source.task
            elif kind == "gather":
                continue
            else:
                made_by = (source.task, kind)
            if made_by not in known[place]:
                one_each = node.kind == "map" and place in node.mapped
                _check_types(source, node, node.argument_names[place], one_each)
                known[place].add(made_by)


def _hints(task: TaskInfo) -> Hints:
    hints = _known.get(task)
    if hints is None:
        hints = _known[task] = hints_of(task.func)
    return hints


def _check_types(
    source: TaskNode | MapTaskNode, node: TaskNode | MapTaskNode, parameter: str, one_each: bool
) -> None:
    made, wanted = _hints(source.task), _hints(node.task)
    if "return" not in made:
        return
    given = list_of(made["return"]) if source.kind == "map" else made["return"]
    if one_each and not gives_elements(given):
        raise GraphConstructionError(
            f"task {source.name!r} returns {describe(given)}, but parameter {parameter!r} of "
            f"task {node.name!r} takes the elements of an iterable; return a list"
        )
    if parameter not in wanted:
        return
    passed = element_type(given) if one_each else given
    if not is_compatible(passed, wanted[parameter]):
        each = f" (each an element of {describe(given)})" if one_each else ""
        raise GraphConstructionError(
            f"task {source.name!r} returns {describe(given)}, but parameter {parameter!r} of "
            f"task {node.name!r} takes {describe(wanted[parameter])}"
            f"{each}; change one of the annotations, or put a task between them that converts"
        )
