"""From a future to the graph of all it needs."""

from __future__ import annotations

from typing import Any

from daglite.core.future import BaseTaskFuture
from daglite.core.graph import GatherNode, GraphNode, Node, NodeId
from daglite.core.task import Task
from daglite.core.validation import check_edges
from daglite.exceptions import GraphConstructionError

__all__ = ["build_graph"]


def build_graph(root: Node) -> dict[NodeId, GraphNode]:
    """
    Collect the nodes that *root* needs, itself included.

    Args:
        root: A future, or a node.

    Returns:
        Node id -> node, each after all of its inputs.

    Raises:
        GraphConstructionError: A cycle, or an edge between annotations that can't fit.
        TypeError: *root* is neither a future nor a node.
    """
    if not isinstance(root, Node):
        raise TypeError(f"build_graph needs a future, not {root!r:.60}{_hint(root)}")
    found, in_order = _collect(root)
    order = sorted(found) if in_order else _sorted_by_need(root)
    nodes = {node_id: found[node_id] for node_id in order}
    check_edges(nodes)
    return nodes


def _hint(root: object) -> str:
    if isinstance(root, Task):
        return f"; bind it first: {root.name}.bind()"
    if isinstance(root, (list, tuple, set, frozenset, dict)):
        return "; build the graph of each future in it"
    return "; decorate it with @task and bind it" if callable(root) else ""


def _collect(root: Any) -> tuple[dict[NodeId, GraphNode], bool]:
    """All nodes by id, and whether each id is known to be greater than those of its inputs."""
    found: dict[NodeId, GraphNode] = {root.id: root}
    todo = [root]
    while todo:
        node = todo.pop()
        args = node.args
        for place in node.refs:
            needed = args[place]
            node_id = needed.id
            if node_id not in found:
                found[node_id] = needed
                todo.append(needed)
    # Ours take their id when they are made, after their inputs.
    kinds = set(map(type, found.values()))
    return found, all(issubclass(kind, (BaseTaskFuture, GatherNode)) for kind in kinds)


def _sorted_by_need(root: Any) -> list[NodeId]:
    """Inputs first, whatever their ids; depth first, with the path kept to name a cycle."""
    order: list[NodeId] = []
    done: set[NodeId] = set()
    path: dict[NodeId, str] = {root.id: root.name}
    stack = [(root.id, iter(root.inputs))]
    while stack:
        own, remaining = stack[-1]
        for node in remaining:
            if node.id in path:
                raise _circular([*path.items()], node.id)
            if node.id not in done:
                path[node.id] = node.name
                stack.append((node.id, iter(node.inputs)))
                break
        else:
            stack.pop()
            del path[own]
            done.add(own)
            order.append(own)
    return order


def _circular(path: list[tuple[NodeId, str]], again: NodeId) -> GraphConstructionError:
    ids = [node_id for node_id, _ in path]
    around = [name for _, name in path[ids.index(again) :]]
    # Read along the data: from an input to what needs it.
    names = [around[0], *reversed(around)]
    if len(names) > 13:
        names = [*names[:6], f"… {len(names) - 12} more …", *names[-6:]]
    return GraphConstructionError(f"Circular dependency detected: {' → '.join(names)}")
