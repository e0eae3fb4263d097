"""Calls that say when they start, in files, for tests that kill them; standard library only."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

from tests.backends.journal import Journal


def started(folder: Path, x: int) -> int:
    """In one write, which lands in one piece, to a file that only this process writes to."""
    _note(folder, x)
    return x


def nap(folder: Path, x: int) -> int:
    _note(folder, x)
    time.sleep(0.3)
    return x


def lasting(folder: Path, x: int, seconds: float) -> int:
    _note(folder, x)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.0005)
    return x


def rest(seconds: float) -> None:
    time.sleep(seconds)


def fails_late(x: int) -> int:
    if x == 300:
        raise ValueError("late")
    return x


def hang(journal: Journal, x: int) -> int:
    """The first three, until they are killed."""
    if journal.note(x) and x < 3:
        journal.hang()
    return x


def _note(folder: Path, x: int) -> None:
    file = os.open(folder / f"{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{x}\n".encode())
    os.close(file)


def times_started(folder: Path) -> dict[int, int]:
    """Element -> how often it was begun."""
    lines = [line for file in folder.iterdir() for line in file.read_text().split()]
    return dict(Counter(map(int, lines)))


def fail() -> None:
    raise ValueError("not today")


def die() -> None:
    os._exit(9)
