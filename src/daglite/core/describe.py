"""Short names of annotations, for messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ForwardRef, get_args, get_origin

from daglite.core.annotations import NoneType, is_literal, is_union

__all__ = ["describe"]


def describe(annotation: object) -> str:
    """A short name for messages: ``int``, ``list[str]``, ``str | None``."""
    if annotation is None or annotation is NoneType:
        return "None"
    if annotation is ...:
        return "..."
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    if isinstance(annotation, list):
        return f"[{_described(annotation)}]"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_union(annotation):
        return _described(arguments, " | ")
    if is_literal(annotation):
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is Annotated:
        return describe(arguments[0])
    if origin is not None and arguments:
        return f"{_name_of(origin)}[{_described(arguments)}]"
    return _name_of(annotation if origin is None else origin)


def _described(annotations: Iterable[object], separator: str = ", ") -> str:
    return separator.join(describe(annotation) for annotation in annotations)


def _name_of(annotation: object) -> str:
    for attribute in ("__qualname__", "__name__", "_name"):
        name = getattr(annotation, attribute, None)
        if isinstance(name, str):
            return name.rpartition("<locals>.")[2]
    return repr(annotation).removeprefix("typing.")
