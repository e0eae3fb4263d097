"""Ctrl-C and cancelled runs: how soon they surface, and what they leave behind."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from daglite import ThreadBackend, evaluate, evaluate_async, get_global_settings, task
from tests.backends.journal import WAIT, eventually

SOON = 5.0
"""Seconds, ten times what is promised: the machine may be busy."""

CTRL_C = """
    import os, signal, sys, threading, time
    from _thread import interrupt_main
    from daglite import ThreadBackend, evaluate, task

    begun = threading.Semaphore(0)
    ended = []

    def nap(x):
        begun.release()
        try:
            {sleeping}
        finally:
            ended.append(x)

    def strike():
        for _ in range({running}):
            begun.acquire(timeout=20)
        # The caller's thread waits by then.
        time.sleep(0.1)
        global struck
        struck = time.monotonic()
        {strike}

    napping = task(nap, name="nap").with_options({options})
    quick = task(lambda x: x + 1, name="quick")
    backend = {backend}
    threading.Thread(target=strike, daemon=True).start()
    try:
        evaluate([napping.bind(x=i) for i in range(10)], default_backend=backend)
    except KeyboardInterrupt:
        print(time.monotonic() - struck)
    late = begun.acquire(timeout=0.05)
    began = time.monotonic()
    for options in ({{}}, {{"timeout": 20}}, {{"retry": 1}}):
        again = quick.with_options(**options).extend(x=range(40))
        assert evaluate(again, default_backend=backend) == list(range(1, 41))
    print(time.monotonic() - began)
    print("late" if late else "none late")
"""


def interrupted(
    *, strike: str = "os.kill(os.getpid(), signal.SIGINT)", **script: object
) -> tuple[float, float, str]:
    """Seconds until Ctrl-C surfaced and that later runs took, and whether a call started late."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CTRL_C.format(strike=strike, **script))],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    surfaced, later, late = done.stdout.splitlines()
    return float(surfaced), float(later), late


@pytest.mark.parametrize("sleeping", ["time.sleep(60)", "while True: time.sleep(0.005)"])
@pytest.mark.parametrize("options", ["", "retry=2", "timeout=50"])
@pytest.mark.parametrize(
    ("backend", "running"),
    [
        ("ThreadBackend(10)", 10),
        ("ThreadBackend(3)", 3),
        ("'threading'", min(get_global_settings().threads, 10)),
        ("'sequential'", 1),
    ],
)
def test_ctrl_c(backend: str, running: int, options: str, sleeping: str) -> None:
    """It surfaces at once, starts nothing more, and a later run works as before."""
    surfaced, later, late = interrupted(
        backend=backend, running=running, options=options, sleeping=sleeping
    )
    print(f"{backend} {options or 'bare'} {sleeping}: {surfaced:.4f} s, later {later} s")
    assert surfaced < SOON
    assert later < SOON
    assert late == "none late"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals can't be aimed at threads")
@pytest.mark.parametrize("options", ["", "timeout=50"])
@pytest.mark.parametrize(
    "strike", ["signal.pthread_kill(threading.get_ident(), signal.SIGINT)", "interrupt_main()"]
)
def test_ctrl_c_that_another_thread_takes(options: str, strike: str) -> None:
    """It surfaces as soon: the system may give a signal to any thread of a process."""
    surfaced, _, _ = interrupted(
        backend="ThreadBackend(10)",
        running=10,
        options=options,
        sleeping="time.sleep(3)",
        strike=strike,
    )
    assert surfaced < 1.5


def test_the_loop_stays_free() -> None:
    """While a run sleeps, the event loop keeps turning."""
    nap = task(lambda: time.sleep(0.2), name="nap")

    async def main() -> int:
        running = asyncio.ensure_future(evaluate_async(nap.bind()))
        turns = 0
        while not running.done():
            await asyncio.sleep(0.005)
            turns += 1
        await running
        return turns

    assert asyncio.run(main()) >= 5


def test_a_cancelled_run_ends(gate: threading.Event) -> None:
    """Soon, with its queued calls never started, and the threads free for the next."""
    backend = ThreadBackend(2)
    started: list[int] = []

    @task(timeout=WAIT)
    def wait(x: int) -> None:
        started.append(x)
        gate.wait(WAIT)

    async def main() -> float:
        running = asyncio.ensure_future(
            evaluate_async([wait.bind(x=x) for x in range(10)], default_backend=backend)
        )
        while len(started) < 2:
            await asyncio.sleep(0.002)
        began = time.monotonic()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return time.monotonic() - began

    assert asyncio.run(main()) < SOON
    assert eventually(lambda: backend.abandoned == 2)
    quick = task(lambda x: x, name="quick").with_options(timeout=WAIT)
    assert evaluate(quick.extend(x=range(20)), default_backend=backend) == list(range(20))
    assert sorted(started) == [0, 1]
    gate.set()
    backend.close()


def test_cancelled_before_it_began() -> None:
    """A run whose awaiting task is cancelled at once leaves nothing."""
    quick = task(lambda x: x, name="quick")

    async def main() -> list[int]:
        for _ in range(20):
            running = asyncio.ensure_future(evaluate_async(quick.extend(x=range(10))))
            await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        return await evaluate_async(quick.extend(x=range(10)), use_async=True)

    assert asyncio.run(main()) == list(range(10))
    assert eventually(
        lambda: not [t for t in threading.enumerate() if t.name == "daglite-evaluate"]
    )


def test_from_two_loops_at_once() -> None:
    """Each thread's loop gets its own values."""
    slow = task(lambda x, y: (time.sleep(0.002), x * y)[1], name="slow")
    results: dict[int, list[list[int]]] = {}

    async def several(y: int) -> list[list[int]]:
        runs = (evaluate_async(slow.extend(x=range(5), y=[y]), use_async=True) for _ in range(3))
        return list(await asyncio.gather(*runs))

    def work(y: int) -> None:
        results[y] = asyncio.run(several(y))

    threads = [threading.Thread(target=work, args=(y,)) for y in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert results == {y: [[x * y for x in range(5)]] * 3 for y in (2, 3)}


def test_a_loop_that_is_closed_meanwhile(gate: threading.Event) -> None:
    """A run that outlives its loop harms nobody."""
    begun = threading.Event()
    wait = task(lambda: (begun.set(), gate.wait(WAIT)), name="wait")

    async def main() -> None:
        running = asyncio.ensure_future(evaluate_async(wait.bind()))
        while not begun.is_set():
            await asyncio.sleep(0.002)
        running.cancel()

    asyncio.run(main())
    gate.set()
    assert eventually(
        lambda: not [t for t in threading.enumerate() if t.name == "daglite-evaluate"]
    )
