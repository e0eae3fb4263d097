"""Circuit breakers, bulkheads and rates on real threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from daglite import (
    Bulkhead,
    CircuitBreaker,
    MapPolicy,
    RateLimit,
    RetryPolicy,
    ThreadBackend,
    evaluate,
    task,
)
from daglite.exceptions import CircuitOpenError
from tests.backends.journal import WAIT


@pytest.mark.parametrize(("workers", "most"), [(1, 5), (4, 8), (16, 20)])
@pytest.mark.parametrize("on_open", ["park", "fail"])
def test_a_dead_dependency_sees_few_calls(workers: int, most: int, on_open: str) -> None:
    """Of a map over 200: those that open the circuit, and those that were under way."""
    backend = ThreadBackend(workers)
    calls: list[int] = []
    lock = threading.Lock()

    def dead(x: int) -> int:
        with lock:
            calls.append(x)
        time.sleep(0.001)
        raise OSError("down")

    breaker = (
        CircuitBreaker(consecutive=5, break_for=30, max_park=0.2)
        if on_open == "park"
        else CircuitBreaker(consecutive=5, break_for=30, on_open="fail")
    )
    guarded = task(dead, circuit_breaker=breaker, retry=RetryPolicy(1, "none"))
    with pytest.raises((OSError, CircuitOpenError)):
        evaluate(
            [guarded.bind(x=i) for i in range(200)], default_backend=backend, on_failure="continue"
        )
    assert len(calls) <= most
    backend.close()


def test_a_bulkhead_on_threads() -> None:
    """Two at a time, whatever the threads; and the others wait without one."""
    backend = ThreadBackend(4)
    running = most = 0
    lock = threading.Lock()

    def narrow(x: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1
        return x

    free = task(lambda x: x, name="free")
    places = task(narrow, bulkhead=Bulkhead(2))
    expr = [places.extend(x=range(50)), free.extend(x=range(50))]
    assert evaluate(expr, default_backend=backend) == [list(range(50))] * 2
    assert most == 2
    backend.close()


def test_two_runs_share_a_rate() -> None:
    """What is said for the process holds for all of its runs together."""
    limit = RateLimit(100, burst=1, key="shared", scope="process")
    starts: list[float] = []

    @task(rate_limit=limit)
    def call(x: int) -> int:
        starts.append(time.monotonic())
        return x

    together(
        [lambda: evaluate(call.extend(x=range(10)), default_backend="threading") for _ in range(2)]
    )
    assert len(starts) == 20
    # The last of twenty turns of 10 ms.
    assert max(starts) - min(starts) >= 0.19 - 0.02


@pytest.mark.parametrize("on_open", ["park", "fail"])
@pytest.mark.parametrize("runs", [2, 6])
def test_a_dead_dependency_sees_few_calls_of_all_runs(runs: int, on_open: str) -> None:
    """However many runs share the circuit and the workers: threshold + W - 1."""
    backend = ThreadBackend(4)
    calls: list[int] = []
    lock = threading.Lock()

    def dead(x: int) -> int:
        with lock:
            calls.append(x)
        time.sleep(0.002)
        raise OSError("down")

    key = f"dead in {runs} runs, {on_open}"
    parks = {"max_park": 0.2} if on_open == "park" else {}
    breaker = CircuitBreaker(
        key, consecutive=5, break_for=30, scope="process", on_open=on_open, **parks
    )
    guarded = task(dead, circuit_breaker=breaker, map_policy=MapPolicy("collect"))
    together([lambda: evaluate(guarded.extend(x=range(40)), default_backend=backend)] * runs)
    assert 5 <= len(calls) <= 5 + 4 - 1
    backend.close()


def test_a_rate_holds_for_starts_over_runs_on_busy_workers() -> None:
    """In no window are there more than it allows, though calls queued behind others' work."""
    backend = ThreadBackend(3)
    limit = RateLimit(100, burst=2, key="starts", scope="process")
    starts: list[float] = []

    @task(rate_limit=limit)
    def call(x: int) -> int:
        starts.append(time.monotonic())
        return x

    @task
    def busy(x: int) -> None:
        time.sleep(0.08)

    both = [busy.extend(x=range(3)), call.extend(x=range(8))]
    together([lambda: evaluate(both, default_backend=backend)] * 3)
    starts.sort()
    assert len(starts) == 24
    # The moment of the start is taken a little after the token is.
    late = 0.004
    for number in range(2, 24):
        for first in range(24 - number):
            window = starts[first + number] - starts[first] + late
            assert number + 1 <= 100 * window + 2
    backend.close()


def together(runs: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
