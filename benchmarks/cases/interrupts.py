"""Ctrl-C in the middle of sleeping calls: how soon it surfaces, and what is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.model import Probe, Reading

__all__ = ["CASES"]

_SOON = 0.5
"""Seconds after the signal by which `KeyboardInterrupt` must be there."""

_AFTER = 0.2
"""Seconds that a map over 1,000 may take afterwards."""

_TIMES = 5
"""How often each is done; the slowest counts."""

_SCRIPT = """
import json, os, signal, sys, threading, time
import daglite

# A shell has what it runs in the background ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
WORKERS, TIMES, options, sleeping = 10, *json.loads(sys.argv[1])
begun = threading.Semaphore(0)

def nap(x):
    begun.release()
    if sleeping == "time.sleep":
        time.sleep(60)
    while True:
        time.sleep(0.001)

def strike():
    global struck
    for _ in range(WORKERS):
        begun.acquire()
    # All are well asleep, and the caller's thread waits.
    time.sleep(0.05)
    struck = time.perf_counter()
    os.kill(os.getpid(), signal.SIGINT)

naps = [daglite.task(nap).with_options(**options).bind(x=x) for x in range(WORKERS)]
healthy = daglite.task(abs).extend(x=range(1_000))
backend = daglite.ThreadBackend(max_workers=WORKERS)
surfaced, after = [], []
for _ in range(TIMES):
    threading.Thread(target=strike).start()
    try:
        daglite.evaluate(naps, default_backend=backend)
    except KeyboardInterrupt:
        surfaced.append(time.perf_counter() - struck)
    began = time.perf_counter()
    assert daglite.evaluate(healthy, default_backend=backend) == list(range(1_000))
    after.append(time.perf_counter() - began)
assert len(surfaced) == TIMES and not begun.acquire(blocking=False)
print(json.dumps([max(surfaced), max(after)]))
"""


def _interrupted() -> list[Reading]:
    return [reading for sleeping in ("time.sleep", "short naps") for reading in _rows(sleeping)]


def _rows(sleeping: str) -> Iterator[Reading]:
    for name, options in (
        ("no policy", {}),
        ("a retry", {"retry": 2}),
        ("a limit", {"timeout": 50}),
    ):
        arguments = json.dumps([_TIMES, options, sleeping])
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, arguments],
            check=True,
            timeout=60,
            stdout=subprocess.PIPE,
        )
        surfaced, after = json.loads(done.stdout)
        row = f"10 tasks in {sleeping}, {name}"
        yield Reading(f"{row}: KeyboardInterrupt after the signal by", surfaced, "s", _SOON)
        yield Reading(f"{row}: then a map over 1,000", after, "s", _AFTER)


CASES = [Probe("interrupt", "Ctrl-C in the middle of calls on threads", _interrupted, ["daglite"])]
