"""Retries and timeouts from end to end, on time that costs nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daglite import PolicySet, RetryPolicy, ThreadBackend, TimeoutPolicy, evaluate, task
from daglite.callbacks import AttemptFailed, CallParked, NodeFailed, RunFinished
from daglite.core.call import Call, Outcome
from daglite.evaluation import Context
from daglite.exceptions import (
    ExecutionError,
    PolicyError,
    SerializationError,
    TaskTimeoutError,
    WorkerDiedError,
)
from daglite.testing import RecordedEvents, VirtualClock

FIXED = RetryPolicy(3, "constant", delay=2, jitter="none")


class Flaky:
    """Raises the given errors one after the other, then returns its argument."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, x: Any = None) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return x


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=["sequential", "threading"])
def ctx(request: pytest.FixtureRequest, clock: VirtualClock) -> Iterator[Context]:
    backend = ThreadBackend(2) if request.param == "threading" else "sequential"
    with evaluate.context(clock=clock, default_backend=backend) as context:
        yield context


def test_waits_and_counts(ctx: Context, clock: VirtualClock) -> None:
    """Two failures cost two waits; the third call's value is the result."""
    flaky = Flaky(ValueError("a"), ValueError("b"))
    assert ctx.evaluate(task(flaky, name="flaky").with_options(retry=FIXED).bind(x=7)) == 7
    assert (flaky.calls, clock.now()) == (3, 4.0)


def test_exhausted(ctx: Context, clock: VirtualClock) -> None:
    """`RetryPolicy(3)` is at most 4 calls; the error has the history."""
    flaky = Flaky(*(ValueError(str(i)) for i in range(9)))
    with pytest.raises(ValueError, match="after 4 attempts") as caught:
        ctx.evaluate(task(flaky, name="flaky").with_options(retry=FIXED).bind(x=7))
    error = caught.value
    assert isinstance(error, ExecutionError)
    assert [a.number for a in error.attempts] == [1, 2, 3, 4]
    assert [a.waited for a in error.attempts] == [0, 2, 2, 2]
    assert [a.started for a in error.attempts] == [0, 2, 4, 6]
    assert (flaky.calls, clock.now()) == (4, 6.0)


def test_exponential(ctx: Context, clock: VirtualClock) -> None:
    """Without jitter the waits double up to the cap."""
    policy = RetryPolicy(5, "exponential", delay=1, max_delay=4, jitter="none")
    flaky = Flaky(*(OSError() for _ in range(5)))
    ctx.evaluate(task(flaky, name="flaky").with_options(retry=policy).bind(x=1))
    assert clock.now() == 1 + 2 + 4 + 4 + 4


def test_the_same_seed_waits_the_same(clock: VirtualClock) -> None:
    """Jitter depends on the policy's seed, the node and the attempt alone."""
    ends = []
    for _ in range(2):
        own = VirtualClock()
        with evaluate.context(clock=own) as ctx:
            flaky = Flaky(*(OSError() for _ in range(3)))
            policy = RetryPolicy(3, delay=10, seed=5)
            ctx.evaluate(task(flaky, name="flaky").with_options(retry=policy).bind(x=1))
        ends.append(own.now())
    assert ends[0] == ends[1] > 0


@pytest.mark.parametrize(
    ("policy", "error", "calls"),
    [
        (RetryPolicy(3, "none", retry_on=OSError), ValueError("no"), 1),
        (RetryPolicy(3, "none", retry_on=OSError), ConnectionError("yes"), 4),
        (RetryPolicy(3, "none", never=(KeyError,)), KeyError("no"), 1),
        (RetryPolicy(3, "none"), SerializationError("permanent"), 1),
        (RetryPolicy(3, "none", retry_on=SerializationError), SerializationError("named"), 4),
        (RetryPolicy(3, "none"), SystemExit(1), 1),
        (RetryPolicy(0, "none", infrastructure_retries=2), WorkerDiedError("lost"), 1),
        (RetryPolicy(5, "none", infrastructure_retries=0), WorkerDiedError("lost"), 6),
    ],
)
def test_what_is_retried(
    ctx: Context, policy: RetryPolicy, error: BaseException, calls: int
) -> None:
    """Which errors are tried again, and how often."""

    class Always(Flaky):
        def __call__(self, x: Any = None) -> Any:
            self.calls += 1
            raise error

    always = Always()
    with pytest.raises(ExecutionError):
        ctx.evaluate(task(always, name="always").with_options(retry=policy).bind())
    assert always.calls == calls


def test_a_hint_replaces_the_wait(ctx: Context, clock: VirtualClock) -> None:
    """An error's `retry_after` says how long to wait."""
    busy = OSError("busy")
    busy.retry_after = 33  # type: ignore[attr-defined]
    flaky = Flaky(busy)
    ctx.evaluate(task(flaky, name="flaky").with_options(retry=FIXED).bind(x=1))
    assert clock.now() == 33


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retry": RetryPolicy(3, max_hint=10)}, "max_hint=10 s"),
        ({"retry": RetryPolicy(3), "timeout": TimeoutPolicy(total=20)}, "of the total are left"),
        ({"retry": RetryPolicy(3, max_elapsed=20)}, "max_elapsed=20 s"),
    ],
)
def test_a_hint_too_long(clock: VirtualClock, options: dict[str, Any], told: str) -> None:
    """It fails at once, and says why nothing more was tried."""
    busy = OSError("busy")
    busy.retry_after = 33  # type: ignore[attr-defined]
    with (
        evaluate.context(clock=clock) as ctx,
        pytest.raises(OSError, match=told),
    ):
        ctx.evaluate(task(Flaky(busy), name="flaky").with_options(**options).bind(x=1))
    assert clock.now() == 0


def test_a_result_that_is_refused(ctx: Context, clock: VirtualClock) -> None:
    """`retry_on_result` makes a value a failure; when it stays so, that is the error."""
    values = iter([None, None, 3, None, None, None, None])

    @task(retry=RetryPolicy(2, "constant", delay=1, jitter="none", retry_on_result=_is_none))
    def poll() -> int | None:
        return next(values)

    assert ctx.evaluate(poll.bind()) == 3
    assert clock.now() == 2
    with pytest.raises(ExecutionError, match="retry_on_result refused None"):
        ctx.evaluate(poll.bind())


def _is_none(value: object) -> bool:
    return value is None


def test_total_covers_the_back_off(clock: VirtualClock) -> None:
    """The whole call ends at its total, in the middle of a wait; that isn't tried again."""
    flaky = Flaky(*(OSError("down") for _ in range(9)))
    retry = RetryPolicy(8, "constant", delay=4, jitter="none")
    with (
        evaluate.context(clock=clock) as ctx,
        pytest.raises(TaskTimeoutError, match="total of 10 s") as caught,
    ):
        ctx.evaluate(
            task(flaky, name="flaky")
            .with_options(retry=retry, timeout=TimeoutPolicy(total=10))
            .bind(x=1)
        )
    assert clock.now() == 10
    assert caught.value.kind == "total"
    assert [a.number for a in caught.value.attempts] == [1, 2, 3]


def test_parked_calls_let_others_go_on(clock: VirtualClock) -> None:
    """A call that waits holds neither the thread nor its place in a map."""
    order: list[str] = []

    @task(retry=RetryPolicy(1, "constant", delay=5, jitter="none"))
    def element(x: int) -> int:
        order.append(f"{x}@{clock.now():g}")
        if x == 0 and len(order) == 1:
            raise OSError
        return x

    with evaluate.context(clock=clock) as ctx:
        assert ctx.evaluate(element.extend(x=range(4))) == [0, 1, 2, 3]
    assert order == ["0@0", "1@0", "2@0", "3@0", "0@5"]


def test_nodes_after_a_parked_one(clock: VirtualClock) -> None:
    """The rest of the graph goes on, and each node runs once."""
    calls: list[str] = []
    failed = False

    @task(retry=RetryPolicy(1, "constant", delay=5, jitter="none"))
    def first() -> int:
        nonlocal failed
        calls.append("first")
        if not failed:
            failed = True
            raise OSError
        return 1

    @task
    def plus(x: int, name: str) -> int:
        calls.append(name)
        return x + 1

    done = plus.bind(x=0, name="before")
    waits = plus.bind(x=first.bind(), name="after")
    beside = plus.bind(x=done, name="beside")
    with evaluate.context(clock=clock) as ctx:
        assert ctx.evaluate({"a": waits, "b": [beside, done]}) == {"a": 2, "b": [2, 1]}
    assert calls == ["before", "first", "beside", "first", "after"]


def test_events_of_a_retried_call(clock: VirtualClock) -> None:
    """Each failed attempt and each wait is told."""
    heard = RecordedEvents()
    flaky = Flaky(OSError("a"), OSError("b"))
    with evaluate.context(clock=clock, callbacks=[heard]) as ctx:
        ctx.evaluate(task(flaky, name="flaky").with_options(retry=FIXED).bind(x=1))
    assert [event.attempt for event in heard.of(AttemptFailed)] == [1, 2]
    assert [event.seconds for event in heard.of(CallParked)] == [2, 2]
    assert heard.events[-1].ok


def test_middleware_in_both_places(ctx: Context) -> None:
    """Around the call goes once, around the attempt each time; the weaker layer is outermost."""
    seen: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        async def middleware(call: Call, call_next: Any) -> Outcome:
            seen.append(f"{name} {call.node_name} {call.attempt}")
            return await call_next(call)

        return middleware

    flaky = Flaky(OSError())
    made = task(
        flaky,
    ).with_options(
        name="flaky",
        retry=RetryPolicy(1, "none"),
        around_call=noting("call"),
        around_attempt=noting("attempt"),
    )
    assert ctx.evaluate(made.bind(x=3), policies=PolicySet(around_call=[noting("outer")])) == 3
    assert seen == ["outer flaky 1", "call flaky 1", "attempt flaky 1", "attempt flaky 2"]


def test_middleware_that_raises(ctx: Context) -> None:
    """Its error is the failure of the call that it was around."""

    async def broken(call: Call, call_next: Any) -> Outcome:
        raise RuntimeError("broken middleware")

    with pytest.raises(RuntimeError, match=r"task 'f' failed.*broken middleware"):
        ctx.evaluate(task(lambda: 1, name="f").with_options(around_call=broken).bind())


def test_a_middleware_may_settle_a_call(ctx: Context) -> None:
    """What it returns is the outcome; the function isn't called."""

    async def canned(call: Call, call_next: Any) -> Outcome:
        return Outcome(value="canned")

    flaky = Flaky()
    assert ctx.evaluate(task(flaky, name="f").with_options(around_attempt=canned).bind()) == (
        "canned"
    )
    assert flaky.calls == 0


def test_layers(ctx: Context) -> None:
    """Defaults fill gaps, the task's own word is stronger, overrides have the last."""
    plain, own = Flaky(*[OSError()] * 9), Flaky(*[OSError()] * 9)
    defaults = PolicySet(retry=RetryPolicy(2, "none"))
    with pytest.raises(OSError, match="failed"):
        ctx.evaluate(task(plain, name="plain").bind(), policies=defaults)
    with pytest.raises(OSError, match="failed"):
        ctx.evaluate(task(own, name="own").with_options(retry=0).bind(), policies=defaults)
    assert (plain.calls, own.calls) == (3, 1)
    with pytest.raises(OSError, match="failed"):
        ctx.evaluate(
            task(own, name="own").with_options(retry=1).bind(),
            overrides=PolicySet(retry=None),
        )
    assert own.calls == 2


def test_a_promise_that_cannot_be_kept(ctx: Context) -> None:
    """`kill` on threads is refused when the graph is planned, with the way out."""
    killed = TimeoutPolicy(1, on_expiry="kill")
    made = task(lambda: 1, name="f").with_options(timeout=killed, backend="threading")
    with pytest.raises(PolicyError, match=r"task 'f' asks for on_expiry='kill'.*'cancel'"):
        ctx.evaluate(made.bind())


def test_a_contradiction_names_the_task(ctx: Context) -> None:
    """What the layers make together is checked too."""
    made = task(lambda: 1, name="f").with_options(timeout=TimeoutPolicy(total=5))
    with pytest.raises(PolicyError, match="task 'f'"):
        ctx.evaluate(made.bind(), overrides=PolicySet(timeout=20))


def test_going_on_after_failures(ctx: Context) -> None:
    """Every branch that doesn't depend on a failure is finished, then one error holds all."""
    done: list[int] = []

    @task
    def work(x: int) -> int:
        if x < 0:
            raise ValueError(str(x))
        done.append(x)
        return x

    branches = [work.bind(x=1), work.bind(x=-1), work.bind(x=work.bind(x=-2)), work.bind(x=2)]
    heard = RecordedEvents()
    with pytest.raises(ValueError, match="-1") as caught:
        ctx.evaluate(branches, on_failure="continue", callbacks=[heard])
    error = caught.value
    assert isinstance(error, ExecutionError)
    assert sorted(done) == [1, 2]
    assert len(error.failures) == 2
    assert len(heard.of(NodeFailed)) == 2
    assert [event.ok for event in heard.of(RunFinished)] == [False]


def test_a_broken_callback_harms_nothing(ctx: Context, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported once, and the run goes on."""

    class Broken:
        def on_node_start(self, node_id: int, node_name: str) -> None:
            raise RuntimeError("broken callback")

    add = task(lambda x: x + 1, name="add")
    with caplog.at_level(logging.ERROR, "daglite"):
        assert ctx.evaluate(add.bind(x=add.bind(x=1)), callbacks=[Broken()]) == 3
    assert len(caplog.records) == 1


def test_the_methods_of_a_callback(ctx: Context) -> None:
    """Starts and results are told for single calls and for maps, and errors with the node."""
    heard: list[tuple[str, Any]] = []

    class Told:
        def on_node_start(self, node_id: int, node_name: str) -> None:
            heard.append(("start", node_name))

        def on_node_complete(self, node_id: int, result: Any) -> None:
            heard.append(("complete", result))

        def on_node_error(self, node_id: int, error: Exception) -> None:
            heard.append(("error", type(error.__cause__).__name__))

    double = task(lambda x: x * 2, name="double")
    total = task(sum, name="total")
    ctx.evaluate(double.extend(x=range(3)).join(total), callbacks=[Told()])
    assert heard == [
        ("start", "double"),
        ("complete", [0, 2, 4]),
        ("start", "total"),
        ("complete", 6),
    ]
    heard.clear()
    with pytest.raises(ZeroDivisionError):
        ctx.evaluate(task(lambda x: 1 / x, name="inverse").extend(x=[0]), callbacks=[Told()])
    assert heard == [("start", "inverse"), ("error", "ZeroDivisionError")]


def test_a_map_with_everything_on(ctx: Context) -> None:
    """Retries in the middle of a watched map keep the order, and run nothing twice."""
    seen: dict[int, int] = {}

    @task(retry=RetryPolicy(2, "none"))
    def element(x: int, *, scale: int = 1) -> int:
        seen[x] = seen.get(x, 0) + 1
        if x % 7 == 0 and seen[x] < 3:
            raise OSError
        return x * scale

    heard = RecordedEvents()
    result = ctx.evaluate(element.extend(x=range(500), scale=[2]), callbacks=[heard])
    assert result == [2 * x for x in range(500)]
    assert seen == {x: 3 if x % 7 == 0 else 1 for x in range(500)}
    assert len(heard.of(AttemptFailed)) == 2 * len(range(0, 500, 7))
