"""A mapping that never changes, so that it has a hash."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, final

__all__ = ["FrozenMapping"]

_V = TypeVar("_V")


@final
class FrozenMapping(Mapping[str, _V]):
    """
    The items of a mapping, in the order of their names.

    It equals every mapping with the same items, looks like a dict, and pickles.

    Example:
        >>> FrozenMapping({"b": 1, "a": 2})
        {'a': 2, 'b': 1}
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, _V]) -> None:
        self._items = dict(sorted(items.items()))

    def __getitem__(self, key: str) -> _V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._items == dict(other)

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMapping, (self._items,)
