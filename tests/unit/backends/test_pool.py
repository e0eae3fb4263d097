"""What the thread pool asks of the interpreter."""

from __future__ import annotations

import gc
import sys

import pytest

from daglite import ThreadBackend, evaluate, task
from daglite.exceptions import TaskTimeoutError


@pytest.mark.parametrize("collects", [True, False])
def test_no_collection_while_frames_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, collects: bool
) -> None:
    """On Python 3.11 that can wait for ever; afterwards all is as it was."""
    seen: list[bool] = []
    frames = sys._current_frames

    def watched() -> object:
        seen.append(gc.isenabled())
        return frames()

    monkeypatch.setattr(sys, "_current_frames", watched)
    backend = ThreadBackend(1)
    ends = []

    def hang() -> None:
        while not ends:
            pass

    if not collects:
        gc.disable()
    try:
        with pytest.raises(TaskTimeoutError) as caught:
            evaluate(task(hang).with_options(timeout=0.02).bind(), default_backend=backend)
        assert gc.isenabled() is collects
    finally:
        gc.enable()
        ends.append(True)
        backend.close()
    assert seen == [False]
    assert "in hang" in str(caught.value.stack)
