"""
Threads that run calls, and that can be given up for lost.

    submit ─► SimpleQueue ─► worker thread ─► function ─► done(call, outcome)
                                  │
              cancel ─► interrupt and let go; another thread takes its place

A worker whose call is cancelled never takes another call: an exception is set in its thread
(`PyThreadState_SetAsyncExc`), which ends Python code at its next bytecode, but not a C call
such as ``time.sleep`` or a read from a socket.  Until the thread ends it counts as abandoned.
What has something to give back holds such exceptions off meanwhile; see `Interrupts`.

Races, and who closes them: a call that ends while it is cancelled is settled by its worker's
lock.  A call that starts while it is cancelled is seen by one side at least, as the worker
shows itself before it looks at `Call.cancelled`, and `cancel` sets that before it looks for
the worker.

Threads are daemons: the interpreter can exit while an abandoned one still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import selectors
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import dropwhile
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import final
from weakref import WeakSet

from daglite.core.call import Call, Outcome
from daglite.core.current import call_on_this_thread
from daglite.core.interrupts import Interrupted, Interrupts, of_this_thread
from daglite.core.own_loop import cancel_async_on, carried, frames_of_async_on
from daglite.core.protocols import Done
from daglite.core.run import Run
from daglite.exceptions import BackendError

__all__ = [
    "Abandoned",
    "ThreadPool",
    "can_interrupt",
    "slot_lender",
]


@final
class _Worker:
    """One thread, as the pool sees it."""

    __slots__ = ("call", "given_up", "interrupts", "lock", "thread")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.call: Call | None = None
        self.given_up = False
        self.interrupts = Interrupts()
        self.thread: threading.Thread


@final
class Abandoned:
    """Threads given up that may still run; pools under one cap share it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def add(self, thread: threading.Thread) -> None:
        with self._lock:
            self._threads.append(thread)

    def count(self) -> int:
        """How many still run."""
        if not self._threads:
            return 0
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive()]
            return len(self._threads)


@final
class ThreadPool:
    """
    Up to *size* threads, started as they are needed.

    Args:
        size: Calls that may run at the same time; abandoned ones don't count.
        max_abandoned: With so many abandoned calls still running, timed calls are refused.
        name: Threads are called ``name-1``, ``name-2``, ...
        shared: Where to count abandoned calls together with those of other pools.
    """

    def __init__(
        self,
        size: int,
        *,
        max_abandoned: int = 128,
        name: str = "daglite",
        shared: Abandoned | None = None,
    ) -> None:
        self.size = size
        self._abandoned = Abandoned() if shared is None else shared
        self._max_abandoned = max_abandoned
        self._name = name
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        self._queue: SimpleQueue[tuple[Call, Done] | None] = SimpleQueue()
        # A collection may close a pool while its own thread has the lock.
        self._lock = threading.RLock()
        self._workers: set[_Worker] = set()
        self._started = 0
        self._lent = 0
        self._closed = False

    @property
    def abandoned(self) -> int:
        """Calls that weren't wanted any more and still run."""
        return self._abandoned.count()

    def submit(self, call: Call, done: Done) -> None:
        """Queue *call*; the outcome goes to *done*, on the thread that ran it."""
        if self._closed:
            done(call, Outcome(error=BackendError(f"thread pool {self._name!r} is closed")))
            return
        if call.target.timed and self.abandoned >= self._max_abandoned:
            error = BackendError(
                f"{self.abandoned} calls that ran out of time still run and can't be stopped "
                f"(max_abandoned={self._max_abandoned}); give the functions timeouts of their "
                "own, or raise the setting"
            )
            done(call, Outcome(error=error))
            return
        self._queue.put((call, done))
        if len(self._workers) < self.size + self._lent:
            try:
                self._grow()
            except RuntimeError as error:
                if not self._workers:
                    # Nobody will ever take it.
                    call.cancelled = True
                    told = f"thread pool {self._name!r} can't start a thread: {error}"
                    done(call, Outcome(error=BackendError(told)))

    def _grow(self) -> None:
        # Interrupting a thread that starts another may hit the new one instead, which shares its
        # id until it runs, and then the starter waits for ever: so hold off who interrupts.
        call = call_on_this_thread.call
        place = None if call is None else call.place
        with place.lock if isinstance(place, _Worker) else contextlib.nullcontext():
            if isinstance(place, _Worker) and place.given_up:
                return
            self._start_one()

    def _start_one(self) -> None:
        with self._lock:
            if len(self._workers) >= self.size + self._lent:
                return
            if self._closed and self._queue.empty():
                return
            worker = _Worker()
            self._started += 1
            worker.thread = threading.Thread(
                target=self._main,
                args=(worker, self._queue),
                name=f"{self._name}-{self._started}",
                daemon=True,
            )
            self._workers.add(worker)
            try:
                worker.thread.start()
            except BaseException:
                self._workers.discard(worker)
                raise

    # -- on a worker's thread -----------------------------------------------------

    def _main(self, worker: _Worker, queue: SimpleQueue[tuple[Call, Done] | None]) -> None:
        try:
            _here.pool = self
            of_this_thread.interrupts = worker.interrupts
            self._work(worker, queue)
            # Wait for a canceller to be through with this thread, and take what it has set.
            with worker.lock:
                pass
            for _ in range(2):
                pass
        except Interrupted:
            pass
        finally:
            worker.call = None

    def _work(self, worker: _Worker, queue: SimpleQueue[tuple[Call, Done] | None]) -> None:
        here, name = call_on_this_thread, worker.thread.name
        while not worker.given_up:
            item = queue.get()
            if item is None:
                if self._leave(worker):
                    return
                continue
            call, done = item
            # Before this worker shows itself: nothing may interrupt what is decided there.
            if not (call.admit is None or call.cancelled or call.run.stopped or call.admit()):
                done(call, Outcome.turned_away())
                del item, call, done
                continue
            # In this order: see the head of this file.
            worker.call = call
            call.place = worker
            if call.cancelled or call.run.stopped:
                with worker.lock:
                    worker.call = None
                continue
            now = call.run.kernel.now
            here.call = call
            call.worker = name
            started = call.started = now()
            try:
                outcome = Outcome(call.invoke(), None, started)
            except Interrupted:
                return
            except BaseException as error:
                outcome = Outcome(None, error, started)
            outcome.ran = now() - started
            outcome.worker = name
            here.call = None
            with worker.lock:
                worker.call = None
                if worker.given_up:
                    return
            done(call, outcome)
            # Hold nothing of it while waiting for the next.
            del item, call, done, outcome

    def _leave(self, worker: _Worker) -> bool:
        with self._lock:
            if self._closed or len(self._workers) > self.size + self._lent:
                self._workers.discard(worker)
                return True
            return False

    # -- from any thread ----------------------------------------------------------

    def cancel(self, call: Call) -> None:
        """Drop *call* if it waits; if it runs, interrupt and give up its thread."""
        call.cancelled = True
        worker = call.place
        if not isinstance(worker, _Worker):
            return
        with worker.lock:
            if worker.call is not call or worker.given_up or call.idle:
                return
            worker.given_up = True
            if call.target.on_expiry != "abandon":
                call.run.cancel_nested(call)
                _interrupt(worker)
                cancel_async_on(worker.thread.ident)
        self._abandoned.add(worker.thread)
        with self._lock:
            self._workers.discard(worker)
        self._grow()

    def cancel_run(self, run: Run) -> None:
        """The same for each call of *run*; `Run.stopped` keeps its other calls from starting."""
        run.stopped = True
        for worker in tuple(self._workers):
            call = worker.call
            if call is not None and call.run is run:
                self.cancel(call)

    def is_running(self, call: Call) -> bool:
        """Whether the cancelled *call* still holds its thread."""
        worker = call.place
        return isinstance(worker, _Worker) and worker.call is call and worker.thread.is_alive()

    def stack_of(self, call: Call) -> str | None:
        """Where *call* stands now, as text."""
        worker = call.place
        if not isinstance(worker, _Worker) or worker.call is not call:
            return None
        thread = worker.thread.ident
        frame = _frames().get(thread or 0)
        if frame is None:
            return None
        stack = traceback.extract_stack(frame)
        for inner in frames_of_async_on(thread):
            stack.extend(traceback.StackSummary.extract([(inner, inner.f_lineno)]))
        return "".join(traceback.format_list(_without_plumbing(stack)))

    @contextlib.contextmanager
    def lend(self) -> Iterator[None]:
        """One more thread for as long as a call of this pool waits for a run of its own."""
        with self._lock:
            self._lent += 1
        try:
            # Without another thread the run must do with those that there are.
            with contextlib.suppress(RuntimeError):
                self._grow()
            yield
        finally:
            with self._lock:
                self._lent -= 1
            self._queue.put(None)

    def close(self) -> None:
        """Let the threads end once they are through with what they run; idempotent."""
        with self._lock:
            self._closed = True
            for _ in self._workers:
                self._queue.put(None)


_PLUMBING = (
    str(Path(__file__).parents[1]),
    threading.__file__,
    str(Path(asyncio.__file__).parent),
    selectors.__file__,
)
"""Beginnings of the files' names that lead from a thread's start to a task's function."""


def _without_plumbing(stack: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """*stack* from where the task's function begins."""
    return list(dropwhile(lambda frame: frame.filename.startswith(_PLUMBING), stack)) or stack


_frames_lock = threading.Lock()


def _frames() -> dict[int, FrameType]:
    """
    Thread id -> where it stands now.

    Python 3.11 waits for ever when a garbage collection within lets another thread run
    (https://github.com/python/cpython/issues/106883), so there is none.
    """
    with _frames_lock:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()


def can_interrupt() -> bool:
    """
    Whether an exception may be set in another thread now.

    Under a tracer (a debugger, coverage) Python 3.11 can't run a traced function as long as
    such an exception waits for its thread to come back from C code.
    """
    return sys.version_info[:2] != (3, 11) or sys.gettrace() is None


def _interrupt(worker: _Worker) -> None:
    if not can_interrupt():
        return

    def interrupt() -> None:
        # The thread can't end, nor its id be given to another, while its worker's lock is held.
        ident = ctypes.c_ulong(worker.thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Interrupted))

    worker.interrupts.send(interrupt)


class _Here(threading.local):
    pool: ThreadPool | None = None


_here = _Here()
carried.append(_here)
_pools: WeakSet[ThreadPool] = WeakSet()


def slot_lender() -> Callable[[], contextlib.AbstractContextManager[None]] | None:
    """
    For a run nested in a call of a pool: while it only waits, another thread has its place.

    Returns:
        Makes a context to wait in; None outside of pools.
    """
    return None if _here.pool is None else _here.pool.lend


def _after_fork() -> None:
    """The child has none of the parent's threads."""
    global _frames_lock
    _frames_lock = threading.Lock()
    _here.pool = None
    for pool in tuple(_pools):
        pool._abandoned.reset()
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
