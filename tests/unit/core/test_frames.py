"""Values on their way to the nodes that need them."""

from __future__ import annotations

import weakref

from daglite import build_graph, task
from daglite.core.frames import frames_of


@task
def step(x=None, y=None):
    """Do nothing."""


class Value:
    """Something that can be seen to be gone."""


def test_what_is_missing_comes_in():
    """A frame is ready when the last of its places is filled; a value may fill two."""
    a, b = step.bind(), step.bind()
    both, twice = step.bind(x=a, y=b), step.bind(x=b, y=b)
    frames = frames_of(build_graph(step.bind(x=both, y=twice)).values())
    assert [frame.missing for frame in frames.values()] == [0, 0, 2, 2, 2]
    assert [frame.index for frame in frames.values()] == [0, 1, 2, 3, 4]
    ready = []
    frames[a.id].feed("a", ready.append)
    assert ready == []
    frames[b.id].feed("b", ready.append)
    assert ready == [frames[both.id], frames[twice.id]]
    assert frames[both.id].take_args() == ("a", "b")
    assert frames[twice.id].take_args() == ("b", "b")


def test_the_rest_of_a_graph():
    """Values that are known stand in their places at once."""
    a = step.bind()
    b = step.bind(x=a)
    c = step.bind(x=b, y=a)
    frames = frames_of([b, c], first=1, known={a.id: "a"})
    assert [(frame.index, frame.missing, frame.args) for frame in frames.values()] == [
        (1, 0, ["a"]),
        (2, 1, [b, "a"]),
    ]


def test_a_value_goes_with_its_last_consumer():
    """Nothing else holds it."""
    a = step.bind()
    first, second = step.bind(x=a), step.bind(x=a)
    frames = frames_of(build_graph(step.bind(x=first, y=second)).values())
    value = Value()
    seen = weakref.ref(value)
    frames[a.id].feed(value, print)
    del value
    for consumer in (first, second):
        assert seen() is not None
        frames[consumer.id].take_args()
    assert seen() is None


def test_what_is_lost_takes_no_values():
    """All that needs a failed node, near or far, is given up once, and holds nothing."""
    a, b = step.bind(), step.bind()
    near = step.bind(x=a, y=b)
    far = step.bind(x=near, y=a)
    frames = frames_of(build_graph(far).values())
    value = Value()
    seen = weakref.ref(value)
    frames[a.id].feed(value, print)
    assert frames[b.id].lose_consumers() == [near.id, far.id]
    assert frames[b.id].lose_consumers() == []
    frames[a.id].feed(value, print)
    del value
    assert seen() is None
