"""What users plug in fits the protocols: callbacks, middlewares, backends."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from typing_extensions import assert_type

from daglite import (
    Backend,
    Call,
    Capabilities,
    Middleware,
    Next,
    Outcome,
    Policy,
    PolicySet,
    SequentialBackend,
    ThreadBackend,
    current_call,
    evaluate,
    find_backend,
    protect,
    task,
)
from daglite.callbacks import (
    AttemptFailed,
    Callback,
    Event,
    ExecutionCallback,
    Logger,
    ProgressBar,
)
from daglite.core.protocols import Done
from daglite.core.run import Run


class Whole:
    """All of a callback's methods."""

    def on_node_start(self, node_id: int, node_name: str) -> None:
        pass

    def on_node_complete(self, node_id: int, result: Any) -> None:
        pass

    def on_node_error(self, node_id: int, error: Exception) -> None:
        pass

    def on_event(self, event: Event) -> None:
        if isinstance(event, AttemptFailed):
            assert_type(event.node_name, str)
            assert_type(event.attempt, int)
            assert_type(event.element, int | None)
            assert_type(event.error, BaseException)


class Part:
    """One of them, which takes more than it must."""

    def on_node_error(self, node_id: object, error: BaseException) -> None:
        pass


class Derived(ExecutionCallback):
    """One of them, and the others inherited."""

    def on_node_complete(self, node_id: int, result: Any) -> None:
        pass


class OpaqueIds:
    """Ids of a type of its own."""

    def on_node_start(self, node_id: UUID, node_name: str) -> None:
        pass


class Wrong:
    """A method that can't be called as it will be."""

    def on_node_start(self, node_id: str) -> None:
        pass


async def as_function(call: Call, call_next: Next) -> Outcome:
    assert_type(call.attempt, int)
    assert_type(call.element, int | None)
    outcome = await call_next(call)
    assert_type(outcome, Outcome)
    assert_type(outcome.error, BaseException | None)
    assert_type(outcome.ok, bool)
    return outcome


class AsObject:
    async def __call__(self, call: Call, call_next: Next) -> Outcome:
        return await call_next(call)


class Patient(Policy):
    """A policy of one's own; pydantic types what makes one."""

    seconds: float = 60.0
    reason: str = "patience"

    async def __call__(self, call: Call, call_next: Next) -> Outcome:
        assert_type(call.now(), float)
        assert_type(call.wall_time(), datetime)
        assert_type(await call.park(self.seconds, self.reason), None)
        await call.park("1m", "text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        return await call_next(call)


def not_awaitable(call: Call, call_next: Next) -> Outcome:
    return Outcome()


class InPlace:
    """A backend as a user writes it."""

    name = "in place"
    capabilities = Capabilities(in_place=True)
    slots = 1

    def submit(self, call: Call, done: Done) -> None:
        done(call, Outcome(call.invoke()))

    def cancel(self, call: Call) -> None:
        call.cancelled = True

    def cancel_run(self, run: Run) -> None:
        pass

    def is_running(self, call: Call) -> bool:
        return False

    def stack_of(self, call: Call) -> str | None:
        return None

    def close(self) -> None:
        pass


class Half:
    """No backend: most is missing."""

    name = "half"

    def submit(self, call: Call, done: Done) -> None:
        pass


@task(backend=InPlace(), around_call=as_function, around_attempt=[AsObject(), as_function])
def one() -> int:
    return 1


def callbacks() -> None:
    """`evaluate` takes callbacks that have some of the methods; the protocol has all."""
    whole: ExecutionCallback = Whole()
    derived: ExecutionCallback = Derived()
    part: Callback = Part()
    evaluate(one.bind(), callbacks=[whole, derived, part, Logger(), ProgressBar(), OpaqueIds()])
    evaluate(one.bind(), callbacks=Logger())
    evaluate(one.bind(), callbacks=(ProgressBar(), Part()))
    loggers = [Logger()]
    evaluate(one.bind(), callbacks=loggers)
    not_whole: ExecutionCallback = Part()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    wrong: Callback = Wrong()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    evaluate(one.bind(), callbacks=[not_whole, wrong])
    evaluate(one.bind(), callbacks=[5])  # type: ignore[list-item]  # pyright: ignore[reportCallIssue, reportArgumentType]


def middlewares() -> None:
    """A middleware is an async function, or an object that can be called like one."""
    function: Middleware = as_function
    instance: Middleware = AsObject()
    wrong: Middleware = not_awaitable  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    PolicySet(around_call=[function, instance, wrong])
    policy: Middleware = Patient(seconds=3)
    assert_type(Patient(reason="none").seconds, float)
    PolicySet(around_call=Patient(), around_attempt=[policy, function])
    one.with_options(around_attempt=Patient())
    protect(one.func, around_call=Patient())
    Patient(second=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def backends() -> None:
    """Daglite's backends and those of users are one kind."""
    mine: Backend = InPlace()
    threads: Backend = ThreadBackend(max_workers=2)
    sequential: Backend = SequentialBackend()
    wrong: Backend = Half()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    assert_type(find_backend("threading"), Backend)
    assert_type(find_backend(mine), Backend)
    assert_type(threads.slots, int)
    with ThreadBackend(2) as few:
        assert_type(few, ThreadBackend)
    assert_type(sequential.capabilities, Capabilities)
    assert_type(evaluate(one.bind(), default_backend=mine), int)
    one.with_options(backend=wrong)
    one.with_options(backend=None)
    evaluate(one.bind(), default_backend=Half())  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def the_current_call() -> None:
    """Inside a task: which call this is."""
    call = current_call()
    assert_type(call.attempt, int)
    assert_type(call.element, int | None)
    assert_type(call.remaining, float | None)
    assert_type(call.idempotency_key, str)
