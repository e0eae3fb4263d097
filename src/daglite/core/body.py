"""
What runs when a task is called: its function, or the function with its result drawn out.

A generator is materialised to a list and a coroutine is run to its end here, inside the
attempt, so that a retry or a timeout covers the whole of the function's body.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import copy_context
from typing import Any, TypeVar

__all__ = ["body_of", "carried"]

T = TypeVar("T")


def body_of(func: Callable[..., Any]) -> Callable[..., Any]:
    """The plain function that does what a call of the task *func* shall do."""
    if _asked(func, inspect.isasyncgenfunction):
        return functools.partial(_run_async, lambda *a, **k: _drain(func(*a, **k)))
    if _asked(func, inspect.iscoroutinefunction):
        return functools.partial(_run_async, func)
    if _asked(func, inspect.isgeneratorfunction):
        return functools.partial(_materialise, func)
    return func


def _asked(func: Callable[..., Any], question: Callable[[Any], bool]) -> bool:
    return question(func) or question(getattr(type(func), "__call__", None))


def _materialise(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Any]:
    return list(func(*args, **kwargs))


async def _drain(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


def _run_async(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    if asyncio._get_running_loop() is None:
        return _loops.run(func(*args, **kwargs))
    # This thread's own loop is busy (a notebook, a web server's handler): a thread that
    # has none does it, while this one waits as it would for any call.
    return _on_helper_thread(func, args, kwargs)


carried: list[threading.local] = []
"""What a helper thread takes over from the thread that it works for."""


def _on_helper_thread(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    taken = [(local, dict(vars(local))) for local in carried]
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        for local, attributes in taken:
            vars(local).update(attributes)
        try:
            results.append(_loops.run(func(*args, **kwargs)))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class _OwnLoop:
    """An event loop that is closed when nobody has it any more: when its thread ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        task = self.loop.create_task(coro)
        try:
            return self.loop.run_until_complete(task)
        except BaseException:
            # Interrupted from outside: let the coroutine's finally blocks run.
            if not task.done():
                task.cancel()
                self.loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            raise

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
