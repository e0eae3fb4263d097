"""Nodes tell what they are, and are equal to themselves alone."""

from __future__ import annotations

import copy
import pickle

import pytest

from daglite import build_graph, task


@task
def same(x):
    """Give back what came."""
    return x


def test_three_kinds_of_node():
    """Their kinds, names and inputs; two nodes with the same content aren't equal."""
    one = same.bind(x=1)
    many = same.extend(x=[one, 2])
    nodes = build_graph(many)
    assert [node.kind for node in nodes.values()] == ["task", "gather", "map"]
    assert [node.name for node in nodes.values()] == ["same", "(gather)", "same"]
    assert [len(node.dependencies) for node in nodes.values()] == [0, 1, 1]
    assert many.func is same.func
    assert many.mapped_kwargs["x"].kind == "sequence_ref"
    for node in nodes.values():
        twin = type(node)(node.args, node.refs, *(getattr(node, part) for part in node.parts))
        assert node == node
        assert node != twin
        assert len({node, twin}) == 2


@pytest.mark.parametrize("make", [lambda: same.bind(x=1), lambda: same.extend(x=[1])])
def test_a_future_cannot_be_changed(make):
    """Neither what it is bound to nor anything else; it has no room for more."""
    future = make()
    for name in ("id", "args", "refs", "task", "kwnames", "other"):
        with pytest.raises(AttributeError, match="can't be changed"):
            setattr(future, name, ())
    with pytest.raises(AttributeError, match="can't be changed"):
        del future.args


def test_a_copy_of_a_future_is_the_future():
    """Another node would run what it stands for a second time."""
    future = same.bind(x=[1])
    assert copy.copy(future) is future
    assert copy.deepcopy({"a": [future]})["a"][0] is future


def test_a_gather_node_pickles_alone():
    """It is a node like the others."""
    nodes = build_graph(same.bind(x=[same.bind(x=1)]))
    gathered = next(node for node in nodes.values() if node.kind == "gather")
    again = pickle.loads(pickle.dumps(gathered))
    assert again.kind == "gather"
    assert [node.kind for node in again.inputs] == ["task"]
    assert copy.copy(gathered) is gathered
