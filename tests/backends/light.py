"""A plain function in a module that needs nothing."""

from __future__ import annotations

import sys


def loaded(x: int) -> list[str]:
    return sorted(sys.modules)
