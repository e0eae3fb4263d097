"""Policies around plain functions: `protect`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import count
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest

from daglite import (
    Bulkhead,
    Call,
    CircuitBreaker,
    FallbackPolicy,
    Next,
    Outcome,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    current_call,
    evaluate,
    evaluate_async,
    protect,
    task,
)
from daglite.exceptions import (
    BulkheadFullError,
    CircuitOpenError,
    ExecutionError,
    PolicyError,
    RateLimitedError,
    TaskConfigurationError,
    TaskTimeoutError,
)
from daglite.testing import VirtualClock

_keys = (f"key-{number}" for number in count())
STEADY = RetryPolicy(3, "constant", delay=10, jitter="none")


class Flaky:
    """Makes functions that fail so many times, and takes virtual time for each call."""

    def __init__(self, failures: int, takes: float = 0.0, error: BaseException | None = None):
        self.clock = VirtualClock()
        self.failures = failures
        self.error = OSError("down") if error is None else error
        self.takes = takes
        self.calls = 0

    def call(self, x: int = 1, *, y: int = 0) -> int:
        self.calls += 1
        self.clock.advance(self.takes)
        if self.calls <= self.failures:
            raise self.error
        return x + y

    async def call_async(self, x: int = 1, *, y: int = 0) -> int:
        await asyncio.sleep(0)
        return self.call(x, y=y)

    def protected(self, kind: str, **options: Any) -> Callable[..., Any]:
        """A plain function, protected; for kind "async", run by one that is async."""
        if kind == "sync":
            return protect(self.call, clock=self.clock, **options)
        guarded = protect(self.call_async, clock=self.clock, **options)
        return lambda *args, **kwargs: asyncio.run(guarded(*args, **kwargs))


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_it_keeps_what_the_function_is() -> None:
    """Name, docstring, signature; and what kind of function it is."""

    @protect(retry=1)
    def add(x: int, y: int = 2) -> int:
        """Add."""
        return x + y

    @protect(retry=1, timeout=30)
    async def later(x: int) -> int:
        return x

    assert (add.__name__, add.__doc__, str(inspect.signature(add))) == (
        "add",
        "Add.",
        "(x: 'int', y: 'int' = 2) -> 'int'",
    )
    assert add(1) == add(1, y=2) == add(x=1) == 3
    assert inspect.iscoroutinefunction(later)
    assert not inspect.iscoroutinefunction(add)
    assert asyncio.run(later(x=4)) == 4
    with pytest.raises(TypeError, match="missing"):
        add()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_methods() -> None:
    """A protected function in a class is a method."""

    class Client:
        def __init__(self) -> None:
            self.calls = 0

        @protect(retry=RetryPolicy(2, "none"))
        def get(self, x: int) -> int:
            self.calls += 1
            if self.calls < 3:
                raise OSError
            return x

        @staticmethod
        @protect(retry=1)
        def static(x: int) -> int:
            return x

    client = Client()
    assert client.get(5) == 5
    assert client.calls == 3
    assert Client.static(6) == client.static(6) == 6


# -- retries ----------------------------------------------------------------------


def test_retries(kind: str) -> None:
    flaky = Flaky(2, takes=1)
    assert flaky.protected(kind, retry=STEADY)(3, y=4) == 7
    assert flaky.calls == 3
    assert flaky.clock.now() == 23.0


def test_the_error_is_that_of_the_engine(kind: str) -> None:
    """Also the original's type, with what happened; and raised from the original."""
    flaky = Flaky(9, takes=1)
    with pytest.raises(ConnectionError) as caught:
        Flaky(9, error=ConnectionError("no")).protected(kind, retry=STEADY)()
    with pytest.raises(OSError, match="down") as caught:
        flaky.protected(kind, retry=STEADY, name="fetch")()
    error: Any = caught.value
    assert isinstance(error, ExecutionError)
    assert str(error).startswith("function 'fetch' failed after 4 attempts: OSError: down")
    assert error.node_name == "fetch"
    assert error.execution_path == ("fetch",)
    assert error.original_exception is error.__cause__ is flaky.error
    assert error.__context__ is error.__cause__ or error.__suppress_context__
    assert [(each.number, each.started, each.waited, each.ran) for each in error.attempts] == [
        (1, 0.0, 0.0, 1.0),
        (2, 11.0, 10.0, 1.0),
        (3, 22.0, 10.0, 1.0),
        (4, 33.0, 10.0, 1.0),
    ]
    assert flaky.calls == 4


def test_what_is_not_retried(kind: str) -> None:
    flaky = Flaky(9)
    with pytest.raises(OSError, match="down") as caught:
        flaky.protected(kind, retry=RetryPolicy(3, retry_on=KeyError))()
    assert len(getattr(caught.value, "attempts", ())) == flaky.calls == 1


def test_max_elapsed_counts_from_the_first_start(kind: str) -> None:
    flaky = Flaky(9, takes=8)
    policy = RetryPolicy(3, "constant", delay=10, jitter="none", max_elapsed=30)
    with pytest.raises(OSError, match="max_elapsed=30"):
        flaky.protected(kind, retry=policy)()
    assert flaky.calls == 2


def test_results_may_be_refused(kind: str) -> None:
    flaky = Flaky(0, takes=1)
    policy = RetryPolicy(5, "none", retry_on_result=lambda value: flaky.calls < 3)
    assert flaky.protected(kind, retry=policy)() == 1
    assert flaky.calls == 3


def test_a_fallback_in_the_place_of_failures(kind: str) -> None:
    flaky = Flaky(9)
    protected = flaky.protected(kind, retry=RetryPolicy(1, "none"), fallback=FallbackPolicy(-1))
    assert protected() == -1
    assert flaky.calls == 2


def test_a_budget(kind: str) -> None:
    flaky = Flaky(99)
    budget = RetryBudget(ratio=0, min_per_second=0.1, on_exhausted="fail")
    protected = flaky.protected(kind, retry=RetryPolicy(5, "none", budget=budget))
    with pytest.raises(OSError, match="budget"):
        protected()
    assert flaky.calls == 2


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("options", [{"retry": STEADY}, {"retry": STEADY, "bulkhead": 1}])
def test_what_is_no_failure_flies(kind: str, error: BaseException, options: Any) -> None:
    """Nobody wants an `ExecutionError` of `sys.exit`."""
    flaky = Flaky(1, error=error)
    protected = flaky.protected(kind, **options)
    with pytest.raises(type(error)):
        protected()
    assert protected() == 1


def test_what_is_no_failure_flies_out_of_the_chain_too() -> None:
    flaky = Flaky(1, error=SystemExit(3))
    protected = flaky.protected("sync", retry=RetryPolicy(1, retry_on_result=lambda value: False))
    with pytest.raises(SystemExit) as caught:
        protected()
    assert caught.value is flaky.error


def test_middlewares(kind: str) -> None:
    seen: list[str] = []

    def watch(what: str) -> Any:
        async def middleware(call: Call, call_next: Next) -> Outcome:
            seen.append(f"{what} {call.node_name} {call.attempt}")
            return await call_next(call)

        return middleware

    flaky = Flaky(1)
    protected = flaky.protected(
        kind, retry=RetryPolicy(1, "none"), around_call=watch("call"), around_attempt=watch("try")
    )
    assert protected() == 1
    own = "call" if kind == "sync" else "call_async"
    assert seen == [f"call {own} 1", f"try {own} 1", f"try {own} 2"]


def test_a_middleware_that_raises(kind: str) -> None:
    async def broken(call: Call, call_next: Next) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        Flaky(0).protected(kind, around_call=broken)()
    assert isinstance(caught.value, ExecutionError)


def test_jitter_differs_from_call_to_call_and_a_seed_repeats_it() -> None:
    def ends(seed: int | None) -> list[float]:
        policy = RetryPolicy(1, "constant", delay=10, seed=seed)
        flaky = Flaky(99)
        protected = flaky.protected("sync", retry=policy)
        moments = []
        for _ in range(3):
            with contextlib.suppress(OSError):
                protected()
            moments.append(flaky.clock.now())
        return moments

    first, second, third = ends(7)
    assert first != second - first != third - second
    assert ends(7) == [first, second, third]
    assert ends(None) != ends(None)


_never = RetryPolicy(1, "none", retry_on_result=lambda value: False)
WAYS_TO_FAIL: dict[str, dict[str, Any]] = {
    "retry": {"retry": RetryPolicy(1, "none"), "fallback": FallbackPolicy(0, on=KeyError)},
    "the whole chain": {"retry": _never, "bulkhead": 2, "rate_limit": 1000},
    "circuit breaker": {"circuit_breaker": CircuitBreaker()},
    "bulkhead": {"bulkhead": 1},
    "timeout": {"timeout": 30},
    "timeout, the whole chain": {"timeout": 30, "retry": _never},
}


class Thing:
    """What a call is given."""


def is_let_go(call: Callable[[Thing], object]) -> bool:
    """Whether *call*, which fails, lets go what it was given as soon as its error is gone."""
    thing = Thing()
    there = weakref.ref(thing)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(OSError):
            call(thing)
        del thing
        return there() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("way", WAYS_TO_FAIL)
def test_errors_hold_no_frames_in_cycles(way: str) -> None:
    """What a failed call was given is let go with its error."""

    def fail(thing: Thing) -> int:
        raise OSError

    assert is_let_go(protect(fail, **WAYS_TO_FAIL[way]))


@pytest.mark.parametrize("way", WAYS_TO_FAIL)
def test_errors_of_coroutines_hold_no_frames_in_cycles(way: str) -> None:
    async def fail(thing: Thing) -> int:
        raise OSError

    protected = protect(fail, **WAYS_TO_FAIL[way])

    async def main(things: list[Thing]) -> None:
        # Out of its task an error leads back to that.
        with contextlib.suppress(OSError):
            await protected(things.pop())

    assert is_let_go(lambda thing: asyncio.run(main([thing])))


# -- states -----------------------------------------------------------------------


def breaker(**fields: Any) -> CircuitBreaker:
    given = {"consecutive": 2, "break_for": 30, **fields}
    return CircuitBreaker(**given)


def fail(function: Callable[..., Any], times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="down"):
            function()


@pytest.mark.parametrize("more", [{}, {"bulkhead": 2}])
def test_an_open_circuit_refuses(kind: str, more: Any) -> None:
    flaky = Flaky(2)
    protected = flaky.protected(kind, circuit_breaker=breaker(on_open="fail"), **more)
    fail(protected, 2)
    with pytest.raises(CircuitOpenError) as caught:
        protected()
    assert caught.value.retry_in == 30.0
    assert flaky.calls == 2
    flaky.clock.advance(30)
    assert protected() == 1
    assert protected() == 1


def test_an_open_circuit_holds_calls_up(kind: str) -> None:
    flaky = Flaky(3)
    protected = flaky.protected(kind, circuit_breaker=breaker(), retry=STEADY)
    assert protected() == 1
    # Two failures; a probe that fails costs no attempt; and the one that comes back.
    assert flaky.calls == 4
    assert flaky.clock.now() == 70.0


def test_whole_calls_may_be_counted(kind: str) -> None:
    flaky = Flaky(4)
    policy = breaker(on_open="fail", counts="call")
    protected = flaky.protected(kind, circuit_breaker=policy, retry=RetryPolicy(1, "none"))
    fail(protected, 2)
    assert flaky.calls == 4
    with pytest.raises(CircuitOpenError):
        protected()


@pytest.mark.parametrize("more", [{}, {"bulkhead": 2}, {"timeout": 30}])
def test_slow_calls_open_it(kind: str, more: Any) -> None:
    flaky = Flaky(0, takes=5)
    policy = CircuitBreaker(slow_call=1, min_calls=2, window=2, on_open="fail")
    protected = flaky.protected(kind, circuit_breaker=policy, **more)
    assert protected() + protected() == 2
    with pytest.raises(CircuitOpenError):
        protected()


def test_a_breaker_notices_failures_after_many_calls_that_were_well(kind: str) -> None:
    """The short way of a window that is full of successes ends with the first failure."""
    flaky = Flaky(0)
    policy = CircuitBreaker(failure_rate=0.5, min_calls=4, window=4, on_open="fail")
    protected = flaky.protected(kind, circuit_breaker=policy)
    for _ in range(9):
        protected()
    flaky.failures = 99
    fail(protected)
    flaky.failures = 0
    protected()
    flaky.failures = 99
    fail(protected)
    with pytest.raises(CircuitOpenError):
        protected()


def test_a_disabled_breaker_only_lets_through(kind: str) -> None:
    flaky = Flaky(1)
    protected = flaky.protected(kind, circuit_breaker=breaker(mode="disabled"))
    fail(protected)
    assert protected() == 1


def test_a_key_is_shared_in_the_process(kind: str) -> None:
    """With its name alone a function shares nothing."""
    key = next(_keys)
    for policy, shares in [(breaker(on_open="fail", key=key), True), (breaker(), False)]:
        flaky = Flaky(2)
        fail(flaky.protected(kind, circuit_breaker=policy), 2)
        there = Flaky(0)
        there.clock = flaky.clock
        other = there.protected(kind, circuit_breaker=policy, name="other")
        if shares:
            with pytest.raises(CircuitOpenError, match=key):
                other()
        else:
            assert other() == 1


def test_a_key_has_one_policy() -> None:
    key = next(_keys)
    kept = protect(Flaky(0).call, bulkhead=Bulkhead(2, key=key))
    with pytest.raises(PolicyError, match=key):
        protect(Flaky(0).call, bulkhead=Bulkhead(3, key=key))
    assert kept() == 1


def test_two_clocks_share_nothing(kind: str) -> None:
    """What one clock says is no time of the other."""
    policy = breaker(on_open="fail", key=next(_keys))
    flaky, other = Flaky(2), Flaky(0)
    fail(flaky.protected(kind, circuit_breaker=policy), 2)
    assert other.protected(kind, circuit_breaker=policy)() == 1


@pytest.mark.parametrize("again", [2, 5])
def test_a_function_may_be_defined_again_with_another_policy(again: int) -> None:
    """A cell of a notebook runs twice: while the new one is made, the old one is still there."""
    key = next(_keys)
    code = (
        "from daglite import CircuitBreaker, RetryPolicy, protect\n"
        f"@protect(circuit_breaker=CircuitBreaker({key!r}, consecutive=%d, on_open='fail'))\n"
        "def fetch(): raise OSError('down')\n"
    )
    cell: dict[str, Any] = {"__name__": "__cell__"}
    for consecutive in (1, again):
        exec(code % consecutive, cell)
    fail(cell["fetch"], again)
    with pytest.raises(CircuitOpenError):
        cell["fetch"]()
    # By another name it is another function, and the key is taken.
    with pytest.raises(PolicyError, match="'fetch' and 'other' share"):
        exec(code.replace("def fetch", "def other") % 7, cell)
    del cell["fetch"]
    exec(code.replace("def fetch", "def other") % 7, cell)


def test_one_function_has_one_policy_for_a_key() -> None:
    key = next(_keys)
    first = protect(plain, bulkhead=Bulkhead(2, key=key))
    with pytest.raises(PolicyError, match=key):
        protect(plain, bulkhead=Bulkhead(3, key=key))
    second = protect(plain, circuit_breaker=breaker(key=key))
    with pytest.raises(PolicyError, match="scope"):
        protect(plain, circuit_breaker=breaker(key=key, scope="process"))
    assert first() == second() == 1


def test_scope_process_is_shared_with_runs() -> None:
    policy = breaker(on_open="fail", key=next(_keys), scope="process")

    @task(circuit_breaker=policy)
    def broken() -> None:
        raise OSError("down")

    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            evaluate(broken.bind())
    with pytest.raises(CircuitOpenError):
        protect(Flaky(0).call, circuit_breaker=policy)()


def test_scope_process_is_shared_as_long_as_one_function_uses_it() -> None:
    """The first of them is gone, and a run can't have the key for another policy."""
    policy = breaker(on_open="fail", key=next(_keys), scope="process")
    first = protect(Flaky(0).call, circuit_breaker=policy)
    second = protect(Flaky(0).call, circuit_breaker=policy)
    assert first() == 1
    del first
    gc.collect()

    @task(circuit_breaker=policy)
    def broken() -> None:
        raise OSError("down")

    changed = broken.with_options(circuit_breaker=policy.model_copy(update={"probes": 2}))
    with pytest.raises(PolicyError, match="share the circuit breaker"):
        evaluate(changed.bind())
    fail(lambda: evaluate(broken.bind()), 2)
    with pytest.raises(CircuitOpenError):
        second()


def test_a_rate(kind: str) -> None:
    flaky = Flaky(0)
    protected = flaky.protected(kind, rate_limit=RateLimit(2, burst=2))
    for _ in range(6):
        protected()
    assert flaky.clock.now() == 2.0


def test_a_rate_may_refuse(kind: str) -> None:
    flaky = Flaky(0)
    protected = flaky.protected(kind, rate_limit=RateLimit(1, per=60, max_wait=1))
    protected()
    with pytest.raises(RateLimitedError):
        protected()
    flaky.clock.advance(60)
    assert protected() == 1


def test_all_states_together(kind: str) -> None:
    """A failed attempt gives back its place, and doesn't take its turn twice."""
    flaky = Flaky(1)
    protected = flaky.protected(
        kind,
        retry=RetryPolicy(2, "none"),
        circuit_breaker=breaker(),
        rate_limit=RateLimit(1, per=10),
        bulkhead=Bulkhead(1, max_queue=0),
    )
    assert protected() == 1
    assert flaky.clock.now() == 10.0
    assert protected() == 1
    assert flaky.clock.now() == 20.0


def test_a_turn_is_given_back_where_there_is_no_place() -> None:
    flaky = Flaky(0)
    inner: list[Any] = []

    def nested(depth: int) -> int:
        if depth:
            with pytest.raises(BulkheadFullError):
                protected(0)
        inner.append(depth)
        return depth

    protected = protect(
        nested,
        clock=flaky.clock,
        rate_limit=RateLimit(1, burst=2),
        bulkhead=Bulkhead(1, max_queue=0),
    )
    protected(1)
    assert inner == [1]


def test_a_failed_call_gives_its_place_back(kind: str) -> None:
    flaky = Flaky(2)
    full = Bulkhead(1, max_queue=0)
    protected = flaky.protected(kind, bulkhead=full, retry=RetryPolicy(1, "none"))
    fail(protected)
    assert protected() == 1


def test_a_bulkhead_between_threads() -> None:
    """Never more than so many at a time, and everybody gets through."""
    running, most, done = [0], [0], []

    @protect(bulkhead=2)
    def work(x: int) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.005)
        running[0] -= 1
        done.append(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(done) == list(range(12))
    assert most[0] <= 2


# -- threads and timeouts ---------------------------------------------------------

_where: ContextVar[str] = ContextVar("_where", default="nowhere")


def test_without_a_timeout_it_runs_on_the_callers_thread() -> None:
    threads: list[Any] = []

    @protect(retry=RetryPolicy(1, "none"))
    def work() -> None:
        threads.append(threading.current_thread())
        if len(threads) == 1:
            raise OSError

    work()
    assert threads == [threading.current_thread()] * 2


def test_a_timeout_ends_an_attempt() -> None:
    began = time.monotonic()
    tries: list[str] = []

    @protect(retry=RetryPolicy(1, "none"), timeout=0.05)
    def hang() -> None:
        tries.append(_where.get())
        while True:
            time.sleep(0.01)

    _where.set("here")
    with pytest.raises(TaskTimeoutError) as caught:
        hang()
    assert isinstance(caught.value, TimeoutError)
    assert [each.number for each in caught.value.attempts] == [1, 2]
    assert tries == ["here"] * 2
    assert time.monotonic() - began < 2


def test_a_timed_function_runs_on_a_helper_thread() -> None:
    @protect(timeout=30)
    def where(x: int, *, y: int) -> tuple[threading.Thread, int]:
        return threading.current_thread(), x + y

    thread, total = where(1, y=2)
    assert thread is not threading.current_thread()
    assert total == 3


def test_a_total_limits_waits_too(kind: str) -> None:
    flaky = Flaky(99)
    protected = flaky.protected(kind, retry=STEADY, timeout=TimeoutPolicy(total=25))
    with pytest.raises(TaskTimeoutError):
        protected()
    assert flaky.clock.now() == 25.0
    assert flaky.calls == 3


def test_in_a_task_its_own_call_is_not_seen() -> None:
    """`current_call` tells of the task, by the shortcut, in the chain and on helper threads."""
    tries: list[Any] = []

    def look() -> str:
        tries.append(current_call().attempt)
        if len(tries) % 2:
            raise OSError
        return current_call().node_name

    policy = RetryPolicy(1, "none")
    ways = [protect(look, retry=policy), protect(look, retry=policy, timeout=30)]
    outer = task(lambda: [way() for way in ways], name="outer")
    assert evaluate(outer.bind()) == ["outer", "outer"]
    assert tries == [1] * 4
    with pytest.raises(RuntimeError, match="no such call"):
        ways[0]()


def test_a_run_ends_the_calls_in_its_tasks() -> None:
    """A call that waits in a task whose time is up waits no longer."""
    ended = threading.Event()

    @protect(retry=RetryPolicy(3, "constant", delay=60, jitter="none"))
    def broken() -> None:
        raise OSError

    @task(timeout=0.05)
    def outer() -> None:
        try:
            broken()
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        evaluate(outer.bind())
    assert ended.wait(5)


def test_graphs_in_protected_functions() -> None:
    double = task(lambda x: 2 * x, name="double")

    @protect(retry=1, timeout=30)
    def work(x: int) -> Any:
        return evaluate(double.bind(x=x), default_backend="threading")

    assert work(4) == 8
    assert evaluate(task(lambda: work(5), name="outer").bind(), default_backend="threading") == 10


# -- on an event loop -------------------------------------------------------------


def test_the_loop_is_free_while_a_call_waits() -> None:
    calls: list[Any] = []

    @protect(retry=RetryPolicy(1, "constant", delay=0.05, jitter="none"))
    async def flaky() -> str:
        calls.append(asyncio.current_task())
        if len(calls) == 1:
            raise OSError
        _where.set("inside")
        return "done"

    async def main() -> tuple[str, int]:
        ticks, call = 0, asyncio.ensure_future(flaky())
        while not call.done():
            await asyncio.sleep(0.005)
            ticks += 1
        # Not in a task of its own: like a plain call.
        assert await protect(flaky, retry=1)() == "done"
        assert calls[-1] is asyncio.current_task()
        assert _where.get() == "inside"
        return call.result(), ticks

    value, ticks = asyncio.run(main())
    assert value == "done"
    assert ticks >= 5
    assert calls[0] is calls[1]


def test_a_timeout_cancels_the_coroutine() -> None:
    ended: list[int] = []

    @protect(retry=RetryPolicy(1, "none"), timeout=0.03)
    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    async def main() -> None:
        with pytest.raises(TaskTimeoutError) as caught:
            await hang()
        assert len(caught.value.attempts) == 2
        await asyncio.sleep(0)
        assert ended == [1, 1]

    asyncio.run(main())


def test_a_coroutine_that_swallows_its_cancellation_is_left_alone() -> None:
    go_on: list[asyncio.Event] = []

    @protect(timeout=0.03)
    async def stubborn() -> int:
        go_on.append(asyncio.Event())
        while not go_on[0].is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on[0].wait()
        raise OSError("nobody hears this")

    async def main() -> None:
        with pytest.raises(TaskTimeoutError):
            await stubborn()
        go_on[0].set()
        await asyncio.sleep(0.01)

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_closed_loop_is_not_kept_with_what_it_left_behind() -> None:
    @protect(timeout=60)
    async def hang() -> None:
        await asyncio.Event().wait()

    def leave_behind() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()

        async def main() -> None:
            calls.append(asyncio.ensure_future(hang()))
            await asyncio.sleep(0)

        calls: list[Any] = []
        loop.run_until_complete(main())
        # Nobody wants to hear of tasks that never end.
        loop.set_exception_handler(lambda loop, context: None)
        loop.close()
        return weakref.ref(loop)

    loops = [leave_behind() for _ in range(3)]
    asyncio.run(protect(coroutine, timeout=60)())
    gc.collect()
    assert [loop() for loop in loops] == [None] * 3


def test_on_expiry_abandon_cancels_nothing() -> None:
    ended: list[int] = []

    @protect(timeout=TimeoutPolicy(0.02, on_expiry="abandon"))
    async def slow() -> None:
        await asyncio.sleep(0.05)
        ended.append(1)

    async def main() -> None:
        with pytest.raises(TaskTimeoutError):
            await slow()
        assert ended == []
        await asyncio.sleep(0.06)
        assert ended == [1]

    asyncio.run(main())


@pytest.mark.parametrize(
    "options",
    [
        {"retry": 3},
        {"timeout": 30},
        {"bulkhead": 1},
        {"timeout": 30, "retry": RetryPolicy(1, retry_on_result=lambda result: False)},
    ],
    ids=["retry", "timeout", "bulkhead", "all of the chain"],
)
def test_cancellation_passes_through_the_attempt(options: Any) -> None:
    """The function is cancelled, and has ended when the caller hears of it."""
    ended: list[str] = []

    @protect(**options)
    async def wait(x: float = 60) -> None:
        try:
            await asyncio.sleep(x)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ended.append("cancelled")
            raise

    async def main() -> None:
        call = asyncio.ensure_future(wait())
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended == ["cancelled"]
        # All that it held was given back.
        await wait(0)

    asyncio.run(main())


def test_cancellation_ends_a_wait() -> None:
    policy = RetryPolicy(3, "constant", delay=60, jitter="none")
    flaky = Flaky(99)

    async def main() -> None:
        call = asyncio.ensure_future(protect(flaky.call_async, retry=policy)())
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert flaky.calls == 1


def test_a_cancelled_probe_gives_its_place_back() -> None:
    flaky = Flaky(2)
    hang: list[bool] = []

    async def call() -> int:
        if hang:
            await asyncio.sleep(60)
        return await flaky.call_async()

    guarded = protect(call, clock=flaky.clock, circuit_breaker=breaker(on_open="fail"))

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(OSError, match="down"):
                await guarded()
        flaky.clock.advance(30)
        hang.append(True)
        probe = asyncio.ensure_future(guarded())
        await asyncio.sleep(0.01)
        with pytest.raises(CircuitOpenError):
            await guarded()
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        hang.clear()
        assert await guarded() == 1

    asyncio.run(main())


def test_a_bulkhead_between_coroutines() -> None:
    running, most = [0], [0]

    @protect(bulkhead=2, timeout=30)
    async def work(x: int) -> int:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0.002)
        running[0] -= 1
        return x

    async def main() -> list[int]:
        return await asyncio.gather(*map(work, range(10)))

    assert asyncio.run(main()) == list(range(10))
    assert most[0] == 2


def test_a_place_that_another_thread_gives_back() -> None:
    """A thread and a coroutine under one key wake each other."""
    policy = Bulkhead(1, key=next(_keys))
    taken, leave = threading.Event(), threading.Event()

    @protect(bulkhead=policy)
    def hold() -> None:
        taken.set()
        leave.wait(5)

    @protect(bulkhead=policy)
    async def work() -> str:
        return "done"

    async def main() -> str:
        call = asyncio.ensure_future(work())
        await asyncio.sleep(0.02)
        assert not call.done()
        leave.set()
        return await asyncio.wait_for(call, 5)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(5)
    assert asyncio.run(main()) == "done"
    thread.join(5)


def test_async_functions_in_async_tasks() -> None:
    flaky = Flaky(1)
    guarded = protect(flaky.call_async, retry=RetryPolicy(1, "none"))

    @task
    async def outer() -> int:
        return await guarded(4)

    assert asyncio.run(_async_value(outer.bind())) == 4


async def _async_value(future: Any) -> Any:
    return await evaluate_async(future)


# -- what is refused --------------------------------------------------------------


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


def plain() -> int:
    return 1


async def coroutine() -> int:
    return 1


@functools.wraps(coroutine)
def passing_on() -> Any:
    return coroutine()


@functools.wraps(generator)
def passing_on_items() -> Any:
    return generator()


class Callable_:
    def __call__(self) -> int:
        return 2


class AsyncCallable:
    async def __call__(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("func", "says"),
    [
        (generator, "generator function 'generator'"),
        (async_generator, "generator function 'async_generator'"),
        (passing_on, "below that decorator"),
        (passing_on_items, "generator function"),
        (Flaky, "makes an instance"),
        (3, "retry=3"),
        ("fetch", "by name"),
        (task(plain), "with_options"),
        (staticmethod(plain), "@staticmethod above"),
        (classmethod(plain), "@classmethod above"),
    ],
)
def test_what_cannot_be_protected(func: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        protect(func, retry=3)


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({}, PolicyError, "no policy"),
        ({"retry": None}, PolicyError, "no policy"),
        ({"around_call": ()}, PolicyError, "no policy"),
        ({"retries": 3}, TaskConfigurationError, "no option 'retries', did you mean 'retry'"),
        ({"retry": 3, "cache": True}, PolicyError, "cache= is an option of tasks"),
        ({"retry": 3, "backend": "threading"}, PolicyError, "backend= is an option of tasks"),
        ({"max_memory": "1GB"}, PolicyError, "max_memory= is an option of tasks"),
        ({"retry": -1}, PolicyError, "'plain'.*max_retries"),
        ({"backoff": "linear"}, PolicyError, "without retry="),
        ({"retry": 3, "name": ""}, TaskConfigurationError, "name"),
        ({"timeout": TimeoutPolicy(1, on_expiry="kill")}, PolicyError, "can't kill"),
        ({"retry": STEADY, "timeout": TimeoutPolicy(total=5)}, PolicyError, "protect.*total"),
    ],
)
def test_options_that_make_no_sense(options: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        protect(plain, **options)


def test_a_refusal_says_what_to_do() -> None:
    """What is wrong and the way out are told apart, as they are for a task."""
    with pytest.raises(PolicyError) as caught:
        protect(plain, retry=STEADY, timeout=TimeoutPolicy(total=5))
    error = caught.value
    assert error.fix is not None
    assert error.fix.startswith("shorten the wait, raise the limit")
    assert error.problem.startswith("protect('plain'): no retry can ever start")
    assert str(error) == f"{error.problem}; {error.fix}"


def makes_a_coroutine() -> Any:
    return coroutine()


@pytest.mark.parametrize("func", [lambda: coroutine(), lambda: generator(), makes_a_coroutine])
@pytest.mark.parametrize("more", [{}, {"timeout": 30}, {"bulkhead": 1}])
def test_what_returns_a_coroutine_is_found_out(func: Any, more: Any) -> None:
    """Neither a retry nor a fallback hides that nothing is guarded."""
    protected = protect(func, retry=3, fallback=FallbackPolicy("hidden"), **more)
    with pytest.raises(TaskConfigurationError, match="body runs after the call") as caught:
        protected()
    assert not hasattr(caught.value, "attempts")


@pytest.mark.parametrize(
    "options",
    [
        {"circuit_breaker": CircuitBreaker(scope="process")},
        {"rate_limit": RateLimit(1, scope="process")},
        {"retry": RetryPolicy(1, budget=RetryBudget(scope="process"))},
    ],
)
def test_a_wider_scope_needs_a_key(options: Any) -> None:
    """Two functions may have the same name by accident."""
    with pytest.raises(PolicyError, match=r"'fetch'.*scope='process' without a key"):
        protect(plain, name="fetch", **options)


@pytest.mark.parametrize("clock", ["x", VirtualClock, 3])
def test_what_is_no_clock(clock: Any) -> None:
    with pytest.raises(TaskConfigurationError, match=r"'plain'.*clock= takes .*VirtualClock\(\)"):
        protect(plain, retry=1, clock=clock)


def test_a_name_is_that_of_a_function() -> None:
    with pytest.raises(TaskConfigurationError, match="a function's name is"):
        protect(plain, retry=1, name=3)  # type: ignore[call-overload]


def test_names_of_what_has_none() -> None:
    power = protect(functools.partial(pow, 2), retry=1)
    named = protect(Callable_(), retry=1, name="two")
    assert (power.__name__, power.__qualname__, power.__module__) == ("pow", "pow", "builtins")
    assert (named.__name__, named.__qualname__, named.__module__) == ("two", "two", __name__)


@pytest.mark.parametrize(
    "options",
    [
        {"retry": 1},
        {"bulkhead": 1, "circuit_breaker": CircuitBreaker()},
        {"timeout": 30, "rate_limit": RateLimit(10)},
    ],
)
def test_functions_of_main_go_to_other_processes(options: Any) -> None:
    """What guards them there begins afresh."""
    code = (
        "async def later(x): return x + 1\n"
        "def now(x): return x or 'done'\n"
        "later, now = protect(later, **options), protect(now, **options)\n"
    )
    main: dict[str, Any] = {"__name__": "__main__", "protect": protect, "options": options}
    exec(code, main)
    there = pickle.loads(cloudpickle.dumps([main["now"], main["later"]]))
    assert there[0](0) == "done"
    assert asyncio.run(there[1](1)) == 2


def test_objects_that_can_be_called() -> None:
    assert protect(Callable_(), retry=1)() == 2
    assert asyncio.run(protect(AsyncCallable(), retry=1)()) == 3
    assert protect(functools.partial(pow, 2), retry=1)(5) == 32
    assert protect(lambda x: x, retry=1)(7) == 7
