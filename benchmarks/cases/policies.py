"""What retries and timeouts cost when nothing goes wrong: in the engine, next to decorators."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.cases import chain
from benchmarks.model import Make, Peer, Race, Run, Target
from benchmarks.workload import add, chain_answer, inc

__all__ = ["CASES"]

Wrap = Callable[[Callable[..., int]], Callable[..., int]]


def _calls(wrap: Callable[[], Wrap]) -> Make:
    """Return a peer that calls one decorated function again and again."""

    def make(size: int) -> Run:
        step = wrap()(add)

        def run() -> object:
            value = 0
            for _ in range(size):
                value = step(value, 1)
            return value

        return run

    return make


def _bare() -> Wrap:
    return lambda func: func


def _tenacity() -> Wrap:
    import tenacity

    wait = tenacity.wait_exponential_jitter(initial=1, max=60)
    return tenacity.retry(stop=tenacity.stop_after_attempt(4), wait=wait)


def _stamina() -> Wrap:
    import stamina

    return stamina.retry(on=Exception, attempts=4)


def _backoff() -> Wrap:
    import backoff

    return backoff.on_exception(backoff.expo, Exception, max_tries=4)


def _pyresilience() -> Wrap:
    from pyresilience import RetryConfig, resilient

    return resilient(retry=RetryConfig(max_attempts=4))  # type: ignore[no-any-return]


def _pyresilience_timeout() -> Wrap:
    from pyresilience import RetryConfig, TimeoutConfig, resilient

    return resilient(  # type: ignore[no-any-return]
        retry=RetryConfig(max_attempts=4), timeout=TimeoutConfig(seconds=30)
    )


def _protect_shared(policy: str, scope: str) -> Callable[[], Wrap]:
    """Return what makes a decorator with a policy that runs, or processes, share."""

    def make() -> Wrap:
        from daglite import CircuitBreaker, RateLimit, RetryBudget, RetryPolicy, protect

        # Not the file of whoever measures.
        directory = tempfile.mkdtemp(prefix="daglite-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        os.environ["DAGLITE_STATE_DIR"] = directory
        of: dict[str, Any] = {"scope": scope, "key": "benchmark"}
        options: dict[str, Any] = {
            "breaker": {"circuit_breaker": CircuitBreaker(consecutive=5, **of)},
            "rate": {"rate_limit": RateLimit(1e9, burst=1000, **of)},
            "budget": {"retry": RetryPolicy(3, budget=RetryBudget(**of))},
        }
        return protect(**options[policy])  # type: ignore[no-any-return]

    return make


def _options(names: str) -> dict[str, Any]:
    from daglite import RetryPolicy, TimeoutPolicy

    known = {
        "retry": RetryPolicy(3, "exponential"),
        "timeout": TimeoutPolicy(30),
        "total": TimeoutPolicy(total=60),
    }
    options = {name: known[name] for name in names.split()}
    if "total" in options:
        options["timeout"] = options.pop("total")
    return options


def _chain(names: str, threads: bool) -> Make:
    """Return a peer that runs a chain of tasks with these policies."""

    def make(size: int) -> Run:
        from daglite import ThreadBackend, evaluate, task

        step = task(**_options(names))(add)
        how: dict[str, Any] = {}
        if threads:
            how["default_backend"] = ThreadBackend(max_workers=2)

        def run() -> object:
            value: Any = 0
            for _ in range(size):
                value = step.bind(x=value, y=1)
            return evaluate(value, **how)

        return run

    return make


def _map(names: str, threads: bool) -> Make:
    """Return a peer that maps a task with these policies."""

    def make(size: int) -> Run:
        from daglite import ThreadBackend, evaluate, task

        step = task(**_options(names))(inc)
        how: dict[str, Any] = {}
        if threads:
            how["default_backend"] = ThreadBackend(max_workers=2)

        def run() -> object:
            return evaluate(step.extend(x=range(size)), **how)

        return run

    return make


def _with(names: str) -> str:
    return f"with {' and '.join(names.split())}" if names else "no policy"


def _added(
    name: str,
    title: str,
    size: int,
    answer: Callable[[int], object],
    make: Callable[[str], Make],
    policies: Sequence[str],
    targets: Sequence[Target],
) -> Race:
    """Return a race of tasks with and without policies."""
    return Race(
        name=name,
        title=title,
        size=size,
        answer=answer,
        unit="node",
        peers=[Peer(_with(names), make(names), ["daglite"]) for names in ("", *policies)],
        targets=targets,
    )


_RETRY = [Target("with retry", 0.4, measure="adds")]

# A hop to a thread and back costs 20 µs or more, so what adds less than half of that adds none
# to a call that goes through the driver anyway, as one with a retry policy does on threads.
_NO_HOP = [Target("with retry and timeout", 10.0, against="with retry", measure="adds")]

_ALL = ("retry", "timeout", "retry timeout", "total")

CASES = [
    Race(
        name="policy-calls",
        title="Retry around a plain call, by decorators, and in daglite's engine",
        size=1_000,
        answer=chain_answer,
        peers=[
            Peer("bare call", _calls(_bare)),
            Peer("daglite: chain, no policy", chain.daglite_sequential, ["daglite"]),
            Peer("daglite: chain with retry", _chain("retry", False), ["daglite"]),
            Peer("tenacity", _calls(_tenacity), ["tenacity"]),
            Peer("stamina", _calls(_stamina), ["stamina"]),
            Peer("backoff", _calls(_backoff), ["backoff"]),
            Peer("pyresilience", _calls(_pyresilience), ["pyresilience"]),
            Peer("pyresilience, + timeout", _calls(_pyresilience_timeout), ["pyresilience"]),
        ],
        targets=[
            Target("daglite: chain with retry", 1.0, against="tenacity"),
            Target("daglite: chain with retry", 1.0, against="stamina"),
        ],
    ),
    Race(
        name="policy-host",
        title="Policies that processes share, around a plain call",
        size=1_000,
        answer=chain_answer,
        peers=[
            Peer("bare call", _calls(_bare)),
            *(
                Peer(f"daglite: {what}, {scope}", _calls(_protect_shared(what, scope)), ["daglite"])
                for what in ("breaker", "rate", "budget")
                for scope in ("process", "host")
            ),
        ],
        targets=[
            Target("daglite: breaker, host", 100.0, measure="total", by="cpu"),
            Target("daglite: rate, host", 100.0, measure="total", by="cpu"),
            Target("daglite: budget, host", 100.0, measure="total", by="cpu"),
        ],
    ),
    _added(
        "policy-sequential",
        "Policies in the engine: chain of 1,000, sequential",
        1_000,
        chain_answer,
        lambda names: _chain(names, threads=False),
        _ALL,
        _RETRY,
    ),
    _added(
        "policy-threads",
        "Policies in the engine: chain of 1,000, threading(2)",
        1_000,
        chain_answer,
        lambda names: _chain(names, threads=True),
        _ALL,
        _NO_HOP,
    ),
    _added(
        "policy-map",
        "Policies in the engine: map over 10,000, sequential",
        10_000,
        lambda size: list(range(1, size + 1)),
        lambda names: _map(names, threads=False),
        ["retry"],
        _RETRY,
    ),
    _added(
        "policy-map-threads",
        "Policies in the engine: map over 10,000, threading(2)",
        10_000,
        lambda size: list(range(1, size + 1)),
        lambda names: _map(names, threads=True),
        _ALL,
        _NO_HOP,
    ),
]
