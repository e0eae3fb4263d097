"""
A callback that writes a run's events to the standard logging library.
"""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

from daglite.core.events import (
    AttemptFailed,
    CallAbandoned,
    ElementFailed,
    Event,
    MapProgress,
    NodeFailed,
    NodeStarted,
)
from daglite.exceptions import describe

__all__ = ["Logger"]

# Every record has all of these, so that a format string may name them.
_ALWAYS = ("run_id", "node_id", "node_name", "element", "attempt")


class Logger:
    """
    Write what happens in a run to the standard logging library.

    *level* is the level at which ordinary lines are written: a run starts or finishes, a node
    completes, a call waits. It is no filter: what is finer is always written at DEBUG (a node
    starts, progress of a map), a failed attempt, an abandoned call or a failed element that its
    map goes on without at WARNING, and a failed node at ERROR, with its traceback. What is shown
    is up to the configuration of `logging`, which is never touched here: no handler, no format,
    no level is set.

    Each record has, besides its message, the attributes `event` (the event's type, such as
    "NodeCompleted"), `run_id`, `node_id`, `node_name`, `element` and `attempt` (None where it
    doesn't apply), and the other fields of its event under their own names, except that the
    event's `time` is `run_time` (seconds since the run began), and `error` is text.

    Args:
        level: Name of a level, in upper or lower case, or its number.
        logger: A logger, or the name of one; None: "daglite".

    Raises:
        ValueError: There is no such level.
        TypeError: An argument is of the wrong type.
    """

    def __init__(
        self, level: str | int = "INFO", logger: logging.Logger | str | None = None
    ) -> None:
        self._level = _level_number(level)
        self._logger = _find_logger(logger)

    def __repr__(self) -> str:
        name = logging.getLevelName(self._level)
        return f"Logger(level={name!r}, logger={self._logger.name!r})"

    def on_event(self, event: Event) -> None:
        """Write *event*, unless its level is switched off."""
        level = self._level_of(event)
        if not self._logger.isEnabledFor(level):
            return
        error = event.error if isinstance(event, NodeFailed) else None
        self._logger.log(level, "%s", event, exc_info=error, extra=_attributes(event))

    def _level_of(self, event: Event) -> int:
        if isinstance(event, (NodeStarted, MapProgress)):
            return logging.DEBUG
        if isinstance(event, (AttemptFailed, ElementFailed, CallAbandoned)):
            return logging.WARNING
        if isinstance(event, NodeFailed):
            return logging.ERROR
        return self._level


def _attributes(event: Event) -> dict[str, Any]:
    """Return the attributes of *event*'s record: name -> value."""
    values: dict[str, Any] = dict.fromkeys(_ALWAYS)
    values["event"] = type(event).__name__
    for field in fields(event):
        values[field.name] = getattr(event, field.name)
    values["run_time"] = values.pop("time")
    # An exception may not pickle, and a record may be sent to another process.
    if "error" in values:
        values["error"] = describe(values["error"])
    return values


def _level_number(level: str | int) -> int:
    if isinstance(level, bool) or not isinstance(level, (str, int)):
        raise TypeError(
            f"Logger(level={level!r}): a level is a name such as 'INFO', or a number; "
            f"given: {type(level).__name__}"
        )
    if isinstance(level, int):
        if level < 1:
            raise ValueError(f"Logger(level={level}): the number of a level is 1 or more")
        return level
    for name in (level, level.upper()):
        number = logging.getLevelName(name)
        if isinstance(number, int) and number > 0:
            return number
    raise ValueError(
        f"Logger(level={level!r}): there is no such level; take 'DEBUG', 'INFO', 'WARNING', "
        f"'ERROR' or 'CRITICAL', or one made with logging.addLevelName"
    )


def _find_logger(logger: logging.Logger | str | None) -> logging.Logger:
    if logger is None:
        return logging.getLogger("daglite")
    if isinstance(logger, str):
        return logging.getLogger(logger)
    if isinstance(logger, logging.Logger):
        return logger
    raise TypeError(
        f"Logger(logger={logger!r}): give a logging.Logger or the name of one, "
        f"or leave it out for 'daglite'"
    )
