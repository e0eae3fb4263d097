"""What `evaluate` is asked for, how it adds up, and who owns what."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from daglite import (
    DagliteSettings,
    PolicySet,
    RetryPolicy,
    current_call,
    evaluate,
    get_global_settings,
    set_global_settings,
    task,
)
from daglite.exceptions import (
    BackendError,
    ExecutionError,
    PolicyError,
    SettingsError,
    TaskConfigurationError,
    TaskTimeoutError,
)
from daglite.session import Options, Session
from daglite.testing import Fails, Hangs, RecordedEvents, ScriptedBackend, Takes, VirtualClock
from tests.unit.lab import Lab


@task
def work(x: Any = 0) -> Any:
    return x


class Misspelt(RecordedEvents):
    def on_node_started(self, node_id: int, node_name: str) -> None: ...


class Foreign:
    def on_node_start(self, node_id: int, node_name: str) -> None: ...
    def on_epoch_end(self) -> None: ...


class Async:
    async def on_node_error(self, node_id: int, error: Exception) -> None: ...


def test_methods_for_another_library() -> None:
    """A callback may have hooks that daglite doesn't know, if they aren't slips of the pen."""
    assert evaluate(work.bind(x=1), callbacks=Foreign()) == 1


@task
def thread() -> str:
    return f":{threading.current_thread().name}"


ident = task(lambda: threading.get_ident(), name="ident")


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"policies": 3}, PolicyError, "policies= takes a PolicySet, not 3"),
        ({"overrides": RetryPolicy(1)}, PolicyError, "overrides= takes a PolicySet, not Retry"),
        ({"settings": {}}, SettingsError, "settings= takes DagliteSettings, not {}"),
        ({"on_failure": "go on"}, TaskConfigurationError, "'stop' or 'continue', not 'go on'"),
        ({"default_backend": "sequentail"}, BackendError, "did you mean 'sequential'"),
        ({"default_backend": "dask"}, BackendError, "'dask' isn't available in this version"),
        ({"default_backend": 3}, BackendError, "3 is no backend; give a name"),
        ({"use_async": "yes please"}, TaskConfigurationError, "True or False, not 'yes please'"),
        ({"use_async": 1}, TaskConfigurationError, "True or False, not 1"),
        ({"chaos": 1}, TaskConfigurationError, "chaos= takes True or False, not 1"),
        ({"callbacks": [object()]}, TaskConfigurationError, "none of the methods on_event"),
        ({"callbacks": [RecordedEvents]}, TaskConfigurationError, "none of the methods"),
        (
            {"callbacks": Misspelt()},
            TaskConfigurationError,
            "'on_node_started', which is never called, did you mean 'on_node_start'",
        ),
        ({"callbacks": (Async(),)}, TaskConfigurationError, "an async 'on_node_error'"),
        ({"callbacks": 5}, TaskConfigurationError, "callback 5 has none"),
    ],
)
def test_options_of_the_wrong_kind(options: dict[str, Any], error: Any, told: str) -> None:
    """Each is refused before anything runs, wherever it is given, and whether or not it counts."""
    with pytest.raises(error, match=told):
        evaluate(work.with_options(backend="sequential").bind(), **options)
    with pytest.raises(error, match=told), evaluate.context(**options):
        pass


@pytest.mark.parametrize("given", [list, tuple, set, None])
def test_callbacks(given: Any) -> None:
    """One, several in a container, or none."""
    events = RecordedEvents()
    assert evaluate(work.bind(x=1), callbacks=events if given is None else given([events])) == 1
    assert events.names()[-1] == "RunFinished"
    assert evaluate(work.bind(x=1), callbacks=None) == 1


def test_callbacks_may_have_more() -> None:
    """Attributes that aren't methods, and methods of other names, are their own."""

    class More(RecordedEvents):
        on_screen = True

        def one(self) -> None: ...

    events = More()
    assert evaluate(work.bind(x=1), callbacks=events) == 1
    assert events.events


def test_a_closed_context() -> None:
    """It evaluates nothing any more, and says where to."""
    with evaluate.context() as ctx:
        pass
    with pytest.raises(TaskConfigurationError, match="inside its with block"):
        ctx.evaluate(work.bind())


def test_layers_of_context_and_call(lab: Lab) -> None:
    """What a call says is stronger than what its context says."""
    backend = ScriptedBackend(lab.clock, {"work": Fails(OSError())})
    weak = PolicySet(retry=RetryPolicy(4, "none"))
    with evaluate.context(clock=lab.clock, default_backend=backend, policies=weak) as ctx:
        for policies, calls in ((None, 5), (PolicySet(retry=1), 2), (PolicySet(retry=None), 1)):
            backend.calls.clear()
            with pytest.raises(OSError, match="failed"):
                ctx.evaluate(work.bind(), policies=policies)
            assert len(backend.calls) == calls
    strong = PolicySet(retry=RetryPolicy(4, "none"))
    with evaluate.context(clock=lab.clock, default_backend=backend, overrides=strong) as ctx:
        for overrides, calls in ((None, 5), (PolicySet(retry=1), 2), (PolicySet(retry=None), 1)):
            backend.calls.clear()
            with pytest.raises(OSError, match="failed"):
                ctx.evaluate(work.with_options(retry=2).bind(), overrides=overrides)
            assert len(backend.calls) == calls


@pytest.mark.parametrize("where", ["context", "call"])
def test_settings_as_defaults(lab: Lab, where: str) -> None:
    """`max_retries` and `task_timeout` hold for tasks that say nothing."""
    settings = DagliteSettings(max_retries=2, task_timeout=5)
    backend = ScriptedBackend(lab.clock, {"work": Hangs()})
    context = {"settings": settings} if where == "context" else {}
    call = {"settings": settings} if where == "call" else {}
    with (
        evaluate.context(clock=lab.clock, default_backend=backend, **context) as ctx,
        pytest.raises(TaskTimeoutError) as caught,
    ):
        ctx.evaluate(work.bind(), **call)
    assert len(caught.value.attempts) == 3


def test_the_default_backend_of_the_settings() -> None:
    """Global ones, those of the context, and those of the call."""
    on_threads = DagliteSettings(default_backend="threading", max_backend_threads=1)

    def here(**options: Any) -> bool:
        return ":daglite" not in evaluate(thread.bind(), **options)

    assert here()
    assert not here(settings=on_threads)
    assert here(settings=on_threads, default_backend="sequential")
    before = get_global_settings()
    try:
        set_global_settings(DagliteSettings(default_backend="threading"))
        assert not here()
    finally:
        set_global_settings(before)
    with evaluate.context(settings=on_threads) as ctx:
        assert "daglite" in ctx.evaluate(thread.bind())
        assert "daglite" in ctx.evaluate(thread.with_options(backend="threading").bind())


def test_use_async() -> None:
    """Tasks that name no backend run on threads; what is named stays where it is."""
    assert ":daglite" in evaluate(thread.bind(), use_async=True)
    named = thread.with_options(backend="sequential")
    assert ":daglite" not in evaluate(named.bind(), use_async=True)
    assert ":daglite" not in evaluate(thread.bind(), use_async=True, default_backend="sequential")
    with evaluate.context(use_async=True) as ctx:
        assert ":daglite" in ctx.evaluate(thread.bind())
        assert ":daglite" not in ctx.evaluate(thread.bind(), default_backend="sequential")


def test_siblings_overlap_on_threads() -> None:
    """With use_async, two tasks can wait for each other."""
    barrier = threading.Barrier(2)
    meet = task(lambda: barrier.wait(10), name="meet")
    assert sorted(evaluate([meet.bind(), meet.bind()], use_async=True)) == [0, 1]


def test_on_failure_of_a_context(lab: Lab) -> None:
    """It is a default for its evaluations."""
    backend = ScriptedBackend(lab.clock, {"bad": Fails(OSError(), 1), "work": Takes(9)})
    bad = task(lambda: 0, name="bad")
    with (
        evaluate.context(clock=lab.clock, default_backend=backend, on_failure="continue") as ctx,
        pytest.raises(OSError, match="failed"),
    ):
        ctx.evaluate([bad.bind(), work.bind()])
    assert lab.clock.now() == 9


def test_a_run_in_a_task(lab: Lab) -> None:
    """It has an id, a clock and a fate of its own; its failure is the task's."""
    ids: list[str] = []

    def inner(x: int) -> int:
        ids.append(current_call().run_id)
        return int(evaluate(work.bind(x=x))) + 1

    nested = task(inner)
    assert evaluate(nested.bind(x=nested.bind(x=1))) == 3
    assert len(set(ids)) == 1
    with pytest.raises(ZeroDivisionError) as caught:
        evaluate(task(lambda: evaluate(task(lambda: 1 / 0, name="in").bind()), name="out").bind())
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.execution_path == ("out",)
    assert isinstance(caught.value.__cause__, ExecutionError)
    assert caught.value.__cause__.execution_path == ("in",)


def test_the_same_future_again(lab: Lab) -> None:
    """It runs again, in a run of its own."""
    future = work.bind(x=1)
    assert lab([future, future]) == [1, 1]
    assert lab(future) == 1
    runs = {event.run_id for event in lab.events.events}
    assert len(runs) == 2


def test_many_settings_in_one_session() -> None:
    """Plans are kept for some of them only, and for one size of the thread pool."""
    session = Session(Options(), VirtualClock())
    for number in range(70):
        settings = DagliteSettings(max_retries=number)
        assert session.evaluate(work.bind(x=number), Options(settings=settings)) == number
    assert len(session._planners) == 64
    for number in range(1, 5):
        settings = DagliteSettings(max_backend_threads=number)
        assert session.evaluate(work.bind(x=number), Options(settings=settings)) == number
        assert len(session._planners) == 1
    session.close()
    session.close()


def test_equal_settings_are_the_same() -> None:
    """Whether they are one object or two."""
    settings = DagliteSettings(max_backend_threads=1)
    with evaluate.context(settings=settings, default_backend="threading") as ctx:
        own = ctx.evaluate(thread.bind())
        assert "daglite" in own
        copy = settings.model_copy()
        workers = {ctx.evaluate(ident.bind(), settings=s) for s in (settings, copy, None)}
        assert len(workers) == 1


def test_settings_that_went_round_the_checks() -> None:
    """A run doesn't begin with them."""
    wrong = DagliteSettings.model_construct(max_backend_threads=0)
    with pytest.raises(SettingsError, match="'max_backend_threads' must be"):
        evaluate(work.bind(), settings=wrong)
    with pytest.raises(SettingsError, match="'max_backend_threads' must be"):
        evaluate(work.bind(), settings=wrong, policies=PolicySet(retry=1))


def test_many_settings_on_many_threads() -> None:
    """What a session keeps of them isn't torn."""
    session = Session(Options())
    errors: list[BaseException] = []
    together = threading.Barrier(6)

    def run() -> None:
        together.wait(10)
        try:
            for number in range(150):
                settings = DagliteSettings(
                    max_retries=number % 70, max_backend_threads=1 + number // 140
                )
                assert session.evaluate(work.bind(x=number), Options(settings=settings)) == number
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    session.close()
    assert not errors


def test_threads_at_once_share_the_pool_of_their_context() -> None:
    """It has one, whoever asks first."""
    settings = DagliteSettings(max_backend_threads=1)
    session = Session(Options(settings=settings))
    together = threading.Barrier(6)
    found: list[object] = []

    def ask() -> None:
        together.wait(10)
        found.append(session._threads(settings))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    session.close()
    assert len(set(map(id, found))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_while_the_lock_is_held() -> None:
    """The child doesn't wait for a thread that it doesn't have."""
    session = Session(Options(), VirtualClock())
    with session._lock:
        child = os.fork()
        if not child:
            os._exit(session.evaluate(work.bind(x=0), Options()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
