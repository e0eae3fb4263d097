"""What the tests of backends share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.journal import WAIT, Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A fresh one; what still waits for it is let go at the end of the test."""
    made = Journal(tmp_path)
    yield made
    made.open()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging calls wait for; opened at the end, so that no thread outlives its test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Fails the test after which a thread of daglite stays that wasn't there before."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT)
        assert not thread.is_alive(), thread
