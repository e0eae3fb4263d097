"""States keep count when real threads ask all at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from daglite.state.breaker import Breaker, Permit
from daglite.state.bucket import Bucket
from daglite.state.budget import Budget
from daglite.state.permits import Permits
from daglite.state.registry import Registry
from tests.unit.state.wanted import WantedBreaker, WantedBucket, WantedBudget, WantedPermits

THREADS = 8
ROUNDS = 400


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def hammer(work: Callable[[int], None]) -> None:
    """Do *work*, given its number, on each of some threads at once."""
    together = threading.Barrier(THREADS)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            together.wait(10)
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert failures == []


def test_results_of_a_breaker() -> None:
    """None is lost, none counts twice."""
    breaker = Breaker(WantedBreaker(mode="metrics_only", window=10_000), "db")

    def work(number: int) -> None:
        for i in range(ROUNDS):
            permit = breaker.permit(0)
            assert isinstance(permit, Permit)
            breaker.record(permit, 0, failed=i % 4 == 0)

    hammer(work)
    shown = breaker.snapshot(0)
    assert (shown.calls, shown.failure_rate) == (THREADS * ROUNDS, 0.25)


def test_probes_of_a_breaker() -> None:
    """Each time that it is half-open exactly so many get through, and one makes it so."""
    breaker = Breaker(WantedBreaker(consecutive=1, break_for=1, probes=3), "db")
    permit = breaker.permit(0)
    assert isinstance(permit, Permit)
    breaker.record(permit, 0, failed=True)
    for now in range(1, 30):
        through: list[Permit] = []

        def work(number: int, now: int = now, through: list[Permit] = through) -> None:
            for _ in range(5):
                permit = breaker.permit(now)
                if isinstance(permit, Permit):
                    through.append(permit)

        hammer(work)
        assert len(through) == 3
        assert sum(permit.transition is not None for permit in through) == 1
        moves = [breaker.record(permit, now, failed=True) for permit in through]
        assert [move is not None for move in moves] == [False, False, True]


def test_turns_of_a_bucket() -> None:
    """Each is handed out once."""
    bucket = Bucket(WantedBucket(1))
    waits: list[float] = []

    def work(number: int) -> None:
        for i in range(ROUNDS):
            turn = bucket.reserve(0)
            if i % 3:
                waits.append(turn.wait)
            else:
                bucket.give_back(turn)

    hammer(work)
    assert len(waits) == THREADS * sum(i % 3 != 0 for i in range(ROUNDS))
    assert all(b - a >= 1 for a, b in pairwise(sorted(waits)))


def test_places_of_a_bulkhead() -> None:
    """Never more than there are, and at the end all are free."""
    permits = Permits(WantedPermits(3))
    wake = [threading.Semaphore(0) for _ in range(THREADS)]
    inside: list[int] = []

    def work(number: int) -> None:
        for _ in range(ROUNDS // 4):
            if permits.acquire(number) == "wait":
                assert wake[number].acquire(timeout=10)
            inside.append(number)
            assert len(inside) <= 3
            inside.remove(number)
            next_one = permits.release()
            if next_one is not None:
                assert isinstance(next_one, int)
                wake[next_one].release()

    hammer(work)
    assert (permits.taken, permits.waiting) == (0, 0)


def test_retries_of_a_budget() -> None:
    """Exactly as many as it allows."""
    budget = Budget(WantedBudget(ratio=0.5, min_per_second=0))
    allowed: list[int] = []

    def work(number: int) -> None:
        for _ in range(ROUNDS):
            budget.first_call(0)
            if budget.reserve(0) == 0:
                budget.spend(0)
                allowed.append(number)

    hammer(work)
    more = sum(budget.reserve(0) == 0 for _ in range(THREADS * ROUNDS))
    assert len(allowed) + more == THREADS * ROUNDS / 2


def test_states_of_a_registry() -> None:
    """All get the same one."""
    process = Registry()
    registries = [Registry({"process": process}) for _ in range(2)]
    for key in map(str, range(20)):
        got: list[object] = []

        def work(number: int, key: str = key, got: list[object] = got) -> None:
            registry = registries[number % 2]
            got.append(registry.breaker(WantedBreaker(), key, f"task{number}", "process"))

        hammer(work)
        assert len(set(map(id, got))) == 1
        assert len(got) == THREADS
