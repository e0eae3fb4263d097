"""What calls may use: seen as it is, held to the limit, and charged to no other call."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

from daglite import MapPolicy, ProcessBackend, ResourceLimits, evaluate, task
from daglite.exceptions import BackendError, CpuTimeLimitError, ExecutionError, MemoryLimitError
from tests.backends import faults_of_traces, faults_of_use
from tests.backends.faults import MB, MEMORY, Mark, same
from tests.backends.journal import Journal, eventually
from tests.backends.leftovers import Leftovers
from tests.backends.tasks import hanging
from tests.backends.usage import array, burn, burn_in_child, group, hold, leave, multiply, sum_of

HOW = ["pieces", "at once", "shared", "children"]


class Uses:
    """A middleware that keeps what outcomes say of memory and CPU time."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []

    async def __call__(self, call: Any, call_next: Any) -> Any:
        """Pass on, and listen."""
        outcome = await call_next(call)
        self.outcomes.append(outcome)
        return outcome

    @property
    def peak(self) -> int:
        """Bytes, of the latest call."""
        peak: int = self.outcomes[-1].peak_memory
        return peak

    @property
    def cpu_time(self) -> float:
        """Seconds, of the latest call."""
        used: float = self.outcomes[-1].cpu_time
        return used


@pytest.mark.parametrize("start_method", ["launcher", "spawn"])
def test_the_peak_is_told(start_method: Any, leftovers: Leftovers) -> None:
    """Of each call by itself, within 15 %, also after a larger one in the same process."""
    limits = ResourceLimits("600MB", poll_interval=0.02)
    uses = Uses()
    holds = task(hold).with_options(limits=limits, around_attempt=[uses])
    with ProcessBackend(1, start_method=start_method) as backend:
        small = holds.bind(MB, how="pieces")
        evaluate(small, default_backend=backend)
        resting = uses.peak
        assert MB < resting < 60 * MB
        for how in HOW:
            evaluate(holds.bind(200 * MB, how=how), default_backend=backend)
            assert 0.85 * 200 * MB < uses.peak - resting < 1.15 * 200 * MB, how
            evaluate(small, default_backend=backend)
            assert uses.peak < resting + 30 * MB


@pytest.mark.parametrize("how", HOW)
def test_a_breach_tells_the_peak(how: str, leftovers: Leftovers) -> None:
    """Within 15 % of the limit; and a later call with the same limit has all of it."""
    holds = task(hold).with_options(limits=ResourceLimits("300MB", poll_interval=0.01))
    with ProcessBackend(1) as backend:
        for _ in range(2):
            with pytest.raises(MemoryLimitError) as caught:
                evaluate(holds.bind(900 * MB, how=how), default_backend=backend)
            error = caught.value
            assert error.limit == 300 * MB
            if how == "at once":
                # It got nothing of it.
                assert error.peak < 300 * MB
            else:
                assert 0.85 * 300 * MB < error.peak < 1.5 * 300 * MB
            assert evaluate(holds.bind(200 * MB, how="at once"), default_backend=backend)


def test_cpu_time_is_told(leftovers: Leftovers) -> None:
    """Of each call by itself."""
    uses = Uses()
    burns = task(burn).with_options(around_attempt=[uses])
    with ProcessBackend(1) as backend:
        for seconds in (0.2, 0.0, 0.1):
            evaluate(burns.bind(seconds), default_backend=backend)
            assert seconds <= uses.cpu_time < seconds + 0.1


def test_cpu_time_of_earlier_calls_is_not_charged(leftovers: Leftovers) -> None:
    """Nor that of children that they had; what a call's own children use is."""
    limited = ResourceLimits(max_cpu_time=0.5)
    with ProcessBackend(1) as backend:
        burns = task(burn).with_options(limits=limited)
        in_child = task(burn_in_child).with_options(limits=limited)
        for _ in range(2):
            assert evaluate(burns.bind(0.3), default_backend=backend) == 0.3
            assert evaluate(in_child.bind(0.3), default_backend=backend) == 0
        with pytest.raises(CpuTimeLimitError) as caught:
            evaluate(in_child.bind(3.0), default_backend=backend)
        assert 0.5 < caught.value.used < 1.5


def test_what_an_earlier_call_has_left_is_not_charged(leftovers: Leftovers) -> None:
    """A child process that goes on: neither itself, nor its memory, nor its CPU time."""
    limits = ResourceLimits("150MB", max_cpu_time=0.2, max_processes=1, poll_interval=0.01)
    burns = task(burn_in_child).with_options(limits=limits)
    with ProcessBackend(1) as backend:
        child = evaluate(task(leave).bind(200 * MB, 0.3), default_backend=backend)
        assert evaluate(burns.extend(seconds=[0.1, 0.1]), default_backend=backend) == [0, 0]
        os.kill(child, 0)
        with pytest.raises(CpuTimeLimitError):
            evaluate(burns.bind(3.0), default_backend=backend)


def test_numerical_libraries_under_a_limit(leftovers: Leftovers) -> None:
    """They work, threads and all: what they only reserve costs nothing."""
    pytest.importorskip("numpy")
    pytest.importorskip("pandas")
    limits = ResourceLimits("400MB", max_cpu_time=60)
    with ProcessBackend(2) as backend:
        products = task(multiply).with_options(limits=limits).zip(size=[300, 500])
        assert evaluate(products, default_backend=backend) == [300.0**3, 500.0**3]
        groups = task(group).with_options(limits=limits).zip(rows=[100_000])
        assert evaluate(groups, default_backend=backend) == [100_000.0]


def test_large_arguments_and_results(leftovers: Leftovers) -> None:
    """200 MB each way, of bytes and of arrays, and short calls meanwhile."""
    numpy = pytest.importorskip("numpy")
    size = 200 * MB
    with ProcessBackend(2) as backend:
        short = task(same).zip(x=range(500))
        text, numbers, total, values = evaluate(
            [
                task(same).bind(b"x" * size),
                task(array).bind(size),
                task(sum_of).bind(numpy.ones(size // 8)),
                short,
            ],
            default_backend=backend,
        )
    assert len(text) == size
    assert int(numbers[-1]) == size // 8 - 1
    assert total == size // 8
    assert values == list(range(500))


@pytest.mark.parametrize("length", [10, 1_000_000])
def test_arrays_that_come_back_are_ones_own(length: int) -> None:
    """They may be written to, whatever their size, and share nothing with each other."""
    pytest.importorskip("numpy")
    with ProcessBackend(1) as backend:
        made = evaluate(task(array).extend(size=[8 * length] * 3), default_backend=backend)
    made[0] += 1
    assert [each.sum() - made[1].sum() for each in made] == [length, 0, 0]


def test_many_arrays_at_once(leftovers: Leftovers) -> None:
    """More than can lie beside the packets one by one, both ways."""
    numpy = pytest.importorskip("numpy")
    arrays = [numpy.full(10, x) for x in range(400)]
    with ProcessBackend(1) as backend:
        back = evaluate(task(same).bind(arrays), default_backend=backend)
        assert evaluate(task(same).zip(x=range(5)), default_backend=backend) == list(range(5))
    assert [int(each.sum()) for each in back] == [10 * x for x in range(400)]


# -- admission ------------------------------------------------------------------------


def test_memory_is_handed_out(leftovers: Leftovers, journal: Journal) -> None:
    """Calls whose limits don't fit together wait for each other, and all of them run."""
    limits = ResourceLimits("200MB")
    waits = hanging.with_options(limits=limits).fix(journal=journal)
    with ProcessBackend(4, memory=500 * MB) as backend:

        def look() -> None:
            assert eventually(lambda: len(journal.notes) == 2)
            time.sleep(0.1)
            seen.append(len(journal.notes))
            journal.open()

        seen: list[int] = []
        looking = threading.Thread(target=look)
        looking.start()
        assert evaluate(waits.zip(x=range(6)), default_backend=backend) == list(range(6))
        looking.join()
    assert seen == [2]


def test_more_memory_than_there_is(leftovers: Leftovers) -> None:
    """Such a call fails at once, and others run."""
    greedy = task(same).with_options(
        limits=ResourceLimits("600MB"), map_policy=MapPolicy("collect")
    )
    with ProcessBackend(2, memory=500 * MB) as backend:
        with pytest.raises(BackendError, match=r"max_memory=600MB is more than .* memory=500MB"):
            evaluate(greedy.bind(1), default_backend=backend)
        modest = task(same).with_options(limits=ResourceLimits("500MB"))
        assert evaluate(modest.zip(x=range(5)), default_backend=backend) == list(range(5))


def test_wide_calls_among_narrow_ones(leftovers: Leftovers) -> None:
    """A call that wants all CPUs waits for others, and not for ever."""
    wide = task(same).with_options(limits=ResourceLimits(cpus=3))
    narrow = task(same)
    with ProcessBackend(3) as backend:
        mixed = [(wide if x % 10 == 0 else narrow).bind(x) for x in range(40)]
        assert evaluate(mixed, default_backend=backend) == list(range(40))


def test_a_wide_call_among_many(leftovers: Leftovers) -> None:
    """Short calls that go on and on don't keep it from running."""
    wide = task(same).with_options(limits=ResourceLimits(cpus=2))
    over = threading.Event()
    with ProcessBackend(2) as backend:

        def crowd() -> None:
            while not over.is_set():
                evaluate(task(same).zip(x=range(200)), default_backend=backend)

        crowds = [threading.Thread(target=crowd) for _ in range(2)]
        for thread in crowds:
            thread.start()
        began = time.monotonic()
        for _ in range(5):
            assert evaluate(wide.bind(1), default_backend=backend) == 1
        took = time.monotonic() - began
        over.set()
        for thread in crowds:
            thread.join()
    assert took < 5


def test_a_leak_is_not_the_next_calls_fault(leftovers: Leftovers, tmp_path: Any) -> None:
    """A worker that a call leaves fat, or that ran out of memory, is replaced."""
    with ProcessBackend(1) as backend:
        (first,) = evaluate([task(faults_of_traces.process).bind(1)], default_backend=backend)
        assert (
            evaluate(task(faults_of_traces.leak).bind(200 * MB), default_backend=backend) == first
        )
        tight = task(hold).with_options(limits=ResourceLimits("150MB"))
        assert evaluate(tight.bind(100 * MB, how="pieces"), default_backend=backend) == 100
        assert evaluate(task(faults_of_traces.process).bind(1), default_backend=backend) != first
        second = evaluate(task(faults_of_traces.process).bind(1), default_backend=backend)
        limited = task(faults_of_use.grows_in_pieces).with_options(limits=ResourceLimits(MEMORY))
        with pytest.raises(ExecutionError):
            evaluate(limited.bind(Mark(tmp_path / "mark")), default_backend=backend)
        assert evaluate(task(faults_of_traces.process).bind(1), default_backend=backend) != second
