"""What the error of a failed node tells."""

from __future__ import annotations

from typing import Any

import pytest

from daglite import build_graph, task
from daglite.core.call import Call, Outcome, Target
from daglite.core.failures import error_of_call, error_of_node
from daglite.core.graph import GraphNode
from daglite.core.kernel import Kernel
from daglite.core.run import Listeners, Run
from daglite.exceptions import ExecutionError, TaskTimeoutError, WorkerDiedError
from daglite.testing import VirtualClock


@task
def work(x: Any = None) -> Any:
    return x


def graph() -> list[GraphNode]:
    """a -> (list) -> b, whose elements go into the map c."""
    a = work.with_options(name="a").bind()
    b = work.with_options(name="b").bind(x=[a])
    nodes = build_graph(b.map(work.with_options(name="c")))
    return [node for node in nodes.values() if node.kind != "gather"]


def test_the_path() -> None:
    """From a source of the graph; elements are named, gathers aren't."""
    a, b, c = graph()
    error = error_of_node(c, ValueError("bad"), element=4)
    assert error.execution_path == ("a", "b", "c[4]")
    assert error.path_ids == (a.id, b.id, c.id)
    assert (error.node_id, error.node_name) == (c.id, "c")
    assert error_of_node(b, ValueError("bad")).execution_path == ("a", "b")
    assert str(error).splitlines()[0] == "task 'c[4]' failed: ValueError: bad"


def test_it_is_of_the_tasks_type() -> None:
    """`except ValueError` works, and the original is the cause."""
    a, *_ = graph()
    original = KeyError("k")
    error = error_of_node(a, original)
    assert isinstance(error, KeyError)
    assert error.original_exception is error.__cause__ is original
    assert error.attempts == ()


@pytest.mark.parametrize("original", [WorkerDiedError("lost"), OSError("lost")])
def test_why_nothing_more_was_tried(original: Exception) -> None:
    """A note is at the end of the message, also of daglite's own errors."""
    a, *_ = graph()
    error = error_of_node(a, original, note="no time is left")
    first = str(error).splitlines()[0]
    assert first.endswith("lost; not tried again: no time is left")


def test_daglites_own_errors_stay_themselves() -> None:
    """They are filled in: an attribute isn't lost."""
    a, *_ = graph()
    late = TaskTimeoutError("late", limit=3, elapsed=4)
    error = error_of_node(a, late)
    assert error is late
    assert (late.node_name, late.limit, late.elapsed) == ("a", 3, 4)
    assert late.__cause__ is None


def test_the_attempts() -> None:
    """The last one is recorded with the others, if that wasn't done."""
    a, *_ = graph()
    run = Run("r", Kernel(VirtualClock()), Listeners(()), seed="r")
    call = Call(run, Target("a", print), a.id, 0, None, (), ())
    error = error_of_call(call, Outcome(error=OSError("x"), started=0, ran=2), a)
    assert [(r.number, r.started, r.ran, r.error) for r in error.attempts] == [
        (1, 0, 2, "OSError: x")
    ]
    again = error_of_call(call, Outcome(error=OSError("x")), a)
    assert len(again.attempts) == 1
    second = call.again(0)
    both = error_of_call(second, Outcome(error=OSError("y")), a)
    assert isinstance(both, ExecutionError)
    assert "failed after 2 attempts: OSError: y" in str(both)
