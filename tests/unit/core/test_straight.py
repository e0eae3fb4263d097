"""Graphs that run in place in one loop, and what is handed over when a call fails."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from typing import Any

import pytest

from daglite import PolicySet, RetryPolicy, current_call, evaluate, task
from daglite.callbacks import AttemptFailed, MapProgress, NodeCompleted, NodeStarted
from daglite.core.current import call_on_this_thread
from daglite.exceptions import ExecutionError, ParameterError, RunCancelledError
from daglite.session import Options, Session
from daglite.testing import RecordedEvents, VirtualClock

RETRY = RetryPolicy(2, "constant", delay=10, jitter="none")


class Straight:
    """Evaluates in place, in virtual time."""

    def __init__(self, watched: bool) -> None:
        self.clock = VirtualClock()
        self.events = RecordedEvents()
        self.calls: Counter[Any] = Counter()
        self.order: list[Any] = []
        self.watched = watched

    def __call__(self, expr: Any, **options: Any) -> Any:
        callbacks = [self.events] if self.watched else None
        with evaluate.context(clock=self.clock, callbacks=callbacks) as ctx:
            return ctx.evaluate(expr, **options)

    def note(self, what: Any, failures: int = 0) -> None:
        """Count a call, which fails that many times first."""
        self.calls[what] += 1
        self.order.append(what)
        if self.calls[what] <= failures:
            raise OSError(f"{what} is down")


@pytest.fixture(params=[False, True], ids=["silent", "watched"])
def run(request: pytest.FixtureRequest) -> Straight:
    return Straight(request.param)


def step(run: Straight, name: str, failures: int = 0, **options: Any) -> Any:
    """A task that returns its argument, plus one."""

    def body(x: Any = 0) -> Any:
        run.note(name, failures)
        return x + 1

    return task(body, name=name).with_options(**options)


def test_in_the_order_of_the_graph(run: Straight) -> None:
    """The same each time: inputs first."""
    a, b = step(run, "a").bind(), step(run, "b").bind()
    total = task(sum, name="sum")
    for _ in range(3):
        run.order.clear()
        assert run(total.bind([step(run, "c").bind(x=b), a, b])) == 4
        assert run.order == ["a", "b", "c"]


def test_a_hand_over_in_the_middle(run: Straight) -> None:
    """A call that fails is tried again; what is done isn't done again, and the rest goes on."""
    a = step(run, "a").bind()
    b = step(run, "b", 2, retry=RETRY).bind(x=a)
    c = step(run, "c").bind(x=b)
    assert run([c, a, b, step(run, "d", 1, retry=RETRY).bind(x=c)]) == [3, 1, 2, 4]
    assert run.calls == {"a": 1, "b": 3, "c": 1, "d": 2}
    assert run.clock.now() == 30


def test_others_go_on_while_it_waits(run: Straight) -> None:
    """After the hand-over the back-off holds nobody up."""
    flaky = step(run, "flaky", 1, retry=RETRY).bind()
    expr = [flaky, step(run, "after").bind(x=flaky), step(run, "beside").bind()]
    assert run(expr) == [1, 2, 1]
    assert run.order == ["flaky", "beside", "flaky", "after"]


def test_a_hand_over_in_the_middle_of_a_map(run: Straight) -> None:
    """Results are in order, each element is called once, the failed one again."""

    def body(x: int, shift: int) -> int:
        run.note(x, 1 if x % 40 == 7 else 0)
        return x + shift

    mapped = task(body, name="mapped").with_options(retry=RETRY)
    expr = mapped.extend(x=range(100), shift=[1])
    assert run({"m": expr, "sum": expr.join(task(sum, name="sum"))}) == {
        "m": list(range(1, 101)),
        "sum": sum(range(1, 101)),
    }
    assert run.calls == {x: 2 if x % 40 == 7 else 1 for x in range(100)}
    assert run.clock.now() == 10


def test_the_first_and_the_last_element(run: Straight) -> None:
    """The hand-over may be at either end of the map."""

    def body(x: int) -> int:
        run.note(x, 1 if x in {0, 4} else 0)
        return x

    mapped = task(body, name="mapped").with_options(retry=RETRY)
    assert run(mapped.extend(x=iter(range(5)))) == [0, 1, 2, 3, 4]
    assert run.calls == {0: 2, 1: 1, 2: 1, 3: 1, 4: 2}


def test_arguments_by_name(run: Straight) -> None:
    """Keyword-only parameters survive the hand-over, in calls and in maps."""

    def body(*, x: int, y: int = 0) -> tuple[int, int]:
        run.note((x, y), 1 if x == 1 else 0)
        return x, y

    named = task(body, name="named").with_options(retry=RETRY)
    assert run([named.bind(x=1, y=2), named.bind(x=3)]) == [(1, 2), (3, 0)]
    assert run(named.zip(x=[5, 1, 6], y=[7, 8, 9])) == [(5, 7), (1, 8), (6, 9)]


def test_a_value_that_is_needed_twice(run: Straight) -> None:
    """The retried call and later ones each get it."""
    a = step(run, "a").bind()

    def both(x: int, y: int, z: int) -> int:
        run.note("both", 1)
        return x + y + z

    twice = task(both).with_options(retry=RETRY).bind(x=a, y=a, z=a)
    assert run([twice, step(run, "b").bind(x=a)]) == [3, 2]
    assert run(task(both).bind(x=a, y=a, z=a)) == 3


@pytest.mark.parametrize("policies", [None, PolicySet(retry=RetryPolicy(1, "none"))])
def test_a_failure(run: Straight, policies: PolicySet | None) -> None:
    """The error tells the path, the attempts and the cause, with and without a hand-over."""
    bad = step(run, "bad", 9).bind(x=step(run, "a").bind())
    with pytest.raises(OSError, match="task 'bad' failed") as caught:
        run([bad, step(run, "never").bind(x=bad)], policies=policies)
    error = caught.value
    assert isinstance(error, ExecutionError)
    assert error.execution_path == ("a", "bad")
    assert [a.number for a in error.attempts] == ([1] if policies is None else [1, 2])
    assert type(error.__cause__) is OSError
    assert error.__context__ is None or error.__context__ is error.__cause__
    assert run.calls["never"] == 0
    if run.watched:
        assert len(run.events.of(AttemptFailed)) == len(error.attempts)
        assert run.events.names()[-2:] == ["NodeFailed", "RunFinished"]


@pytest.mark.parametrize("policies", [None, PolicySet(retry=RetryPolicy(1, "none"))])
def test_a_failure_in_a_map(run: Straight, policies: PolicySet | None) -> None:
    """It tells the element."""

    def body(x: int) -> float:
        return 1 / x

    with pytest.raises(ZeroDivisionError) as caught:
        run(task(body, name="inverse").extend(x=[2, 1, 0, 3]), policies=policies)
    error = caught.value
    assert isinstance(error, ExecutionError)
    assert error.execution_path == ("inverse[2]",)
    assert len(error.attempts) == (1 if policies is None else 2)


@pytest.mark.parametrize("policies", [None, PolicySet(retry=1)])
def test_a_source_that_fails(run: Straight, policies: PolicySet | None) -> None:
    """It isn't a failure of a call: nothing is tried again."""

    def broken() -> Any:
        yield 1
        raise LookupError("broken source")

    plus = task(lambda x: x + 1, name="plus")
    with pytest.raises(LookupError, match="broken source") as caught:
        run(plus.extend(x=broken()), policies=policies)
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.execution_path == ("plus",)
    assert caught.value.attempts == ()
    with pytest.raises(ParameterError, match="non-iterable int"):
        run(task(lambda: 5, name="five").bind().map(plus), policies=policies)


def test_a_gather_that_fails(run: Straight) -> None:
    """What can't be put together fails the run, and says where."""
    listed = task(lambda: [1], name="listed").bind()
    with pytest.raises(TypeError, match="unhashable"):
        run(task(len, name="len").bind({listed, 1}))


def test_progress(run: Straight) -> None:
    """A watched map tells how far it is, at most every 0.1 s."""

    def body(x: int) -> int:
        run.clock.advance(0.01)
        return x

    assert run(task(body, name="slow").extend(x=range(200))) == list(range(200))
    if run.watched:
        told = run.events.of(MapProgress)
        assert [event.total for event in told] == [200] * len(told)
        assert 1 <= len(told) <= 20
        assert [event.done for event in told] == sorted({event.done for event in told})
        assert [e.elements for e in run.events.of(NodeStarted)] == [200]
        assert [e.elements for e in run.events.of(NodeCompleted)] == [200]


def test_current_call(run: Straight) -> None:
    """The function knows its node, its element and its attempt."""

    def where(x: int) -> tuple[str, int | None, int]:
        here = current_call()
        if x == 1 and here.attempt < 3:
            raise OSError
        return here.node_name, here.element, here.attempt

    made = task(where).with_options(retry=RETRY)
    assert run([made.bind(x=0), made.bind(x=1)]) == [("where", None, 1), ("where", None, 3)]
    assert run(made.extend(x=[0, 1, 2])) == [
        ("where", 0, 1),
        ("where", 1, 3),
        ("where", 2, 1),
    ]
    with pytest.raises(RuntimeError, match="no such call"):
        current_call()


@pytest.mark.parametrize("policies", [None, PolicySet(retry=5)])
def test_a_call_after_a_map_is_no_element(run: Straight, policies: PolicySet | None) -> None:
    """Nor does it share an idempotency key with one."""

    def who(x: int) -> tuple[int | None, str]:
        here = current_call()
        return here.element, here.idempotency_key.partition("/")[2]

    made = task(who)
    elements, single = run([made.extend(x=[5, 6]), made.bind(x=7)], policies=policies)
    assert elements == [(0, "0/0"), (1, "0/1")]
    assert single == (None, "1")


@pytest.mark.parametrize("policies", [None, PolicySet(retry=5)])
def test_an_interrupt_flies_on(run: Straight, policies: PolicySet | None) -> None:
    """Ctrl-C is the user's: it isn't retried, and isn't an `ExecutionError`."""

    def interrupted(x: int = 0) -> None:
        run.note("interrupted")
        raise KeyboardInterrupt

    made = task(interrupted)
    for expr in (made.bind(), made.extend(x=[1, 2])):
        run.calls.clear()
        with pytest.raises(KeyboardInterrupt):
            run(expr, policies=policies)
        assert run.calls["interrupted"] == 1
    with pytest.raises(RuntimeError, match="no such call"):
        current_call()


def test_another_exit_is_a_failure(run: Straight) -> None:
    """`SystemExit` in a task ends the task, not the program."""
    with pytest.raises(ExecutionError, match="SystemExit: 3"):
        run(
            task(lambda: (_ for _ in ()).throw(SystemExit(3)), name="exits").bind(),
            policies=PolicySet(retry=2),
        )


def test_a_cancelled_run() -> None:
    """It ends before the next node, and within a watched map."""
    run = Straight(watched=True)

    def cancel(x: int = 0) -> int:
        run.note(x)
        # What `evaluate_async` does when it is cancelled.
        found = call_on_this_thread.call
        assert found is not None
        found.run.cancel()
        return x

    cancels = task(cancel)
    with pytest.raises(RunCancelledError):
        run(step(run, "never").bind(x=cancels.bind()))
    with pytest.raises(RunCancelledError):
        run(cancels.extend(x=range(1, 10)))
    assert run.calls == {0: 1, 1: 1}


class Big:
    """Something that a weak reference can see die."""


@pytest.mark.parametrize("backend", ["sequential", "threading"])
@pytest.mark.parametrize("keyword_only", [False, True])
@pytest.mark.parametrize("failures", [0, 1])
def test_arguments_die_without_a_collection(
    backend: str, keyword_only: bool, failures: int
) -> None:
    """When their call is done, however it was called and however often it failed."""
    seen: list[weakref.ref[Big]] = []
    calls: list[int] = []

    @task
    def make() -> Big:
        big = Big()
        seen.append(weakref.ref(big))
        return big

    def use(big: Big) -> int:
        calls.append(1)
        if len(calls) <= failures:
            raise OSError("down")
        return 1

    def use_by_name(*, big: Big) -> int:
        return use(big)

    user = task(use_by_name if keyword_only else use, name="use")
    if failures:
        user = user.with_options(retry=RetryPolicy(failures, "none"))
    look = task(lambda used: seen[0]() is None, name="look")
    gc.disable()
    try:
        future = look.bind(used=user.bind(big=make.bind()))
        assert evaluate(future, default_backend=backend)
    finally:
        gc.enable()


def test_a_cancelled_map_ends_at_the_next_element() -> None:
    """Also where thousands of quick ones went before."""
    begun: list[int] = []

    @task
    def slow_in_the_end(x: int) -> int:
        begun.append(x)
        if x == 5_000:
            run.cancel()
        return x

    run: Any = None

    def attach(made: Any) -> None:
        nonlocal run
        run = made

    with pytest.raises(RunCancelledError):
        Session(Options()).evaluate(slow_in_the_end.extend(x=range(9_000)), Options(), attach)
    assert len(begun) == 5_001
