"""
What runs when a task is called: its function, or the function with its result drawn out.

A generator is materialised to a list and a coroutine is run to its end here, inside the
attempt, so that a retry or a timeout covers the whole of the function's body.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import inspect
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextvars import copy_context
from types import FrameType, FunctionType
from typing import Any, TypeVar

__all__ = ["body_of", "cancel_async_on", "carried", "carrying", "frames_of_async_on"]

T = TypeVar("T")

_GLANCE = 0.2
"""Seconds after which a wait for a thread looks up."""

_LAZY = re.compile(r"\b(Async)?(Generator|Iterator)\b|\bCoroutine\b|\bAwaitable\b")
"""In the text of a return annotation: what is returned is to be drawn out."""


def body_of(func: Callable[..., Any]) -> Callable[..., Any]:
    """The plain function that does what a call of the task *func* shall do."""
    if _asked(func, inspect.isasyncgenfunction):
        return functools.partial(_run_async, lambda *a, **k: _drain(func(*a, **k)))
    if _asked(func, inspect.iscoroutinefunction):
        return functools.partial(_run_async, func)
    if _asked(func, inspect.isgeneratorfunction):
        return functools.partial(_materialise, func)
    if _is_said_to_be_lazy(func):
        return functools.partial(_drawn_out, (Iterator, AsyncIterator), func)
    if _may_be_lazy(func):
        return functools.partial(_drawn_out, (), func)
    return func


def _asked(func: Callable[..., Any], question: Callable[[Any], bool]) -> bool:
    return question(func) or question(getattr(type(func), "__call__", None))


def _is_said_to_be_lazy(func: Callable[..., Any]) -> bool:
    returned = getattr(func, "__annotations__", {}).get("return", "")
    return bool(_LAZY.search(returned if isinstance(returned, str) else repr(returned)))


def _may_be_lazy(func: Callable[..., Any]) -> bool:
    """Whether *func* passes on what another function makes: a wrapper, a lambda, an object."""
    if not isinstance(func, FunctionType) or func.__name__ == "<lambda>":
        return True
    inner = inspect.unwrap(func)
    return inner is not func and body_of(inner) is not inner


def _materialise(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Any]:
    return list(func(*args, **kwargs))


def _drawn_out(
    lazy: tuple[type, ...], func: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call *func*; draw out a coroutine, a generator, or something else that is *lazy*."""
    result = func(*args, **kwargs)
    if inspect.isawaitable(result) and (lazy or inspect.iscoroutine(result)):
        return _run_async(_awaited, result)
    if inspect.isgenerator(result):
        return list(result)
    if inspect.isasyncgen(result):
        return _run_async(_drain, result)
    if isinstance(result, lazy):
        return list(result) if isinstance(result, Iterator) else _run_async(_drain, result)
    return result


async def _awaited(result: Any) -> Any:
    return await result


async def _drain(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


# -- async functions --------------------------------------------------------------


def _run_async(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
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
                thread.join(_GLANCE)
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
