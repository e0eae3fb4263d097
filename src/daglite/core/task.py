"""
Tasks, and the futures that binding them makes.

    task ─► Task ── bind ─────────► TaskFuture ── then · join ─► TaskFuture
               │  └─ extend · zip ─► MapTaskFuture ── join ─────► TaskFuture
               └─ fix · with_options ─► Task     └─ map ────────► MapTaskFuture

Nothing runs here: a future only remembers what to call with what.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, final  # noqa: TID251
from weakref import WeakKeyDictionary

from typing_extensions import Never, ParamSpec

from daglite._codec import function_from_state, function_state
from daglite.core.elements import OneShot, is_table, length_of
from daglite.core.future import BaseTaskFuture
from daglite.core.gather import PLAIN, gather
from daglite.core.graph import MapMode, MapTaskNode, TaskNode, new_id
from daglite.core.protocols import Backend
from daglite.core.signature import Signature
from daglite.exceptions import ParameterError, TaskConfigurationError
from daglite.policies import (
    Bulkhead,
    Chaos,
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    MapPolicy,
    PolicySet,
    RateLimit,
    ResourceLimits,
    RetryPolicy,
    TimeoutPolicy,
    policies_from_options,
)
from daglite.policies.base import NOT_GIVEN
from daglite.policies.options import BackoffOption, CacheOption, MiddlewareOption

__all__ = [
    "MapTaskFuture",
    "Task",
    "TaskFuture",
    "checked_backend",
    "checked_name",
    "checked_tags",
]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
V_contra = TypeVar("V_contra", contravariant=True)
S = TypeVar("S")
E = TypeVar("E")


@final
class Task(Generic[P, R_co]):
    """
    A function with a name, a backend and policies; made by `task`.

    Immutable.  A task isn't called: `bind` it and `evaluate` the future, or call `func`.

    Attributes:
        name: For messages, events and rules.
        description: The first line of the function's docstring, unless given.
        backend: A backend's name or the backend itself; None leaves it to `evaluate`.
        tags: Words that rules and callbacks can select tasks by.
        policies: What was said about retries, timeouts and the like.
        fixed: Parameter name -> argument, for those bound by `fix`.
    """

    __slots__ = (
        "__weakref__",
        "_func",
        "_simple",
        "backend",
        "description",
        "fixed",
        "name",
        "policies",
        "signature",
        "steps",
        "tags",
    )

    name: str
    description: str
    backend: str | Backend | None
    tags: tuple[str, ...]
    policies: PolicySet
    fixed: Mapping[str, Any]
    signature: Signature
    steps: WeakKeyDictionary[Any, Any]
    _func: Callable[P, R_co]
    _simple: tuple[str, ...] | None

    def __init__(
        self,
        func: Callable[P, R_co],
        *,
        name: str,
        description: str,
        backend: str | Backend | None,
        tags: tuple[str, ...],
        policies: PolicySet,
        signature: Signature,
        fixed: Mapping[str, Any],
    ) -> None:
        write = super().__setattr__
        write("_func", func)
        write("name", name)
        write("description", description)
        write("backend", backend)
        write("tags", tags)
        write("policies", policies)
        write("signature", signature)
        write("steps", WeakKeyDictionary())
        write("fixed", MappingProxyType(dict(fixed)))
        # A call that names all parameters in order needs no arranging.
        plain = signature.positional == len(signature.names) and not fixed
        write("_simple", signature.names if plain else None)

    @property
    def func(self) -> Callable[P, R_co]:
        """The plain function."""
        return self._func

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"task {self.name!r} can't be changed; with_options({name}=...) makes another"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"task {self.name!r} can't be changed")

    def __repr__(self) -> str:
        return f"<Task {self.name}({', '.join(self._unbound())})>"

    def __reduce__(self) -> tuple[Any, ...]:
        rest = {
            "name": self.name,
            "description": self.description,
            "backend": self.backend,
            "tags": self.tags,
            "policies": self.policies,
            "fixed": dict(self.fixed),
        }
        return _load_task, (function_state(self.func), rest)

    # -- binding ------------------------------------------------------------------

    def bind(self, /, *args: Any, **kwargs: Any) -> TaskFuture[R_co]:
        """
        One call of this task, with values or with futures of them.

        Futures inside lists, tuples, sets, dicts and dataclasses are found and awaited too.
        Names are checked here.  The types of futures are checked against the annotations when
        the graph is built; those of values are not.

        Raises:
            ParameterError: Arguments that are bound already, unknown, or missing.
        """
        kwnames: tuple[str, ...] = ()
        if args or tuple(kwargs) != self._simple:
            values, kwnames = self._arranged("bind", self._named("bind", args, kwargs))
        else:
            values = tuple(kwargs.values())
        values, refs = _linked(values)
        # What TaskFuture(...) does, in a third of the time.
        future: Any = _new(_Draft)
        future.id, future.args, future.refs = new_id(), values, refs
        future.task, future.kwnames = self, kwnames
        future.__class__ = TaskFuture
        made: TaskFuture[R_co] = future
        return made

    def fix(self, /, **kwargs: Any) -> Task[..., R_co]:
        """
        A task with some parameters bound, to bind the others later.

        Raises:
            ParameterError: Arguments that are bound already, or unknown.
        """
        self._check_overlap("fix", kwargs)
        self._check_unknown("fix", kwargs)
        return self._changed(fixed={**self.fixed, **kwargs})

    def extend(self, /, **kwargs: Any) -> MapTaskFuture[R_co]:
        """
        One call for each combination of elements; the first keyword varies slowest.

        Each argument is an iterable of elements, or a future of one.  The elements of a dict
        are its keys.

        Raises:
            ParameterError: Arguments that are bound already, not iterable, unknown, or missing.
        """
        return self._fan_out("extend", kwargs)

    def zip(self, /, **kwargs: Any) -> MapTaskFuture[R_co]:
        """
        One call for each position of iterables of equal length.

        Each argument is as for `extend`.

        Raises:
            ParameterError: Arguments that are bound already, not iterable, unknown, missing,
                or of different lengths (where those aren't known yet, `evaluate` raises it).
        """
        future = self._fan_out("zip", kwargs)
        known = {name: _known_length(value) for name, value in kwargs.items()}
        lengths = {name: length for name, length in known.items() if length is not None}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {n}" for name, n in lengths.items())
            raise ParameterError(
                f"task {self.name!r}: .zip() needs iterables of equal length, but {told}; "
                "use .extend() for all combinations"
            )
        return future

    def with_options(
        self,
        *,
        name: str = NOT_GIVEN,
        description: str = NOT_GIVEN,
        backend: str | Backend | None = NOT_GIVEN,
        tags: Collection[str] = NOT_GIVEN,
        retry: int | RetryPolicy | None = NOT_GIVEN,
        backoff: BackoffOption = NOT_GIVEN,
        timeout: float | str | timedelta | TimeoutPolicy | None = NOT_GIVEN,
        circuit_breaker: CircuitBreaker | None = NOT_GIVEN,
        rate_limit: float | RateLimit | None = NOT_GIVEN,
        bulkhead: int | Bulkhead | None = NOT_GIVEN,
        fallback: FallbackPolicy | None = NOT_GIVEN,
        hedge: Hedge | None = NOT_GIVEN,
        map_policy: MapPolicy | None = NOT_GIVEN,
        chaos: Chaos | None = NOT_GIVEN,
        limits: ResourceLimits | None = NOT_GIVEN,
        max_memory: int | str | None = NOT_GIVEN,
        max_cpu_time: float | str | timedelta | None = NOT_GIVEN,
        cache: CacheOption = NOT_GIVEN,
        idempotent: bool | None = NOT_GIVEN,
        around_call: MiddlewareOption = NOT_GIVEN,
        around_attempt: MiddlewareOption = NOT_GIVEN,
        # None, to a type checker; at run time the error tells why.
        **unavailable: Never,
    ) -> Task[P, R_co]:
        """
        The same task with other options.

        What isn't given stays.  A policy is merged field by field over the task's; None takes
        it away, and for `backend` leaves the choice to `evaluate`.

        Args:
            name: For messages and rules.
            description: One line.
            backend: Where it runs: a name, or a backend.
            tags: In place of the task's.
            retry: Retries after the first call, or a `RetryPolicy`.
            backoff: With a number of retries: how the wait grows (see `RetryPolicy`).
            timeout: Seconds for each attempt (also ``"30s"``, `timedelta`), or a `TimeoutPolicy`.
            circuit_breaker, rate_limit, bulkhead, fallback, hedge, map_policy, chaos, limits: As
                in a `PolicySet`; checked, but not carried out in this version: a run is refused.
            cache: True, seconds (also ``"1h"``), or a `CachePolicy`; as those.
            max_memory, max_cpu_time: Short for ``limits=ResourceLimits(...)``.
            idempotent: Whether it does no harm to carry a call out twice.
            around_call, around_attempt: Middlewares, further in than the task's.

        Raises:
            TaskConfigurationError: A name, backend or tag that can't be used, or no such option.
            PolicyError: A policy that makes no sense, or isn't available.
        """
        options = dict(
            retry=retry,
            backoff=backoff,
            timeout=timeout,
            circuit_breaker=circuit_breaker,
            rate_limit=rate_limit,
            bulkhead=bulkhead,
            fallback=fallback,
            hedge=hedge,
            map_policy=map_policy,
            chaos=chaos,
            limits=limits,
            max_memory=max_memory,
            max_cpu_time=max_cpu_time,
            cache=cache,
            idempotent=idempotent,
            around_call=around_call,
            around_attempt=around_attempt,
            **unavailable,
        )
        own = self.name if name is NOT_GIVEN else checked_name(name)
        given = policies_from_options(f"with_options of task {own!r}", **options)
        return self._changed(
            name=own,
            description=self.description if description is NOT_GIVEN else description,
            backend=self.backend if backend is NOT_GIVEN else checked_backend(own, backend),
            tags=self.tags if tags is NOT_GIVEN else checked_tags(own, tags),
            policies=given.merged_over(self.policies),
        )

    if not TYPE_CHECKING:  # to which a task is nothing that can be called

        def __call__(self, *args, **kwargs):
            raise TypeError(
                f"task {self.name!r} isn't called: use evaluate({self.name}.bind(...)) to run it, "
                f"or {self.name}.func(...) for its plain function"
            )

    # -- inside -------------------------------------------------------------------

    def _changed(self, **changes: Any) -> Task[Any, R_co]:
        now = {
            "name": self.name,
            "description": self.description,
            "backend": self.backend,
            "tags": self.tags,
            "policies": self.policies,
            "signature": self.signature,
            "fixed": self.fixed,
        }
        return Task(self.func, **{**now, **changes})

    def _unbound(self) -> list[str]:
        return [name for name in self.signature.names if name not in self.fixed]

    def _only_parameter(self, method: str) -> str:
        """The one parameter that *method* gives its value to."""
        unbound = self._unbound()
        required = [name for name in unbound if name not in self.signature.defaults]
        for candidates in (required, unbound):
            if len(candidates) == 1:
                return candidates[0]
        raise ParameterError(
            f".{method}() needs a task with exactly one unbound parameter, but task "
            f"{self.name!r} has {len(unbound)}: {unbound}; bind the others with .fix()"
        )

    def _named(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        if not args:
            return kwargs
        places = self.signature.names[: self.signature.positional]
        free = [name for name in places if name not in self.fixed]
        if len(args) > len(free):
            raise ParameterError(
                f"task {self.name!r}: .{method}() was given {len(args)} "
                f"argument{'s' * (len(args) != 1)} by position, but takes {len(free)}: {free}"
            )
        named = dict(zip(free, args, strict=False))
        twice = [name for name in kwargs if name in named]
        if twice:
            raise ParameterError(
                f"task {self.name!r}: .{method}() was given {twice} by position and by name"
            )
        return {**named, **kwargs}

    def _check_overlap(self, method: str, kwargs: Mapping[str, Any]) -> None:
        overlap = [name for name in kwargs if name in self.fixed]
        if overlap:
            raise ParameterError(
                f"task {self.name!r}: Cannot use .{method}() with already-bound parameters: "
                f"{overlap}. These parameters were bound in .fix(): {list(self.fixed)}"
            )

    def _check_unknown(self, method: str, kwargs: Mapping[str, Any]) -> None:
        unknown = self.signature.unknown(tuple(kwargs))
        if unknown:
            raise ParameterError(
                f"task {self.name!r}: .{method}() was given unknown parameters: {unknown}; "
                f"it has {list(self.signature.names)}"
            )

    def _complete(self, method: str, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check *kwargs*, and add what is fixed."""
        self._check_unknown(method, kwargs)
        given = {**self.fixed, **kwargs} if self.fixed else kwargs
        missing = self.signature.missing(given)
        if missing:
            raise ParameterError(
                f"task {self.name!r}: .{method}() is missing parameters: {missing}"
            )
        return given

    def _arranged(
        self, method: str, kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        self._check_overlap(method, kwargs)
        return self.signature.arrange(self._complete(method, kwargs))

    def _fan_out(self, mode: MapMode, kwargs: dict[str, Any]) -> MapTaskFuture[R_co]:
        self._check_overlap(mode, kwargs)
        if not kwargs:
            raise ParameterError(
                f"task {self.name!r}: .{mode}() needs at least one iterable; "
                "use .bind() for a single call"
            )
        sources = {name: self._source(mode, name, value) for name, value in kwargs.items()}
        given = self._complete(mode, sources)
        values, kwnames = self.signature.arrange(given)
        linked, refs = _linked(values)
        by_place = len(values) - len(kwnames)
        order = (*self.signature.names[:by_place], *kwnames)
        mapped = tuple(order.index(name) for name in kwargs)
        return MapTaskFuture(linked, refs, self, kwnames, mode, mapped)

    def _source(self, method: str, name: str, value: Any) -> Any:
        """*value* as something that gives elements; raise if it can't be that."""
        if isinstance(value, BaseTaskFuture):
            return value
        what = f"task {self.name!r}: parameter {name!r} of .{method}()"
        if isinstance(value, (str, bytes, bytearray)):
            raise ParameterError(
                f"{what} needs an iterable of elements, but was given the {type(value).__name__} "
                f"{value!r:.40}; put it in a list, or use list(...) if you mean its characters"
            )
        if is_table(value):
            raise ParameterError(
                f"{what} needs an iterable of elements, but was given a {type(value).__name__}, "
                "whose elements are its columns' names; give its rows: "
                'df.to_dict("records"), or list(df.itertuples())'
            )
        try:
            iterator = iter(value)
        except TypeError:
            raise ParameterError(
                f"{what} needs an iterable of elements, but was given a non-iterable "
                f"{type(value).__name__}; use .fix({name}=...) for a value that stays the same"
            ) from None
        return OneShot(iterator, what) if iterator is value else value


class TaskOf(Protocol[V_contra, R_co]):
    """
    A `Task` that can be called with one argument more, a V.

    To a type checker, a task that takes a sequence is one that takes a list too; of ``Task``
    itself not every checker knows that.
    """

    @property
    def func(self) -> Callable[[V_contra], R_co]: ...
    @property
    def signature(self) -> Signature: ...


@final
class TaskFuture(BaseTaskFuture[R_co], TaskNode):
    """
    The value of one call. Made by `Task.bind`, `then` and `join`.

    Attributes:
        id: Opaque, and unique in this process; what callbacks and errors call `node_id`.
        name: The task's name.
    """

    __slots__ = ()

    def then(self, task: TaskOf[R_co, S]) -> TaskFuture[S]:
        """
        Call *task* with this value.

        Raises:
            ParameterError: The task has not exactly one unbound parameter.
        """
        checked, parameter = _taker("then", task)
        return checked.bind(**{parameter: self})

    def map(self: TaskFuture[Iterable[E]], task: TaskOf[E, S]) -> MapTaskFuture[S]:
        """
        Call *task* once for each element of this value, which must be iterable.

        Raises:
            ParameterError: The task has not exactly one unbound parameter.
        """
        checked, parameter = _taker("map", task)
        return checked.zip(**{parameter: self})

    def join(self, task: TaskOf[R_co, S]) -> TaskFuture[S]:
        """
        Call *task* with this value as a whole; reads well after `map`.

        Raises:
            ParameterError: The task has not exactly one unbound parameter.
        """
        checked, parameter = _taker("join", task)
        return checked.bind(**{parameter: self})


@final
class MapTaskFuture(BaseTaskFuture[list[R]], MapTaskNode):
    """
    The values of many calls, in order. Made by `Task.extend`, `Task.zip` and `map`.

    Attributes:
        id: Opaque, and unique in this process; what callbacks and errors call `node_id`.
        name: The task's name.
    """

    __slots__ = ()

    def map(self, task: TaskOf[R, S]) -> MapTaskFuture[S]:
        """
        Call *task* once for each of these values.

        Raises:
            ParameterError: The task has not exactly one unbound parameter.
        """
        checked, parameter = _taker("map", task)
        return checked.zip(**{parameter: self})

    def join(self, task: TaskOf[list[R], S]) -> TaskFuture[S]:
        """
        Call *task* with the list of these values.

        Raises:
            ParameterError: The task has not exactly one unbound parameter.
        """
        checked, parameter = _taker("join", task)
        return checked.bind(**{parameter: self})

    then = join


class _Draft(BaseTaskFuture[Any], TaskNode):
    """A `TaskFuture` that can still be written to."""

    __slots__ = ()
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__


_new: Callable[[type], Any] = object.__new__


def _linked(values: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """
    Look for futures among *values*.

    Returns:
        The values, with a gather node for each container that holds futures, and the places
        of nodes among them.
    """
    refs: tuple[int, ...] = ()
    i = -1
    for value in values:
        i += 1
        kind = type(value)
        if kind is TaskFuture or kind is MapTaskFuture:
            refs += (i,)
        elif kind not in PLAIN:
            node = gather(value)
            if node is not None:
                values = (*values[:i], node, *values[i + 1 :])
                refs += (i,)
    return values, refs


def _known_length(value: Any) -> int | None:
    return None if isinstance(value, BaseTaskFuture) else length_of(value)


def _taker(method: str, task: TaskOf[Any, S]) -> tuple[Task[..., S], str]:
    """*task*, checked, and the one parameter that *method* gives its value to."""
    if not isinstance(task, Task):
        hint = "; wrap it: task(function)" if callable(task) else ""
        raise ParameterError(f".{method}() needs a task, not {task!r:.60}{hint}")
    return task, task._only_parameter(method)


def checked_name(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise TaskConfigurationError(f"a task's name is a non-empty string, not {name!r}")
    return name


def checked_backend(name: str, backend: Any) -> str | Backend | None:
    """*backend*, if it may be one; whether its name is known is asked when it is used."""
    if backend is None or isinstance(backend, str):
        return backend
    if isinstance(backend, type) or not isinstance(backend, Backend):
        hint = f"; make one: {backend.__name__}(...)" if isinstance(backend, type) else ""
        raise TaskConfigurationError(
            f"task {name!r}: backend is a name such as 'threading', or an object with the "
            f"methods of daglite.Backend, not {backend!r:.60}{hint}"
        )
    return backend


def checked_tags(name: str, tags: object) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise TaskConfigurationError(f'task {name!r}: tags is a tuple of words: ("{tags}",)')
    if not isinstance(tags, Collection) or not all(isinstance(t, str) and t for t in tags):
        raise TaskConfigurationError(f"task {name!r}: tags is a tuple of words, not {tags!r}")
    return tuple(tags)


def _load_task(state: Any, rest: Mapping[str, Any]) -> Task[..., Any]:
    func = function_from_state(state)
    return Task(func, signature=Signature.of(func, rest["name"]), **rest)
