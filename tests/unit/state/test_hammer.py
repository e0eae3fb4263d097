"""
States keep count when real threads ask all at once.

Each step of a state gives way to other threads, so that a lock that is missing is missed.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import daglite.state
from daglite.state.breaker import Breaker, Permit
from daglite.state.bucket import Bucket
from daglite.state.budget import Budget
from daglite.state.permits import Permits
from daglite.state.registry import Registry
from tests.unit.state.wanted import WantedBreaker, WantedBucket, WantedBudget, WantedPermits

THREADS = 4
ROUNDS = 12
STATES = str(Path(daglite.state.__path__[0]))


def give_way(frame: FrameType, event: str, argument: Any) -> Any:
    """A trace function: other threads come in between any two instructions of a state, often."""
    if not frame.f_code.co_filename.startswith(STATES):
        return None
    frame.f_trace_opcodes = True
    if event == "opcode" and random.random() < 0.2:
        time.sleep(0)
    return give_way


def hammer(work: Callable[[int], None]) -> None:
    """Do *work*, given the thread's number, on each of some threads at once."""
    together = threading.Barrier(THREADS)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            together.wait(10)
            sys.settrace(give_way)
            work(number)
        except BaseException as error:
            failures.append(error)
        finally:
            sys.settrace(None)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


@pytest.mark.parametrize("window_type", ["count", "time"])
def test_results_of_a_breaker(window_type: str) -> None:
    """None is lost, none counts twice, and whoever looks sees no half of one."""
    wanted = WantedBreaker(mode="metrics_only", window=1000, window_type=window_type)
    breaker = Breaker(wanted, "db")

    def work(number: int) -> None:
        for _ in range(ROUNDS):
            permit = breaker.permit(0)
            assert isinstance(permit, Permit)
            breaker.record(permit, 0, failed=True)
            assert breaker.snapshot(0).failure_rate == 1

    hammer(work)
    assert breaker.snapshot(0).calls == THREADS * ROUNDS


def test_openings_of_a_breaker() -> None:
    """Of all that fail at once one opens it, and one resets it."""
    breaker = Breaker(WantedBreaker(consecutive=2, probes=1), "db")
    moves: list[tuple[str, str]] = []

    def work(number: int) -> None:
        for i in range(ROUNDS):
            permit = breaker.permit(0)
            if isinstance(permit, Permit):
                told = breaker.record(permit, 0, failed=True)
            else:
                told = breaker.force_open() if i % 3 else breaker.reset()
            if told is not None:
                moves.append((told.before, told.after))

    hammer(work)
    entered = Counter(after for _, after in moves) + Counter(["closed"])
    left = Counter(before for before, _ in moves)
    assert entered - left == Counter([breaker.snapshot(0).state])
    assert left - entered == Counter()


def test_probes_of_a_breaker() -> None:
    """Each time that it is half-open exactly so many get through, and one makes it so."""
    wanted = WantedBreaker(consecutive=1, break_for=1, probes=3, probe_lease=1e9)
    breaker = Breaker(wanted, "db")
    permit = breaker.permit(0)
    assert isinstance(permit, Permit)
    breaker.record(permit, 0, failed=True)
    clock = count(1)
    through: dict[int, list[Permit]] = defaultdict(list)
    moves: list[int] = []

    def work(number: int) -> None:
        for i in range(ROUNDS):
            now = next(clock) / 4
            permit = breaker.permit(now, number)
            if not isinstance(permit, Permit):
                continue
            if i % 4 == 3:
                breaker.give_back(permit)
                continue
            through[permit.generation].append(permit)
            if breaker.record(permit, now, failed=True):
                moves.append(permit.generation)
            breaker.leave(number)

    hammer(work)
    assert len(through) > 3
    assert sorted(set(moves)) == sorted(moves)
    for generation, permits in through.items():
        assert len(permits) == 3 or (generation not in moves and len(permits) < 3)


def test_tokens_of_a_bucket() -> None:
    """No more are taken than there are, and none is lost to who forgoes it."""
    bucket = Bucket(WantedBucket(1, burst=20))
    taken: list[int] = []

    def work(number: int) -> None:
        for i in range(ROUNDS):
            if bucket.ask(0):
                continue
            if i % 3 == 0:
                bucket.forgo()
            elif bucket.take(0) == 0:
                taken.append(number)

    hammer(work)
    while bucket.take(0) == 0:
        taken.append(-1)
    assert len(taken) == 20


def test_places_of_a_bulkhead() -> None:
    """Never more than there are, and at the end all are free."""
    permits = Permits(WantedPermits(2))
    wake = [threading.Semaphore(0) for _ in range(THREADS)]
    inside: set[int] = set()

    def ring(token: Any) -> None:
        if token is not None:
            wake[token].release()

    def work(number: int) -> None:
        for i in range(ROUNDS // 2):
            if permits.acquire(number) == "wait":
                if i % 5 == 4:
                    ring(permits.leave(number))
                    # Somebody may have rung before it left.
                    wake[number] = threading.Semaphore(0)
                    continue
                assert wake[number].acquire(timeout=10)
            inside.add(number)
            assert len(inside) <= 2
            inside.remove(number)
            ring(permits.release())

    hammer(work)
    assert (permits.taken, permits.waiting) == (0, 0)


def test_retries_of_a_budget() -> None:
    """Exactly as many as it allows."""
    budget = Budget(WantedBudget(ratio=0.5, min_per_second=0.5))
    made: list[int] = []

    def first_calls(number: int) -> None:
        for _ in range(ROUNDS):
            budget.first_call(0)

    def retries(number: int) -> None:
        for i in range(ROUNDS):
            if budget.reserve(0) == 0:
                if i % 4:
                    budget.spend(0)
                    made.append(number)
                else:
                    budget.give_back()

    hammer(first_calls)
    hammer(retries)
    more = sum(budget.reserve(0) == 0 for _ in range(THREADS * ROUNDS))
    assert len(made) + more == THREADS * ROUNDS // 2 + 5


def test_the_last_retry_of_a_budget() -> None:
    """Only one gets it."""
    for _ in range(ROUNDS):
        budget = Budget(WantedBudget(ratio=0, min_per_second=0.1))
        got: list[float | None] = []

        def work(number: int, budget: Budget = budget, got: list[float | None] = got) -> None:
            got.append(budget.reserve(0))

        hammer(work)
        assert got.count(0.0) == 1


def test_states_of_a_registry() -> None:
    """All get the same one."""
    process = Registry()
    registries = [Registry({"process": process}) for _ in range(2)]
    got: dict[str, set[int]] = defaultdict(set)

    def work(number: int) -> None:
        registry = registries[number % 2]
        for key in map(str, range(ROUNDS // 2)):
            state = registry.breaker(WantedBreaker(), key, f"task{number}", "process")
            got[key].add(id(state))
            registry.breakers()

    hammer(work)
    assert all(len(states) == 1 for states in got.values())
    assert len(process.breakers()) == ROUNDS // 2
