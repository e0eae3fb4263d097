"""Retries, timeouts and fallbacks that don't do what they seem to."""

from __future__ import annotations

import math

from tenacity.wait import wait_base

from daglite._units import format_duration
from daglite.bounds import back_off_of
from daglite.lint_rules.subject import Found, Rules, Subject

__all__ = ["rules"]

rules = Rules()

_LONG = 600.0
"""Seconds of back-off that somebody should have limited."""

_MANY = 1_000
"""Retries that are looked at one by one."""


@rules.of_task("DGL003", "warning")
def _retry_without_timeout(of: Subject) -> Found:
    retry, timeout = of.policies.retry, of.policies.timeout
    if retry is None or retry.max_retries == 0 or timeout is not None:
        return None
    return (
        "it is retried, but nothing limits an attempt: one that hangs is never tried again",
        "give it a timeout, such as timeout=30",
    )


@rules.of_task("DGL004", "warning")
def _long_back_off(of: Subject) -> Found:
    retry, timeout = of.policies.retry, of.policies.timeout
    if retry is None or retry.max_elapsed is not None or (timeout is not None and timeout.total):
        return None
    seconds = back_off_of(retry, of.step.backend)
    if seconds < _LONG:
        return None
    return (
        f"its back-offs add up to {format_duration(seconds)}, and nothing limits the whole call",
        "give it TimeoutPolicy(total=...) or RetryPolicy(max_elapsed=...)",
    )


@rules.of_task("DGL005", "warning")
def _retries_that_never_start(of: Subject) -> Found:
    retry, timeout = of.policies.retry, of.policies.timeout
    if retry is None:
        return None
    total = math.inf if timeout is None or timeout.total is None else timeout.total
    longest = math.inf if retry.max_elapsed is None else retry.max_elapsed
    waited = 0.0
    for number in range(1, min(retry.max_retries, _MANY) + 1):
        waited += retry.floor(number)
        if waited >= total or waited > longest:
            limit = "total" if waited >= total else "max_elapsed"
            return (
                f"retry {number} of {retry.max_retries} can't start: without hints, the waits "
                f"before it are at least {format_duration(waited)}, beyond its {limit}",
                f"write max_retries={number - 1}, shorten the delays, or raise {limit}",
            )
    return None


@rules.of_task("DGL008", "warning")
def _budget_without_retries(of: Subject) -> Found:
    retry = of.policies.retry
    if retry is None or retry.budget is None or retry.max_retries:
        return None
    return (
        "it has a retry budget, but max_retries=0: there is nothing to bound",
        "raise max_retries, or leave the budget out",
    )


@rules.of_task("DGL009", "warning")
def _retries_in_step(of: Subject) -> Found:
    retry = of.policies.retry
    if retry is None or retry.jitter != "none" or not retry.max_retries or of.largest_map in (0, 1):
        return None
    if isinstance(retry.backoff, wait_base) or back_off_of(retry, of.step.backend) == 0:
        return None
    if retry.backoff == "decorrelated":
        return None
    return (
        "the elements of its map that fail together are retried together, again and again: "
        "jitter='none'",
        "leave jitter out, or write jitter='equal'",
    )


@rules.of_task("DGL010", "info")
def _grace_above_the_limit(of: Subject) -> Found:
    timeout = of.policies.timeout
    if timeout is None or timeout.attempt is None or "grace" not in timeout.model_fields_set:
        return None
    if timeout.grace <= timeout.attempt:
        return None
    return (
        f"its grace ({format_duration(timeout.grace)}) is above the limit of an attempt "
        f"({format_duration(timeout.attempt)}): an abandoned call is reported late",
        "lower grace",
    )


@rules.of_task("DGL011", "info")
def _fallback_for_everything(of: Subject) -> Found:
    fallback = of.policies.fallback
    if fallback is None or Exception not in fallback.on:
        return None
    return (
        "its fallback hides every failure, mistakes in its own code among them",
        "name the errors that are expected: FallbackPolicy(..., on=(ConnectionError,))",
    )


@rules.of_task("DGL013", "info")
def _no_worker_to_lose(of: Subject) -> Found:
    retry = of.policies.retry
    if retry is None or "infrastructure_retries" not in retry.model_fields_set:
        return None
    if not retry.infrastructure_retries or of.step.backend.capabilities.loses_workers:
        return None
    return (
        f"it has infrastructure_retries={retry.infrastructure_retries}, but backend "
        f"{of.step.backend.name!r} runs in this process and has no worker that can be lost",
        "leave infrastructure_retries out, or run it on a backend with processes",
    )


@rules.of_task("DGL016", "warning")
def _too_many_abandoned(of: Subject) -> Found:
    timeout, most = of.policies.timeout, getattr(of.step.backend, "max_abandoned", None)
    if timeout is None or timeout.on_expiry != "abandon" or most is None or of.calls is None:
        return None
    attempts = of.calls * of.attempts * of.calls_of_attempt
    if attempts <= most:
        return None
    return (
        f"its {attempts} attempts may all be abandoned, but above max_abandoned={most} calls that "
        "still run, new ones fail with BackendError",
        "leave on_expiry out, so that expired calls are cancelled, or raise max_abandoned",
    )


@rules.of_task("DGL017", "warning")
def _harm_done_twice(of: Subject) -> Found:
    if of.policies.idempotent is not False or of.attempts == 1:
        return None
    return (
        f"it says idempotent=False, but may be run {of.attempts} times",
        "write retry=None, or RetryPolicy(0, infrastructure_retries=0)",
    )
