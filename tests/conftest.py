"""What holds for all tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BACKENDS = Path(__file__).parent / "backends"

LONGEST_NAP = 0.25
"""Seconds that a test may sleep at most, unless it is one of those that wait for real things."""


@pytest.fixture(autouse=True)
def nobody_sleeps(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Fails a test outside of tests/backends that asks `time.sleep` for too long, on any thread."""
    if BACKENDS in request.path.parents:
        yield
        return
    too_long: list[float] = []
    sleep = time.sleep

    def nap(seconds: float) -> None:
        if seconds > LONGEST_NAP:
            too_long.append(seconds)
        sleep(min(seconds, LONGEST_NAP))

    monkeypatch.setattr(time, "sleep", nap)
    yield
    assert not too_long, (
        f"the test asked for sleeps of {too_long} s: let virtual time pass, or put it into "
        "tests/backends"
    )


@pytest.fixture(autouse=True)
def own_state_dir(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests share with other processes isn't what their user shares."""
    directory = tmp_path_factory.getbasetemp() / "state"
    monkeypatch.setenv("DAGLITE_STATE_DIR", str(directory))
