"""What policies cost when nothing goes wrong: around a plain call, and in the engine."""

from __future__ import annotations

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


def _protect(**options: Any) -> Callable[[], Wrap]:
    """Return what makes daglite's decorator with these options."""

    def make() -> Wrap:
        from daglite import protect

        return protect(**options)

    return make


def _protect_breaker(**options: Any) -> Callable[[], Wrap]:
    def make() -> Wrap:
        from daglite import CircuitBreaker, protect

        return protect(circuit_breaker=CircuitBreaker(consecutive=5), **options)

    return make


def _pybreaker() -> Wrap:
    import pybreaker

    return pybreaker.CircuitBreaker(fail_max=5)  # type: ignore[no-any-return]


def _pyresilience_breaker() -> Wrap:
    from pyresilience import CircuitBreakerConfig, resilient

    return resilient(circuit_breaker=CircuitBreakerConfig())  # type: ignore[no-any-return]


def _pyresilience_bulkhead() -> Wrap:
    from pyresilience import BulkheadConfig, resilient

    return resilient(bulkhead=BulkheadConfig(max_concurrent=10))  # type: ignore[no-any-return]


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
        name="policy-protect",
        title="Policies around a plain call, by decorators",
        size=1_000,
        answer=chain_answer,
        peers=[
            Peer("bare call", _calls(_bare)),
            Peer("daglite: retry", _calls(_protect(retry=3)), ["daglite"]),
            Peer("daglite: breaker", _calls(_protect_breaker()), ["daglite"]),
            Peer("daglite: retry, breaker", _calls(_protect_breaker(retry=3)), ["daglite"]),
            Peer("daglite: bulkhead", _calls(_protect(bulkhead=10)), ["daglite"]),
            Peer("daglite: timeout", _calls(_protect(timeout=30)), ["daglite"]),
            Peer("tenacity: retry", _calls(_tenacity), ["tenacity"]),
            Peer("stamina: retry", _calls(_stamina), ["stamina"]),
            Peer("pyresilience: retry", _calls(_pyresilience), ["pyresilience"]),
            Peer("pybreaker: breaker", _calls(_pybreaker), ["pybreaker"]),
            Peer("pyresilience: breaker", _calls(_pyresilience_breaker), ["pyresilience"]),
            Peer("pyresilience: bulkhead", _calls(_pyresilience_bulkhead), ["pyresilience"]),
            Peer("pyresilience: retry, timeout", _calls(_pyresilience_timeout), ["pyresilience"]),
        ],
        targets=[
            Target("daglite: retry", 15.0),
            Target("daglite: breaker", 15.0),
            Target("daglite: bulkhead", 20.0),
            Target("daglite: retry", 1.0, against="tenacity: retry"),
            Target("daglite: retry", 1.0, against="stamina: retry"),
            Target("daglite: breaker", 1.0, against="pyresilience: breaker"),
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
