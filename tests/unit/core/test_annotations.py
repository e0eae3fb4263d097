# The old spellings are under test, and so are names that don't exist.
# ruff: noqa: F821, UP006, UP007, UP035, UP045
import collections
import collections.abc as cabc
import enum
import typing
from typing import Annotated, Any, Generic, List, Literal, NewType, Optional, TypeVar, Union

import pytest
import typing_extensions as te

from daglite.core.annotations import class_of, element_type, list_of, members, plain

T = TypeVar("T")
U = TypeVar("U")
Ts = te.TypeVarTuple("Ts")
Number = TypeVar("Number", int, float)
Cats = NewType("Cats", list[str])
Row = te.TypeAliasType("Row", dict[str, int])
Loop = te.TypeAliasType("Loop", Union["Loop", None])
Pair = te.TypeAliasType("Pair", dict[U, T], type_params=(T, U))


class Colour(enum.Enum):
    RED = "red"


class Box(Generic[T]):
    def __iter__(self) -> typing.Iterator[T]:
        return iter(())


class Movie(te.TypedDict):
    title: str


class Word(str):
    pass


class Lines(str):
    def __iter__(self) -> typing.Iterator[Any]:
        return iter(self.splitlines())


@pytest.mark.parametrize(
    ("annotation", "element"),
    [
        (list[int], int),
        (List[int], int),
        (list, Any),
        (set[int], int),
        (frozenset[int], int),
        (collections.deque[int], int),
        (collections.Counter[str], str),
        (dict[str, int], str),
        (cabc.Mapping[str, int], str),
        (cabc.KeysView[str], str),
        (cabc.ValuesView[int], int),
        (cabc.ItemsView[str, int], tuple[str, int]),
        (cabc.Iterable[int], int),
        (cabc.Iterator[int], int),
        (typing.Sequence[int], int),
        (cabc.Generator[int, str, bytes], int),
        (cabc.AsyncIterator[int], int),
        (cabc.AsyncGenerator[int, None], int),
        (enumerate[str], tuple[int, str]),
        (tuple[int, ...], int),
        (tuple[int, str], Union[int, str]),
        (tuple[int, Any], Any),
        (tuple[int, te.Unpack[Ts]], Any),
        (tuple, Any),
        (str, str),
        (Word, str),
        (Lines, Any),
        (bytes, int),
        (bytearray, int),
        (range, int),
        (Literal["ab", "cd"], str),
        (Movie, str),
        (type[Colour], Colour),
        (type[int], Any),
        (type, Any),
        (Row, str),
        (Cats, str),
        (Annotated[list[int], "metres"], int),
        (list[Annotated[int, "metres"]], Annotated[int, "metres"]),
        (list[Annotated[int, []]], Annotated[int, []]),
        (list["Gone"], "Gone"),
        (list[T], T),
        (Optional[list[int]], int),
        (Union[list[int], tuple[str, ...]], Union[int, str]),
        (Union[list[int], Any], Any),
        (None, Any),
        (Any, Any),
        (object, Any),
        (int, Any),
        (T, Any),
        ("Gone", Any),
        (Box[int], Any),
        (cabc.Awaitable[int], Any),
        (cabc.Callable[[int], str], Any),
        (Loop, Any),
    ],
    ids=repr,
)
def test_element_type(annotation, element):
    """Iterating a value gives what its annotation says, and Any where it says nothing."""
    assert element_type(annotation) == element


@pytest.mark.parametrize("annotation", [int, Any, list[int], T, int | None], ids=repr)
def test_list_of_puts_anything_into_a_list(annotation):
    """Iterating the list gives what was put in."""
    assert list_of(annotation) == list[annotation]
    assert element_type(list_of(annotation)) == annotation


def test_list_of_takes_what_is_no_type():
    """None and a name that isn't resolved stand as annotations too."""
    assert list_of(None) == list[None]
    assert list_of("Gone") == list["Gone"]


def test_list_of_a_tuple_annotation_stays_one_argument():
    """A tuple type is one argument, not several."""
    assert typing.get_args(list_of(tuple[int, str])) == (tuple[int, str],)


@pytest.mark.parametrize(
    ("annotation", "stands_for"),
    [
        (None, type(None)),
        (object, Any),
        (Annotated[typing.Final[int], 1], int),
        (Number, Union[int, float]),
        (te.LiteralString, str),
        (Movie, dict[str, Any]),
        (Row, dict[str, int]),
        (Pair[int, str], dict[str, int]),
        (Pair, dict[U, T]),
        (te.Self, Any),
        ("int", Any),
        (typing.Generic, Any),
        (typing.Protocol, Any),
        (typing.Union, Any),
    ],
    ids=repr,
)
def test_plain(annotation, stands_for):
    """Wrappers, aliases and variables are looked through; what isn't understood is Any."""
    assert plain(annotation) == stands_for


class Endless:
    """An annotation that stands for another of its kind."""

    @property
    def __supertype__(self) -> "Endless":
        return Endless()


class EndlessUnion:
    """An annotation that stands for a union with another of its kind."""

    @property
    def __supertype__(self) -> object:
        return Union[int, Annotated[EndlessUnion(), "more"]]

    def __call__(self) -> None:
        """Makes it pass for a type in a union."""


def test_endless_annotations_end_as_any():
    """What stands for itself stands for Any."""
    assert plain(Endless()) is Any
    assert list(members(Loop))[-1] is type(None)
    assert list(members(EndlessUnion())) == [*[int] * 8, Any]


def test_class_of_a_class_is_its_metaclass():
    """type[X] is a value whose class is the metaclass of X; for type[list[int]] it is type."""
    assert class_of(type[Colour]) is enum.EnumMeta
    assert class_of(type[list[int]]) is type
    assert class_of(Any) is object or isinstance(Any, type)
