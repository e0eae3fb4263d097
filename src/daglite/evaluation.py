"""`evaluate`, `evaluate_async` and `evaluate.context`: what a user calls to run a graph."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias, TypedDict, TypeVar, cast, final, overload

from typing_extensions import Unpack

from daglite._clock import Clock
from daglite.core.future import BaseTaskFuture
from daglite.core.own_loop import cancel_async_on, carrying
from daglite.core.protocols import Backend, Callback
from daglite.core.run import Run
from daglite.policies import PolicySet
from daglite.policies.messages import did_you_mean
from daglite.session import OnFailure, Options, Session
from daglite.settings import DagliteSettings

__all__ = ["Context", "EvaluateOptions", "evaluate", "evaluate_async"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")
T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")

Containers: TypeAlias = list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any] | dict[Any, Any]
"""What futures can be given in."""


class _ListOf(Protocol[T_co]):
    """A list, as far as reading goes: so a list of `TaskFuture` is one of futures."""

    def __iter__(self) -> Iterator[T_co]: ...
    def reverse(self) -> None: ...


class EvaluateOptions(TypedDict, total=False):
    """The options of `evaluate`, all of which may be left out."""

    default_backend: str | Backend | None
    use_async: bool | None
    policies: PolicySet | None
    overrides: PolicySet | None
    callbacks: Callback | Sequence[Callback] | None
    on_failure: OnFailure | None
    settings: DagliteSettings | None
    chaos: bool | None


_default = Session(Options())
_NOTHING_SAID = Options()


# -- what type checkers see -------------------------------------------------------


class _Evaluates(Protocol):
    """Which value comes of which expression."""

    @overload
    def __call__(self, expr: BaseTaskFuture[T], **options: Unpack[EvaluateOptions]) -> T: ...
    @overload
    def __call__(
        self, expr: tuple[BaseTaskFuture[T], BaseTaskFuture[T2]], **options: Unpack[EvaluateOptions]
    ) -> tuple[T, T2]: ...
    @overload
    def __call__(
        self,
        expr: tuple[BaseTaskFuture[T], BaseTaskFuture[T2], BaseTaskFuture[T3]],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3]: ...
    @overload
    def __call__(
        self,
        expr: tuple[
            BaseTaskFuture[T],
            BaseTaskFuture[T2],
            BaseTaskFuture[T3],
            BaseTaskFuture[T4],
        ],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3, T4]: ...
    @overload
    def __call__(
        self,
        expr: tuple[
            BaseTaskFuture[T],
            BaseTaskFuture[T2],
            BaseTaskFuture[T3],
            BaseTaskFuture[T4],
            BaseTaskFuture[T5],
        ],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3, T4, T5]: ...
    @overload
    def __call__(
        self,
        expr: tuple[
            BaseTaskFuture[T],
            BaseTaskFuture[T2],
            BaseTaskFuture[T3],
            BaseTaskFuture[T4],
            BaseTaskFuture[T5],
            BaseTaskFuture[T6],
        ],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3, T4, T5, T6]: ...
    @overload
    def __call__(
        self, expr: tuple[BaseTaskFuture[T], ...], **options: Unpack[EvaluateOptions]
    ) -> tuple[T, ...]: ...
    @overload
    def __call__(
        self, expr: _ListOf[BaseTaskFuture[T]], **options: Unpack[EvaluateOptions]
    ) -> list[T]: ...
    @overload
    def __call__(
        self, expr: Mapping[K, BaseTaskFuture[T]], **options: Unpack[EvaluateOptions]
    ) -> dict[K, T]: ...
    @overload
    def __call__(self, expr: Containers, **options: Unpack[EvaluateOptions]) -> Any: ...


class _EvaluatesAsync(Protocol):
    """The same, to be awaited."""

    @overload
    async def __call__(self, expr: BaseTaskFuture[T], **options: Unpack[EvaluateOptions]) -> T: ...
    @overload
    async def __call__(
        self, expr: tuple[BaseTaskFuture[T], BaseTaskFuture[T2]], **options: Unpack[EvaluateOptions]
    ) -> tuple[T, T2]: ...
    @overload
    async def __call__(
        self,
        expr: tuple[BaseTaskFuture[T], BaseTaskFuture[T2], BaseTaskFuture[T3]],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3]: ...
    @overload
    async def __call__(
        self,
        expr: tuple[
            BaseTaskFuture[T],
            BaseTaskFuture[T2],
            BaseTaskFuture[T3],
            BaseTaskFuture[T4],
        ],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3, T4]: ...
    @overload
    async def __call__(
        self,
        expr: tuple[
            BaseTaskFuture[T],
            BaseTaskFuture[T2],
            BaseTaskFuture[T3],
            BaseTaskFuture[T4],
            BaseTaskFuture[T5],
        ],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3, T4, T5]: ...
    @overload
    async def __call__(
        self,
        expr: tuple[
            BaseTaskFuture[T],
            BaseTaskFuture[T2],
            BaseTaskFuture[T3],
            BaseTaskFuture[T4],
            BaseTaskFuture[T5],
            BaseTaskFuture[T6],
        ],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3, T4, T5, T6]: ...
    @overload
    async def __call__(
        self, expr: tuple[BaseTaskFuture[T], ...], **options: Unpack[EvaluateOptions]
    ) -> tuple[T, ...]: ...
    @overload
    async def __call__(
        self, expr: _ListOf[BaseTaskFuture[T]], **options: Unpack[EvaluateOptions]
    ) -> list[T]: ...
    @overload
    async def __call__(
        self, expr: Mapping[K, BaseTaskFuture[T]], **options: Unpack[EvaluateOptions]
    ) -> dict[K, T]: ...
    @overload
    async def __call__(self, expr: Containers, **options: Unpack[EvaluateOptions]) -> Any: ...


class _Evaluate(_Evaluates, Protocol):
    """`evaluate`, with what hangs on it."""

    def context(
        self, *, clock: Clock | None = None, **options: Unpack[EvaluateOptions]
    ) -> AbstractContextManager[Context]: ...


# -- options ----------------------------------------------------------------------

_LATER = frozenset({"enable_cache"})
"""Options that later versions have."""


def _asked(name: str, more: tuple[Any, ...], options: dict[str, Any]) -> Options:
    """
    What the function *name* was asked for.

    Args:
        more: What it was given by position after the expression.
        options: What it was given by name.

    Raises:
        TypeError: There is no such option, or more than one expression.
    """
    if more:
        raise TypeError(
            f"{name} takes one expression by position, but was given {1 + len(more)}; put several "
            f"futures into a list, {name}([a, b]), and name the options"
        )
    _check_names(name, options)
    return Options(**options)


def _check_names(name: str, options: dict[str, Any], known: tuple[str, ...] = ()) -> None:
    known = (*known, *EvaluateOptions.__annotations__)
    for option in options:
        if option in known:
            continue
        if option in _LATER:
            raise TypeError(
                f"{name}: option {option}= isn't available in this version of daglite; leave it out"
            )
        hint = did_you_mean(option, known)
        if option in PolicySet.model_fields:
            hint = f", but policies=PolicySet({option}=...) gives it to tasks that leave it open"
        raise TypeError(
            f"{name}: there is no option '{option}'{hint}; the options are {', '.join(known)}"
        )


def _with_options_shown(function: F) -> F:
    """*function*, whose signature lists the options that it takes as ``**options``."""
    options = inspect.signature(Options).parameters.values()
    shown = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    shown += [option.replace(kind=option.KEYWORD_ONLY) for option in options]
    vars(function)["__signature__"] = inspect.Signature(shown)
    return function


def _typed(function: Callable[..., Any]) -> _Evaluates:
    return cast(_Evaluates, _with_options_shown(function))


def _typed_async(function: Callable[..., Coroutine[Any, Any, Any]]) -> _EvaluatesAsync:
    return cast(_EvaluatesAsync, _with_options_shown(function))


# -- evaluate ---------------------------------------------------------------------


@final
class Context:
    """Evaluates with the options of the ``with evaluate.context(...)`` that made it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @_typed
    def evaluate(self, expr: Any, *more: Any, **options: Any) -> Any:
        """
        `daglite.evaluate`; what isn't given here is as the context says.

        Raises:
            TaskConfigurationError: The ``with`` block is over.
        """
        return self._session.evaluate(expr, _asked("evaluate", more, options))

    @_typed_async
    async def evaluate_async(self, expr: Any, *more: Any, **options: Any) -> Any:
        """
        `daglite.evaluate_async`; what isn't given here is as the context says.

        Await it inside the ``with`` block, whose end closes the pools of the context.

        Raises:
            TaskConfigurationError: The ``with`` block is over.
        """
        asked = _asked("evaluate_async", more, options)
        return await _beside_the_loop(self._session, expr, asked)


def _context(*, clock: Clock | None = None, **options: Any) -> AbstractContextManager[Context]:
    """
    Defaults for several evaluations, and pools of their own if `settings` are given.

    What the context made is closed when its ``with`` block ends.

    Args:
        clock: Tells the time to the runs; a `VirtualClock` in tests.
        options: Those of `evaluate`, for what its calls leave open.  Callbacks add up, and
            policies are merged.

    Raises:
        TypeError: There is no such option.
        BackendError, PolicyError, SettingsError, TaskConfigurationError: An option can't be what
            it was given as.
    """
    _check_names("evaluate.context", options, ("clock",))
    return _opened(Session(Options(**options), clock))


@contextlib.contextmanager
def _opened(session: Session) -> Iterator[Context]:
    try:
        yield Context(session)
    finally:
        session.close()


def _with_context(function: Callable[..., Any]) -> _Evaluate:
    """*function* with `context` as its attribute."""
    _context.__name__, _context.__qualname__ = "context", "evaluate.context"
    vars(function)["context"] = _with_options_shown(_context)
    return cast(_Evaluate, _with_options_shown(function))


@_with_context
def evaluate(expr: Any, *more: Any, **options: Any) -> Any:
    """
    Run a graph on this thread, and return its value.

    Works inside a running event loop, inside a task, and from many threads at once.

    Args:
        expr: A future, or a list, tuple, set or dict of futures, which are then evaluated in one
            run.
        default_backend: Where tasks run that name no backend: a name or a backend; None: as the
            settings say.
        use_async: Without a `default_backend`: run such tasks on threads, so that siblings
            overlap.  None: False.
        policies: Defaults for what tasks leave open.
        overrides: Policies with the last word over the tasks.
        callbacks: Who is told what happens: a callback, or a list of them.
        on_failure: ``"stop"`` at the first failed task, as None does; or ``"continue"`` with
            every branch that doesn't depend on it, and raise one error that holds them all.
        settings: In place of the global ones.
        chaos: Whether the `Chaos` of tasks strikes.  None: False, also for a run inside a task.

    Returns:
        The task's value; of a map, the list of its values in order; of a container of futures,
        the same container of values.

    Raises:
        ExecutionError: A task failed.  Also an instance of what the task raised, where Python
            allows that: ``except ValueError`` works.
        RunCancelledError: The run was cancelled, by the end of the call that it is nested in.
        GraphConstructionError: The graph can't be right.
        ParameterError: Elements of a map that are no such thing, or of unequal number.
        PolicyError: A policy that makes no sense, or that a backend can't keep.
        BackendError: A backend is unknown.
        SettingsError, TaskConfigurationError: An option can't be what it was given as.
        TypeError: *expr* is no future and holds none, or there is no such option.
    """
    asked = _asked("evaluate", more, options) if more or options else _NOTHING_SAID
    return _default.evaluate(expr, asked)


@_typed_async
async def evaluate_async(expr: Any, *more: Any, **options: Any) -> Any:
    """
    Like `evaluate`, on a thread of its own: the event loop stays free.

    Cancelling the awaiting task cancels the run.  What runs in a thread then is interrupted where
    Python allows, and nothing waits for it.

    Args:
        expr: As for `evaluate`.
        options: As for `evaluate`.  Callbacks are told on the thread of the run.

    Returns:
        What `evaluate` returns.

    Raises:
        asyncio.CancelledError: The awaiting task was cancelled.
        DagliteError, TypeError: As `evaluate`.
    """
    return await _beside_the_loop(_default, expr, _asked("evaluate_async", more, options))


async def _beside_the_loop(session: Session, expr: Any, asked: Options) -> Any:
    """Evaluate in *session* on a thread of its own; cancel the run if the waiting is cancelled."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    handle = _Handle()

    def work() -> None:
        settle: Callable[[asyncio.Future[Any], Any], None]
        try:
            value = session.evaluate(expr, asked, handle.attach)
        except BaseException as error:
            settle, result = _fail, error
        else:
            settle, result = _succeed, value
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, ended, result)

    thread = threading.Thread(target=carrying(work), name="daglite-evaluate", daemon=True)
    thread.start()
    try:
        return await ended
    except asyncio.CancelledError:
        handle.cancel()
        if thread.is_alive():
            # A coroutine in place is all that the run could be held up by.
            cancel_async_on(thread.ident)
        raise


@final
class _Handle:
    """Cancels a run that may not have begun yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: Run | None = None
        self._cancelled = False

    def attach(self, run: Run) -> None:
        with self._lock:
            self._run = run
            if self._cancelled:
                run.cancel()

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._run is not None:
                self._run.cancel()


def _succeed(ended: asyncio.Future[Any], value: Any) -> None:
    if not ended.done():
        ended.set_result(value)


def _fail(ended: asyncio.Future[Any], error: BaseException) -> None:
    if not ended.done():
        ended.set_exception(error)
