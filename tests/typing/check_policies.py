"""Policies take what they say they take: names, units, classes, functions."""

from __future__ import annotations

from datetime import timedelta

from tenacity import retry_if_exception_type, wait_fixed
from typing_extensions import assert_type

from daglite import (
    Bulkhead,
    CachePolicy,
    Call,
    Chaos,
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    MapPolicy,
    Next,
    Outcome,
    Policy,
    PolicySet,
    RateLimit,
    ResourceLimits,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
)


async def passing(call: Call, call_next: Next) -> Outcome:
    return await call_next(call)


def is_transient(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


def is_empty(result: list[str]) -> bool:
    return not result


def retries() -> None:
    """A number of retries and a backoff by position, all else by name."""
    RetryPolicy()
    RetryPolicy(3)
    RetryPolicy(3, "exponential", delay="200ms")
    RetryPolicy(3, [1, 5, "1m", timedelta(hours=1)])
    RetryPolicy(3, (0.5, 2))
    RetryPolicy(3, wait_fixed(2))
    RetryPolicy(
        max_retries=5,
        backoff="decorrelated",
        delay=timedelta(seconds=1),
        factor=3,
        max_delay="1m",
        jitter="equal",
        retry_on=(ConnectionError, TimeoutError),
        never=KeyError,
        retry_on_result=is_empty,
        infrastructure_retries=0,
        max_elapsed=None,
        hint="retry_after",
        max_hint=60.0,
        seed=1,
    )
    RetryPolicy(retry_on=OSError)
    RetryPolicy(retry_on="builtins:OSError")
    RetryPolicy(retry_on=is_transient)
    RetryPolicy(retry_on=retry_if_exception_type(OSError))
    RetryPolicy(never=[KeyError, "builtins:IndexError"])


def wrong_retries() -> None:
    """What the policy would refuse the type checker refuses first."""
    RetryPolicy("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(3, "exponentially")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(3, b"none")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(3, [None])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    RetryPolicy(3, "linear", 1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RetryPolicy(retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RetryPolicy(delay=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(jitter="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(retry_on=KeyboardInterrupt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(retry_on=OSError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(hint=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def fields_of_retries() -> None:
    """Whatever was given, a field has one unit."""
    policy = RetryPolicy(3, delay="200ms", max_elapsed="1h")
    assert_type(policy.max_retries, int)
    assert_type(policy.max_attempts, int)
    assert_type(policy.delay, float)
    assert_type(policy.max_elapsed, float | None)
    assert_type(policy.ceiling(1), float)
    assert_type(policy.delay_before(1, draw=0.5), float)
    assert_type(policy.retries(OSError()), bool)
    assert_type(policy.merged_over(RetryPolicy()), RetryPolicy)
    assert_type(policy.model_copy(update={"delay": 1}), RetryPolicy)


def timeouts() -> None:
    """The limit of an attempt by position, all else by name."""
    TimeoutPolicy(30)
    TimeoutPolicy("200ms", total="5m")
    TimeoutPolicy(total=timedelta(minutes=5), grace=1.0, on_expiry="abandon")
    assert_type(TimeoutPolicy(30).attempt, float | None)
    assert_type(TimeoutPolicy(30).grace, float)
    TimeoutPolicy(30, 300)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    TimeoutPolicy([30])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TimeoutPolicy(30, on_expiry="stop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    TimeoutPolicy(30, grace=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def breakers() -> None:
    """The key by position, all else by name."""
    CircuitBreaker()
    CircuitBreaker("api", failure_rate=0.5, window_type="time", window="5m", ignore=KeyError)
    CircuitBreaker(consecutive=5, on_open="fail", scope="host", mode="metrics_only")
    assert_type(CircuitBreaker().failure_rate, float | None)
    assert_type(CircuitBreaker().break_for, float)
    CircuitBreaker("api", 0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    CircuitBreaker(on_open="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    CircuitBreaker(consecutive="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def limits_of_rate_and_number() -> None:
    """What they can't do without is asked for."""
    RateLimit(100)
    RateLimit(0.5, "1m", burst=5, max_wait=None)
    Bulkhead(4)
    Bulkhead(4, 10, max_wait=timedelta(seconds=3))
    RetryPolicy(5, budget=RetryBudget(0.1, on_exhausted="fail"))
    assert_type(RateLimit(100).rate, float)
    assert_type(Bulkhead(4).max_queue, int | None)
    RateLimit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Bulkhead()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Bulkhead(2.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryPolicy(5, budget=0.1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def the_rest() -> None:
    """Each takes what it says it takes."""
    FallbackPolicy(None)
    FallbackPolicy(func=is_transient, on=(OSError, "builtins:KeyError"))
    Hedge("200ms")
    Hedge(quantile=0.95, max_hedges=2)
    MapPolicy("collect", min_success_ratio=0.9)
    Chaos(0.1, error=OSError, kill=True, corrupt=str)
    ResourceLimits("1GB", "1m", resources={"licence": 1})
    CachePolicy("1h", ignore="x", env=["HOME"], depends_on=[is_empty], single_flight=False)
    assert_type(ResourceLimits("1GB").max_memory, int | None)
    assert_type(MapPolicy().min_success_ratio, float)
    MapPolicy("ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Hedge(quantile="95%")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chaos(error=OSError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    CachePolicy(single_flight=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def sets() -> None:
    """A slot takes its policy or the short form of it."""
    PolicySet()
    PolicySet(retry=3, timeout="30s")
    PolicySet(retry=RetryPolicy(3), timeout=TimeoutPolicy(30))
    PolicySet(retry=None, timeout=None)
    PolicySet(around_call=passing, around_attempt=[passing, passing])
    assert_type(PolicySet(retry=3).retry, RetryPolicy | None)
    assert_type(PolicySet(timeout=3).timeout, TimeoutPolicy | None)
    PolicySet(rate_limit=100, bulkhead=4, cache=True, max_memory="1GB", max_cpu_time=60)
    PolicySet(cache="1h", limits=ResourceLimits("1GB"), idempotent=True, hedge=Hedge(1))
    assert_type(PolicySet(rate_limit=100).rate_limit, RateLimit | None)
    PolicySet(bulkhead="4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PolicySet(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PolicySet(retry="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PolicySet(timeout=RetryPolicy())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    PolicySet(around_call=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def policies_are_one_kind() -> None:
    """Each of them is a `Policy`."""
    policies: list[Policy] = [RetryPolicy(), TimeoutPolicy(30), RateLimit(5), Hedge(1)]
    assert_type([policy.model_dump_json() for policy in policies], list[str])
