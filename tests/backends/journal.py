"""What calls did, and what they wait for, kept in files: tasks in other processes reach it too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WAIT = 10.0
"""Seconds after which something that should have happened hasn't."""


def eventually(happened: Callable[[], bool], seconds: float = WAIT) -> bool:
    """Look again and again, for as long as *seconds*."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


@dataclass(frozen=True)
class Journal:
    """Notes in *folder*, and a gate that is closed at first."""

    folder: Path

    def note(self, what: object) -> int:
        """Write *what* down; return its number among the same notes, from 1, each given once."""
        line = f"{what}\n".encode()
        notes = os.open(self.folder / "notes", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            # One write lands in one piece at the end, wherever that is by then, and moves this
            # position behind it: what others write meanwhile stands before or after it.
            os.write(notes, line)
            end = os.lseek(notes, 0, os.SEEK_CUR)
            os.lseek(notes, 0, os.SEEK_SET)
            until_here = os.read(notes, end)
        finally:
            os.close(notes)
        return until_here.splitlines(keepends=True).count(line)

    @property
    def notes(self) -> list[str]:
        """All that was written, oldest first."""
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def open(self) -> None:
        """Let go who waits."""
        (self.folder / "open").touch()

    def hang(self, seconds: float = WAIT) -> None:
        """Wait for the gate."""
        eventually((self.folder / "open").exists, seconds)
