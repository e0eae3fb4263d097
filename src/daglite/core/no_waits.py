"""Whether policies wait: a switch for the whole process, for users' own tests."""

from __future__ import annotations

__all__ = ["no_waits"]

no_waits: list[object] = []
"""
Whoever wants policies not to wait at the moment; nobody does if it is empty.

It is changed by ``append`` and ``pop`` alone, which other threads see whole.
"""
