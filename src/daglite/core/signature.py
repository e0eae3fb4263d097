"""What can be bound: a function's parameters, read once per task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from daglite.exceptions import TaskConfigurationError

__all__ = ["Signature"]


@final
class Signature:
    """
    The parameters of a function, in the order in which a call lists them.

    `names` has those that can be passed by position first (there are `positional` of them),
    then the keyword-only ones.  With `takes_any` a call may have others too (``**kwargs``).
    `defaults`: parameter name -> default; the others are required.
    """

    __slots__ = ("_places", "defaults", "names", "positional", "takes_any")

    def __init__(
        self, names: tuple[str, ...], positional: int, defaults: Mapping[str, Any], takes_any: bool
    ) -> None:
        self.names = names
        self.positional = positional
        self.defaults = dict(defaults)
        self.takes_any = takes_any
        self._places = {name: i for i, name in enumerate(names[:positional])}

    @classmethod
    def of(cls, func: Callable[..., Any], task_name: str) -> Signature:
        """
        Read the signature of *func*.

        Raises:
            TaskConfigurationError: It has none that can be read, or takes ``*args``.
        """
        try:
            parameters = inspect.signature(func).parameters.values()
        except (TypeError, ValueError) as error:
            raise TaskConfigurationError(
                f"task {task_name!r}: Python can't tell which parameters {func!r} takes; "
                "wrap it in a function of your own that names them"
            ) from error
        by_place, by_name, takes_any = [], [], False
        for parameter in parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise TaskConfigurationError(
                    f"task {task_name!r} takes *{parameter.name}, which can't be bound by name; "
                    "give it one parameter that is a list"
                )
            if parameter.kind is parameter.VAR_KEYWORD:
                takes_any = True
            elif parameter.kind is parameter.KEYWORD_ONLY:
                by_name.append(parameter)
            else:
                by_place.append(parameter)
        everything = [*by_place, *by_name]
        return cls(
            names=tuple(p.name for p in everything),
            positional=len(by_place),
            defaults={p.name: p.default for p in everything if p.default is not p.empty},
            takes_any=takes_any,
        )

    def unknown(self, given: Sequence[str]) -> list[str]:
        """Those of *given* that the function has no parameter for."""
        return [] if self.takes_any else [name for name in given if name not in self.names]

    def missing(self, given: Mapping[str, Any]) -> list[str]:
        """Required parameters that *given* lacks."""
        return [n for n in self.names if n not in given and n not in self.defaults]

    def arrange(self, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        """
        Put arguments in call order.

        Args:
            given: Parameter name -> argument; complete but for defaults.

        Returns:
            The arguments, and the names of the last ones, which are passed by keyword.
        """
        places = self._places
        used = max((places[name] + 1 for name in given if name in places), default=0)
        by_place = [
            given[name] if name in given else self.defaults[name] for name in self.names[:used]
        ]
        by_name = tuple(name for name in given if name not in places)
        return (*by_place, *(given[name] for name in by_name)), by_name
