"""
Typed, lazy DAGs whose every failure has a policy.

    >>> from daglite import evaluate, task
    >>> @task(retry=3, timeout=30)
    ... def add(x: int, y: int) -> int:
    ...     return x + y
    >>> evaluate(add.bind(x=1, y=2))
    3

Names load on first use, so that ``import daglite`` costs next to nothing.
"""

from importlib import import_module as _import_module

__version__ = "0.1.0"

_HOMES = {
    "Backend": "core.protocols",
    "BreakerSnapshot": "state.breaker",
    "Bulkhead": "policies",
    "CachePolicy": "policies",
    "Call": "core.call",
    "Capabilities": "core.protocols",
    "Chaos": "policies",
    "CircuitBreaker": "policies",
    "DagliteSettings": "settings",
    "Explanation": "explanation",
    "FallbackPolicy": "policies",
    "Finding": "linting",
    "Hedge": "policies",
    "MapPolicy": "policies",
    "MapTaskFuture": "core.task",
    "Middleware": "core.protocols",
    "Next": "core.protocols",
    "Outcome": "core.call",
    "Policy": "policies",
    "PolicySet": "policies",
    "ProcessBackend": "backends.processes.backend",
    "RateLimit": "policies",
    "ResourceLimits": "policies",
    "RetryBudget": "policies",
    "RetryPolicy": "policies",
    "SequentialBackend": "backends.sequential",
    "Task": "core.task",
    "TaskFuture": "core.task",
    "ThreadBackend": "backends.threads",
    "TimeoutPolicy": "policies",
    "breakers": "circuits",
    "build_graph": "core.builder",
    "current_call": "core.current",
    "evaluate": "evaluation",
    "evaluate_async": "evaluation",
    "explain": "explanation",
    "find_backend": "backends.registry",
    "force_open": "circuits",
    "get_global_settings": "settings",
    "lint": "linting",
    "reset": "circuits",
    "protect": "protection",
    "run_here": "core.dispatch",
    "set_global_settings": "settings",
    "task": "core.decorator",
}

# What a type checker wants to know of the names stands in the stub.
__all__ = list(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'daglite' has no attribute {name!r}")
    value = getattr(_import_module(f"daglite.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
