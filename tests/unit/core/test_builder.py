"""Graphs of builders that no task made: ids in any order, cycles, holes."""

from __future__ import annotations

import pytest

from daglite import build_graph, task
from daglite.core.graph import TaskNode
from daglite.exceptions import GraphConstructionError


@task
def step(x=None):
    """Do nothing."""


class Builder:
    """A node whose inputs can be set later."""

    def __init__(self, node_id, refs=(), name="step"):
        args = tuple(refs)
        self.node = TaskNode(
            node_id, step.with_options(name=name), args, (), tuple(range(len(args)))
        )
        self.deps = []


def test_ids_in_any_order():
    """Inputs come first, whatever their ids."""
    first, second, third = Builder(9), Builder(2, [9]), Builder(5, [2])
    second.deps, third.deps = [first], [second]
    assert list(build_graph(third)) == [9, 2, 5]


def test_a_cycle_is_named():
    """The path reads along the data, and is cut when it is long."""
    one = Builder(1, [1], name="one")
    one.deps = [one]
    with pytest.raises(GraphConstructionError, match="Circular dependency detected: one → one"):
        build_graph(one)
    many = [Builder(i, name=f"n{i}") for i in range(5_000)]
    for i, builder in enumerate(many):
        builder.deps = [many[i - 1]]
    with pytest.raises(GraphConstructionError, match=r"n4999 → n0 → .* … 4989 more … .* → n4999"):
        build_graph(many[-1])


def test_an_unknown_reference():
    """A node may refer to those only that its builder depends on."""
    with pytest.raises(GraphConstructionError, match="'step' refers to node 77"):
        build_graph(Builder(1, [77]))


def test_what_is_fixed_cannot_be_changed():
    """A task is immutable, its bound arguments included."""
    fixed = step.fix(x=1)
    with pytest.raises(TypeError):
        fixed.fixed["x"] = 2
