"""Takes annotations apart: what they stand for, what stands in them, what iterating gives."""

from __future__ import annotations

import collections.abc as abc
import enum
import types
from collections.abc import Iterator
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

import typing_extensions as te

__all__ = [
    "NoneType",
    "arguments_of",
    "class_of",
    "element_type",
    "gives_elements",
    "is_literal",
    "is_union",
    "is_unpacked",
    "list_of",
    "members",
    "plain",
    "root_module",
]

NoneType = type(None)

# An alias may stand for itself (``type Json = int | list[Json]``), so nothing is followed for ever.
_MAX_STEPS = 20
_MAX_DEPTH = 8

_UNION: Any = Union
_UNIONS = (Union, types.UnionType)
_LITERALS = (Literal, te.Literal)
_WRAPPERS = (Annotated, Final, ClassVar)
_SHAPELESS = (Generic, Protocol, te.Protocol)
_ELEMENTS: tuple[tuple[type, type], ...] = (
    (str, str),
    (bytes, int),
    (bytearray, int),
    (memoryview, int),
    (range, int),
)

# Text has elements, but a map that takes its characters is a mistake.
_WITHOUT_ELEMENTS = (bool, int, float, complex, str, bytes, bytearray)


def plain(annotation: object) -> object:
    """
    What *annotation* stands for, without wrappers, aliases and new names for old types.

    Gives a class, a parametrised class, a union, a ``Literal``, or ``Any``;
    whatever isn't understood, and ``object``, is ``Any``.
    """
    for _ in range(_MAX_STEPS):
        inner = _unwrapped(annotation)
        if inner is annotation:
            return annotation if _is_understood(annotation) else Any
        annotation = inner
    return Any


def members(annotation: object, depth: int = _MAX_DEPTH) -> Iterator[object]:
    """The plain annotations that a union consists of; for anything else, itself made plain."""
    annotation = plain(annotation)
    if not is_union(annotation):
        yield annotation
    elif depth == 0:
        yield Any
    else:
        for part in get_args(annotation):
            yield from members(part, depth - 1)


def is_union(annotation: object) -> bool:
    """True for ``int | str`` in all its spellings."""
    return get_origin(annotation) in _UNIONS


def class_of(annotation: object) -> type:
    """The class of the values of a plain annotation; for ``type[X]`` the metaclass of ``X``."""
    origin: object = get_origin(annotation) or annotation
    if origin is type:
        for argument in get_args(annotation):
            # On Python 3.10 list[int] passes for a type.
            if isinstance(argument, type) and get_origin(argument) is None:
                return type(argument)
    return origin if isinstance(origin, type) else object


def arguments_of(annotation: object) -> tuple[object, ...]:
    """What stands in the brackets: ``dict[str, int] -> (str, int)``; ``()`` when nothing does."""
    return get_args(annotation)


def is_literal(annotation: object) -> bool:
    """True for ``Literal["a", "b"]``, from typing or typing_extensions."""
    return get_origin(annotation) in _LITERALS


def is_unpacked(annotation: object) -> bool:
    """True for ``*Ts`` and ``*tuple[int, ...]`` inside brackets: stands for any number of items."""
    return (
        get_origin(annotation) is te.Unpack
        or isinstance(annotation, te.TypeVarTuple)
        or bool(getattr(annotation, "__unpacked__", False))
        or bool(getattr(annotation, "__typing_is_unpacked_typevartuple__", False))
    )


def root_module(cls: type) -> str:
    """The top-level package that *cls* says it comes from."""
    return str(cls.__module__).partition(".")[0]


def element_type(annotation: object) -> object:
    """
    What iterating a value of that annotation gives, with ``for`` or ``async for``.

    ``list[int] -> int``, ``dict[str, int] -> str``, ``tuple[int, str] -> int | str``;
    ``Any`` when that isn't known.
    The ``None`` of an optional is passed over: iterating it is an error of its own.
    """
    found = [_element_of(member) for member in members(annotation) if member is not NoneType]
    return _union_of(found)


def gives_elements(annotation: object) -> bool:
    """Whether a map may take the elements of such a value: False only if it never can."""
    found = [member for member in members(annotation) if member is not NoneType]
    return any(all(member is not cls for cls in _WITHOUT_ELEMENTS) for member in found)


def list_of(annotation: object) -> object:
    """``list[annotation]``, for any object that stands as an annotation."""
    return types.GenericAlias(list, (annotation,))


def _unwrapped(annotation: object) -> object:
    """*annotation* with one layer off; the same object when there is none."""
    if annotation is None:
        return NoneType
    if annotation is object:
        return Any
    if annotation is te.LiteralString:
        return str
    if isinstance(annotation, TypeVar):
        return _bound_of(annotation)
    origin = get_origin(annotation)
    if origin in _WRAPPERS:
        return get_args(annotation)[0]
    if _is_alias(annotation) or _is_alias(origin):
        return _value_of_alias(annotation)
    if te.is_typeddict(annotation) or te.is_typeddict(origin):
        return dict[str, Any]
    if not isinstance(annotation, type) and origin is None:
        # A NewType is its supertype: the values are the same.
        return getattr(annotation, "__supertype__", annotation)
    return annotation


def _is_understood(annotation: object) -> bool:
    origin = get_origin(annotation)
    if annotation in _SHAPELESS or origin in _SHAPELESS:
        return False
    if origin is not None:
        return isinstance(origin, type) or origin in _UNIONS or origin in _LITERALS
    if not isinstance(annotation, type):
        return False
    # A class may derive from Any (Python 3.11) to say that it can stand in for everything.
    return Any not in annotation.__mro__


def _bound_of(variable: TypeVar) -> object:
    if variable.__constraints__:
        return _union_of(variable.__constraints__)
    return Any if variable.__bound__ is None else variable.__bound__


def _is_alias(annotation: object) -> bool:
    return type(annotation).__name__ == "TypeAliasType"


def _value_of_alias(annotation: object) -> object:
    """What a ``type`` statement's name stands for, with its parameters filled in if possible."""
    alias: Any = get_origin(annotation) or annotation
    try:
        value: Any = alias.__value__
    except Exception:  # no cover: only the type statement of Python 3.12 is evaluated this late
        # It may name things that don't exist.
        return Any
    given = dict(zip(alias.__type_params__, get_args(annotation), strict=False))
    try:
        # The value's parameters come in the order of their use, not in that of the alias.
        return value[tuple(given[parameter] for parameter in value.__parameters__)]
    except (TypeError, KeyError, AttributeError):
        return value


def _element_of(annotation: object) -> object:
    """What iterating a plain annotation that is no union gives."""
    if is_literal(annotation):
        return _union_of([_element_of(type(value)) for value in get_args(annotation)])
    cls, arguments = class_of(annotation), get_args(annotation)
    if get_origin(annotation) is type:
        return arguments[0] if arguments and issubclass(cls, enum.EnumMeta) else Any
    if not arguments:
        return _element_of_class(cls)
    if root_module(cls) not in ("builtins", "collections", "typing"):
        return Any
    if issubclass(cls, tuple):
        return _element_of_tuple(arguments)
    if issubclass(cls, abc.ItemsView):
        return types.GenericAlias(tuple, arguments)
    if issubclass(cls, enumerate):
        return types.GenericAlias(tuple, (int, *arguments))
    return arguments[0] if issubclass(cls, (abc.Iterable, abc.AsyncIterable)) else Any


def _element_of_class(cls: type) -> object:
    for base, element in _ELEMENTS:
        # A subclass may iterate over something else.
        if issubclass(cls, base) and getattr(cls, "__iter__", None) is getattr(base, "__iter__", 0):
            return element
    return Any


def _element_of_tuple(arguments: tuple[object, ...]) -> object:
    if any(is_unpacked(argument) for argument in arguments):
        return Any
    return _union_of([argument for argument in arguments if argument is not ...])


def _union_of(annotations: abc.Sequence[object]) -> object:
    """The union of *annotations*; ``Any`` when there are none, or one of them is."""
    if not annotations or any(annotation is Any for annotation in annotations):
        return Any
    if len(annotations) == 1:
        return annotations[0]
    try:
        return _UNION[tuple(annotations)]
    except TypeError:
        # One of them can't be hashed, or is no type.
        return Any
