"""`protect`: the policies of a task, around a plain function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from datetime import timedelta
from types import FunctionType
from typing import Any, Protocol, TypeVar, overload

from typing_extensions import ParamSpec

from daglite._clock import Clock, SystemClock
from daglite.backends.registry import find_backend
from daglite.core.task import Task, checked_name
from daglite.exceptions import PolicyError, TaskConfigurationError
from daglite.guard import Guard
from daglite.planner import check_carried_out, check_promises
from daglite.policies import (
    Bulkhead,
    CircuitBreaker,
    FallbackPolicy,
    PolicySet,
    RateLimit,
    RetryPolicy,
    TimeoutPolicy,
    policies_from_options,
    resolve_policies,
)
from daglite.policies.messages import did_you_mean
from daglite.policies.options import BackoffOption, MiddlewareOption

__all__ = ["protect"]

P = ParamSpec("P")
R = TypeVar("R")

_POLICIES = (
    "retry",
    "backoff",
    "timeout",
    "circuit_breaker",
    "rate_limit",
    "bulkhead",
    "fallback",
    "around_call",
    "around_attempt",
)
_OF_TASKS = frozenset(
    {*PolicySet.model_fields, "max_memory", "max_cpu_time", "backend", "tags", "description"}
) - {*_POLICIES}


class _Decorator(Protocol):
    """What ``@protect(...)`` returns: the function comes out with its own type."""

    def __call__(self, func: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def protect(
    func: Callable[P, R],
    /,
    *,
    name: str | None = None,
    clock: Clock | None = None,
    retry: int | RetryPolicy | None = ...,
    backoff: BackoffOption = ...,
    timeout: float | str | timedelta | TimeoutPolicy | None = ...,
    circuit_breaker: CircuitBreaker | None = ...,
    rate_limit: float | RateLimit | None = ...,
    bulkhead: int | Bulkhead | None = ...,
    fallback: FallbackPolicy | None = ...,
    around_call: MiddlewareOption = ...,
    around_attempt: MiddlewareOption = ...,
) -> Callable[P, R]: ...
@overload
def protect(
    *,
    name: str | None = None,
    clock: Clock | None = None,
    retry: int | RetryPolicy | None = ...,
    backoff: BackoffOption = ...,
    timeout: float | str | timedelta | TimeoutPolicy | None = ...,
    circuit_breaker: CircuitBreaker | None = ...,
    rate_limit: float | RateLimit | None = ...,
    bulkhead: int | Bulkhead | None = ...,
    fallback: FallbackPolicy | None = ...,
    around_call: MiddlewareOption = ...,
    around_attempt: MiddlewareOption = ...,
) -> _Decorator: ...
def protect(
    func: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    clock: Clock | None = None,
    **options: Any,
) -> Any:
    """
    Put policies around a plain function: ``protect(fetch, retry=3)`` or ``@protect(retry=3)``.

    The function keeps its signature and its type.  Its calls go through the same chain as those
    of a task, without a graph.  A plain function runs on the caller's thread; with a timeout, on a
    helper thread, in a copy of the caller's context.  An ``async def`` stays one, and runs on the
    caller's event loop, which is free while the call waits.

    Breaker, rate, bulkhead and budget are the function's own, unless the policy has a ``key``: what
    has the same key is shared in the process.

    Args:
        func: What to protect.  No generator function and no class.
        name: For messages; the function's own unless given.
        clock: Tells the time, such as a `VirtualClock`; None: the system's.
        retry: Retries after the first call, or a `RetryPolicy`.
        backoff: With a number of retries: how the wait grows (see `RetryPolicy`).
        timeout: Seconds for each attempt (also ``"30s"``, `timedelta`), or a `TimeoutPolicy`.
        circuit_breaker: A `CircuitBreaker`.
        rate_limit: Attempts each second, or a `RateLimit`.
        bulkhead: Attempts at a time, or a `Bulkhead`.
        fallback: A `FallbackPolicy`.
        around_call, around_attempt: Middlewares of your own.

    Raises:
        TypeError: *func* isn't a function that can be protected.
        TaskConfigurationError: A name that can't be one, or no such option.
        PolicyError: No policy, or one that makes no sense or can't be carried out here.

    Example:
        >>> from daglite import protect
        >>> @protect(retry=3, timeout=30)
        ... def add(x: int, y: int) -> int:
        ...     return x + y
        >>> add(1, y=2)
        3
    """

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        on_loop = _checked(func)
        own = checked_name(_name_of(func) if name is None else name)
        policies = _policies(f"protect({own!r})", options)
        backend = find_backend("sequential")
        check_promises(f"protect({own!r})", policies, backend)
        body = func if on_loop or not _may_pass_on(func) else _drawn_out_by_nobody(func, own)
        guard = Guard(
            body, own, policies, backend, SystemClock() if clock is None else clock, on_loop=on_loop
        )
        protected = guard.async_function() if on_loop else guard.function()
        return functools.wraps(func)(protected)

    return decorate if func is None else decorate(func)


def _policies(whose: str, options: dict[str, Any]) -> PolicySet:
    for option in options:
        if option in _OF_TASKS:
            raise PolicyError(
                f"{whose}: {option}= is an option of tasks, and can't be carried out around a "
                "function; leave it out, or make it a @task"
            )
        if option not in _POLICIES:
            known = ("name", "clock", *_POLICIES)
            raise TaskConfigurationError(
                f"{whose}: there is no option '{option}'{did_you_mean(option, known)}; "
                f"the options are {', '.join(known)}"
            )
    given = policies_from_options(whose, **options)
    if all(policy is None for policy in given.given.values()):
        raise PolicyError(
            f"{whose} has no policy, and would do nothing; give one, such as retry=3 or timeout=30"
        )
    try:
        policies = resolve_policies([("protect", given)])
    except PolicyError as error:
        raise PolicyError(f"{whose}: {error}") from error
    check_carried_out(whose, policies)
    return policies


# -- what can be protected --------------------------------------------------------


def _checked(func: Any) -> bool:
    """
    Refuse what can't be protected, and say whether *func* is asynchronous.

    Raises:
        TypeError: It can't.
    """
    if isinstance(func, (staticmethod, classmethod)):
        kind = type(func).__name__
        raise TypeError(f"protect() needs a function; write @{kind} above @protect, not below")
    if isinstance(func, Task):
        raise TypeError(f"{func!r} is a task: give it its policies by with_options()")
    if isinstance(func, type) or not callable(func):
        raise TypeError(f"protect() needs a function, not {func!r:.60}{_hint(func)}")
    for each in (func, inspect.unwrap(func)):
        if _asked(each, inspect.isgeneratorfunction) or _asked(each, inspect.isasyncgenfunction):
            raise TypeError(
                f"protect() can't guard the generator function {_name_of(func)!r}, whose body runs "
                "after the call; protect a function that returns a list"
            )
    on_loop = _asked(func, inspect.iscoroutinefunction)
    if not on_loop and _asked(inspect.unwrap(func), inspect.iscoroutinefunction):
        raise TypeError(
            f"{_name_of(func)!r} is a plain function around an async def; protect() can't guard "
            "the coroutine that it passes on: put @protect below that decorator"
        )
    return on_loop


def _hint(wrong: object) -> str:
    if isinstance(wrong, int):
        return f"; retries are given as protect(retry={wrong!r})"
    if isinstance(wrong, type):
        return "; for a class, protect a function that makes an instance"
    return "; options are given by name, as in @protect(retry=3)"


def _asked(func: Any, question: Callable[[Any], bool]) -> bool:
    return question(func) or question(getattr(type(func), "__call__", None))


def _name_of(func: Any) -> str:
    inner = getattr(func, "func", func)
    return getattr(inner, "__name__", None) or type(inner).__name__


def _may_pass_on(func: Any) -> bool:
    """Whether *func* may pass on what another function makes: a wrapper, a lambda, an object."""
    plain = isinstance(func, FunctionType) and func.__name__ != "<lambda>"
    return not plain or inspect.unwrap(func) is not func


def _drawn_out_by_nobody(func: Callable[..., Any], name: str) -> Callable[..., Any]:
    """*func*, with an error where it returns what isn't under way yet."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        value = func(*args, **kwargs)
        if inspect.iscoroutine(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
            kind = type(value).__name__.replace("_", " ")
            if inspect.iscoroutine(value):
                value.close()
            raise TaskConfigurationError(
                f"the protected function {name!r} returned a {kind}, whose body runs after the "
                "call, where nothing guards it; protect the function that makes it"
            )
        return value

    return checked
