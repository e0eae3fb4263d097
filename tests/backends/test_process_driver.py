"""The process that runs `evaluate`: killed, interrupted, forked, ended; no worker outlives it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import pytest

from daglite import ProcessBackend, evaluate, task
from tests.backends.faults import same
from tests.backends.journal import eventually
from tests.backends.leftovers import Leftovers, is_alive
from tests.backends.starts import rest

SOON = 2.5
"""Seconds, five times what is promised: the machine may be busy."""

CASES = [
    ("waits_for_ever", "launcher"),
    ("loops_in_c", "launcher"),
    ("hangs_with_children", "launcher"),
    pytest.param("waits_for_ever", "spawn", marks=pytest.mark.nightly),
    pytest.param("loops_in_c", "spawn", marks=pytest.mark.nightly),
    ("hangs_with_children", "spawn"),
]
"""What its two calls do meanwhile, and how their processes are made."""

DRIVER = """
    import sys
    from pathlib import Path
    from daglite import ProcessBackend, evaluate, task
    from tests.backends import faults

    marks = [faults.Mark(Path(sys.argv[1], str(n))) for n in range(2)]
    hangs = task(getattr(faults, sys.argv[2]), name="hangs")
    with ProcessBackend(2, start_method=sys.argv[3]) as backend:
        evaluate(task(faults.same).zip(x=range(10)), default_backend=backend)
        print("begun", flush=True)
        evaluate(hangs.zip(mark=marks), default_backend=backend)
"""


def driven(folder: Path, state: str, method: str) -> subprocess.Popen[str]:
    """A driver whose two calls have begun to be in that state."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER), str(folder), state, method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n", process.communicate()[1]
    assert eventually(lambda: all((folder / str(n)).exists() for n in range(2)))
    # What begins begins after it was said.
    time.sleep(0.1)
    return process


@pytest.mark.parametrize(("state", "method"), CASES)
def test_the_driver_is_killed(
    state: str, method: str, leftovers: Leftovers, tmp_path: Path
) -> None:
    """Everything is gone soon after."""
    driver = driven(tmp_path, state, method)
    assert len(leftovers.processes) >= 4
    began = time.monotonic()
    driver.kill()
    driver.communicate()
    assert eventually(lambda: not leftovers.processes, SOON)
    print(f"{state} {method}: {time.monotonic() - began:.3f} s")


@pytest.mark.parametrize(("state", "method"), CASES)
def test_ctrl_c(state: str, method: str, leftovers: Leftovers, tmp_path: Path) -> None:
    """The driver is back soon, with nothing left."""
    driver = driven(tmp_path, state, method)
    began = time.monotonic()
    # As a terminal does: to the whole group.
    os.killpg(driver.pid, signal.SIGINT)
    _, told = driver.communicate(timeout=SOON)
    assert leftovers.processes == []
    print(f"{state} {method}: {time.monotonic() - began:.3f} s")
    assert told.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_leaves_the_pool_usable(leftovers: Leftovers) -> None:
    """After the interrupt the same pool runs other calls."""
    rests = task(rest)
    with ProcessBackend(2) as backend:
        for _ in range(3):

            def strike() -> None:
                assert eventually(lambda: len(backend.processes) == 2)
                time.sleep(0.1)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

            striking = threading.Thread(target=strike)
            striking.start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                evaluate(rests.zip(seconds=[30.0] * 4), default_backend=backend)
            striking.join()
            assert time.monotonic() - began < 10
            assert evaluate(task(same).zip(x=range(20)), default_backend=backend) == [*range(20)]


FORKER = """
    import os, sys, threading, time
    from daglite import ProcessBackend, evaluate, task
    from tests.backends import faults

    backend = ProcessBackend(2)
    squares = task(faults.same).zip(x=range(50))
    assert evaluate(squares, default_backend=backend) == list(range(50))
    over = threading.Event()

    def run():
        while not over.is_set():
            assert evaluate(squares, default_backend=backend) == list(range(50))

    thread = threading.Thread(target=run)
    if sys.argv[1] == "busy":
        thread.start()
    codes = []
    for _ in range(3):
        child = os.fork()
        if not child:
            # Once with a pool of its own, once without; then with all that ends at exit.
            if _ % 2:
                assert evaluate(squares, default_backend=backend) == list(range(50))
            sys.exit(7)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        assert evaluate(squares, default_backend=backend) == list(range(50))
    over.set()
    if sys.argv[1] == "busy":
        thread.join()
    print(codes, len(backend.processes))
"""


def scripted(script: str, *arguments: str, seconds: float = 40) -> tuple[int, str, str]:
    """Exit code and outputs of a script."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("how", ["idle", "busy"])
def test_a_fork_of_the_driver(how: str, leftovers: Leftovers) -> None:
    """The child may run calls in workers of its own, and does the parent's no harm."""
    code, told, error = scripted(FORKER, how)
    assert (code, told) == (0, "[7, 7, 7] 2\n"), error
    assert leftovers.processes == []


ENDS = """
    import sys, threading, time
    from pathlib import Path
    from daglite import ProcessBackend, evaluate, task
    from tests.backends import faults

    def run():
        try:
            evaluate(task(faults.waits_for_ever).bind(mark), default_backend=backend)
        except BaseException as error:
            print(type(error).__name__)

    mark = faults.Mark(Path(sys.argv[1], "mark"))
    backend = ProcessBackend(2)
    threading.Thread(target=run, daemon=True).start()
    while mark.moment is None:
        time.sleep(0.01)
    {end}
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1), ("import os; os._exit(4)", 4)],
)
def test_the_interpreter_ends_while_calls_run(
    end: str, code: int, leftovers: Leftovers, tmp_path: Path
) -> None:
    """It doesn't wait for them, and they don't stay."""
    ended, _, error = scripted(ENDS.format(end=end), str(tmp_path))
    assert ended == code, error
    assert eventually(lambda: leftovers.processes == [], SOON)
    assert "Exception ignored" not in error


def test_a_pool_that_nobody_has_any_more(leftovers: Leftovers) -> None:
    """It is closed when it is collected."""
    backend = ProcessBackend(2)
    assert evaluate(task(same).zip(x=range(20)), default_backend=backend) == list(range(20))
    workers = backend.processes
    assert len(workers) == 2
    collected = weakref.ref(backend)
    del backend
    gc.collect()
    assert collected() is None
    assert not any(map(is_alive, workers))


def test_a_pool_that_was_never_used(leftovers: Leftovers) -> None:
    """It has made nothing."""
    with ProcessBackend(2) as backend:
        assert backend.processes == []
        assert leftovers.processes == []
