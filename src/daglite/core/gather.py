"""Futures inside a list, tuple, set, dict or dataclass: a gather node for each container."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, TypeAlias

from daglite.core.future import BaseTaskFuture
from daglite.core.graph import GatherNode, Node
from daglite.exceptions import ParameterError

__all__ = ["PLAIN", "gather"]

PLAIN: frozenset[type] = frozenset(
    {int, float, str, bytes, bool, type(None), complex, bytearray, range, slice, type}
)
"""Types of values that can't hold a future; asked first, as most arguments are of them."""

Build: TypeAlias = Callable[[Sequence[Any]], Any]
Open: TypeAlias = Callable[[Any], tuple[Sequence[Any], Callable[[], Build]]]
"""Gives the items, and what makes the builder: most containers need none."""

Known: TypeAlias = dict[int, tuple[object, Node | None]]
"""Id of a container -> it, to keep the id its own, and what was found in it."""


def gather(value: object) -> Node | None:
    """
    Look for futures in *value*.

    Args:
        value: An argument of a task.

    Returns:
        What builds it once they are known, or None when there are none in it.

    Raises:
        ParameterError: A future is a key of a dict, or the containers are nested too deeply.
    """
    try:
        return _gather(value, {})
    except RecursionError:
        raise ParameterError(
            f"a {type(value).__name__} is nested too deeply to look for futures in it; "
            "make it in a task, or wrap it in an object of your own"
        ) from None


def _gather(value: object, known: Known) -> Node | None:
    if isinstance(value, BaseTaskFuture):
        return value
    open_container = _opener(type(value))
    if open_container is None:
        return None
    if id(value) in known:
        return known[id(value)][1]
    items, builder = open_container(value)
    # The types alone settle it for the usual long list of numbers or strings.
    if all(kind in PLAIN for kind in set(map(type, items))):
        return None
    # Nothing is found in it as long as it is looked into: it may contain itself.
    known[id(value)] = value, None
    args = list(items)
    refs = []
    for i, item in enumerate(items):
        if type(item) in PLAIN:
            continue
        found = _gather(item, known)
        if found is not None:
            args[i] = found
            refs.append(i)
    if not refs:
        return None
    found = GatherNode(tuple(args), tuple(refs), builder())
    known[id(value)] = value, found
    return found


def _find_opener(kind: type) -> Open | None:
    """How to take a container of type *kind* apart; None for what isn't looked into."""
    if kind in PLAIN:
        return None
    if issubclass(kind, tuple):
        return _open_named_tuple if hasattr(kind, "_fields") else _open_collection
    if issubclass(kind, (list, set, frozenset)):
        return _open_collection
    if issubclass(kind, dict):
        return _open_dict
    if dataclasses.is_dataclass(kind):
        return _open_dataclass
    return None


# A plain function for the type checkers: to some of them a type has no hash.
_opener: Callable[[type], Open | None] = lru_cache(maxsize=1024)(_find_opener)


def _open_collection(value: Any) -> tuple[Sequence[Any], Callable[[], Build]]:
    kind = type(value)
    return value if isinstance(value, (list, tuple)) else tuple(value), lambda: kind


def _open_named_tuple(value: Any) -> tuple[Sequence[Any], Callable[[], Build]]:
    return value, lambda: type(value)._make


def _open_dict(value: Any) -> tuple[Sequence[Any], Callable[[], Build]]:
    for key in value:
        if isinstance(key, BaseTaskFuture):
            raise ParameterError(
                f"{key!r} is a key of a dict; futures can be a dict's values, not its keys"
            )
    return tuple(value.values()), partial(_dict_builder, value)


def _dict_builder(value: Any) -> Build:
    empty = copy.copy(value)
    empty.clear()
    return partial(_build_dict, empty, tuple(value))


def _build_dict(empty: Any, keys: tuple[Any, ...], items: Sequence[Any]) -> Any:
    made = copy.copy(empty)
    for key, item in zip(keys, items, strict=True):
        made[key] = item
    return made


def _open_dataclass(value: Any) -> tuple[Sequence[Any], Callable[[], Build]]:
    names = tuple(f.name for f in dataclasses.fields(value) if hasattr(value, f.name))
    items = tuple(getattr(value, name) for name in names)
    return items, partial(_dataclass_builder, value, names)


def _dataclass_builder(value: Any, names: tuple[str, ...]) -> Build:
    shell = _build_dataclass(value, names, (None,) * len(names))
    return partial(_build_dataclass, shell, names)


def _build_dataclass(like: Any, names: tuple[str, ...], items: Sequence[Any]) -> Any:
    made = copy.copy(like)
    for name, item in zip(names, items, strict=True):
        # A frozen dataclass refuses plain assignment; __post_init__ has run already.
        object.__setattr__(made, name, item)
    return made
