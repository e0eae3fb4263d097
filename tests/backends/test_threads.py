"""What the pool of threads does beyond the contract: calls given up, slots lent, threads ended."""

from __future__ import annotations

import gc
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import time
from queue import SimpleQueue
from typing import Any

import pytest

from daglite import RetryPolicy, ThreadBackend, TimeoutPolicy, evaluate, task
from daglite.exceptions import BackendError, TaskTimeoutError
from tests.backends.journal import WAIT, eventually

quick = task(lambda x: x + 1, name="quick")


def threads_of_daglite() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("daglite")}


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_hundred_hanging_calls_starve_nobody(gate: threading.Event) -> None:
    """Two workers lose a hundred threads one after the other, and still there are two."""
    backend = ThreadBackend(2)
    lates: list[float] = []

    @task(timeout=0.01)
    def hang(x: int) -> None:
        gate.wait(WAIT)

    for i in range(100):
        with pytest.raises(TaskTimeoutError) as caught:
            evaluate(hang.bind(x=i), default_backend=backend)
        lates.append(caught.value.elapsed - 0.01)
    print(f"late by at most {max(lates):.4f} s, {sum(lates) / 100:.4f} s on average")
    assert max(lates) < 2
    assert backend.abandoned == 100
    meeting = threading.Barrier(2)
    meet = task(lambda x: meeting.wait(WAIT) >= 0, name="meet").with_options(timeout=WAIT)
    assert evaluate(meet.extend(x=range(4)), default_backend=backend) == [True] * 4
    gate.set()
    assert eventually(lambda: backend.abandoned == 0)
    backend.close()


def test_a_call_in_c_code_is_left_alone() -> None:
    """The error doesn't wait for what nothing can interrupt, such as `time.sleep`."""
    backend = ThreadBackend(1)
    woken: SimpleQueue[bool] = SimpleQueue()
    # All of this wait is in C.
    asleep = task(lambda: woken.get(timeout=WAIT), name="asleep").with_options(timeout=0.02)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        evaluate(asleep.bind(), default_backend=backend)
    assert time.monotonic() - began < WAIT / 4
    assert backend.abandoned == 1
    assert evaluate(quick.bind(x=1), default_backend=backend) == 2
    assert backend.abandoned == 1
    woken.put(True)
    assert eventually(lambda: backend.abandoned == 0)
    backend.close()


def test_untimed_calls_are_let_in_above_the_cap(gate: threading.Event) -> None:
    """The cap refuses calls with a limit alone: others can't add to what is abandoned."""
    backend = ThreadBackend(1, max_abandoned=1)
    hang = task(lambda: gate.wait(WAIT), name="hang").with_options(timeout=0.01)
    with pytest.raises(TimeoutError):
        evaluate(hang.bind(), default_backend=backend)
    with pytest.raises(BackendError, match="max_abandoned=1"):
        evaluate(hang.bind(), default_backend=backend)
    assert evaluate(quick.bind(x=1), default_backend=backend) == 2
    backend.close()


def test_results_around_the_limit_are_settled_once() -> None:
    """A call that ends just when its limit comes is on time or late, and its thread is whole."""
    backend = ThreadBackend(2)
    draws = random.Random(7)
    limit = 0.004
    values: list[int] = []
    lates: list[float] = []

    def spin(x: int, seconds: float) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return x

    for i in range(200):
        seconds = limit + draws.uniform(-0.0015, 0.0015)
        policed = task(spin, name="spin").with_options(timeout=limit).bind(x=i, seconds=seconds)
        try:
            values.append(evaluate(policed, default_backend=backend))
        except TaskTimeoutError as error:
            values.append(i)
            lates.append(error.elapsed)
    print(f"{len(lates)} of 200 late")
    assert values == list(range(200))
    assert all(late >= limit for late in lates)
    assert eventually(lambda: backend.abandoned == 0)
    assert evaluate(quick.extend(x=range(50)), default_backend=backend) == list(range(1, 51))
    backend.close()


def test_an_interrupt_never_hits_the_next_call() -> None:
    """Elements whose neighbours are interrupted around their end return what they should."""
    backend = ThreadBackend(4)
    draws = random.Random(11)
    limit = 0.02
    naps = [limit + draws.uniform(-0.002, 0.002) for _ in range(200)]

    # A second attempt takes no time; on a busy machine it may be late even so.
    @task(timeout=limit, retry=RetryPolicy(9, "none"))
    def once_slow(x: int) -> int:
        end = time.monotonic() + naps[x]
        naps[x] = 0.0
        while time.monotonic() < end:
            pass
        return x

    assert evaluate(once_slow.extend(x=range(200)), default_backend=backend) == list(range(200))
    assert eventually(lambda: backend.abandoned == 0)
    backend.close()


def test_queued_calls_of_a_failed_run_never_start(gate: threading.Event) -> None:
    """They are dropped where they wait, though the thread comes free later."""
    backend = ThreadBackend(1)
    started: list[str] = []
    held = threading.Event()

    def hold(name: str) -> None:
        started.append(name)
        held.set()
        gate.wait(WAIT)

    holding = task(hold, name="hold")
    other = threading.Thread(
        target=lambda: evaluate(
            holding.with_options(retry=0).bind(name="other"), default_backend=backend
        )
    )
    other.start()
    assert held.wait(WAIT)
    queued = holding.with_options(timeout=TimeoutPolicy(total=0.02))
    with pytest.raises(TaskTimeoutError, match="total"):
        evaluate([queued.bind(name="a"), queued.bind(name="b")], default_backend=backend)
    assert backend.abandoned == 0
    gate.set()
    other.join(WAIT)
    assert evaluate(quick.bind(x=1), default_backend=backend) == 2
    assert started == ["other"]
    backend.close()


def test_two_runs_at_once_and_one_of_them_fails(gate: threading.Event) -> None:
    """What ends the one run's calls leaves the other's running on the same threads."""
    backend = ThreadBackend(4)
    begun = threading.Semaphore(0)
    results: list[Any] = []

    @task(retry=0)
    def wait(x: int) -> int:
        begun.release()
        gate.wait(WAIT)
        return x

    @task(retry=0)
    def fail(x: int) -> None:
        begun.release()
        raise ValueError("no")

    survivor = threading.Thread(
        target=lambda: results.append(evaluate(wait.extend(x=[1, 2]), default_backend=backend))
    )
    survivor.start()
    assert begun.acquire(timeout=WAIT)
    assert begun.acquire(timeout=WAIT)
    with pytest.raises(ValueError, match="no"):
        evaluate(fail.extend(x=[1, 2]), default_backend=backend)
    assert not results
    gate.set()
    survivor.join(WAIT)
    assert results == [[1, 2]]
    backend.close()


def test_a_lent_slot_is_taken_back() -> None:
    """After runs within runs there are no more threads than slots, and never more calls."""
    before = threads_of_daglite()
    backend = ThreadBackend(2)

    @task
    def outer(x: int) -> int:
        return evaluate(quick.bind(x=x), default_backend=backend)

    assert evaluate(outer.extend(x=range(20)), default_backend=backend) == list(range(1, 21))
    assert eventually(lambda: len(threads_of_daglite() - before) <= 2)
    meeting = threading.Barrier(3)

    @task(retry=0)
    def crowd(x: int) -> bool:
        try:
            meeting.wait(0.02)
        except threading.BrokenBarrierError:
            return False
        return True

    assert evaluate(crowd.extend(x=range(3)), default_backend=backend) == [False] * 3
    backend.close()


@pytest.mark.usefixtures("no_threads_left")
def test_close_ends_the_threads() -> None:
    """The idle ones at once; twice is as good as once; later calls are refused."""
    backend = ThreadBackend(3)
    meeting = threading.Barrier(3)
    meet = task(lambda x: meeting.wait(WAIT) >= 0, name="meet")
    assert all(evaluate(meet.extend(x=range(3)), default_backend=backend))
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        evaluate(quick.with_options(timeout=1).bind(x=1), default_backend=backend)


@pytest.mark.usefixtures("no_threads_left")
def test_a_forgotten_backend_ends_its_threads() -> None:
    """Nobody has to close it."""
    backend = ThreadBackend(2)
    assert evaluate(quick.extend(x=range(9)), default_backend=backend) == list(range(1, 10))
    with evaluate.context() as context:
        assert context.evaluate(quick.bind(x=1), default_backend=backend) == 2
    # What `evaluate` itself remembers of it gives way to others.
    others = [ThreadBackend(1) for _ in range(70)]
    for other in others:
        evaluate(quick.bind(x=1), default_backend=other)
        other.close()
    del backend
    gc.collect()


def test_the_program_exits_while_calls_hang() -> None:
    """Abandoned calls, in C code and not to be interrupted, hold nothing up."""
    began = time.monotonic()
    done = run_script(
        """
        import time
        from daglite import ThreadBackend, evaluate, task
        nap = task(lambda: time.sleep(60), name="nap").with_options(timeout=0.05)
        for backend in ("threading", ThreadBackend(2), "sequential"):
            try:
                evaluate(nap.bind(), default_backend=backend)
            except TimeoutError as error:
                print(type(error).__name__)
        """
    )
    assert done.stdout.split() == ["TaskTimeoutError"] * 3, done.stderr
    assert done.returncode == 0
    assert done.stderr == ""
    assert time.monotonic() - began < 20


def test_a_fork_while_calls_run() -> None:
    """The child takes over neither the parent's threads nor what they hold."""
    done = run_script(
        """
        import os, threading, warnings
        from daglite import ThreadBackend, evaluate, task
        warnings.simplefilter("ignore")
        own, gate, begun = ThreadBackend(2), threading.Event(), threading.Event()
        wait = task(lambda x: (begun.set(), gate.wait(20)) and x, name="wait")
        quick = task(lambda x: x + 1, name="quick").with_options(timeout=10)
        parents = [threading.Thread(target=evaluate, args=(wait.extend(x=range(4)),),
                                    kwargs={"default_backend": b}) for b in (own, "threading")]
        for thread in parents:
            begun.clear()
            thread.start()
            begun.wait(10)
        child = os.fork()
        if not child:
            good = [1, 2, 3]
            ok = all(evaluate(quick.extend(x=range(3)), default_backend=b) == good
                     for b in (own, "threading", "sequential"))
            os._exit(0 if ok else 1)
        print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        gate.set()
        for thread in parents:
            thread.join(10)
        print("parent", evaluate(quick.extend(x=range(3)), default_backend=own))
        """
    )
    assert done.stdout.splitlines() == ["child 0", "parent [1, 2, 3]"], done.stderr


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "4", None])
def test_sizes_that_cannot_be(wrong: Any) -> None:
    """The field is named."""
    with pytest.raises(BackendError, match="max_workers is a number from 1"):
        ThreadBackend(wrong)
    with pytest.raises(BackendError, match="max_abandoned is a number from 1"):
        ThreadBackend(1, max_abandoned=wrong)


def test_pickle() -> None:
    """Its sizes go with it."""
    backend = pickle.loads(pickle.dumps(ThreadBackend(3, max_abandoned=7)))
    assert (backend.slots, backend.max_abandoned) == (3, 7)


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails with what is wrong, and the slot isn't lost."""
    backend = ThreadBackend(1)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(BackendError, match="can't start a thread: can't start new thread"):
            evaluate(quick.bind(x=1), default_backend=backend)
    assert evaluate(quick.bind(x=1), default_backend=backend) == 2
    backend.close()
