"""
Coroutines on threads that have no event loop, or whose loop is busy.

    run_async ─┬─ no loop runs here ─► this thread's own loop
               └─ one does ──────────► a helper thread's own loop; this one waits

A loop is kept for each thread, as making one costs more than most coroutines do.  What runs on
it can be cancelled from any thread: an exception set in a thread that waits for its selector
wouldn't be noticed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import copy_context
from types import FrameType
from typing import Any, TypeVar

from daglite._clock import GLANCE

__all__ = ["cancel_async_on", "carried", "carrying", "frames_of_async_on", "run_async"]

T = TypeVar("T")


def run_async(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run the coroutine that *func* makes to its end, whatever else this thread is doing."""
    if asyncio._get_running_loop() is None:
        return _loops.run(func(*args, **kwargs))
    # This thread's own loop is busy (a notebook, a web server's handler): a thread that
    # has none does it, while this one waits as it would for any call.
    return _on_helper_thread(func, args, kwargs)


carried: list[threading.local] = []
"""What a helper thread takes over from the thread that it works for."""


def carrying(work: Callable[[], None]) -> Callable[[], None]:
    """*work* for a thread of its own, which takes over what this one carries."""
    taken = [(local, dict(vars(local))) for local in carried]
    context = copy_context()

    def in_place_of_its_maker() -> None:
        for local, attributes in taken:
            vars(local).update(attributes)
        context.run(work)

    return in_place_of_its_maker


def _on_helper_thread(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(_loops.run(func(*args, **kwargs)))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=carrying(work), daemon=True)
    thread.start()
    with _known_as_running(lambda: cancel_async_on(thread.ident)):
        try:
            while thread.is_alive():
                # Not for ever at once: see `SystemClock.wait`.
                thread.join(GLANCE)
        except BaseException:
            cancel_async_on(thread.ident)
            raise
    if errors:
        raise errors[0]
    return results[0]


_running: dict[int, tuple[Callable[[], None], asyncio.Task[Any] | None]] = {}
"""Thread id -> what cancels the async function that runs there (from any thread), and its task."""


@contextlib.contextmanager
def _known_as_running(
    cancel: Callable[[], None], task: asyncio.Task[Any] | None = None
) -> Iterator[None]:
    thread = threading.get_ident()
    before = _running.get(thread)
    _running[thread] = cancel, task
    try:
        yield
    finally:
        if before is None:
            del _running[thread]
        else:
            _running[thread] = before


def cancel_async_on(thread: int | None) -> None:
    """Cancel the async function that runs on *thread*, if one does; from any thread."""
    known = None if thread is None else _running.get(thread)
    if known is not None:
        known[0]()


def frames_of_async_on(thread: int | None) -> list[FrameType]:
    """Where the async function stands that runs on *thread*, outermost first."""
    known = None if thread is None else _running.get(thread)
    return [] if known is None or known[1] is None else known[1].get_stack()


class _OwnLoop:
    """An event loop that is closed when nobody has it any more: when its thread ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        loop = self.loop
        task = loop.create_task(coro)

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(task.cancel)

        try:
            with _known_as_running(cancel, task):
                return loop.run_until_complete(task)
        finally:
            self._clear()

    def _clear(self) -> None:
        """End what the function has left behind: it shall not go on in somebody else's call."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    def close(self) -> None:
        self.loop.close()

    __del__ = close


class _OnThisThread(threading.local):
    """A private event loop for each thread that runs async tasks."""

    own: _OwnLoop | None = None

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        if self.own is None:
            self.own = _OwnLoop()
            if threading.current_thread() is threading.main_thread():
                # Its locals outlive what closing a loop needs.
                atexit.register(self.own.close)
        return self.own.run(coro)


_loops = _OnThisThread()


def _after_fork() -> None:
    """The child has a loop of its own: the parent's has its wake-ups from the same pipe."""
    _running.clear()
    own, _loops.own = _loops.own, None
    if own is not None:
        atexit.unregister(own.close)
        # To close it would silence the parent's: so it is never collected.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(own.loop))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(own))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
