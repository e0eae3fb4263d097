"""`task`: makes a task of a function."""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterator,
)
from datetime import timedelta
from typing import Any, Protocol, TypeVar, overload

from typing_extensions import ParamSpec

from daglite.core.protocols import Backend
from daglite.core.signature import Signature
from daglite.core.task import Task, checked_backend, checked_name, checked_tags
from daglite.policies import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    MapPolicy,
    RateLimit,
    ResourceLimits,
    RetryPolicy,
    TimeoutPolicy,
    policies_from_options,
)
from daglite.policies.options import BackoffOption, CacheOption, MiddlewareOption

__all__ = ["task"]

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator(Protocol):
    """What ``@task(...)`` returns: it makes a task of a function."""

    # Whoever writes a generator mostly annotates it with Iterator: so a type checker takes
    # any function that returns one for a generator.

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, func: Callable[P, AsyncGenerator[R, Any]], /) -> Task[P, list[R]]: ...
    @overload
    def __call__(self, func: Callable[P, Generator[R, Any, Any]], /) -> Task[P, list[R]]: ...
    @overload
    def __call__(self, func: Callable[P, AsyncIterator[R]], /) -> Task[P, list[R]]: ...
    @overload
    def __call__(self, func: Callable[P, Iterator[R]], /) -> Task[P, list[R]]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(func: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(func: Callable[P, AsyncGenerator[R, Any]], /) -> Task[P, list[R]]: ...
@overload
def task(func: Callable[P, Generator[R, Any, Any]], /) -> Task[P, list[R]]: ...
@overload
def task(func: Callable[P, AsyncIterator[R]], /) -> Task[P, list[R]]: ...
@overload
def task(func: Callable[P, Iterator[R]], /) -> Task[P, list[R]]: ...
@overload
def task(func: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    description: str | None = None,
    backend: str | Backend | None = None,
    tags: Collection[str] = (),
    retry: int | RetryPolicy | None = ...,
    backoff: BackoffOption = ...,
    timeout: float | str | timedelta | TimeoutPolicy | None = ...,
    circuit_breaker: CircuitBreaker | None = ...,
    rate_limit: float | RateLimit | None = ...,
    bulkhead: int | Bulkhead | None = ...,
    fallback: FallbackPolicy | None = ...,
    hedge: Hedge | None = ...,
    map_policy: MapPolicy | None = ...,
    chaos: Chaos | None = ...,
    limits: ResourceLimits | None = ...,
    max_memory: int | str | None = ...,
    max_cpu_time: float | str | timedelta | None = ...,
    cache: CacheOption = ...,
    idempotent: bool | None = ...,
    around_call: MiddlewareOption = ...,
    around_attempt: MiddlewareOption = ...,
) -> _Decorator: ...
def task(
    func: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    backend: str | Backend | None = None,
    tags: Collection[str] = (),
    **options: Any,
) -> Any:
    """
    Make a task of a function: ``@task``, ``@task(retry=3, timeout=30)`` or ``task(function)``.

    Functions, ``async def``, generators (whose items become a list) and callable objects will
    do.

    Args:
        name: For messages and rules; the function's own unless given.
        description: One line; the first of the function's docstring unless given.
        backend: Where it runs: a name, a backend, or None for the one that `evaluate` says.
        tags: Words to select tasks by.
        retry: Retries after the first call, or a `RetryPolicy`.
        backoff: With a number of retries: how the wait grows (see `RetryPolicy`).
        timeout: Seconds for each attempt (also ``"30s"``, `timedelta`), or a `TimeoutPolicy`.
        circuit_breaker, rate_limit, bulkhead, fallback, hedge, map_policy, chaos, limits: As in a
            `PolicySet`; checked, but not carried out in this version: a run is refused.
        cache: True, seconds (also ``"1h"``), or a `CachePolicy`; as those.
        max_memory, max_cpu_time: Short for ``limits=ResourceLimits(...)``.
        idempotent: Whether it does no harm to carry a call out twice.
        around_call, around_attempt: Middlewares of your own.

    Raises:
        TypeError: *func* is a class, or can't be called.
        TaskConfigurationError: A name, backend, tag or signature that can't be used, or no such
            option.
        PolicyError: A policy that makes no sense, or isn't available.
    """

    def decorate(func: Callable[..., Any]) -> Task[..., Any]:
        if isinstance(func, Task):
            raise TypeError(f"{func!r} is a task already; use with_options() to change it")
        if isinstance(func, type) or not callable(func):
            raise TypeError(f"@task needs a function, not {func!r:.60}{_hint(func)}")
        own = checked_name(name if name is not None else _name_of(func))
        doc = (getattr(func, "__doc__", None) or "").strip() if _is_described(func) else ""
        return Task(
            func,
            name=own,
            description=description if description is not None else doc.split("\n")[0],
            backend=checked_backend(own, backend),
            tags=checked_tags(own, tags),
            policies=policies_from_options(f"task {own!r}", **options),
            signature=Signature.of(func, own),
            fixed={},
        )

    return decorate if func is None else decorate(func)


def _hint(wrong: object) -> str:
    if isinstance(wrong, str):
        return f"; a name is given as @task(name={wrong!r})"
    if isinstance(wrong, type):
        return "; for a class, decorate a function that makes an instance"
    return "; options are given by name, as in @task(retry=3)"


def _is_described(func: Callable[..., Any]) -> bool:
    """Whether the docstring is the function's own, not that of its type."""
    return getattr(func, "__doc__", None) != type(func).__doc__


def _name_of(func: Callable[..., Any]) -> str:
    inner = getattr(func, "func", func)
    return getattr(inner, "__name__", None) or type(inner).__name__
