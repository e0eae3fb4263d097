"""What the tests of backends rely on."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.backends.journal import WAIT, Journal


def test_numbers_are_given_once(tmp_path: Path) -> None:
    """Whoever writes at the same time, no note is lost and each has a number of its own."""
    numbers: list[int] = []
    meeting = threading.Barrier(4)

    def work() -> None:
        meeting.wait(WAIT)
        # Another object, and another open file, as in another process.
        numbers.extend(Journal(tmp_path).note("same") for _ in range(100))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(numbers) == list(range(1, 401))
    assert Journal(tmp_path).notes == ["same"] * 400


def test_similar_notes_are_counted_apart(tmp_path: Path) -> None:
    """A note isn't another that it is a part of."""
    journal = Journal(tmp_path)
    assert [journal.note(what) for what in (1, 11, 1, "1 1", 11)] == [1, 1, 2, 1, 2]
