# The old spellings are under test, and so are names that don't exist.
# ruff: noqa: F821, UP006, UP007, UP035, UP045
import abc
import collections
import collections.abc as cabc
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import io
import numbers
import os
import pathlib
import re
import sys
import textwrap
import types
import typing
import uuid
from typing import (
    Annotated,
    Any,
    Callable,
    ClassVar,
    Dict,
    Final,
    Generic,
    List,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    Tuple,
    Type,
    TypedDict,
    TypeVar,
    Union,
    runtime_checkable,
)

import pytest
import typing_extensions as te

from daglite.core.compatibility import is_compatible

T = TypeVar("T")
P = te.ParamSpec("P")
Ts = te.TypeVarTuple("Ts")
T_in = TypeVar("T_in", contravariant=True)
SizedT = TypeVar("SizedT", bound=cabc.Sized)
StrOrBytes = TypeVar("StrOrBytes", str, bytes)
LateT = TypeVar("LateT", bound="NowhereToBeFound")

UserId = NewType("UserId", int)
AdminId = NewType("AdminId", UserId)


class Animal:
    pass


class Dog(Animal):
    pass


class Bird(Animal):
    pass


class Flies:
    pass


class Duck(Bird, Flies):
    def swim(self) -> None:
        pass


class Swims(Protocol):
    def swim(self) -> None: ...


class Stone:
    pass


@dataclasses.dataclass
class Order:
    number: int


@dataclasses.dataclass
class Invoice:
    number: int


class Point(NamedTuple):
    x: int
    y: int


class Movie(TypedDict):
    title: str


class Song(TypedDict, total=False):
    length: float


class Colour(enum.Enum):
    RED = "red"


class Size(enum.Enum):
    BIG = 1


class Level(enum.IntEnum):
    LOW = 1


class Kind(str, enum.Enum):
    CAT = "cat"


class Box(Generic[T]):
    pass


class Sink(Generic[T_in]):
    pass


class Pipe(Generic[P]):
    pass


class Handler:
    def __call__(self, text: str) -> int:
        return 0


class Indexed:
    def __getitem__(self, index: int) -> int:
        raise IndexError(index)


class Named(Protocol):
    name: str


class Runner(Protocol):
    def run(self) -> int: ...


@runtime_checkable
class Closer(Protocol):
    def close(self) -> None: ...


class CallsBack(Protocol):
    def __call__(self, text: str) -> int: ...


class Upper(Protocol):
    def upper(self) -> str: ...


class Getter(Protocol[T]):
    def get(self) -> T: ...


class OldRunner(te.Protocol):
    def run(self) -> int: ...


class Runs:
    def run(self) -> int:
        return 0


class SetsName:
    def __init__(self) -> None:
        self.name = "x"


class SetsRun:
    def __init__(self, inner: Runs) -> None:
        self.run = inner.run


class DeclaresRun:
    run: Callable[[], int]


class AnyName:
    def __getattr__(self, name: str) -> Any:
        return name


class Model(abc.ABC):
    @abc.abstractmethod
    def fit(self) -> None: ...


class Ridge(Model):
    def fit(self) -> None:
        pass


class Lasso(Model):
    def fit(self) -> None:
        pass


class Mark(abc.ABC):  # noqa: B024
    pass


class Registered:
    pass


Mark.register(Registered)


class LooksInside(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return True


class Ghost(metaclass=LooksInside):
    pass


class Rude(type):
    def __subclasscheck__(cls, subclass: type) -> bool:
        raise RuntimeError("ask somebody else")


class Unasked(metaclass=Rude):
    pass


class Trap:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None


class Names(List[str]):
    pass


Json = te.TypeAliasType("Json", Union[int, list["Json"]])
Texts = te.TypeAliasType("Texts", Union[str, list["Texts"]])
Loop = te.TypeAliasType("Loop", Union["Loop", None])
Number = te.TypeAliasType("Number", int)
Lost = te.TypeAliasType("Lost", "NowhereToBeFound")

WRONG = [
    # built-in types
    (int, str),
    (str, int),
    (float, int),
    (complex, float),
    (int, bool),
    (int, bytes),
    (bytes, str),
    (bytes, bytearray),
    (None, int),
    (int, None),
    (type(None), str),
    (str, dict),
    (list, dict),
    (list, tuple),
    (tuple, list),
    (range, list),
    # the standard library
    (decimal.Decimal, float),
    (int, decimal.Decimal),
    (fractions.Fraction, float),
    (pathlib.Path, str),
    (str, pathlib.Path),
    (str, os.PathLike),
    (str, datetime.date),
    (datetime.timedelta, datetime.datetime),
    (uuid.UUID, str),
    (str, typing.TextIO),
    (typing.IO[str], typing.IO[bytes]),
    (re.Pattern[str], re.Pattern[bytes]),
    # unions, literals, and names for other types
    (Union[int, float], str),
    (Optional[int], str),
    (int, Union[str, bytes]),
    (int | None, str | bytes),
    (Literal["a"], int),
    (int, Literal["a"]),
    (Literal["a", "b"], Literal["c"]),
    (Literal[1], Literal["1"]),
    (Literal[Colour.RED], str),
    (UserId, str),
    (AdminId, str),
    (str, UserId),
    (Annotated[int, "metres"], str),
    (int, Final[str]),
    (te.LiteralString, int),
    (StrOrBytes, int),
    (int, SizedT),
    (Number, str),
    (str, Json),
    (dict[str, int], Texts),
    # collections
    (int, list[int]),
    (list[int], int),
    (list[int], list[str]),
    (List[int], List[str]),
    (list[float], list[int]),
    (list[list[int]], list[list[str]]),
    (list[int], set[int]),
    (list[int], cabc.Mapping),
    (dict[str, int], cabc.Sequence),
    (dict[str, int], dict[str, str]),
    (dict[str, int], dict[int, int]),
    (Dict[str, int], cabc.Mapping[str, bytes]),
    (collections.Counter[str], dict[str, str]),
    (dict[str, int], cabc.Iterable[int]),
    (set[int], cabc.Set[str]),
    (frozenset[int], list[int]),
    (collections.deque[int], cabc.Sequence[str]),
    (str, cabc.Iterable[int]),
    (str, cabc.Sequence[bytes]),
    (str, list[str]),
    (bytes, cabc.Iterable[str]),
    (cabc.Iterator[int], list[int]),
    (cabc.Iterable[int], cabc.Iterable[str]),
    (cabc.Sequence[int], str),
    (cabc.AsyncIterator[int], cabc.AsyncIterator[str]),
    (int, cabc.Iterable),
    (int, cabc.Sized),
    (int, cabc.Sequence),
    (list, cabc.Hashable),
    (Order, cabc.Hashable),
    (Colour, cabc.Iterable[str]),
    (Order, cabc.Iterable),
    (int, cabc.Awaitable[int]),
    # tuples
    (tuple[int, str], tuple[int, int]),
    (tuple[int, int], tuple[int, int, int]),
    (tuple[int, str], tuple[int, ...]),
    (tuple[int, ...], tuple[str, ...]),
    (tuple[int, ...], tuple[int, str]),
    (Tuple[int, str], cabc.Sequence[int]),
    (tuple[int, int], list[int]),
    # callables and classes as values
    (int, Callable[..., Any]),
    (Stone, Callable[[str], int]),
    (Callable[[], int], int),
    (type[int], int),
    (int, type[int]),
    (type[Dog], type[Stone]),
    (Type[int], Type[str]),
    # classes
    (Dog, Stone),
    (Dog, Flies),
    (Order, Invoice),
    (Order, dict),
    (Order, str),
    (dict, Order),
    (Colour, str),
    (str, Colour),
    (Colour, Size),
    (Point, int),
    (int, Movie),
    (list[str], Movie),
    (dict[int, str], Movie),
    (Movie, cabc.Mapping[int, str]),
    (Box[int], Box[str]),
    (Box[int], int),
    (ValueError, TypeError),
    (contextlib.AbstractContextManager[int], contextlib.AbstractContextManager[str]),
    # protocols and abstract base classes
    (int, Named),
    (str, Runner),
    (Stone, Runner),
    (Dog, Swims),
    (Stone, OldRunner),
    (Order, Closer),
    (int, CallsBack),
    (str, typing.SupportsFloat),
    (Stone, typing.SupportsInt),
    (Runner, int),
    (int, Model),
    (Ridge, str),
    (Ridge, Lasso),
    (str, numbers.Number),
    (int, Ghost),
    (Ghost, str),
]

RIGHT = [
    # nothing is known
    (Any, int),
    (int, Any),
    (object, int),
    (int, object),
    (list[Any], list[int]),
    (list, list[int]),
    (list[int], list),
    (list[int], List),
    (int, T),
    (T, int),
    (list[T], list[int]),
    (LateT, int),
    (int, "NowhereToBeFound"),
    ("NowhereToBeFound", int),
    (typing.ForwardRef("Gone"), int),
    (list["Gone"], list[int]),
    (te.Self, int),
    (te.Never, int),
    (typing.NoReturn, str),
    (int, Generic),
    (int, Protocol),
    (int, 3),
    (int, any),
    (int, dataclasses.InitVar[str]),
    (Trap(), int),
    (Trap, int | Any),
    # built-in types
    (int, int),
    (int, float),
    (int, complex),
    (float, complex),
    (bool, int),
    (bool, float),
    (None, type(None)),
    (bytearray, bytes),
    (memoryview, bytes),
    (list[int], list[float]),
    # the standard library
    (pathlib.Path, Union[str, os.PathLike[str]]),
    (str, Union[str, os.PathLike[str]]),
    (pathlib.Path, os.PathLike),
    (pathlib.PurePath, pathlib.Path),
    (pathlib.PosixPath, pathlib.Path),
    (datetime.datetime, datetime.date),
    (datetime.date, datetime.datetime),
    (decimal.Decimal, numbers.Number),
    (int, numbers.Integral),
    (numbers.Real, float),
    (io.TextIOWrapper, typing.TextIO),
    (io.StringIO, typing.IO[str]),
    (io.TextIOBase, typing.TextIO),
    (typing.TextIO, typing.IO[str]),
    (typing.IO[bytes], typing.BinaryIO),
    (io.BytesIO, io.IOBase),
    # unions, literals, and names for other types
    (Optional[int], int),
    (int, Optional[int]),
    (Optional[int], Optional[str]),
    (Union[int, str], Union[bytes, str]),
    (int | str, str),
    (int | None, Optional[float]),
    (Optional["Gone"], int),
    (Literal["a"], str),
    (str, Literal["a"]),
    (Literal["a", 1], int),
    (Literal["a"], Literal["a", "b"]),
    (Literal[None], Optional[int]),  # noqa: PYI061
    (Literal[Colour.RED], Colour),
    (Literal["a"], cabc.Sequence[str]),
    (te.Literal["a"], Literal["a"]),
    (Animal, Literal[Level.LOW] | Dog),
    (UserId, int),
    (int, UserId),
    (AdminId, UserId),
    (AdminId, float),
    (Annotated[int, "metres"], int),
    (int, Annotated[float, "metres"]),
    (list[Annotated[int, []]], list[int]),
    (cabc.Iterable[int], tuple[Annotated[int, []], str]),
    (Final[int], int),
    (int, ClassVar[int]),
    (te.LiteralString, str),
    (str, StrOrBytes),
    (StrOrBytes, str),
    (str, SizedT),
    (SizedT, list),
    (Number, int),
    (int, Json),
    (Json, Json),
    (Json, Texts),
    (list[Json], Json),
    (Loop, int),
    (int, Loop),
    (Lost, int),
    # collections
    (list[int], cabc.Sequence[float]),
    (list[int], typing.Sequence[int]),
    (List[int], list[int]),
    (typing.Iterable[int], cabc.Iterable[int]),
    (typing.Deque[int], collections.deque[int]),
    (list[int], cabc.Collection[int]),
    (cabc.Iterable[int], list[int]),
    (cabc.Sequence[int], tuple[int, ...]),
    (list[list[int]], cabc.Sequence[cabc.Sequence[float]]),
    (list[Optional[int]], list[int]),
    (dict[str, int], cabc.Mapping[str, float]),
    (dict[str, int], cabc.Iterable[str]),
    (dict[str, int], dict),
    (dict, dict[str, int]),
    (collections.Counter[str], dict[str, int]),
    (collections.OrderedDict[str, int], Dict[str, int]),
    (collections.defaultdict[str, list[int]], dict[str, list[int]]),
    (dict[str, int], cabc.MutableMapping[str, int]),
    (types.MappingProxyType, cabc.Mapping),
    (cabc.ItemsView[str, int], cabc.Iterable[tuple[str, int]]),
    (cabc.KeysView[str], cabc.Set[str]),
    (set[int], cabc.Set[int]),
    (set[int], cabc.Set[float]),
    (frozenset[int], typing.AbstractSet[int]),
    (str, cabc.Sequence[str]),
    (str, cabc.Iterable[str]),
    (bytes, cabc.Sequence[int]),
    (range, cabc.Sequence[int]),
    (cabc.Sequence[str], str),
    (cabc.Generator[int, None, None], cabc.Iterator[int]),
    (cabc.Iterator[int], cabc.Generator[int, None, None]),
    (enumerate, cabc.Iterator[tuple[int, str]]),
    (Names, list[str]),
    (list[str], Names),
    (Names, cabc.Sequence[str]),
    (Indexed, cabc.Iterable[int]),
    (Indexed, cabc.Sequence[int]),
    (type[Colour], cabc.Iterable[Colour]),
    (int, cabc.Hashable),
    (Stone, cabc.Hashable),
    (cabc.Coroutine[Any, Any, int], cabc.Awaitable[int]),
    (cabc.AsyncGenerator[int, None], cabc.AsyncIterator[int]),
    # tuples
    (tuple[int, str], tuple[float, str]),
    (tuple[int, int], tuple[int, ...]),
    (tuple[int, ...], tuple[int, int]),
    (tuple[int, ...], tuple[float, ...]),
    (tuple[int, str], tuple),
    (tuple, tuple[int, str]),
    (tuple[()], tuple[int, ...]),
    (Tuple[()], tuple[()]),
    (tuple[int, te.Unpack[Ts]], tuple[str, str]),
    (tuple[int, str], tuple[te.Unpack[Ts]]),
    (tuple[int, int], cabc.Sequence[float]),
    (tuple[int, str], cabc.Iterable[Union[int, str]]),
    (Point, tuple[int, int]),
    (tuple[int, int], Point),
    (Point, cabc.Sequence[int]),
    # callables and classes as values
    (Callable[[int], str], Callable[[str], int]),
    (Callable, cabc.Callable),
    (Callable[te.Concatenate[int, P], str], Callable[..., Any]),
    (Handler, Callable[[str], int]),
    (Callable[[str], int], Handler),
    (Callable[[str], int], CallsBack),
    (types.FunctionType, Callable[[], int]),
    (Callable[[], int], types.FunctionType),
    (type[int], Callable[[str], int]),
    (type, Callable),
    (type[Dog], type[Animal]),
    (type[Animal], type[Dog]),
    (type[Any], type[int]),
    (type, type[int]),
    (type[int], Type),
    (type[Colour], enum.EnumMeta),
    (type[list[int]], type[list]),
    (type[Dog], CallsBack),
    # classes
    (Dog, Animal),
    (Animal, Dog),
    (Order, Order),
    (Bird, Flies),
    (Animal, Flies),
    (Flies, Animal),
    (enum.Enum, str),
    (Level, int),
    (int, Level),
    (Level, float),
    (Kind, str),
    (str, Kind),
    (Movie, dict),
    (dict, Movie),
    (dict[str, Any], Movie),
    (Movie, Movie),
    (Movie, Song),
    (Movie, cabc.Mapping[str, object]),
    (Box[int], Box),
    (Box, Box[int]),
    (Box[int], Box[float]),
    (Box[T], Box[int]),
    (Sink[float], Sink[int]),
    (Pipe[[int, str]], Pipe[[str]]),
    (ValueError, Exception),
    (Exception, ValueError),
    # protocols and abstract base classes
    (Runs, Runner),
    (Bird, Swims),
    (Animal, Swims),
    (Swims, Animal),
    (Runs, OldRunner),
    (Runner, Runs),
    (Runner, Closer),
    (SetsName, Named),
    (SetsRun, Runner),
    (DeclaresRun, Runner),
    (Stone, Named),
    (AnyName, Runner),
    (types.ModuleType, Runner),
    (types.SimpleNamespace, Runner),
    (Model, Runner),
    (io.StringIO, Closer),
    (Handler, CallsBack),
    (str, Upper),
    (Upper, str),
    (Runs, Getter[int] | Runner),
    (str, typing.Sized),
    (int, typing.SupportsFloat),
    (decimal.Decimal, typing.SupportsInt),
    (list[int], typing.Reversible[int]),
    (str, typing.Reversible[str]),
    (memoryview, te.Buffer),
    (Ridge, Model),
    (Model, Ridge),
    (Model, Stone),
    (Registered, Mark),
    (Stone, Mark),
    (Stone, Ghost),
    (Ghost, Stone),
    (Stone, Unasked),
    (cabc.Sized, Stone),
    (contextlib.ExitStack, contextlib.AbstractContextManager),
]


def edge(pair: tuple[object, object]) -> str:
    return f"{pair[0]!r}->{pair[1]!r}"


@pytest.mark.parametrize("pair", WRONG, ids=edge)
def test_an_edge_that_cannot_be_right_is_refused(pair):
    """No value of the source can be meant for the target."""
    assert not is_compatible(*pair)


@pytest.mark.parametrize("pair", RIGHT, ids=edge)
def test_an_edge_that_may_be_right_is_accepted(pair):
    """There is a value of the source that is right for the target, or too little is known."""
    assert is_compatible(*pair)


@pytest.mark.parametrize("pair", WRONG + RIGHT, ids=edge)
def test_every_annotation_goes_into_itself(pair):
    """A result may go into a parameter of its own annotation."""
    for annotation in pair:
        assert is_compatible(annotation, annotation)


def test_a_class_that_cannot_be_compared_is_no_reason_to_refuse():
    """A metaclass whose subclass check raises is a doubt, and doubts accept."""
    assert is_compatible(int, Unasked)


def test_nesting_beyond_what_is_looked_at_is_accepted():
    """The comparison ends after a few levels, with acceptance."""
    source: object = int
    target: object = str
    for _ in range(3):
        source, target = list[source], list[target]
    assert not is_compatible(source, target)
    for _ in range(20):
        source, target = list[source], list[target]
    assert is_compatible(source, target)


def run_source(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(textwrap.dedent(source), names)
    return names


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no type statement")
def test_type_statements_are_looked_through():
    """An alias of a type statement is what it stands for, parameters and recursion included."""
    names = run_source(
        """
        type Whole = int
        type Swapped[A, B] = dict[B, A]
        type Many[A] = A | list[A]
        type Tree = int | list[Tree]
        type Leaf = str | list[Leaf]
        type Circle = Circle
        type Growing[A] = tuple[A, Growing[list[A]]]
        type Bare[A] = A
        type Bad = NowhereToBeFound
        """
    )
    assert is_compatible(names["Whole"], float)
    assert not is_compatible(names["Whole"], str)
    swapped = names["Swapped"][int, str]
    assert is_compatible(swapped, dict[str, int])
    assert not is_compatible(swapped, dict[int, str])
    assert not is_compatible(bytes, names["Many"][int])
    assert is_compatible(list[int], names["Many"][int])
    assert is_compatible(names["Many"], names["Bare"][int])
    assert is_compatible(names["Tree"], names["Leaf"])
    assert not is_compatible(str, names["Tree"])
    assert is_compatible(names["Circle"], str)
    assert is_compatible(names["Growing"][int], names["Growing"][float])
    assert is_compatible(names["Bad"], str)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="can't derive from Any, or write *Ts")
def test_python_311_forms_are_accepted():
    """A class that derives from Any, and an unpacked tuple, can be anything."""
    names = run_source(
        """
        from typing import Any
        class Chameleon(Any): pass
        Starred = tuple[int, *tuple[str, ...]]
        """
    )
    assert is_compatible(names["Chameleon"], int)
    assert is_compatible(str, names["Chameleon"])
    assert is_compatible(names["Starred"], tuple[int, int])
