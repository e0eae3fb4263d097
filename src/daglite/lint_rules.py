"""The rules of `lint`: what is allowed, but is hardly meant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, final

from tenacity.wait import wait_base

from daglite._units import format_duration
from daglite.bounds import attempts_of, back_off_of
from daglite.core.plan import Step
from daglite.policies import PolicySet

__all__ = ["RULES", "Advice", "Rule", "Severity", "Subject"]

Severity: TypeAlias = Literal["error", "warning", "info"]

_LONG = 600.0
"""Seconds of back-off that somebody should have limited."""

_MANY = 1_000
"""Retries that are looked at one by one."""


@final
@dataclass(frozen=True)
class Subject:
    """
    A task as its plan has it.

    Attributes:
        step: What the plan says of it.
        function: Its function.
        calls: How many calls the graph has of it; None: only the run knows.
        largest_map: Elements of its largest map; 0: it has none; None: only the run knows.
    """

    step: Step
    function: Callable[..., Any]
    calls: int | None
    largest_map: int | None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.step.name

    @property
    def policies(self) -> PolicySet:
        """Resolved."""
        return self.step.policies


class Advice(NamedTuple):
    """What a rule has found: to which task, what, and what to do."""

    task: str
    message: str
    fix: str


class Rule(NamedTuple):
    """A rule, which looks at all tasks of a graph."""

    code: str
    severity: Severity
    look: Callable[[Sequence[Subject]], Iterator[Advice]]


Found: TypeAlias = tuple[str, str] | None
"""Message and fix."""

RULES: list[Rule] = []
"""All rules, in the order of their codes."""


def _of_graph(code: str, severity: Severity) -> Callable[[Any], Any]:
    def add(look: Callable[[Sequence[Subject]], Iterator[Advice]]) -> Any:
        RULES.append(Rule(code, severity, look))
        return look

    return add


def _of_task(code: str, severity: Severity) -> Callable[[Any], Any]:
    def add(look: Callable[[Subject], Found]) -> Any:
        def look_at_all(subjects: Sequence[Subject]) -> Iterator[Advice]:
            for subject in subjects:
                found = look(subject)
                if found is not None:
                    yield Advice(subject.name, *found)

        RULES.append(Rule(code, severity, look_at_all))
        return look

    return add


# -- retries and timeouts ---------------------------------------------------------


@_of_task("DGL003", "warning")
def _retry_without_timeout(of: Subject) -> Found:
    retry, timeout = of.policies.retry, of.policies.timeout
    if retry is None or retry.max_retries == 0 or timeout is not None:
        return None
    return (
        "it is retried, but nothing limits an attempt: one that hangs is never tried again",
        "give it a timeout, such as timeout=30",
    )


@_of_task("DGL004", "warning")
def _long_back_off(of: Subject) -> Found:
    retry, timeout = of.policies.retry, of.policies.timeout
    if retry is None or retry.max_elapsed is not None or (timeout is not None and timeout.total):
        return None
    seconds = back_off_of(retry)
    if seconds < _LONG:
        return None
    return (
        f"its back-offs add up to {format_duration(seconds)}, and nothing limits the whole call",
        "give it TimeoutPolicy(total=...) or RetryPolicy(max_elapsed=...)",
    )


@_of_task("DGL005", "warning")
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


@_of_task("DGL006", "warning")
def _parked_beyond_the_total(of: Subject) -> Found:
    breaker, timeout = of.policies.circuit_breaker, of.policies.timeout
    if breaker is None or breaker.on_open != "park" or breaker.mode in _NEVER_OPEN:
        return None
    if timeout is None or timeout.total is None or breaker.max_park < timeout.total:
        return None
    return (
        f"a call may be parked for max_park={format_duration(breaker.max_park)}, but its total "
        f"of {format_duration(timeout.total)} ends it before, as a TaskTimeoutError that doesn't "
        "tell of the circuit",
        "lower max_park below total, or write on_open='fail'",
    )


_NEVER_OPEN = ("disabled", "metrics_only")


# -- circuits ---------------------------------------------------------------------


@_of_graph("DGL007", "warning")
def _circuit_that_never_opens(subjects: Sequence[Subject]) -> Iterator[Advice]:
    for key, users in _by_key(subjects, "circuit_breaker").items():
        breaker = users[0].policies.circuit_breaker
        assert breaker is not None
        known = [_most_records(user) for user in users]
        if breaker.mode != "on" or breaker.scope != "run" or None in known:
            continue
        most = sum(number for number in known if number is not None)
        needed = [breaker.consecutive] if breaker.consecutive is not None else []
        needed += [breaker.min_calls] if breaker.needs_window else []
        if most < min(needed):
            yield Advice(
                users[0].name,
                f"the circuit {key!r} can't open in this graph: it takes {min(needed)} "
                f"{breaker.counts}s, and there are {most} at most",
                "lower consecutive or min_calls, or share it with scope='process'",
            )


def _most_records(of: Subject) -> int | None:
    breaker = of.policies.circuit_breaker
    if of.calls is None or breaker is None:
        return None
    return of.calls * (attempts_of(of.policies.retry) if breaker.counts == "attempt" else 1)


@_of_task("DGL008", "warning")
def _budget_without_retries(of: Subject) -> Found:
    retry = of.policies.retry
    if retry is None or retry.budget is None or retry.max_retries:
        return None
    return (
        "it has a retry budget, but max_retries=0: there is nothing to bound",
        "raise max_retries, or leave the budget out",
    )


@_of_task("DGL009", "warning")
def _retries_in_step(of: Subject) -> Found:
    retry = of.policies.retry
    if retry is None or retry.jitter != "none" or not retry.max_retries or of.largest_map in (0, 1):
        return None
    if isinstance(retry.backoff, wait_base) or back_off_of(retry) == 0:
        return None
    if retry.backoff == "decorrelated":
        return None
    return (
        "the elements of its map that fail together are retried together, again and again: "
        "jitter='none'",
        "leave jitter out, or write jitter='equal'",
    )


@_of_task("DGL010", "info")
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


@_of_task("DGL011", "info")
def _fallback_for_everything(of: Subject) -> Found:
    fallback = of.policies.fallback
    if fallback is None or Exception not in fallback.on:
        return None
    return (
        "its fallback hides every failure, mistakes in its own code among them",
        "name the errors that are expected: FallbackPolicy(..., on=(ConnectionError,))",
    )


# -- names and keys ---------------------------------------------------------------

_KEYED = {
    "circuit_breaker": "circuit breaker",
    "rate_limit": "rate limit",
    "bulkhead": "bulkhead",
    "budget": "retry budget",
}


@_of_graph("DGL012", "warning")
def _shared_by_accident(subjects: Sequence[Subject]) -> Iterator[Advice]:
    for slot, kind in _KEYED.items():
        for key, users in _by_key(subjects, slot).items():
            functions = {id(user.function) for user in users}
            by_name = [user for user in users if _keyed(user, slot).key is None]
            if len(functions) > 1 and by_name:
                yield Advice(
                    by_name[0].name,
                    f"its {kind} has no key, so that it shares that of other tasks under the "
                    f"name {key!r}",
                    "give it a key; if sharing is meant, give all of them the same key",
                )


@_of_task("DGL013", "info")
def _no_worker_to_lose(of: Subject) -> Found:
    retry, can = of.policies.retry, of.step.backend.capabilities
    if retry is None or "infrastructure_retries" not in retry.model_fields_set:
        return None
    here = can.in_place or can.shared_memory
    if not retry.infrastructure_retries or can.kill or not here:
        return None
    return (
        f"it has infrastructure_retries={retry.infrastructure_retries}, but backend "
        f"{of.step.backend.name!r} runs in this process and has no worker that can be lost",
        "leave infrastructure_retries out, or run it on a backend with processes",
    )


@_of_graph("DGL014", "warning")
def _one_name_for_two(subjects: Sequence[Subject]) -> Iterator[Advice]:
    first: dict[str, Subject] = {}
    told: set[str] = set()
    for subject in subjects:
        other = first.setdefault(subject.name, subject)
        same = other.function is subject.function or other.policies == subject.policies
        if not same and subject.name not in told:
            told.add(subject.name)
            yield Advice(
                subject.name,
                "another function of the graph has its name and other policies: errors and "
                "events don't tell the two apart",
                "give one of them another name: task.with_options(name=...)",
            )


def _by_key(subjects: Sequence[Subject], slot: str) -> Mapping[str, list[Subject]]:
    users: dict[str, list[Subject]] = {}
    for subject in subjects:
        policy = _keyed(subject, slot)
        if policy is not None:
            users.setdefault(policy.key or subject.name, []).append(subject)
    return users


def _keyed(of: Subject, slot: str) -> Any:
    if slot == "budget":
        return None if of.policies.retry is None else of.policies.retry.budget
    return getattr(of.policies, slot)


# -- maps, and what is shared by their elements -----------------------------------


@_of_task("DGL015", "warning")
def _too_slow_for_the_map(of: Subject) -> Found:
    rate, timeout, elements = of.policies.rate_limit, of.policies.timeout, of.largest_map
    if rate is None or not elements:
        return None
    last = (elements - rate.burst) * rate.per / rate.rate
    limits = {"max_wait": rate.max_wait, "total": None if timeout is None else timeout.total}
    for name, limit in limits.items():
        if limit is not None and last > limit:
            return (
                f"the last of its {elements} elements has its turn under the rate limit after "
                f"{format_duration(last)}, later than {name}={format_duration(limit)}",
                f"raise {name} or the rate, or make smaller maps",
            )
    return None


@_of_task("DGL016", "warning")
def _too_many_abandoned(of: Subject) -> Found:
    timeout, most = of.policies.timeout, getattr(of.step.backend, "max_abandoned", None)
    if timeout is None or timeout.on_expiry != "abandon" or most is None or of.calls is None:
        return None
    attempts = of.calls * attempts_of(of.policies.retry)
    if attempts <= most:
        return None
    return (
        f"its {attempts} attempts may all be abandoned, but above max_abandoned={most} calls that "
        "still run, new ones fail with BackendError",
        "leave on_expiry out, so that expired calls are cancelled, or raise max_abandoned",
    )


@_of_task("DGL017", "warning")
def _harm_done_twice(of: Subject) -> Found:
    attempts = attempts_of(of.policies.retry)
    if of.policies.idempotent is not False or attempts == 1:
        return None
    return (
        f"it says idempotent=False, but may be run {attempts} times",
        "write retry=None, or RetryPolicy(0, infrastructure_retries=0)",
    )


@_of_graph("DGL018", "info")
def _bulkhead_that_holds_nobody(subjects: Sequence[Subject]) -> Iterator[Advice]:
    for key, users in _by_key(subjects, "bulkhead").items():
        bulkhead = users[0].policies.bulkhead
        assert bulkhead is not None
        backends = {id(user.step.backend): user.step.backend for user in users}
        workers = sum(backend.slots for backend in backends.values())
        if bulkhead.max_concurrent >= workers:
            yield Advice(
                users[0].name,
                f"its bulkhead {key!r} holds nobody up: there are {workers} workers, and "
                f"{bulkhead.max_concurrent} may run",
                "lower max_concurrent, or leave the bulkhead out",
            )


@_of_task("DGL019", "warning")
def _queue_too_short(of: Subject) -> Found:
    bulkhead, elements = of.policies.bulkhead, of.largest_map
    if bulkhead is None or bulkhead.max_queue is None or not elements:
        return None
    room = bulkhead.max_concurrent + bulkhead.max_queue
    if elements <= room:
        return None
    return (
        f"its map has {elements} elements, but its bulkhead has room for {room}: the others "
        "fail with BulkheadFullError while those take their time",
        "raise max_queue, or leave it out",
    )


@_of_task("DGL020", "warning")
def _never_slow(of: Subject) -> Found:
    breaker, timeout = of.policies.circuit_breaker, of.policies.timeout
    if breaker is None or breaker.slow_call is None or timeout is None:
        return None
    limit = timeout.total if timeout.attempt is None else timeout.attempt
    assert limit is not None
    if breaker.slow_call < limit:
        return None
    return (
        f"no call is ever slow: its timeout of {format_duration(limit)} ends it before "
        f"slow_call={format_duration(breaker.slow_call)}",
        "lower slow_call below the timeout",
    )


@_of_task("DGL021", "warning")
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
