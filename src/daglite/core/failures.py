"""From a failed call to the error that `evaluate` raises."""

from __future__ import annotations

from daglite.core.attempts import record_failure
from daglite.core.call import Call, Outcome
from daglite.core.graph import GraphNode, NodeId
from daglite.exceptions import ExecutionError, as_execution_error, describe

__all__ = ["error_of_call", "error_of_function", "error_of_node"]


def error_of_call(call: Call, outcome: Outcome, node: GraphNode) -> ExecutionError:
    """The error for *call* of *node*, which finally ended as the failed *outcome*."""
    assert outcome.error is not None
    record_failure(call, outcome)
    return error_of_node(
        node,
        outcome.error,
        call=call,
        element=call.element,
        note=outcome.note,
    )


def error_of_function(call: Call, outcome: Outcome) -> ExecutionError:
    """The error for *call* of a protected function, which finally ended as the failed *outcome*."""
    assert outcome.error is not None
    record_failure(call, outcome)
    name, attempts = call.node_name, tuple(call.history)
    times = f" after {len(attempts)} attempts" if len(attempts) > 1 else ""
    told = f"function {name!r} failed{times}: {describe(outcome.error)}"
    return as_execution_error(
        f"{told}; not tried again: {outcome.note}" if outcome.note else told,
        original=outcome.error,
        node_name=name,
        execution_path=[name],
        attempts=attempts,
    )


def error_of_node(
    node: GraphNode,
    error: BaseException,
    *,
    call: Call | None = None,
    element: int | None = None,
    note: str | None = None,
) -> ExecutionError:
    """
    The error for *node*.

    Args:
        node: Which one failed.
        error: What it raised.
        call: The failed call with its history; None when it never came to one.
        element: Which element of a map, from 0.
        note: Why nothing more was tried.
    """
    path, ids = _path(node, element)
    attempts = () if call is None else tuple(call.history)
    times = f" after {len(attempts)} attempts" if len(attempts) > 1 else ""
    what = f"task {path[-1]!r}" if node.kind != "gather" else "putting results into a container"
    told = f"{what} failed{times}: {describe(error)}"
    return as_execution_error(
        f"{told}; not tried again: {note}" if note else told,
        original=error,
        node_id=node.id,
        node_name=node.name,
        execution_path=path,
        path_ids=ids,
        attempts=attempts,
    )


def _path(node: GraphNode, element: int | None) -> tuple[list[str], list[NodeId]]:
    """Names and ids from a root of the graph to *node*, along each node's first input."""
    names = [node.name if element is None else f"{node.name}[{element}]"]
    ids = [node.id]
    while node.refs:
        node = node.args[node.refs[0]]
        if node.kind != "gather":
            names.append(node.name)
            ids.append(node.id)
    return names[::-1], ids[::-1]
