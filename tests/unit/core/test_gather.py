"""Containers with futures in them are built again; others are left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daglite import evaluate, task
from daglite.core.gather import gather


@dataclass
class Guarded:
    """Can't be copied."""

    value: Any

    def __reduce_ex__(self, protocol):
        raise TypeError("not to be copied")


@task
def same(x):
    """Give back what came."""
    return x


def test_a_dataclass_without_futures_is_not_copied():
    """What holds no future is passed as it is, even if it can't be copied."""
    guarded = Guarded(object())
    assert evaluate(same.bind(x=guarded)) is guarded


def test_shared_containers_are_looked_into_once():
    """A list that is shared over 60 floors takes no 2**60 steps, and stays shared."""
    top = bottom = [same.bind(x=1)]
    for _ in range(60):
        top = [top, top]
    made = evaluate(same.bind(x=top))
    while isinstance(made[0], list):
        assert made[0] is made[1]
        made = made[0]
    assert made == [1]
    assert len(bottom) == 1


def test_a_container_that_contains_itself():
    """A cycle of containers ends the search."""
    cyclic: list[Any] = [object()]
    cyclic.append(cyclic)
    assert gather(cyclic) is None
