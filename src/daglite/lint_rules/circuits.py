"""Circuit breakers that never open, or open otherwise than meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daglite._units import format_duration
from daglite.lint_rules.subject import Advice, Found, Rules, Subject, by_key, needed_by

__all__ = ["rules"]

rules = Rules()

_NEVER_OPEN = ("disabled", "metrics_only")


@rules.of_task("DGL006", "warning")
def _parked_beyond_the_total(of: Subject) -> Found:
    return _parked_too_long(of, chosen=True)


@rules.of_task("DGL028", "info")
def _parked_by_default(of: Subject) -> Found:
    return _parked_too_long(of, chosen=False)


def _parked_too_long(of: Subject, *, chosen: bool) -> Found:
    """Of a `max_park` that somebody has *chosen*, or of the default."""
    breaker, timeout = of.policies.circuit_breaker, of.policies.timeout
    if breaker is None or breaker.on_open != "park" or breaker.mode in _NEVER_OPEN:
        return None
    if timeout is None or timeout.total is None or breaker.max_park < timeout.total:
        return None
    if ("max_park" in breaker.model_fields_set) != chosen:
        return None
    default = "" if chosen else ", the default"
    return (
        f"a call may be parked for max_park={format_duration(breaker.max_park)}{default}, but its "
        f"total of {format_duration(timeout.total)} ends it before, as a TaskTimeoutError that "
        "doesn't tell of the circuit",
        "give a max_park below total, or write on_open='fail'",
    )


@rules.of_graph("DGL007", "warning")
def _circuit_that_never_opens(subjects: Sequence[Subject]) -> Iterator[Advice]:
    for key, users in by_key(subjects, "circuit_breaker").items():
        breaker = users[0].policies.circuit_breaker
        assert breaker is not None
        known = [_most_records(user) for user in users]
        if breaker.mode != "on" or breaker.scope != "run" or None in known:
            continue
        most = sum(number for number in known if number is not None)
        needed = needed_by(breaker)
        if most < needed:
            yield Advice(
                users[0].name,
                f"the circuit {key!r} can't open in this graph: it takes {needed} "
                f"{breaker.counts}s, and there are {most} at most",
                "lower consecutive or min_calls, or share it with scope='process'",
            )


def _most_records(of: Subject) -> int | None:
    breaker = of.policies.circuit_breaker
    if of.calls is None or breaker is None:
        return None
    each = of.attempts * of.calls_of_attempt
    return of.calls * (each if breaker.counts == "attempt" else 1)


@rules.of_task("DGL020", "warning")
def _never_slow(of: Subject) -> Found:
    breaker, timeout = of.policies.circuit_breaker, of.policies.timeout
    if breaker is None or breaker.slow_call is None or timeout is None:
        return None
    if breaker.mode in ("disabled", "forced_open"):
        return None
    of_attempts = breaker.counts == "attempt" and timeout.attempt is not None
    limit = timeout.attempt if of_attempts else timeout.total
    if limit is None or breaker.slow_call < limit:
        return None
    name = "limit of an attempt" if of_attempts else "total"
    return (
        f"no {breaker.counts} is ever slow: its {name} of {format_duration(limit)} ends it before "
        f"slow_call={format_duration(breaker.slow_call)}",
        f"lower slow_call below the {name}",
    )


@rules.of_task("DGL021", "warning")
def _lease_below_the_limit(of: Subject) -> Found:
    breaker, timeout = of.policies.circuit_breaker, of.policies.timeout
    if breaker is None or breaker.mode != "on" or timeout is None or timeout.attempt is None:
        return None
    lease = breaker.break_for if breaker.probe_lease is None else breaker.probe_lease
    if lease >= timeout.attempt or breaker.counts == "call":
        return None
    return (
        f"a probe may take {format_duration(timeout.attempt)}, but its lease ends after "
        f"{format_duration(lease)}: more than probes={breaker.probes} may be under way",
        "give the breaker probe_lease= of at least the limit of an attempt",
    )
