"""
Whether an instance of one class may be an instance of another.

Two classes that aren't related by inheritance, and have no subclass in common, are refused,
unless one of them lets foreign objects pass for its instances: an abstract base class,
a protocol, an unusual metaclass.
Even then a built-in class is refused, because all that it can do is known.
"""

from __future__ import annotations

import inspect
import sys
import types
from abc import ABCMeta
from collections.abc import Collection, Iterator

import typing_extensions as te

from daglite.core.annotations import root_module

__all__ = ["classes_fit"]

# What the classes of these modules can do is known, and subclasses add no surprise.
_SETTLED_MODULES = frozenset(("builtins", "collections", "decimal", "fractions", "pathlib", "uuid"))
_FREE_FORM = (type, BaseException, types.ModuleType, types.SimpleNamespace)
_USUAL_METACLASSES = frozenset(("builtins", "abc", "typing", "typing_extensions"))
# Their abstract base classes look at methods alone, as protocols do.
_STRUCTURAL_MODULES = frozenset(("collections", "contextlib", "os"))
# An object with __getitem__ can be iterated without these.
_STAND_INS: dict[str, str] = dict.fromkeys(
    ("__iter__", "__contains__", "__reversed__"), "__getitem__"
)


def classes_fit(source: type, target: type) -> bool:
    """False only when surely no instance of *source* can be an instance of *target*."""
    if source is int and target is bool:
        # A base class may hold its subclass, but nobody writes int for a flag.
        return False
    if _is_subclass(source, target) or _is_subclass(target, source) or _promotes(source, target):
        return True
    if _have_common_subclass(source, target):
        return True
    if _is_structural(target):
        return _may_implement(source, target)
    if _is_structural(source) and _may_implement(target, source):
        return True
    if _is_open(source) or _is_open(target):
        return not (_is_settled(source) or _is_settled(target))
    return False


def _is_subclass(cls: type, base: type) -> bool:
    try:
        return issubclass(cls, base)
    except TypeError:
        # A protocol that isn't runtime_checkable, or has data members.
        return False


def _have_common_subclass(one: type, other: type) -> bool:
    """True when a class that exists by now derives from both."""
    if _is_settled(one):
        one, other = other, one
    return not _is_settled(one) and any(_is_subclass(below, other) for below in _classes_below(one))


def _classes_below(cls: type) -> Iterator[type]:
    # Asked of type itself, since metaclasses hide it.
    direct: list[type] = type.__subclasses__(cls)
    for below in direct:
        yield below
        yield from _classes_below(below)


def _promotes(source: type, target: type) -> bool:
    """PEP 484 takes int for float and complex, PEP 688 gave up bytes; numpy converts freely."""
    if target in (float, complex) and issubclass(source, (int, float)):
        return target is complex or issubclass(source, int)
    if target is bytes:
        return source in (bytearray, memoryview)
    if not (_is_numpy_number(source) or _is_numpy_number(target)):
        return False
    return _is_number(source) and _is_number(target)


def _is_number(cls: type) -> bool:
    return issubclass(cls, (int, float, complex)) or _is_numpy_number(cls)


def _is_numpy_number(cls: type) -> bool:
    return any(
        root_module(base) == "numpy" and base.__name__ in ("number", "bool", "bool_")
        for base in cls.__mro__
    )


def _is_open(cls: type) -> bool:
    """True when an object can be an instance of *cls* without its class saying so."""
    if te.is_protocol(cls) or root_module(cls) == "typing" or "__subclasshook__" in vars(cls):
        return True
    if _has_unusual_metaclass(cls):
        return True
    if not isinstance(cls, ABCMeta):
        return False
    # Without an abstract method above it, it is a mark that others are registered for.
    return _is_abstract(cls) or not any(_is_abstract(base) for base in cls.__mro__[1:])


def _has_unusual_metaclass(cls: type) -> bool:
    return any(
        root_module(base) not in _USUAL_METACLASSES
        for base in inspect.getmro(type(cls))
        if "__instancecheck__" in vars(base) or "__subclasscheck__" in vars(base)
    )


def _is_abstract(cls: type) -> bool:
    return bool(getattr(cls, "__abstractmethods__", ()))


def _is_settled(cls: type) -> bool:
    return (
        root_module(cls) in _SETTLED_MODULES
        and not issubclass(cls, _FREE_FORM)
        and not _is_open(cls)
    )


def _is_structural(cls: type) -> bool:
    if te.is_protocol(cls):
        return True
    return "__subclasshook__" in vars(cls) and root_module(cls) in _STRUCTURAL_MODULES


def _may_implement(cls: type, protocol: type) -> bool:
    """False when *cls* is concrete and lacks a method of *protocol*, and so do its subclasses."""
    if _is_open(cls) or issubclass(cls, _FREE_FORM) or _answers_any_name(cls):
        return True
    names = _names_of(protocol)
    classes = [cls] if _is_settled(cls) else [cls, *_classes_below(cls)]
    return any(_implements(one, protocol, names) for one in classes)


def _names_of(protocol: type) -> Collection[str]:
    if te.is_protocol(protocol):
        return te.get_protocol_members(protocol)
    return getattr(protocol, "__abstractmethods__", frozenset[str]())


def _implements(cls: type, protocol: type, names: Collection[str]) -> bool:
    # Attributes that __init__ sets are not seen, so for them only a class known in full counts.
    return all(
        _has(cls, name) or not (_is_settled(cls) or callable(_lookup(protocol, name)))
        for name in names
    )


def _has(cls: type, name: str) -> bool:
    if _lookup(cls, name) is not None or _lookup(cls, _STAND_INS.get(name, name)) is not None:
        return True
    if name == "__buffer__" and sys.version_info < (3, 12):
        # Buffers of classes written in C show no method yet.
        return True
    return any(_declares(base, name) for base in cls.__mro__)


def _declares(cls: type, name: str) -> bool:
    """True when *cls* annotates *name*, or its ``__init__`` speaks of it."""
    code = getattr(vars(cls).get("__init__"), "__code__", None)
    annotated = te.get_annotations(cls, format=te.Format.FORWARDREF)
    return name in annotated or name in getattr(code, "co_names", ())


def _lookup(cls: type, name: str) -> object:
    """The attribute as an instance finds it, not as the class (``__call__``) does; else None."""
    for base in cls.__mro__:
        if name in vars(base):
            found: object = vars(base)[name]
            return found
    return None


def _answers_any_name(cls: type) -> bool:
    own = (_lookup(cls, "__getattr__"), _lookup(cls, "__getattribute__"))
    return any(isinstance(one, types.FunctionType) for one in own)
