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
        """Write *what* down, and return how many notes there are of it now."""
        line = f"{what}\n".encode()
        notes = os.open(self.folder / "notes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(notes, line)
        finally:
            os.close(notes)
        return self.notes.count(str(what))

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
