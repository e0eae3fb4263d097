"""What a driver has set for itself, and what it hands over, harms no pool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daglite import (
    CircuitBreaker,
    ProcessBackend,
    ResourceLimits,
    RetryPolicy,
    TimeoutPolicy,
    evaluate,
    task,
)
from daglite.backends.processes import channel
from daglite.backends.processes.channel import Channel
from daglite.exceptions import (
    ExecutionError,
    MemoryLimitError,
    RemoteError,
    TaskTimeoutError,
    WorkerDiedError,
)
from daglite.worker import wire
from tests.backends.faults import MB, same
from tests.backends.journal import Journal
from tests.backends.leftovers import Leftovers
from tests.backends.tasks import hanging
from tests.backends.usage import hold

# -- signals --------------------------------------------------------------------------


@pytest.fixture
def blocked() -> Iterator[None]:
    """This thread takes no signals, as in a service that waits for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR1])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_driver_that_blocks_signals(
    blocked: None, leftovers: Leftovers, journal: Journal
) -> None:
    """Deaths are heard of all the same, and a hung call tells where it was."""
    with ProcessBackend(1) as backend:
        with pytest.raises(WorkerDiedError):
            evaluate(task(os._exit).bind(3), default_backend=backend)
        hangs = hanging.with_options(timeout=TimeoutPolicy(0.3))
        with pytest.raises(TaskTimeoutError) as caught:
            evaluate(hangs.bind(journal), default_backend=backend)
        assert "in hanging" in (caught.value.stack or "")


DRIVER = """
    import os, signal, threading
    from daglite import ProcessBackend, evaluate, task
    from daglite.exceptions import WorkerDiedError
    from tests.backends.faults import same

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with ProcessBackend(1) as backend:
        evaluate(task(same).bind(1), default_backend=backend)
        (worker,) = backend.processes
        # It takes nothing in, so that a part of what it is sent is still to be written.
        os.kill(worker, signal.SIGSTOP)
        threading.Timer(0.2, os.kill, (worker, signal.SIGKILL)).start()
        value = evaluate(task(same).bind(b"x" * 10_000_000), default_backend=backend)
        print(len(value))
"""


def test_a_driver_that_pipes_may_end(leftovers: Leftovers) -> None:
    """As command lines let them: a worker that dies while it is written to ends only itself."""
    program = [sys.executable, "-c", textwrap.dedent(DRIVER)]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout) == (0, "10000000\n"), ran.stderr


# -- functions and errors that can't be loaded ----------------------------------------


def only_in(process: int) -> int:
    """What fails where it isn't that process that loads it."""
    if os.getpid() == process:
        return 0
    raise LookupError("not in this process")


class OnlyHere:
    """A function that no worker can load."""

    def __call__(self, x: Any) -> Any:
        return x

    def __reduce__(self) -> tuple[Callable[[int], int], tuple[int]]:
        return only_in, (os.getpid(),)


@pytest.mark.parametrize("argument", [1, b"x" * 200_000])
def test_a_function_that_cannot_be_loaded(argument: Any, leftovers: Leftovers) -> None:
    """Each of its calls says so, and nothing of it stays in the way of others."""
    broken = task(OnlyHere(), name="broken")
    with ProcessBackend(1) as backend:
        with pytest.raises(ExecutionError) as caught:
            evaluate([broken.bind(argument)] * 3, default_backend=backend, on_failure="continue")
        for failure in caught.value.failures or (caught.value,):
            assert isinstance(failure.__cause__, LookupError)
        for sent in (argument, 2):
            assert evaluate(task(same).bind(sent), default_backend=backend) == sent


class Interrupting(Exception):
    """Says that Ctrl-C was pressed when that process loads it."""

    def __init__(self, process: int) -> None:
        super().__init__()
        self.process = process

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return interrupted_in, (self.process,)


def interrupted_in(process: int) -> Interrupting:
    if os.getpid() == process:
        raise KeyboardInterrupt
    return Interrupting(process)


def interrupts(process: int) -> None:
    raise Interrupting(process)


def test_an_error_that_interrupts_whoever_loads_it(leftovers: Leftovers) -> None:
    """With a circuit it is loaded on a thread that serves all, and that goes on."""
    guarded = task(interrupts).with_options(circuit_breaker=CircuitBreaker(consecutive=50))
    failures: list[BaseException] = []

    def run() -> None:
        try:
            evaluate(guarded.bind(os.getpid()), default_backend=backend)
        except ExecutionError as error:
            failures.append(error)

    with ProcessBackend(1) as backend:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(10)
        assert [type(error) for error in failures] == [RemoteError]
        assert evaluate(task(same).zip(x=range(3)), default_backend=backend) == [0, 1, 2]


# -- functions as they are when a run begins ------------------------------------------


def test_each_run_has_functions_as_they_were_at_its_begin(leftovers: Leftovers) -> None:
    """Also if another run uses the same one in between, after it has changed."""
    box = [0]
    changing = task(lambda x: box[0], name="changing")
    with ProcessBackend(1) as backend:

        def change(value: int) -> int:
            box[0] = 5
            assert evaluate(changing.bind(0), default_backend=backend) == 5
            return value

        first = changing.bind(0)
        between = task(change).with_options(backend="sequential").bind(first)
        assert evaluate([first, changing.bind(between)], default_backend=backend) == [0, 0]


# -- limits ---------------------------------------------------------------------------


def leave_open(number: int) -> list[int]:
    return [os.open("/dev/null", os.O_RDONLY) for _ in range(number)]


def test_files_that_an_earlier_call_has_left_open(leftovers: Leftovers) -> None:
    """They count for no later call, and open no more for it either."""
    limited = task(leave_open).with_options(limits=ResourceLimits(max_open_files=20))
    with ProcessBackend(1) as backend:
        evaluate(task(leave_open).bind(30), default_backend=backend)
        (worker,) = backend.processes
        assert len(evaluate(limited.bind(20), default_backend=backend)) == 20
        with pytest.raises(OSError, match="Too many open files"):
            evaluate(limited.bind(21), default_backend=backend)
        assert backend.processes == [worker]


@pytest.mark.parametrize(
    "limits",
    [
        ResourceLimits(2**64),
        ResourceLimits("1GB", poll_interval=1e9),
        ResourceLimits(max_cpu_time=1e9, poll_interval=1e9),
        ResourceLimits(max_open_files=10**9, max_processes=10**9),
    ],
)
def test_limits_beyond_all_that_there_is(limits: ResourceLimits, leftovers: Leftovers) -> None:
    """They are as good as none."""
    with ProcessBackend(1) as backend:
        made = task(same).with_options(limits=limits)
        assert evaluate(made.zip(x=range(3)), default_backend=backend) == [0, 1, 2]


def test_a_limit_that_grows_beyond_all_that_there_is(leftovers: Leftovers) -> None:
    """Up to the most that the system takes as a number."""
    grows = task(hold).with_options(
        limits=ResourceLimits("20MB", grow=1e6),
        retry=RetryPolicy(4, "none", retry_on=MemoryLimitError),
    )
    refused = task(refuse).with_options(
        limits=ResourceLimits("20MB", grow=1e6),
        retry=RetryPolicy(4, "none", retry_on=MemoryLimitError),
    )
    with ProcessBackend(1) as backend:
        assert evaluate(grows.bind(60 * MB, how="at once"), default_backend=backend) == 60 * MB
        with pytest.raises(MemoryLimitError) as caught:
            evaluate(refused.bind(), default_backend=backend)
        assert len(caught.value.attempts) == 5


def refuse() -> None:
    raise MemoryError


# -- large results --------------------------------------------------------------------


def test_a_large_result_lets_others_have_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read in pieces, however fast it comes; at the end, all that there is."""
    monkeypatch.setattr(channel, "_TURN", 1 << 18)
    size = 1 << 22
    frame = wire.RESULT.pack(wire.RETURNED, 0, 0, 1, size, 0.0, 0.0, 0.0, 0) + bytes(size)
    for all_there_is in (False, True):
        made = Channel()
        writer = threading.Thread(target=_written, args=(made.ends.results, frame))
        writer.start()
        turns, frames = 0, []
        while not frames:
            found, ended = made.receive(all_there_is=all_there_is)
            assert not ended
            frames += found
            turns += 1
        writer.join()
        made.close()
        assert [len(each.told) for each in frames] == [size]
        assert all_there_is or turns >= 16


def _written(end: int, data: bytes) -> None:
    while data:
        data = data[os.write(end, data) :]
