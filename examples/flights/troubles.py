"""
A callback that remembers what went wrong, and what was done about it.

A callback is any object with one of the methods of `daglite.callbacks.ExecutionCallback`;
here it is `on_event`, which gets everything that happens in a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daglite.callbacks import AttemptFailed, CallParked, Event

__all__ = ["Troubles"]


@dataclass
class _Trouble:
    """One failed attempt. waited: seconds until the next; None: there was none."""

    subject: str
    attempt: int
    error: str
    ran: float
    waited: float | None = None


class Troubles:
    """
    Collect failed attempts and the waits after them.

    Args:
        labels: Name of a task -> what to call the elements of its map, in order.
    """

    def __init__(self, labels: Mapping[str, Sequence[str]]) -> None:
        self._labels = labels
        self._seen: dict[tuple[int, int | None, int], _Trouble] = {}

    def on_event(self, event: Event) -> None:
        """Take note of a failed attempt, or of the wait that follows one."""
        if isinstance(event, AttemptFailed):
            self._seen[event.node_id, event.element, event.attempt] = _Trouble(
                self._subject(event.node_name, event.element),
                event.attempt,
                _in_one_line(event.error),
                event.ran,
            )
        elif isinstance(event, CallParked):
            trouble = self._seen.get((event.node_id, event.element, event.attempt))
            if trouble is not None:
                trouble.waited = event.seconds

    def table(self) -> str:
        """Return one line per failed attempt, in the same order every time."""
        troubles = sorted(self._seen.values(), key=lambda each: (each.subject, each.attempt))
        if not troubles:
            return "nothing failed, nothing was retried"
        lines = [("what", "attempt", "failed after", "then waited", "because")]
        lines += [
            (
                each.subject,
                str(each.attempt),
                f"{each.ran:.2f} s",
                "gave up" if each.waited is None else f"{each.waited:.2f} s",
                each.error,
            )
            for each in troubles
        ]
        return _aligned(lines)

    def __len__(self) -> int:
        return len(self._seen)

    def _subject(self, name: str, element: int | None) -> str:
        if element is None:
            return name
        labels = self._labels.get(name, ())
        return f"{name} {labels[element] if element < len(labels) else element}"


def _in_one_line(error: BaseException) -> str:
    name = type(error).__name__
    first, *_ = str(error).splitlines() or [""]
    return first if first.startswith(name) else f"{name}: {first}".removesuffix(": ")


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
