"""Sentences for what pydantic refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, final

from pydantic import BaseModel, ValidationError

from daglite.policies.code import shown

__all__ = ["MisfitError", "did_you_mean", "fix_of", "refusal"]


@final
class MisfitError(ValueError):
    """
    Fields that don't fit together.

    Args:
        problem: What is wrong.
        fix: What to do; the message ends with it.
    """

    def __init__(self, problem: str, *, fix: str) -> None:
        super().__init__(f"{problem}; {fix}")
        self.fix = fix


def refusal(policy: type[BaseModel], later: Iterable[str], error: ValidationError) -> str:
    """
    What was wrong with a *policy*, one line for each field.

    Args:
        later: Names of fields that later versions have.
    """
    complaints = error.errors(include_url=False)
    # Of a field that takes several kinds of values, each kind complains.
    return "\n".join(dict.fromkeys(_complaint(policy, later, each) for each in complaints))


def fix_of(error: ValidationError) -> str | None:
    """What a validator says is to be done, if that is all that was wrong."""
    complaints = error.errors(include_url=False)
    cause = complaints[0].get("ctx", {}).get("error")
    return cause.fix if isinstance(cause, MisfitError) and len(complaints) == 1 else None


def _complaint(policy: type[BaseModel], later: Iterable[str], details: Mapping[str, Any]) -> str:
    name = policy.__name__
    kind = details["type"]
    reason = details["ctx"]["error"] if kind == "value_error" else details["msg"]
    if not details["loc"]:
        if kind == "value_error":
            return f"{name}: {reason}"
        if kind == "json_invalid":
            return f"{name} can't be read: {reason}"
        return f"{name} is made from a mapping of its fields; given: {shown(details['input'])}"
    field = str(details["loc"][0])
    if kind == "extra_forbidden":
        return _unknown(policy, later, field)
    if kind == "value_error":
        return f"{name}.{field}: {reason}"
    wanted = policy.model_fields[field].description
    if kind == "missing":
        return f"{name}.{field} is missing; give {wanted or 'it'}"
    wish = f"must be {wanted}" if wanted else f"is wrong: {reason}"
    return f"{name}.{field} {wish}; given: {shown(details['input'])}"


def _unknown(policy: type[BaseModel], later: Iterable[str], field: str) -> str:
    if field in later:
        return f"{policy.__name__}.{field} isn't available in this version of daglite; leave it out"
    fields = list(policy.model_fields)
    hint = did_you_mean(field, fields)
    return f"{policy.__name__} has no field '{field}'{hint}; its fields are {', '.join(fields)}"


def did_you_mean(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """``", did you mean 'x'?"``, or nothing if no *known* name is as like as *likeness* of 1."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=likeness)
    return f", did you mean '{near[0]}'?" if near else ""
