"""`protect`: the policies of a task, around a plain function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from datetime import timedelta
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NoReturn, Protocol, TypeVar, final, overload

from typing_extensions import ParamSpec

from daglite._clock import Clock, SystemClock
from daglite.backends.registry import find_backend
from daglite.core.task import Task
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

    A protected function pickles; in another process it begins with fresh states.

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
        own = _checked_name(_name_of(func) if name is None else name)
        whose = f"protect({own!r})"
        policies = _policies(whose, options)
        _check_keys(whose, policies)
        check_promises(whose, policies, find_backend("sequential"))
        time = SystemClock() if clock is None else _checked_clock(whose, clock)
        return _dressed(_protected(func, own, policies, time, on_loop=on_loop), func, own)

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
        raise PolicyError(f"{whose}: {error.problem}", fix=error.fix) from error
    check_carried_out(whose, policies)
    return policies


def _check_keys(whose: str, policies: PolicySet) -> None:
    """
    Refuse what would be shared with all functions that happen to have the same name.

    Raises:
        PolicyError: A wider scope, and no key.
    """
    retry = policies.retry
    shared = {
        "circuit_breaker": policies.circuit_breaker,
        "rate_limit": policies.rate_limit,
        "budget": None if retry is None else retry.budget,
    }
    for option, policy in shared.items():
        if policy is not None and policy.scope != "run" and policy.key is None:
            raise PolicyError(
                f"{whose}: its {option} asks for scope={policy.scope!r} without a key, and would "
                "be shared by all functions of that name",
                fix="give it a key",
            )


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


def _protected(
    func: Callable[..., Any], name: str, policies: PolicySet, clock: Clock, *, on_loop: bool
) -> Callable[..., Any]:
    """
    The function that is called in place of *func*; see `Guard`.
    """
    held = _Held(func, name, policies, clock, on_loop)

    # Nothing but that is in their cells: cloudpickle takes the functions of `__main__` apart.
    def in_place(*args: Any, **kwargs: Any) -> Any:
        value = held.call(*args, **kwargs)
        if value.__class__ in _UNFINISHED:
            held.refuse(value)
        return value

    async def in_place_async(*args: Any, **kwargs: Any) -> Any:
        return await held.call(*args, **kwargs)

    return in_place_async if on_loop else in_place


_UNFINISHED = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})


@final
class _Held:
    """What the function in place holds; unpickled, it makes a guard for its own process."""

    __slots__ = ("_given", "call")

    def __init__(
        self,
        func: Callable[..., Any],
        name: str,
        policies: PolicySet,
        clock: Clock,
        on_loop: bool,
    ) -> None:
        self._given = func, name, policies, clock, on_loop
        guard = Guard(func, name, policies, find_backend("sequential"), clock, on_loop=on_loop)
        self.call = guard.async_function() if on_loop else guard.function()

    def __reduce__(self) -> tuple[type[_Held], tuple[Any, ...]]:
        return _Held, self._given

    def refuse(self, value: Any) -> NoReturn:
        """Here, where no retry and no fallback sees it: it is a mistake, and not a failure."""
        kind = type(value).__name__.replace("_", " ")
        if isinstance(value, CoroutineType):
            value.close()
        raise TaskConfigurationError(
            f"the protected function {self._given[1]!r} returned a {kind}, whose body runs after "
            "the call, where nothing guards it; protect the function that makes it"
        )


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise TaskConfigurationError(
            f"protect: a function's name is a non-empty string, not {name!r:.60}"
        )
    return name


def _checked_clock(whose: str, clock: object) -> Clock:
    given: Any = clock
    if isinstance(clock, type) or not all(
        callable(getattr(clock, each, None)) for each in ("now", "wait")
    ):
        raise TaskConfigurationError(
            f"{whose}: clock= takes a clock, such as VirtualClock(), not {clock!r:.60}"
        )
    checked: Clock = given
    return checked


def _dressed(protected: Callable[..., Any], func: Any, name: str) -> Callable[..., Any]:
    """*protected*, which looks like *func*: a partial or another object has no name of its own."""
    functools.update_wrapper(protected, func)
    if not hasattr(func, "__name__"):
        protected.__name__ = protected.__qualname__ = name
        protected.__module__ = getattr(func, "func", func).__module__
    return protected
