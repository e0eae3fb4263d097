"""
Whether the result of one task may go into a parameter of another, judged by annotations.

Refuses only what is surely wrong: any doubt is an acceptance, since a false alarm would stop
a correct program.
So a base class goes into its subclass, any member of a union counts for the whole,
and variance is not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from daglite.core.annotations import (
    arguments_of,
    class_of,
    element_type,
    is_literal,
    is_unpacked,
    members,
    root_module,
)
from daglite.core.class_relations import classes_fit

__all__ = ["is_compatible"]

# Deeper than people nest, and an end for aliases that contain themselves.
_MAX_DEPTH = 8

# A function that takes or gives something else may still do for the calls that are made.
_UNCOMPARED: tuple[object, ...] = (Callable,)


def is_compatible(source: object, target: object) -> bool:
    """False only when no value of annotation *source* can be meant for annotation *target*."""
    try:
        return _fits(source, target, _MAX_DEPTH)
    except Exception:
        # Annotations are foreign objects, with comparisons and subclass checks of their own:
        # what goes wrong in these is no reason to refuse.
        return True


def _fits(source: object, target: object, depth: int) -> bool:
    if depth == 0:
        return True
    targets = tuple(members(target))
    return any(_one_fits(one, other, depth) for one in members(source) for other in targets)


def _all_fit(sources: Iterable[object], targets: Iterable[object], depth: int) -> bool:
    return all(
        _fits(source, target, depth - 1) for source, target in zip(sources, targets, strict=False)
    )


def _one_fits(source: object, target: object, depth: int) -> bool:
    """Compare plain annotations that are no unions."""
    if source is Any or target is Any or source == target:
        return True
    if is_literal(source):
        return any(_value_fits(value, target, depth) for value in arguments_of(source))
    if is_literal(target):
        # A str may well be the "a" that is asked for.
        return any(
            _fits(type(value), source, depth) or _fits(source, type(value), depth)
            for value in arguments_of(target)
        )
    if not classes_fit(class_of(source), class_of(target)):
        return False
    return _arguments_fit(source, target, depth)


def _value_fits(value: object, target: object, depth: int) -> bool:
    if is_literal(target):
        return any(value == other for other in arguments_of(target))
    return _fits(type(value), target, depth)


def _arguments_fit(source: object, target: object, depth: int) -> bool:
    origin, other = class_of(source), class_of(target)
    if root_module(origin) == "numpy" or root_module(other) == "numpy":
        # Arrays convert: a shape or dtype that differs proves nothing.
        return True
    if origin in _UNCOMPARED:
        return True
    if issubclass(origin, tuple) and issubclass(other, tuple):
        return _tuples_fit(source, target, depth)
    entries, wanted = _entry_of(source), _entry_of(target)
    if entries and wanted:
        return _all_fit(entries, wanted, depth)
    if not _elements_fit(source, target, depth):
        return False
    if origin is not other and not (issubclass(origin, type) and issubclass(other, type)):
        return True
    # Of a class that isn't known, a parameter may be contravariant: either direction will do.
    mine, theirs = arguments_of(source), arguments_of(target)
    return len(mine) != len(theirs) or all(
        _fits(one, two, depth - 1) or _fits(two, one, depth - 1)
        for one, two in zip(mine, theirs, strict=True)
    )


def _tuples_fit(source: object, target: object, depth: int) -> bool:
    mine, theirs = arguments_of(source), arguments_of(target)
    if not (_has_known_items(mine) and _has_known_items(theirs)):
        return True
    if ... in mine:
        return _all_fit([mine[0]] * len(theirs), (one for one in theirs if one is not ...), depth)
    if ... in theirs:
        return _all_fit(mine, [theirs[0]] * len(mine), depth)
    return len(mine) == len(theirs) and _all_fit(mine, theirs, depth)


def _has_known_items(arguments: tuple[object, ...]) -> bool:
    # Python 3.10 gives ((),) for Tuple[()].
    return bool(arguments) and not any(one == () or is_unpacked(one) for one in arguments)


def _entry_of(annotation: object) -> tuple[object, ...]:
    """Key and value of a mapping; ``()`` when they aren't known."""
    cls, arguments = class_of(annotation), arguments_of(annotation)
    if not issubclass(cls, Mapping) or root_module(cls) not in ("builtins", "collections"):
        return ()
    if issubclass(cls, Counter) and arguments:
        return (arguments[0], int)
    return arguments


def _elements_fit(source: object, target: object, depth: int) -> bool:
    mine = arguments_of(source)
    if not (issubclass(class_of(source), tuple) and _has_known_items(mine)):
        mine = (element_type(source),)
    wanted = element_type(target)
    return all(_fits(one, wanted, depth - 1) for one in mine if one is not ...)
