"""`protect` keeps the function's type; read by type checkers only."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from typing_extensions import assert_type

from daglite import Bulkhead, CircuitBreaker, FallbackPolicy, RateLimit, RetryPolicy, protect
from daglite.testing import VirtualClock


@protect(retry=3, backoff="exponential", timeout="30s")
def fetch(url: str, *, limit: int = 10) -> bytes:
    return url.encode()[:limit]


@protect(
    name="later",
    retry=RetryPolicy(3),
    timeout=timedelta(seconds=3),
    circuit_breaker=CircuitBreaker(consecutive=5),
    rate_limit=RateLimit(10),
    bulkhead=Bulkhead(3),
    fallback=FallbackPolicy(""),
    clock=VirtualClock(),
)
async def later(x: int) -> str:
    return str(x)


def plain(x: int) -> str:
    return str(x)


class Client:
    @protect(retry=3)
    def get(self, url: str) -> bytes:
        return url.encode()


def calls() -> None:
    """What a checker knows of a protected function."""
    assert_type(fetch("a", limit=3), bytes)
    fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fetch("a", size=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    guarded = protect(plain, rate_limit=10, bulkhead=3)
    assert_type(guarded(1), str)
    guarded("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    kept: Callable[[int], str] = protect(plain, retry=1)
    coroutine: Coroutine[Any, Any, str] = later(x=1)
    protect(plain, retry="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    protect(plain, retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    print(kept, coroutine)


async def awaits() -> None:
    assert_type(await later(1), str)
    assert_type(Client().get("a"), bytes)
    Client().get(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
