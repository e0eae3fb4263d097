"""Edges between the same two tasks may differ, and each is checked."""

from __future__ import annotations

from typing import Any

import pytest

from daglite import build_graph, task
from daglite.exceptions import GraphConstructionError


@task
def numbers() -> list[int]:
    """Make a list."""
    return [1]


@task
def number() -> int:
    """Make a number."""
    return 1


@task
def twice(x: int) -> int:
    """Take a number."""
    return 2 * x


@task
def label(*, count: int, text: str) -> str:
    """Take two kinds by name."""
    return text * count


@task
def both(a, b):
    """Take anything."""
    return a, b


def test_map_of_two_tasks_does_not_vouch_for_a_call_of_them():
    """A list fits a map over its elements, but not a call with the whole list."""
    mapped, whole = twice.zip(x=numbers.bind()), twice.bind(x=numbers.bind())
    build_graph(both.bind(a=mapped, b=1))
    for a, b in ((mapped, whole), (whole, mapped)):
        with pytest.raises(GraphConstructionError, match=r"task 'numbers' .* of task 'twice'"):
            build_graph(both.bind(a=a, b=b))


def test_keyword_only_parameters_are_told_apart():
    """The same place holds another parameter when keywords come in another order."""
    right = label.bind(count=number.bind(), text="x")
    wrong = label.bind(text=number.bind(), count=1)
    build_graph(right)
    for a, b in ((right, wrong), (wrong, right)):
        with pytest.raises(GraphConstructionError, match="parameter 'text' of task 'label'"):
            build_graph(both.bind(a=a, b=b))


@task
def loose(x: Any) -> Any:
    """Take anything."""
    return x


@pytest.mark.parametrize(
    "returned", [int, float, bool, complex, str, bytes, "int | None", "int | str"]
)
def test_a_map_over_what_has_no_elements(returned: object) -> None:
    """Found before anything runs; text has elements, but its characters aren't meant."""

    def source() -> Any: ...

    source.__annotations__["return"] = returned
    given = task(source).bind()
    for fan in (lambda: loose.extend(x=given), lambda: given.map(loose)):
        with pytest.raises(GraphConstructionError, match=r"'source' returns .* takes the elements"):
            build_graph(fan())


@pytest.mark.parametrize("returned", ["list[int]", "Any", "int | list[int]", "dict[str, int]"])
def test_a_map_over_what_may_have_elements(returned: str) -> None:
    """What might work is left to the run."""

    def source() -> Any: ...

    source.__annotations__["return"] = returned
    build_graph(loose.extend(x=task(source).bind()))
