"""
A value that isn't there yet: the base of `TaskFuture` and `MapTaskFuture`.

It guards against use as if it were the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, NoReturn, TypeVar

from daglite.core.graph import Node, TaskInfo

__all__ = ["BaseTaskFuture"]

R_co = TypeVar("R_co", covariant=True)


class BaseTaskFuture(Node, Generic[R_co]):
    """
    What a task will return, once `evaluate` has run it: a node of the graph, seen from outside.

    Immutable.  Values that were bound are captured by reference: change a list after
    binding it, and the task sees the change.
    """

    __slots__ = ()

    task: TaskInfo

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task.name} #{self.id}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BaseTaskFuture):
            self._refuse(f"compared with {type(other).__name__}")
        return self is other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: object) -> NoReturn:
        self._refuse("ordered")

    __le__ = __gt__ = __ge__ = __lt__

    def __bool__(self) -> NoReturn:
        self._refuse("used as a condition")

    def __len__(self) -> NoReturn:
        self._refuse("asked for its length")

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterated over")

    def __contains__(self, item: object) -> NoReturn:
        self._refuse("searched")

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(
            f"{self!r} can't be {what}: it has no value yet. Call evaluate(future) to get one."
        )
