"""`evaluate`, `evaluate_async` and `evaluate.context`: what a user calls to run a graph."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypedDict, TypeVar, final, overload

from typing_extensions import Unpack

from daglite._clock import Clock
from daglite.core.body import carrying
from daglite.core.future import BaseTaskFuture
from daglite.core.protocols import Backend
from daglite.core.run import Run
from daglite.policies import PolicySet
from daglite.session import OnFailure, Options, Session
from daglite.settings import DagliteSettings

__all__ = ["Context", "EvaluateOptions", "evaluate", "evaluate_async"]

T = TypeVar("T")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
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
    callbacks: Sequence[object] | None
    on_failure: OnFailure | None
    settings: DagliteSettings | None


_default = Session(Options())
_NOTHING_SAID = Options()


@final
class Context:
    """Evaluates with the options of the ``with evaluate.context(...)`` that made it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @overload
    def evaluate(self, expr: BaseTaskFuture[T], **options: Unpack[EvaluateOptions]) -> T: ...
    @overload
    def evaluate(
        self, expr: tuple[BaseTaskFuture[T], BaseTaskFuture[T2]], **options: Unpack[EvaluateOptions]
    ) -> tuple[T, T2]: ...
    @overload
    def evaluate(
        self,
        expr: tuple[BaseTaskFuture[T], BaseTaskFuture[T2], BaseTaskFuture[T3]],
        **options: Unpack[EvaluateOptions],
    ) -> tuple[T, T2, T3]: ...
    @overload
    def evaluate(
        self, expr: tuple[BaseTaskFuture[T], ...], **options: Unpack[EvaluateOptions]
    ) -> tuple[T, ...]: ...
    @overload
    def evaluate(
        self, expr: _ListOf[BaseTaskFuture[T]], **options: Unpack[EvaluateOptions]
    ) -> list[T]: ...
    @overload
    def evaluate(
        self, expr: Mapping[K, BaseTaskFuture[T]], **options: Unpack[EvaluateOptions]
    ) -> dict[K, T]: ...
    @overload
    def evaluate(self, expr: Containers, **options: Unpack[EvaluateOptions]) -> Any: ...
    def evaluate(self, expr: Any, **options: Unpack[EvaluateOptions]) -> Any:
        """`daglite.evaluate`; what isn't given here is as the context says."""
        return self._session.evaluate(expr, Options(**options))


@final
class _Evaluate:
    """The type of `evaluate`."""

    __name__ = "evaluate"

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
    def __call__(self, expr: Any, **options: Unpack[EvaluateOptions]) -> Any:
        """
        Run a graph on this thread, and return its value.

        Works inside a running event loop, inside a task, and from many threads at once.

        Args:
            expr: A future, or a list, tuple, set or dict of futures, which are then evaluated
                in one run.
            default_backend: Where tasks run that name no backend: a name or a backend; None:
                as the settings say.
            use_async: Without a `default_backend`: run such tasks on threads, so that
                siblings overlap.
            policies: Defaults for what tasks leave open.
            overrides: Policies with the last word over the tasks.
            callbacks: Who is told what happens.
            on_failure: ``"stop"`` at the first failed task; or ``"continue"`` with every
                branch that doesn't depend on it, and raise one error that holds them all.
            settings: In place of the global ones.

        Returns:
            The task's value; of a map, the list of its values in order; of a container of
            futures, the same container of values.

        Raises:
            ExecutionError: A task failed.  Also an instance of what the task raised, where
                Python allows that: ``except ValueError`` works.
            GraphConstructionError: The graph can't be right.
            PolicyError: A policy that makes no sense, or that a backend can't keep.
            BackendError: A backend is unknown.
        """
        return _default.evaluate(expr, Options(**options) if options else _NOTHING_SAID)

    @contextlib.contextmanager
    def context(
        self, *, clock: Clock | None = None, **options: Unpack[EvaluateOptions]
    ) -> Iterator[Context]:
        """
        Defaults for several evaluations, and pools of their own if `settings` are given.

        Args:
            clock: Tells the time to the runs; a `VirtualClock` in tests.
            options: As for `evaluate`.
        """
        session = Session(Options(**options), clock)
        try:
            yield Context(session)
        finally:
            session.close()


evaluate = _Evaluate()


@overload
async def evaluate_async(expr: BaseTaskFuture[T], **options: Unpack[EvaluateOptions]) -> T: ...
@overload
async def evaluate_async(
    expr: tuple[BaseTaskFuture[T], BaseTaskFuture[T2]], **options: Unpack[EvaluateOptions]
) -> tuple[T, T2]: ...
@overload
async def evaluate_async(
    expr: tuple[BaseTaskFuture[T], BaseTaskFuture[T2], BaseTaskFuture[T3]],
    **options: Unpack[EvaluateOptions],
) -> tuple[T, T2, T3]: ...
@overload
async def evaluate_async(
    expr: tuple[BaseTaskFuture[T], ...], **options: Unpack[EvaluateOptions]
) -> tuple[T, ...]: ...
@overload
async def evaluate_async(
    expr: _ListOf[BaseTaskFuture[T]], **options: Unpack[EvaluateOptions]
) -> list[T]: ...
@overload
async def evaluate_async(
    expr: Mapping[K, BaseTaskFuture[T]], **options: Unpack[EvaluateOptions]
) -> dict[K, T]: ...
@overload
async def evaluate_async(expr: Containers, **options: Unpack[EvaluateOptions]) -> Any: ...
async def evaluate_async(expr: Any, **options: Unpack[EvaluateOptions]) -> Any:
    """
    Like `evaluate`, on a thread of its own: the event loop stays free.

    Cancelling the awaiting task cancels the run.
    """
    asked = Options(**options)
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    handle = _Handle()

    def work() -> None:
        settle: Callable[[asyncio.Future[Any], Any], None]
        try:
            value = _default.evaluate(expr, asked, handle.attach)
        except BaseException as error:
            settle, result = _fail, error
        else:
            settle, result = _succeed, value
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, ended, result)

    threading.Thread(target=carrying(work), name="daglite-evaluate", daemon=True).start()
    try:
        return await ended
    except asyncio.CancelledError:
        handle.cancel()
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
