"""What `explain` says of tasks and of graphs."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from daglite import (
    CircuitBreaker,
    DagliteSettings,
    Explanation,
    FallbackPolicy,
    MapPolicy,
    PolicySet,
    RateLimit,
    ResourceLimits,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    explain,
    task,
)
from daglite.exceptions import BackendError, PolicyError
from daglite.explanation import WorkerPool
from daglite.testing import ScriptedBackend, VirtualClock

TEN = TimeoutPolicy(10, grace=0)


@task(timeout=TEN)
def work(x: int = 0, y: int = 0) -> int:
    return x


@task
def endless(x: Any = 0) -> int:
    raise AssertionError("nothing is run")


@task(timeout=TEN)
def listed() -> list[int]:
    return [1, 2]


def scripted(slots: int = 4) -> ScriptedBackend:
    return ScriptedBackend(VirtualClock(), slots=slots)


def total_of(expr: Any, slots: int = 4) -> float:
    return explain(expr, default_backend=scripted(slots)).bound.seconds


def test_a_task() -> None:
    """Its policies, where each comes from, and what a call goes through."""
    made = endless.with_options(
        retry=RetryPolicy(2), fallback=FallbackPolicy(0), circuit_breaker=CircuitBreaker()
    )
    explained = explain(
        made.bind(),
        default_backend="threading",
        overrides=PolicySet(circuit_breaker=CircuitBreaker(consecutive=3)),
        policies=PolicySet(rate_limit=3),
        settings=DagliteSettings(task_timeout=7, max_backend_threads=3),
    )
    (found,) = explained.tasks
    assert found.name == "endless"
    assert (found.nodes, found.calls) == (1, 1)
    assert (found.backend, found.workers) == ("threading", 3)
    assert found.origins == {
        "retry": "@task",
        "fallback": "@task",
        "circuit_breaker": "evaluate(overrides=)",
        "rate_limit": "evaluate(policies=)",
        "timeout": "settings",
    }
    assert found.policies.circuit_breaker == CircuitBreaker(consecutive=3)
    assert found.chain == (
        "fallback",
        "retry",
        "circuit breaker + rate limit",
        "attempt timeout",
        "backend 'threading'",
    )


def test_every_link_of_a_chain() -> None:
    """In the order in which calls go through them."""

    async def middleware(call: Any, call_next: Any) -> Any:
        return await call_next(call)

    made = work.with_options(
        timeout=TimeoutPolicy(10, total=60),
        retry=1,
        circuit_breaker=CircuitBreaker(counts="call"),
        bulkhead=1,
        around_call=middleware,
        around_attempt=middleware,
    )
    assert explain(made.bind()).tasks[0].chain == (
        "around_call",
        "total timeout",
        "circuit breaker",
        "retry",
        "around_attempt",
        "bulkhead",
        "attempt timeout",
        "backend 'sequential'",
    )


def test_text() -> None:
    """It is what people read."""
    retry = RetryPolicy(1, "constant", delay=2, infrastructure_retries=0, max_hint=5)
    made = work.with_options(
        retry=retry,
        circuit_breaker=CircuitBreaker(max_park=60),
        timeout=TimeoutPolicy(10, total=99),
    )
    text = explain([made.bind(), made.bind()], default_backend=scripted())
    assert isinstance(text, str)
    assert str(text).splitlines() == [
        "task 'work': 2 calls of 2 nodes",
        "  chain     total timeout → retry → circuit breaker → attempt timeout → "
        "backend 'scripted'",
        f"  retry     {retry!r}  (from @task)",
        "  timeout   TimeoutPolicy(attempt=10.0, total=99.0, grace=0.0)  (from @task)",
        "  circuit_breaker CircuitBreaker(max_park=60.0)  (from @task)",
        "  one call  at most 1m39s",
        "            2 attempts of 10s + back-off 2s + hints 3s + circuit breaker 1m of each "
        "attempt, no more than the total of 1m39s + 0s",
        "",
        "graph",
        "  critical path  1m39s: work",
        "  work           40s on 4 workers of 'scripted'",
        "  at most        2m19s",
    ]


def test_text_without_a_limit() -> None:
    """The reasons stand below."""
    lines = str(explain(endless.bind())).splitlines()
    why = "nothing limits how long an attempt runs; give it a timeout"
    assert lines[2] == "  one call  unbounded"
    assert lines[4].strip() == why
    assert lines[-2:] == ["  unbounded", f"                 task 'endless': {why}"]


def test_nothing_to_run() -> None:
    """An empty container takes no time."""
    assert explain([]) == "nothing to run"
    assert explain([]).bound.seconds == 0


def test_the_critical_path() -> None:
    """The longest one, through containers and maps."""
    slow = work.with_options(name="slow", timeout=TimeoutPolicy(50, grace=0))
    near = work.bind(x=work.bind())
    far = endless.with_options(timeout=TEN).bind(x=[slow.extend(x=range(8)), near])
    found = explain(far, default_backend=scripted(2))
    assert found.path == ("slow", "endless")
    assert found.critical_path.seconds == 60
    assert found.bound.seconds == 60 + (8 * 50 + 2 * 10 + 10) / 2


def test_a_long_path_is_shortened() -> None:
    """In the text, not in the fields."""
    future = work.bind()
    for _ in range(20_000):
        future = work.bind(x=future)
    found = explain(future)
    assert len(found.path) == 20_001
    assert "work → … 19993 more … → work" in found


def test_backends_have_workers_of_their_own() -> None:
    """Two backends of one name, too."""
    one, two = scripted(1), scripted(4)
    found = explain([work.with_options(backend=one).bind(), work.with_options(backend=two).bind()])
    assert [(pool.backend, pool.workers, pool.work.seconds) for pool in found.pools] == [
        ("scripted", 1, 10),
        ("scripted", 4, 2.5),
    ]
    assert found.bound.seconds == 10 + 10 + 2.5
    assert isinstance(found.pools[0], WorkerPool)


BEYOND = work.with_options(
    timeout=TimeoutPolicy(3, on_expiry="kill"), limits=ResourceLimits(max_memory="1GB", cpus=2)
)


@pytest.mark.parametrize(
    ("expr", "default", "backend", "moved"),
    [
        (BEYOND.bind(), "threading", "process", True),
        (BEYOND.bind(), "process", "process", False),
        (BEYOND.with_options(backend="process").bind(), "threading", "process", False),
        (work.bind(), "threading", "threading", False),
    ],
)
def test_where_a_task_runs_and_why(expr: Any, default: str, backend: str, moved: bool) -> None:
    """One that the run's backend can't keep runs on "process"; it says what for."""
    found = explain(expr, default_backend=default)
    (only,) = found.tasks
    assert only.backend == backend
    assert only.moved_for == (("max_memory", "cpus=2", "on_expiry='kill'") if moved else ())
    line = "  moved     to 'process', for max_memory, cpus=2, on_expiry='kill'"
    assert (line in found.splitlines()) == moved


@pytest.mark.parametrize(
    ("make", "calls"),
    [
        (lambda: work.extend(x=range(3), y=[1, 2]), 6),
        (lambda: work.zip(x=range(3), y=[1, 2, 3]), 3),
        (lambda: work.extend(x=work.extend(x=range(5))), 10),
        (lambda: work.zip(x=work.extend(x=range(5)), y=range(5)), 10),
        (lambda: work.extend(x=[]), 0),
        (lambda: work.extend(x=iter([1, 2])), None),
        (lambda: work.extend(x=listed.bind()), None),
    ],
)
def test_sizes_of_maps(make: Any, calls: int | None) -> None:
    """They are known where all sources are, and else the work has no bound."""
    found = explain(make())
    mine = next(each for each in found.tasks if each.name == "work")
    assert mine.calls == calls
    assert found.bound.unbounded == (calls is None)
    if calls is None:
        assert found.bound.reasons == (
            "task 'work': how many elements its map has is known only at run time",
        )
        assert not found.critical_path.unbounded


def test_a_map_below_one_that_skips() -> None:
    """Failed elements are missing there, so that the number is the largest there can be."""
    skipping = work.with_options(map_policy=MapPolicy("skip"), name="skips").extend(x=range(3))
    found = explain(work.extend(x=work.with_options(name="keeps").extend(x=skipping)))
    told = {each.name: (each.calls, each.fewer) for each in found.tasks}
    assert told == {"skips": (3, False), "keeps": (3, True), "work": (3, True)}
    assert "task 'skips': 3 calls\n" in found
    assert "task 'keeps': up to 3 calls\n" in found
    # What a task makes of it has no such number.
    assert "task 'work': ? calls\n" in explain(work.extend(x=listed.bind()))
    assert explain(endless.bind(x=skipping)).tasks[1].fewer is False


def test_an_empty_map_takes_no_time() -> None:
    """Even of a task without a limit."""
    assert explain(endless.extend(x=[])).bound.seconds == 0


def test_a_map_of_more_than_may_be_parked() -> None:
    """Elements that aren't started while so many are parked wait for those."""
    assert total_of(work.extend(x=range(10_000))) == 10 + 25_000
    assert total_of(work.extend(x=range(20_000))) == 10 + 20 + 50_000
    limited = work.with_options(timeout=TimeoutPolicy(total=10, grace=0))
    assert total_of(limited.extend(x=range(20_000))) == 10 + 20 + 50_000


@pytest.mark.parametrize(
    ("options", "queues"),
    [
        ({"rate_limit": RateLimit(1)}, True),
        ({"bulkhead": 2}, True),
        ({"circuit_breaker": CircuitBreaker(max_park=5)}, True),
        ({"circuit_breaker": CircuitBreaker(on_open="fail")}, False),
        ({"retry": RetryPolicy(9, budget=RetryBudget())}, False),
        ({}, False),
    ],
)
def test_a_map_whose_elements_queue(options: dict[str, Any], queues: bool) -> None:
    """With a total, none is started while another one waits for its turn or its place."""
    made = work.with_options(timeout=TimeoutPolicy(10, total=20, grace=0), **options)
    call = explain(made.bind()).critical_path.seconds
    assert explain(made.extend(x=range(3))).critical_path.seconds == call * (3 if queues else 1)
    assert explain(made.extend(x=iter([1]))).critical_path.unbounded == queues


def test_what_evaluate_refuses() -> None:
    """`explain` refuses with the same words."""
    with pytest.raises(PolicyError, match="cache= can't be carried out"):
        explain(work.with_options(cache=True).bind())
    with pytest.raises(BackendError, match="no backend 'thread'"):
        explain(work.bind(), default_backend="thread")


def test_what_is_no_future() -> None:
    """It says so of itself, not of `evaluate`."""
    with pytest.raises(TypeError, match=r"^explain needs a future, not <Task .*; bind it first"):
        explain(work)
    with pytest.raises(TypeError, match=r"^explain needs a future, or a list, .* not 3$"):
        explain(3)
    with pytest.raises(TypeError, match=r"^explain was given a list that holds 3, which is no"):
        explain([work.bind(), 3])


def test_pickle() -> None:
    """All of it."""
    found = explain(work.extend(x=range(3)))
    again = pickle.loads(pickle.dumps(found))
    assert isinstance(again, Explanation)
    assert again == found
    assert (again.tasks, again.pools, again.path) == (found.tasks, found.pools, found.path)
    assert again.bound == found.bound
