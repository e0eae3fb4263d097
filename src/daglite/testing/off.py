"""Tests in which no policy waits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, final

from daglite.core.no_waits import no_waits

__all__ = ["policies_off"]

F = TypeVar("F", bound=Callable[..., Any])


@final
class policies_off:  # noqa: N801
    """
    Let no policy wait, for as long as a block or a function runs: for tests of your own code.

    * Back-offs take no time: a failed call is tried again at once, as often as its policy says.
    * Circuit breakers, rate limits and retry budgets are neither asked nor told: calls go, and
      what happens leaves no trace for the next test.
    * `Call.park`, by which your own middlewares wait, returns at once.

    All else stays: timeouts, fallbacks, bulkheads, which errors are retried, the longest hint.
    Holds for the whole process: all threads, event loops and runs, `protect` too.  What waits
    already when it begins isn't woken.  Blocks may be nested, and overlap on several threads: the
    policies are back when the last one ends.

    Example:
        >>> from daglite import RetryPolicy, protect
        >>> tries = []
        >>> @protect(retry=RetryPolicy(3, "constant", delay="1m"))
        ... def fetch() -> str:
        ...     tries.append(1)
        ...     if len(tries) < 3:
        ...         raise ConnectionError("busy")
        ...     return "page"
        >>> with policies_off():
        ...     fetch()
        'page'
    """

    def __enter__(self) -> None:
        no_waits.append(None)

    def __exit__(self, *_: object) -> None:
        no_waits.pop()

    def __call__(self, func: F, /) -> F:
        """
        Run *func*, a function or an ``async def``, in such a block: ``@policies_off()``.

        Raises:
            TypeError: *func* is a class, or a generator function, whose body runs after its call.
        """
        made: Any
        lazy = inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func)
        if lazy or isinstance(func, type) or not callable(func):
            raise TypeError(
                f"@policies_off() is for functions, not {func!r:.60}; write "
                "'with policies_off():' inside"
            )
        if inspect.iscoroutinefunction(func):

            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await func(*args, **kwargs)

            made = run_async
        else:

            def run(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return func(*args, **kwargs)

            made = run
        made = functools.wraps(func)(made)
        wrapped: F = made
        return wrapped
