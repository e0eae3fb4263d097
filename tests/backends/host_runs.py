"""
A process with runs that share policies with others: ``python host_runs.py WHAT DIRECTORY KEY``.

It prints what came of it, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import daglite
from daglite import CircuitBreaker, RateLimit, evaluate, task
from daglite.exceptions import CircuitOpenError


def run(directory: Path, key: str) -> Any:
    """A whole run, that waits for its circuit; tell when its tasks started."""
    starts: list[float] = []

    @task(
        circuit_breaker=CircuitBreaker(key, scope="host"),
        rate_limit=RateLimit(50, key=key, scope="host"),
    )
    def work(x: int) -> int:
        starts.append(time.monotonic())
        return x

    print("begun", flush=True)
    evaluate(work.extend(x=range(20)), default_backend="threading")
    return starts


def fail(directory: Path, key: str) -> Any:
    """A run whose task fails, or is refused."""

    @task(circuit_breaker=CircuitBreaker(key, consecutive=1, on_open="fail", scope="host"))
    def work() -> None:
        raise OSError("down")

    try:
        evaluate(work.bind())
    except CircuitOpenError:
        return "refused"
    except OSError:
        return "failed"


def by_hand(directory: Path, key: str) -> Any:
    """Fail once, open the circuit, look, and reset it when asked to."""
    failed = fail(directory, key)
    daglite.force_open(key)
    seen = [each.state for each in daglite.breakers() if each.key == key]
    refused = fail(directory, key)
    print("begun", flush=True)
    sys.stdin.readline()
    daglite.reset(key)
    return [failed, *seen, refused]


if __name__ == "__main__":
    done = globals()[sys.argv[1]](Path(sys.argv[2]), sys.argv[3])
    print(json.dumps(done))
