"""All rules of `lint`."""

from __future__ import annotations

from operator import attrgetter

from daglite.lint_rules import circuits, crowds, hedges, maps, names, retries
from daglite.lint_rules.subject import Rule

__all__ = ["RULES"]

_parts = (retries, circuits, names, crowds, hedges, maps)

RULES: tuple[Rule, ...] = tuple(
    sorted((rule for part in _parts for rule in part.rules), key=attrgetter("code"))
)
"""In the order of their codes."""
