"""
What each policy costs around a no-op, and what all of them cost together.

Three races: plain calls, coroutines, and a map in daglite's engine on the sequential backend.
Whoever has the same policy makes the same calls: at most 4 attempts, a breaker that opens after 5
failures in a row, 10 calls at a time, a rate that is never reached, a limit of 30 seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from benchmarks.model import Make, Peer, Race, Run, Target
from benchmarks.workload import add, chain_answer, inc

__all__ = ["CASES"]

Func: TypeAlias = Callable[..., Any]
Wrap: TypeAlias = Callable[[Func], Func]
"""Puts a library's policies around a function, plain or async."""

_SINGLE = ("fallback", "total", "retry", "breaker", "window", "rate", "bulkhead", "attempt")
"""One policy each; "window" is a breaker that goes by the rate of the last 100 calls."""

_STACK = "fallback retry breaker rate bulkhead"
_FULL = f"{_STACK} total attempt"

_TITLES = {
    "total": "total timeout",
    "breaker": "breaker, 5 in a row",
    "window": "breaker, rate of 100",
    "filling": "breaker, rate of a million",
    "slow": "breaker, slow calls too",
    "rate": "rate limit",
    "attempt": "attempt timeout",
    _STACK: "all but timeouts",
    _FULL: "full stack",
}


async def _add(x: int, y: int) -> int:
    return x + y


# -- the policies, as each library spells them ------------------------------------


def _policies(names: str) -> dict[str, Any]:
    """Options of `protect` and `task`."""
    from daglite import (
        Bulkhead,
        CircuitBreaker,
        FallbackPolicy,
        RateLimit,
        RetryPolicy,
        TimeoutPolicy,
    )

    known = {
        "fallback": {"fallback": FallbackPolicy(value=0)},
        "retry": {"retry": RetryPolicy(3, "exponential")},
        "breaker": {"circuit_breaker": CircuitBreaker(consecutive=5)},
        "window": {"circuit_breaker": CircuitBreaker(failure_rate=0.5, window=100)},
        "filling": {"circuit_breaker": CircuitBreaker(failure_rate=0.5, window=1_000_000)},
        "slow": {"circuit_breaker": CircuitBreaker(failure_rate=0.5, window=100, slow_call=10)},
        "rate": {"rate_limit": RateLimit(1_000_000_000, burst=1_000_000)},
        "bulkhead": {"bulkhead": Bulkhead(10)},
    }
    given = names.split()
    options = {}
    for name in given:
        options |= known.get(name, {})
    limits = {"attempt": 30} if "attempt" in given else {}
    limits |= {"total": 60} if "total" in given else {}
    if limits:
        options["timeout"] = TimeoutPolicy(**limits)
    return options


def _pyresilience(names: str) -> Wrap:
    """It has one limit of time: for each attempt, or else for all; here for each, if both."""
    import pyresilience as them

    known = {
        "fallback": {"fallback": them.FallbackConfig(0)},
        "total": {"timeout": them.TimeoutConfig(60, per_attempt=False)},
        "retry": {"retry": them.RetryConfig(max_attempts=4)},
        "breaker": {"circuit_breaker": them.CircuitBreakerConfig(failure_threshold=5)},
        "window": {
            "circuit_breaker": them.CircuitBreakerConfig(sliding_window_size=100, minimum_calls=10)
        },
        "rate": {"rate_limiter": them.RateLimiterConfig(max_calls=1_000_000_000)},
        "bulkhead": {"bulkhead": them.BulkheadConfig(max_concurrent=10)},
        "attempt": {"timeout": them.TimeoutConfig(30)},
    }
    options: dict[str, Any] = {}
    for name in names.split():
        options |= known[name]
    return them.resilient(**options)  # type: ignore[no-any-return]


def _tenacity(names: str) -> Wrap:
    import tenacity

    wait = tenacity.wait_exponential_jitter(initial=1, max=60)
    return tenacity.retry(stop=tenacity.stop_after_attempt(4), wait=wait)


def _stamina(names: str) -> Wrap:
    import stamina

    return stamina.retry(on=Exception, attempts=4)


def _pybreaker(names: str) -> Wrap:
    import pybreaker

    return pybreaker.CircuitBreaker(fail_max=5)  # type: ignore[no-any-return]


def _protect(names: str) -> Wrap:
    from daglite import protect

    return protect(**_policies(names))  # type: ignore[no-any-return]


def _bare(names: str) -> Wrap:
    return lambda func: func


# -- how they are called ----------------------------------------------------------


def _calls(wrap: Callable[[str], Wrap], names: str = "") -> Make:
    """One plain function again and again."""

    def make(size: int) -> Run:
        step = wrap(names)(add)

        def run() -> object:
            value = 0
            for _ in range(size):
                value = step(value, 1)
            return value

        return run

    return make


def _awaits(wrap: Callable[[str], Wrap], names: str = "") -> Make:
    """One ``async def`` again and again, in one task of a loop that is there already."""

    def make(size: int) -> Run:
        step, loop = wrap(names)(_add), asyncio.new_event_loop()

        async def all_of_them() -> int:
            value = 0
            for _ in range(size):
                value = await step(value, 1)
            return value

        return lambda: loop.run_until_complete(all_of_them())

    return make


def _loop(wrap: Callable[[str], Wrap], names: str = "") -> Make:
    """One plain function over many elements, by a loop."""

    def make(size: int) -> Run:
        step = wrap(names)(inc)

        def run() -> object:
            results = []
            for x in range(size):
                results.append(step(x))
            return results

        return run

    return make


def _map(names: str) -> Make:
    """One task over many elements, on the sequential backend."""

    def make(size: int) -> Run:
        from daglite import evaluate, task

        step = task(**_policies(names))(inc)
        return lambda: evaluate(step.extend(x=range(size)))

    return make


# -- the races --------------------------------------------------------------------


def _titled(library: str, names: str) -> str:
    return f"{library}: {_TITLES.get(names, names)}"


def _ours(how: Callable[..., Make], names: str) -> Peer:
    return Peer(_titled("daglite", names), how(_protect, names), ["daglite"])


def _theirs(how: Callable[..., Make], names: str) -> Peer:
    return Peer(_titled("pyresilience", names), how(_pyresilience, names), ["pyresilience"])


def _others(how: Callable[..., Make]) -> list[Peer]:
    return [
        Peer("tenacity: retry", how(_tenacity), ["tenacity"]),
        Peer("stamina: retry", how(_stamina), ["stamina"]),
    ]


def _not_behind(*, pybreaker: bool = True) -> list[Target]:
    """At or ahead of each peer that does the same."""
    pairs = [(names, _titled("pyresilience", names)) for names in (*_SINGLE, _STACK, _FULL)]
    pairs += [("retry", "tenacity: retry"), ("retry", "stamina: retry")]
    if pybreaker:
        pairs.append(("breaker", "pybreaker: breaker"))
    return [Target(_titled("daglite", names), 1.0, against=peer) for names, peer in pairs]


_BY_HAND = {"retry": 15.0, "breaker": 15.0, "filling": 15.0, "bulkhead": 20.0}

_SETS = (*_SINGLE, _STACK, _FULL)

CASES = [
    Race(
        name="policy-protect",
        title="Policies around a plain call, each alone and all together",
        size=1_000,
        answer=chain_answer,
        peers=[
            Peer("bare call", _calls(_bare)),
            *(_ours(_calls, names) for names in (*_SINGLE, "filling", "slow", _STACK, _FULL)),
            *_others(_calls),
            Peer("pybreaker: breaker", _calls(_pybreaker), ["pybreaker"]),
            *(_theirs(_calls, names) for names in _SETS),
        ],
        targets=[
            *(Target(_titled("daglite", names), limit) for names, limit in _BY_HAND.items()),
            *_not_behind(),
        ],
    ),
    Race(
        name="policy-protect-async",
        title="Policies around a coroutine, each alone and all together",
        size=1_000,
        answer=chain_answer,
        peers=[
            Peer("bare coroutine", _awaits(_bare)),
            *(_ours(_awaits, names) for names in _SETS),
            *_others(_awaits),
            *(_theirs(_awaits, names) for names in _SETS),
        ],
        targets=_not_behind(pybreaker=False),
    ),
    Race(
        name="policy-stack",
        title="Policies in the engine: map over 10,000, sequential, and decorators in a loop",
        size=10_000,
        answer=lambda size: list(range(1, size + 1)),
        unit="element",
        peers=[
            Peer("plain loop", _loop(_bare)),
            Peer("daglite: no policy", _map(""), ["daglite"]),
            *(Peer(_titled("daglite", names), _map(names), ["daglite"]) for names in _SETS),
            *_others(_loop),
            Peer("pybreaker: breaker", _loop(_pybreaker), ["pybreaker"]),
            *(_theirs(_loop, names) for names in _SETS),
        ],
        targets=[
            *(
                Target(_titled("daglite", n), 0.4, against="daglite: no policy", measure="adds")
                for n in ("fallback", "retry", "breaker", "window")
            ),
            *_not_behind(),
        ],
    ),
]
