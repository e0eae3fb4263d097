"""Hedges that never come, or that do what they were meant to avoid."""

from __future__ import annotations

from daglite._units import format_duration
from daglite.lint_rules.subject import Found, Rules, Subject, needed_by
from daglite.state.latencies import ENOUGH

__all__ = ["rules"]

rules = Rules()


@rules.of_task("DGL022", "warning")
def _hedges_too_late(of: Subject) -> Found:
    hedge, timeout = of.policies.hedge, of.policies.timeout
    if hedge is None or hedge.delay is None or timeout is None:
        return None
    if timeout.attempt is not None and hedge.delay >= timeout.attempt:
        return (
            f"no hedge comes: a call has to run for {format_duration(hedge.delay)} before it, but "
            f"its limit is {format_duration(timeout.attempt)}",
            "lower the hedge's delay below the limit of an attempt",
        )
    last = hedge.delay * hedge.max_hedges
    if timeout.total is None or last < timeout.total:
        return None
    return (
        f"its last hedge can't come: that takes {format_duration(last)}, and its total is "
        f"{format_duration(timeout.total)}",
        "lower max_hedges or the hedge's delay",
    )


@rules.of_task("DGL023", "warning")
def _hedges_without_room(of: Subject) -> Found:
    hedge, bulkhead, backend = of.policies.hedge, of.policies.bulkhead, of.step.backend
    if hedge is None:
        return None
    room, where = backend.slots, f"backend {backend.name!r} makes {backend.slots} calls at a time"
    if bulkhead is not None and bulkhead.max_concurrent < room:
        room, where = bulkhead.max_concurrent, f"its bulkhead lets {bulkhead.max_concurrent} run"
    if room > hedge.max_hedges:
        return None
    return (
        f"an attempt with its max_hedges={hedge.max_hedges} is {of.calls_of_attempt} calls, but "
        f"{where}: the last hedge waits for another call to end",
        "lower max_hedges, or make room",
    )


@rules.of_task("DGL024", "warning")
def _one_attempt_opens_the_circuit(of: Subject) -> Found:
    breaker, most = of.policies.circuit_breaker, of.calls_of_attempt
    if breaker is None or breaker.mode != "on" or breaker.counts == "call" or most == 1:
        return None
    needed = needed_by(breaker)
    if not 1 < needed <= most:
        return None
    return (
        f"a single attempt may open its circuit: that takes {needed} failures, and an attempt "
        f"with its hedges has up to {most}",
        "raise consecutive or min_calls, or write counts='call'",
    )


@rules.of_task("DGL025", "info")
def _hedges_take_turns(of: Subject) -> Found:
    rate, most = of.policies.rate_limit, of.calls_of_attempt
    if rate is None or most == 1:
        return None
    return (
        f"each hedge takes a turn of its rate limit: when all calls are slow, {rate.rate:g} turns "
        f"carry {rate.rate / most:g} attempts",
        "leave room for the hedges in the rate",
    )


@rules.of_task("DGL026", "info")
def _quantile_of_too_few(of: Subject) -> Found:
    hedge = of.policies.hedge
    if hedge is None or hedge.quantile is None or of.calls is None or of.calls > ENOUGH:
        return None
    return (
        f"this graph alone hedges nothing: a quantile says something after {ENOUGH} calls, and it "
        f"makes {of.calls}",
        "give a delay in its place",
    )


@rules.of_task("DGL027", "info")
def _hedges_for_most(of: Subject) -> Found:
    hedge = of.policies.hedge
    if hedge is None:
        return None
    if hedge.delay == 0:
        what = "every attempt is hedged at once: its delay is 0"
    elif hedge.quantile is not None and hedge.quantile < _HALF:
        what = f"most attempts are hedged: its quantile is {hedge.quantile:g}"
    else:
        return None
    return (
        f"{what}, so that what it calls has up to {of.calls_of_attempt} times the load",
        "hedge what is slower than most, such as quantile=0.95",
    )


_HALF = 0.5
"""Quantile below which more calls are hedged than not."""
