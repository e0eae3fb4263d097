"""Calls that have pools of their own."""

from __future__ import annotations

import threading

from daglite import ProcessBackend, evaluate, task
from tests.backends.faults import Mark, same, waits_for_ever
from tests.backends.journal import eventually


def nested(x: int) -> int:
    with ProcessBackend(2) as backend:
        return sum(evaluate(task(same).zip(x=range(x)), default_backend=backend))


def deep(levels: int) -> int:
    if not levels:
        return 0
    with ProcessBackend(1) as backend:
        return 1 + int(evaluate(task(deep).bind(levels - 1), default_backend=backend))


def within(mark: Mark) -> None:
    """Hang in a worker of a pool of its own, of whose processes *mark* is told."""
    with ProcessBackend(1) as backend:

        def tell() -> None:
            eventually(lambda: bool(backend.processes))
            mark.tell(backend.processes[0])

        threading.Thread(target=tell, daemon=True).start()
        evaluate(task(waits_for_ever).bind(mark), default_backend=backend)
