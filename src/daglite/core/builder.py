"""From a future to the graph of all it needs."""

from __future__ import annotations

from daglite.core.future import BaseTaskFuture, Gathered
from daglite.core.graph import GraphBuilder, GraphNode, NodeId
from daglite.core.validation import check_edges
from daglite.exceptions import GraphConstructionError

__all__ = ["build_graph"]


def build_graph(root: GraphBuilder) -> dict[NodeId, GraphNode]:
    """
    Collect the nodes that *root* needs, itself included.

    Returns:
        Node id -> node, each after all of its inputs.

    Raises:
        GraphConstructionError: A cycle, a reference to a node that isn't there, or an edge
            between annotations that can't fit.
    """
    found, in_order = _collect(root)
    order = sorted(found) if in_order else _sorted_by_need(root)
    nodes = {node_id: found[node_id].node for node_id in order}
    check_edges(nodes)
    return nodes


def _collect(root: GraphBuilder) -> tuple[dict[NodeId, GraphBuilder], bool]:
    """All builders by id, and whether each id is known to be greater than those of its inputs."""
    found = {root.node.id: root}
    todo = [root]
    while todo:
        for dep in todo.pop().deps:
            dep_id = dep.node[0]
            if dep_id not in found:
                found[dep_id] = dep
                todo.append(dep)
    # Ours take their id when they are made, after their inputs.
    kinds = set(map(type, found.values()))
    return found, all(issubclass(kind, (BaseTaskFuture, Gathered)) for kind in kinds)


def _sorted_by_need(root: GraphBuilder) -> list[NodeId]:
    """Inputs first, whatever their ids; depth first, with the path kept to name a cycle."""
    order: list[NodeId] = []
    done: set[NodeId] = set()
    path: dict[NodeId, str] = {root.node.id: root.node.name}
    stack = [(root.node.id, iter(root.deps))]
    while stack:
        own, remaining = stack[-1]
        for dep in remaining:
            dep_id = dep.node.id
            if dep_id in path:
                raise _circular([*path.items()], dep_id)
            if dep_id not in done:
                path[dep_id] = dep.node.name
                stack.append((dep_id, iter(dep.deps)))
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
    if len(names) > 12:
        names = [*names[:6], f"… {len(names) - 12} more …", *names[-6:]]
    return GraphConstructionError(f"Circular dependency detected: {' → '.join(names)}")
