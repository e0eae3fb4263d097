"""
What runs when a task is called: its function, or the function with its result drawn out.

A generator is materialised to a list and a coroutine is run to its end here, inside the
attempt, so that a retry or a timeout covers the whole of the function's body.
"""

from __future__ import annotations

import asyncio
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
        finally:
            _loops.close()

    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class _Loops(threading.local):
    """A private event loop for each thread that runs async tasks."""

    def __init__(self) -> None:
        self.runner: asyncio.AbstractEventLoop | None = None

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        if self.runner is None or self.runner.is_closed():
            self.runner = asyncio.new_event_loop()
        task = self.runner.create_task(coro)
        try:
            return self.runner.run_until_complete(task)
        except BaseException:
            # Interrupted from outside: let the coroutine's finally blocks run.
            if not task.done():
                task.cancel()
                self.runner.run_until_complete(asyncio.gather(task, return_exceptions=True))
            raise

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()
            self.runner = None


_loops = _Loops()
