"""Graphs of builders that no task made: ids in any order, cycles, holes."""

from __future__ import annotations

import pytest

from daglite import build_graph, task
from daglite.core.graph import TaskNode
from daglite.exceptions import GraphConstructionError


@task
def step(x=None):
    """Do nothing."""


class Made(TaskNode):
    """A node that no task made: its id and inputs can be changed."""

    __setattr__ = object.__setattr__

    def __init__(self, node_id, needed=(), name="step"):
        super().__init__((), (), step.with_options(name=name), ())
        self.id = node_id
        self.needs(*needed)

    def needs(self, *nodes):
        """Replace the inputs."""
        self.args, self.refs = nodes, tuple(range(len(nodes)))


def test_ids_in_any_order():
    """Inputs come first, whatever their ids."""
    first = Made(9)
    second = Made(2, [first])
    assert list(build_graph(Made(5, [second]))) == [9, 2, 5]


@pytest.mark.parametrize("length", [1, 2, 12, 13, 5_000])
def test_a_cycle_is_named(length):
    """The path reads along the data, and is cut when it is long."""
    around = [Made(-i - 1, name=f"t{i}") for i in range(length)]
    for i, node in enumerate(around):
        node.needs(around[(i + 1) % length])
    names = ["t0", *(f"t{i}" for i in reversed(range(length)))]
    if len(names) > 13:
        names[6:-6] = [f"… {len(names) - 12} more …"]
    with pytest.raises(GraphConstructionError) as raised:
        build_graph(around[0])
    assert f"Circular dependency detected: {' → '.join(names)}" in str(raised.value)


@pytest.mark.parametrize(
    ("root", "told"),
    [
        (step, r"not <Task step\(x\)>; bind it first: step\.bind\(\)$"),
        ([step.bind()], "not .*; build the graph of each future in it$"),
        (len, "not <built-in .*; decorate it with @task and bind it$"),
        (5, "build_graph needs a future, not 5$"),
    ],
)
def test_a_root_that_is_no_future(root, told):
    """A `TypeError` says what was given, and what to do."""
    with pytest.raises(TypeError, match=told):
        build_graph(root)


def test_a_reference_to_what_is_no_node():
    """A node can't be made with it."""
    with pytest.raises(GraphConstructionError, match="refers to 77, which isn't a node"):
        TaskNode((77,), (0,), step, ())


def test_what_is_fixed_cannot_be_changed():
    """A task is immutable, its bound arguments included."""
    fixed = step.fix(x=1)
    with pytest.raises(TypeError):
        fixed.fixed["x"] = 2
