"""All cases by name, in the order of the report."""

from __future__ import annotations

from benchmarks.cases import (
    chain,
    fan_out,
    growth,
    guards,
    imports,
    interrupts,
    layered,
    memory,
    phases,
    policies,
    processes,
    single,
    timeouts,
    wide,
)
from benchmarks.model import Case

__all__ = ["CASES"]

_FAMILIES = (
    chain,
    wide,
    layered,
    fan_out,
    single,
    growth,
    memory,
    imports,
    policies,
    guards,
    processes,
    timeouts,
    interrupts,
    phases,
)

CASES: dict[str, Case] = {case.name: case for family in _FAMILIES for case in family.CASES}
