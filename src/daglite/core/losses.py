"""What failed elements do to their map: they are left out, or kept as errors, up to a bound."""

from __future__ import annotations

from typing import Any, Final, final

from daglite.exceptions import ExecutionError
from daglite.policies import MapPolicy

__all__ = ["Losses"]

_KEPT = 10
"""Errors that the error of a failed map holds: the first ones."""

_LEFT_OUT: Final[Any] = object()


@final
class Losses:
    """
    The failed elements of one map of one run.

    Args:
        policy: Whose ``on_error`` is "skip" or "collect".
    """

    def __init__(self, policy: MapPolicy) -> None:
        self._policy = policy
        self._number = 0
        self._first: list[ExecutionError] = []

    def add(self, error: ExecutionError) -> object:
        """Count one more; return what stands in its place until `left`."""
        self._number += 1
        if len(self._first) < _KEPT:
            self._first.append(error)
        return error if self._policy.on_error == "collect" else _LEFT_OUT

    def verdict(self, total: int | None) -> ExecutionError | None:
        """
        The error of the map, if there are too many.

        Args:
            total: Number of all elements; None: unknown yet, so that a share can't be told.
        """
        policy, number = self._policy, self._number
        if policy.max_failures is not None and number > policy.max_failures:
            bound = f"max_failures={policy.max_failures}"
        # Divided, as what the user wrote was: 0.55 * 100 is above 55.
        elif total and (total - number) / total < policy.min_success_ratio:
            bound = f"min_success_ratio={policy.min_success_ratio:g}"
        else:
            return None
        count = f"{number:,}" if total is None else f"{number:,} of {total:,}"
        noun = "element" if (number if total is None else total) == 1 else "elements"
        first = self._first[0]
        cause = first.original_exception
        return ExecutionError(
            f"{count} {noun} failed, more than {bound} allows",
            original_exception=first if cause is None else cause,
            failures=self._first,
        )

    def left(self, results: list[Any]) -> list[Any]:
        """What the map gives: *results*, without those that are left out."""
        if not self._number or self._policy.on_error == "collect":
            return results
        return [result for result in results if result is not _LEFT_OUT]
