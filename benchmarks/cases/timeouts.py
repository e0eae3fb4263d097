"""Calls that hang, on threads: is the limit kept, and does anything feel them afterwards?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.model import Probe, Reading

__all__ = ["CASES"]

_LATE = 0.2
"""Seconds after its limit by which the error must be there."""

_HANG = 5.0

_IN_A_ROW = 100

_EXIT = """
import time, daglite
hang = daglite.task(timeout=0.1)(lambda: time.sleep(60))
try:
    daglite.evaluate(hang.bind(), default_backend="threading")
except daglite.exceptions.TaskTimeoutError:
    pass
else:
    raise SystemExit("no error")
"""


def _sleeping() -> None:
    time.sleep(_HANG)


def _spinning() -> None:
    end = time.monotonic() + _HANG
    while time.monotonic() < end:
        pass


def _quick(x: int) -> int:
    return x


def _hanging() -> list[Reading]:
    from daglite import ThreadBackend, task

    backend = ThreadBackend(max_workers=2)
    readings = []
    for name, func in (("time.sleep", _sleeping), ("a busy Python loop", _spinning)):
        for limit in (0.1, 0.5):
            late = _late(task(timeout=limit)(func).bind(), limit, backend)
            what = f"{name}, limit {limit:g} s: error after the limit by"
            readings.append(Reading(what, late, "s", _LATE))
    # Retries: each attempt has its own limit, and the pool must bear their sum.
    again = task(timeout=0.1, retry=_thrice())(_sleeping)
    late = _late(again.bind(), 0.3, backend)
    readings.append(Reading("time.sleep, 3 attempts of 0.1 s: after the last by", late, "s", _LATE))
    return readings


def _thrice() -> Any:
    from daglite import RetryPolicy

    return RetryPolicy(2, "none")


def _abandoned() -> list[Reading]:
    readings = []
    for name, func in (("time.sleep", _sleeping), ("a busy Python loop", _spinning)):
        readings += _row(name, func)
    return readings


def _row(name: str, func: Callable[[], None]) -> list[Reading]:
    from daglite import ThreadBackend, evaluate, task

    limit = 0.05
    backend = ThreadBackend(max_workers=2)
    hang = task(timeout=limit)(func)
    healthy = task(_quick).extend(x=range(1_000))
    worst = 0.0
    begun = time.perf_counter()
    for _ in range(_IN_A_ROW):
        worst = max(worst, _late(hang.bind(), limit, backend))
    whole = time.perf_counter() - begun
    begun = time.perf_counter()
    assert evaluate(healthy, default_backend=backend) == list(range(1_000))
    after = time.perf_counter() - begun
    row = f"{name}, {_IN_A_ROW} in a row, limit {limit:g} s"
    return [
        Reading(f"{row}: the latest error after its limit by", worst, "s", _LATE),
        Reading(f"{row}: all of them", whole, "s", _IN_A_ROW * (limit + _LATE)),
        Reading(f"{row}: then a map over 1,000", after, "s", _LATE),
    ]


def _late(future: Any, limit: float, backend: Any) -> float:
    """Return by how much the error came after the limit, in seconds."""
    from daglite import evaluate
    from daglite.exceptions import TaskTimeoutError

    begun = time.perf_counter()
    try:
        evaluate(future, default_backend=backend)
    except TaskTimeoutError:
        return time.perf_counter() - begun - limit
    raise AssertionError("a hanging call gave no error")


def _leaving() -> list[Reading]:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", _EXIT], check=True, timeout=60)
    spent = time.perf_counter() - begun
    return [Reading("a program that leaves a call of 60 s behind", spent, "s", 3.0)]


CASES = [
    Probe("timeout", "A hanging call on threads", _hanging, ["daglite"]),
    Probe("timeout-row", "Abandoned calls", _abandoned, ["daglite"], large=True),
    Probe("timeout-exit", "Exit with a call still running", _leaving, ["daglite"]),
]
