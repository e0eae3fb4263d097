# The old spellings are under test, and so are names that don't exist.
# ruff: noqa: F821, UP006, UP007, UP035, UP045
import collections.abc as cabc
import sys
import typing
from typing import Annotated, Any, Callable, Dict, List, Literal, NewType, Optional, TypeVar, Union

import pytest
import typing_extensions as te

from daglite.core.describe import describe

T = TypeVar("T")
P = te.ParamSpec("P")
UserId = NewType("UserId", int)
Row = te.TypeAliasType("Row", dict[str, int])
Many = te.TypeAliasType("Many", Union[T, list[T]], type_params=(T,))


class Outer:
    class Inner:
        pass


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "int"),
        (None, "None"),
        (type(None), "None"),
        (Any, "Any"),
        (list, "list"),
        (List, "list"),
        (list[int], "list[int]"),
        (List[int], "list[int]"),
        (Dict[str, list[int]], "dict[str, list[int]]"),
        (cabc.Mapping[str, int], "Mapping[str, int]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Optional[str], "str | None"),
        (Union[int, str], "int | str"),
        (int | None, "int | None"),
        (list[int | None], "list[int | None]"),
        (Callable[[int, str], bytes], "Callable[[int, str], bytes]"),
        (Callable[..., Any], "Callable[..., Any]"),
        (Callable[P, int], "Callable[P, int]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[int, "metres"], "int"),
        (type[int], "type[int]"),
        (T, "T"),
        (list[T], "list[T]"),
        (UserId, "UserId"),
        (Row, "Row"),
        (Many[int], "Many[int]"),
        (Outer.Inner, "Outer.Inner"),
        ("Gone", "Gone"),
        (list["Gone"], "list[Gone]"),
        (typing.ForwardRef("Gone"), "Gone"),
        (typing.Final[int], "Final[int]"),
        (te.Never, "Never"),
        (3, "3"),
    ],
    ids=repr,
)
def test_describe(annotation, name):
    """An annotation is named as one would write it."""
    assert describe(annotation) == name


def test_a_local_class_goes_by_its_own_name():
    """The function around a class is left out of its name."""

    class Local:
        pass

    assert describe(Local) == "Local"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no type statement")
def test_an_alias_of_a_type_statement_goes_by_its_name():
    """The name that was chosen says more than what it stands for."""
    names: dict[str, Any] = {}
    exec("type Whole = int\ntype Pair[A] = tuple[A, A]", names)
    assert describe(names["Whole"]) == "Whole"
    assert describe(names["Pair"][int]) == "Pair[int]"
