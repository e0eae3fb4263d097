"""The calls of a map, made one by one from its sources: none is made before it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import product, zip_longest
from math import prod
from typing import Any, final

from daglite.core.graph import MapTaskNode
from daglite.exceptions import ParameterError

__all__ = ["OneShot", "calls_of", "is_table", "length_of", "number_of_calls"]

_END = object()


@final
class OneShot:
    """
    Elements from an iterator, which can be gone through once only.

    Raises:
        ParameterError: (from `iter`) An earlier run has used it up.
    """

    __slots__ = ("_iterator", "_what")

    def __init__(self, iterator: Iterator[Any], what: str) -> None:
        self._iterator: Iterator[Any] | None = iterator
        self._what = what

    def __iter__(self) -> Iterator[Any]:
        iterator, self._iterator = self._iterator, None
        if iterator is None:
            raise ParameterError(
                f"{self._what} was given an iterator, which an earlier run has used up; "
                "give it a list, or something else that can be iterated again"
            )
        return iterator


def calls_of(node: MapTaskNode, args: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """
    Iterate over the arguments of each call of *node*, in order.

    Args:
        node: The map.
        args: Its arguments, results in the places of nodes.

    Raises:
        ParameterError: A source isn't iterable, or (while iterating) lengths differ.
    """
    names = node.argument_names
    sources = [_iterable(node, names[i], args[i]) for i in node.mapped]
    if len(sources) == 1:
        if len(args) == 1:
            # zip makes the tuples of one that a call wants.
            return zip(sources[0])
        return _placed(args, node.mapped, zip(sources[0]))
    if node.mode == "zip":
        combined = _zipped(node, [names[i] for i in node.mapped], sources)
    else:
        combined = _combinations(sources)
    return _placed(args, node.mapped, combined)


def number_of_calls(node: MapTaskNode, args: Sequence[Any]) -> int | None:
    """How many calls *node* makes with *args*, if that is known beforehand."""
    sources = [args[i] for i in node.mapped]
    lengths = [length for source in sources if (length := length_of(source)) is not None]
    if len(lengths) < len(sources):
        return None
    return min(lengths) if node.mode == "zip" else prod(lengths)


def length_of(source: object) -> int | None:
    """How many elements *source* has; None if it doesn't tell."""
    if not isinstance(source, Sized):
        return None
    try:
        return len(source)
    except Exception:
        # Such as an array without dimensions: it has a length by its type alone.
        return None


def is_table(source: object) -> bool:
    """Whether *source* is like a pandas DataFrame, whose elements are its columns' names."""
    return hasattr(source, "columns") and hasattr(source, "iterrows")


def _iterable(node: MapTaskNode, name: str, source: Any) -> Iterable[Any]:
    if isinstance(source, (str, bytes, bytearray)):
        problem = f"the {type(source).__name__} {source!r:.40}; return a list"
    elif is_table(source):
        problem = (
            f"a {type(source).__name__}, whose elements are its columns' names; "
            'return its rows: df.to_dict("records"), or list(df.itertuples())'
        )
    else:
        try:
            elements: Iterator[Any] = iter(source)
            return elements
        except TypeError:
            problem = f"a non-iterable {type(source).__name__}"
    raise ParameterError(
        f"task {node.name!r}: parameter {name!r} needs an iterable of elements, "
        f"but the task before it returned {problem}"
    )


def _placed(
    args: Sequence[Any], places: tuple[int, ...], combined: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    row = list(args)
    for elements in combined:
        for place, element in zip(places, elements, strict=True):
            row[place] = element
        yield tuple(row)


def _zipped(
    node: MapTaskNode, names: list[str], sources: list[Iterable[Any]]
) -> Iterator[tuple[Any, ...]]:
    for count, row in enumerate(zip_longest(*sources, fillvalue=_END)):
        if any(element is _END for element in row):
            short = [n for n, element in zip(names, row, strict=True) if element is _END]
            raise ParameterError(
                f"task {node.name!r}: .zip() needs iterables of equal length, "
                f"but {short} ended after {count} element{'s' * (count != 1)} and others did not"
            )
        yield row


def _combinations(sources: list[Iterable[Any]]) -> Iterator[tuple[Any, ...]]:
    # Only the first source is gone through once; the others must be kept.
    first, *others = sources
    kept = [tuple(source) for source in others]
    for element in first:
        for rest in product(*kept):
            yield (element, *rest)
