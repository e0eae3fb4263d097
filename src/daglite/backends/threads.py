"""Calls on threads of this process."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import final

from typing_extensions import Self

from daglite.backends.pool import ThreadPool
from daglite.core.call import Call
from daglite.core.protocols import Capabilities, Done
from daglite.core.run import Run
from daglite.exceptions import BackendError

__all__ = ["ThreadBackend", "usual_threads"]


def usual_threads() -> int:
    """
    Number of threads where nobody says another: min(32, CPUs that this process may use + 4).

    It is what `concurrent.futures.ThreadPoolExecutor` takes: a few more than CPUs, because
    tasks on threads mostly wait.
    """
    # A container or `taskset` may leave this process fewer CPUs than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return min(32, len(os.sched_getaffinity(0)) + 4)
    return min(32, (os.cpu_count() or 1) + 4)


@final
class ThreadBackend:
    """
    Runs calls on a pool of threads.

    Good for what waits (files, network) and for C code that releases the interpreter's lock.
    A call that runs out of time is interrupted where Python allows; a C call isn't, and runs
    on unheeded while another thread takes its place.

    Args:
        max_workers: Calls that may run at the same time, 1 or more.  The backend has a pool
            of its own, which `close` or the end of a ``with`` block ends;
            `find_backend("threading")` is the one that shares the process's pool.
        max_abandoned: Calls out of time but still running, above which new timed calls fail.
    """

    name: str = "threading"
    capabilities: Capabilities = Capabilities(cancel=True, shared_memory=True)

    def __init__(self, max_workers: int, *, max_abandoned: int = 128) -> None:
        sizes: dict[str, object] = {"max_workers": max_workers, "max_abandoned": max_abandoned}
        for field, value in sizes.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise BackendError(f"ThreadBackend: {field} is a number from 1 up, not {value!r}")
        self.max_abandoned = max_abandoned
        self._pool = ThreadPool(max_workers, max_abandoned=max_abandoned)
        self._shared = False
        # Whoever forgets to close it leaves no idle threads behind.
        weakref.finalize(self, self._pool.close)

    @classmethod
    def shared(cls, max_workers: int, max_abandoned: int) -> ThreadBackend:
        """A backend that nobody closes for the others: its pool ends when nobody has it."""
        backend = cls(max_workers, max_abandoned=max_abandoned)
        backend._shared = True
        return backend

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ThreadBackend(max_workers={self.slots})"

    def __reduce__(self) -> tuple[partial[ThreadBackend], tuple[int]]:
        return partial(ThreadBackend, max_abandoned=self.max_abandoned), (self.slots,)

    @property
    def slots(self) -> int:
        """Calls that may run at the same time."""
        return self._pool.size

    @property
    def abandoned(self) -> int:
        """Calls out of time that still run."""
        return self._pool.abandoned

    def submit(self, call: Call, done: Done) -> None:
        """Queue *call*."""
        self._pool.submit(call, done)

    def cancel(self, call: Call) -> None:
        """Drop *call*, or interrupt and abandon it."""
        self._pool.cancel(call)

    def cancel_run(self, run: Run) -> None:
        """Drop or abandon all calls of *run*."""
        self._pool.cancel_run(run)

    def is_running(self, call: Call) -> bool:
        """Whether the cancelled *call* still runs."""
        return self._pool.is_running(call)

    def stack_of(self, call: Call) -> str | None:
        """Where *call* stands now, as text."""
        return self._pool.stack_of(call)

    def close(self) -> None:
        """Start nothing more; idle threads end. The pool that runs share isn't closed."""
        if not self._shared:
            self._pool.close()
