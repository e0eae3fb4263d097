"""What all unit tests may use."""

from __future__ import annotations

import pytest

from tests.unit.lab import Lab


@pytest.fixture
def lab() -> Lab:
    """A fresh one, at 0 s."""
    return Lab()
