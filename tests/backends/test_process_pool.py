"""A pool as a whole: what can't travel, what the system refuses, and pools beside each other."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daglite import MapPolicy, ProcessBackend, ResourceLimits, evaluate, task
from daglite.backends.processes.watch import Watch
from daglite.exceptions import BackendError, SerializationError, TaskTimeoutError, WorkerDiedError
from tests.backends import faults, faults_of_traces
from tests.backends.faults import Mark, same
from tests.backends.faults_of_answers import BadToLoad, DeadlyToLoad
from tests.backends.journal import eventually
from tests.backends.leftovers import Leftovers, is_alive
from tests.backends.pools import deep, nested, within
from tests.backends.starts import rest

METHODS = ["launcher", "spawn"]
VALUES = list(range(20))


def works(backend: ProcessBackend) -> bool:
    """Whether *backend* runs calls as it should."""
    return bool(evaluate(task(same).zip(x=VALUES), default_backend=backend) == VALUES)


def fate_of(backend: ProcessBackend) -> BackendError | None:
    """Why it doesn't, if the system is to blame."""
    try:
        assert works(backend)
    except BackendError as error:
        return error
    return None


# -- what can't travel ----------------------------------------------------------------


def test_a_function_that_cannot_be_pickled(leftovers: Leftovers) -> None:
    """Its calls fail, and say what is wrong; those of others don't."""
    lock = threading.Lock()

    def locked(x: int) -> int:
        with lock:
            return x

    collects = MapPolicy("collect")
    with ProcessBackend(2) as backend:
        bad = task(locked, map_policy=collects).zip(x=[1, 2])
        good = task(same).zip(x=VALUES)
        (one, two), values = evaluate([bad, good], default_backend=backend)
        for error in (one, two):
            assert isinstance(error, SerializationError)
            assert "lock" in str(error)
        assert values == VALUES
        assert works(backend)


@pytest.mark.parametrize(
    ("argument", "error", "says"),
    [
        (threading.Lock(), SerializationError, "lock"),
        (BadToLoad(ValueError), ValueError, "while it was loaded"),
        (BadToLoad(KeyError), KeyError, "while it was loaded"),
        (DeadlyToLoad(), WorkerDiedError, "exit code 7"),
    ],
)
def test_an_argument_that_cannot_travel(
    argument: object, error: type[Exception], says: str, leftovers: Leftovers
) -> None:
    """Its call fails, and not the others of its map."""
    arguments = [*VALUES[:10], argument, *VALUES[10:]]
    with ProcessBackend(2) as backend:
        collects = task(same, map_policy=MapPolicy("collect"))
        values = evaluate(collects.zip(x=arguments), default_backend=backend)
        fate = values.pop(10)
        assert isinstance(fate, error)
        assert says in str(fate)
        assert values == VALUES
        assert works(backend)


def test_a_large_argument_that_cannot_be_loaded(leftovers: Leftovers) -> None:
    """What goes beside the packets doesn't get in the way of the next call."""
    bad = (b"x" * 3_000_000, BadToLoad(ValueError))
    arguments = [*VALUES[:10], bad, *VALUES[10:]]
    with ProcessBackend(1) as backend:
        collects = task(same, map_policy=MapPolicy("collect"))
        values = evaluate(collects.zip(x=arguments), default_backend=backend)
        assert isinstance(values.pop(10), ValueError)
        assert values == VALUES


def test_a_large_argument_of_a_call_that_is_given_up(leftovers: Leftovers, tmp_path: Path) -> None:
    """Half of it is on its way when the call is dropped: the next call gets its own."""
    with ProcessBackend(1) as backend:
        hangs = task(faults.struck, timeout=0.2).fix(fault=faults.stops_itself)
        mark = Mark(tmp_path / "mark")
        for _ in range(3):
            with pytest.raises(TaskTimeoutError):
                evaluate(hangs.bind(x=faults.GUILTY, mark=mark), default_backend=backend)
            large = [b"x" * 20_000_000] * 3
            slow = task(faults_of_traces.loads_slowly, timeout=0.001).zip(x=large)
            with pytest.raises(TaskTimeoutError):
                evaluate(slow, default_backend=backend)
            assert works(backend)


@pytest.mark.parametrize(
    "forged", [faults_of_traces.forges_a_huge_frame, faults_of_traces.forges_nonsense]
)
def test_a_call_that_writes_into_our_pipes(forged: Any, leftovers: Leftovers) -> None:
    """It has the harm itself."""
    with ProcessBackend(2) as backend:
        collects = task(faults.struck, map_policy=MapPolicy("collect"))
        made = collects.fix(fault=forged, mark=Mark(Path("unused")))
        values = evaluate(made.zip(x=range(21)), default_backend=backend)
        fate = values.pop(faults.GUILTY)
        assert isinstance(fate, WorkerDiedError)
        assert "can't be read" in str(fate)
        assert values == [x for x in range(21) if x != faults.GUILTY]
        assert works(backend)


def test_a_supervisor_that_fails(leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a bug of ours, and still nobody waits for ever."""
    watched = ResourceLimits(max_cpu_time=10)
    with ProcessBackend(2) as backend:
        assert works(backend)
        monkeypatch.setattr(Watch, "look", _breaks)
        for sleeps in (task(rest, limits=watched), task(same)):
            with pytest.raises(BackendError, match=r"the supervisor .* failed: ZeroDivisionError"):
                evaluate(sleeps.bind(3), default_backend=backend)


def _breaks(*_: object) -> None:
    raise ZeroDivisionError


# -- what the next call finds ---------------------------------------------------------


@pytest.mark.parametrize("start_method", METHODS)
def test_all_is_as_before(start_method: Any, leftovers: Leftovers, tmp_path: Path) -> None:
    """Folder, environment, mask, handlers and timers, in the same process."""
    with ProcessBackend(1, start_method=start_method) as backend:
        before = evaluate(task(faults_of_traces.house).bind(), default_backend=backend)
        mark = Mark(tmp_path / "mark")
        assert (
            evaluate(task(faults_of_traces.moves_house).bind(mark), default_backend=backend)
            == "moved"
        )
        assert evaluate(task(faults_of_traces.house).bind(), default_backend=backend) == before
        # And it can still be asked where it hangs.
        hangs = task(faults.waits_for_ever, timeout=0.2)
        with pytest.raises(TaskTimeoutError) as caught:
            evaluate(hangs.bind(mark), default_backend=backend)
        assert "waits_for_ever" in (caught.value.stack or "")


def test_outputs_are_as_before(leftovers: Leftovers, tmp_path: Path) -> None:
    """A call that closes them costs the worker, not the next call its output."""
    with ProcessBackend(1) as backend:
        for closes in (faults_of_traces.closes_its_output, faults_of_traces.closes_streams):
            assert evaluate(task(closes).bind(Mark(tmp_path / "m")), default_backend=backend)
            assert (
                evaluate(task(faults_of_traces.prints).bind("again"), default_backend=backend)
                == "again"
            )


# -- what the system refuses ----------------------------------------------------------


@contextmanager
def few_files(more: int) -> Iterator[None]:
    """Let this process open only so many files more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1 + more, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for number in taken:
            os.close(number)


@pytest.mark.parametrize("more", range(16))
def test_no_file_can_be_opened(more: int, leftovers: Leftovers) -> None:
    """Whenever that happens: an error that says so, and all is well once there are some again."""
    with ProcessBackend(1) as backend:
        with few_files(more):
            fate = fate_of(backend)
        assert fate is None or "Too many open files" in str(fate)
        assert works(backend)


def test_no_file_can_be_opened_for_another_worker(leftovers: Leftovers) -> None:
    """Those that there are do the work."""
    with ProcessBackend(2) as backend:
        assert evaluate(task(same).bind(1), default_backend=backend) == 1
        with few_files(3):
            assert works(backend)
        assert works(backend)


def test_no_process_can_be_made(
    leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The launcher is refused a worker: the one that there is does the work, or an error comes."""
    with ProcessBackend(2, preload=["tests.backends.barren"]) as backend:
        assert works(backend)
        assert len(backend.processes) == 1
        os.kill(backend.processes[0], signal.SIGKILL)
        assert eventually(lambda: backend.processes == [], 2)
        with pytest.raises(BackendError, match=r"can't start a worker.*temporarily unavailable"):
            evaluate(task(same).bind(1), default_backend=backend)
        # Not for ever.
        assert eventually(lambda: fate_of(backend) is None, 5)


# -- pools beside each other ----------------------------------------------------------


@pytest.mark.parametrize("start_method", METHODS)
def test_two_pools(start_method: Any, leftovers: Leftovers) -> None:
    """The end of one is nothing to the other, in whatever order."""
    first = ProcessBackend(2, start_method=start_method)
    second = ProcessBackend(2, start_method=start_method)
    assert works(first)
    assert works(second)
    first.close()
    assert works(second)
    third = ProcessBackend(2, start_method=start_method)
    assert works(third)
    second.close()
    assert works(third)
    third.close()


def test_a_pool_in_a_call(leftovers: Leftovers) -> None:
    """A call may have a pool of its own, and that one too; nothing stays."""
    with ProcessBackend(2) as backend:
        sums = task(nested).zip(x=[2, 3])
        assert evaluate(sums, default_backend=backend) == [1, 3]
        assert evaluate(task(deep).bind(2), default_backend=backend) == 2


def test_a_call_with_a_pool_is_killed(leftovers: Leftovers, tmp_path: Path) -> None:
    """With its pool, and what runs there."""
    with ProcessBackend(2) as backend:
        mark = Mark(tmp_path / "mark")
        hangs = task(within, timeout=1.5).bind(mark)
        with pytest.raises(TaskTimeoutError):
            evaluate(hangs, default_backend=backend)
        assert mark.processes
        assert eventually(lambda: not any(map(is_alive, mark.processes)), 2)
        assert works(backend)


def test_from_many_threads(leftovers: Leftovers) -> None:
    """Runs of several threads share the workers, and a fault in one is nothing to the others."""
    results: dict[int, Any] = {}

    def run(y: int) -> None:
        elements = task(faults_of_traces.falls_at, map_policy=MapPolicy("collect")).fix(
            bad=y * 100 + 7
        )
        results[y] = evaluate(elements.zip(x=range(y * 100, y * 100 + 50)), default_backend=backend)

    with ProcessBackend(3) as backend:
        threads = [threading.Thread(target=run, args=(y,)) for y in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert works(backend)
    for y in range(6):
        assert isinstance(results[y].pop(7), WorkerDiedError)
        assert results[y] == [x for x in range(y * 100, y * 100 + 50) if x != y * 100 + 7]


def test_no_worker_runs_more_than_it_may(leftovers: Leftovers) -> None:
    """With calls sent ahead, too."""
    with ProcessBackend(2, max_calls_per_worker=7) as backend:
        for _ in range(3):
            workers = evaluate(
                task(faults_of_traces.process).zip(x=range(100)), default_backend=backend
            )
            assert max(map(workers.count, set(workers))) <= 7
