"""Nodes tell what they are, and are equal to themselves alone."""

from __future__ import annotations

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
    for node in nodes.values():
        copy = node._replace()
        assert node == node
        assert node != copy
        assert len({node, copy}) == 2
    assert many.node.func is same.func
    assert many.node.mapped_kwargs["x"].kind == "sequence_ref"
