"""No retry, hint or wait passes the limits that a call has, whatever else its policies are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from daglite import RetryPolicy, ThreadBackend, evaluate, task
from daglite.callbacks import (
    AttemptFailed,
    CallAbandoned,
    CallHedged,
    CallParked,
    FallbackUsed,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
)
from daglite.core.call import Call
from daglite.exceptions import (
    BulkheadFullError,
    CircuitOpenError,
    ExecutionError,
    RateLimitedError,
    TaskTimeoutError,
    WorkerDiedError,
)
from daglite.testing import Fails, Hangs, RecordedEvents, ScriptedBackend, Takes, VirtualClock
from tests.integration.random_calls import HINTS, Case, HintedError, cases

ROUNDING = 1e-6
"""Seconds: sums of floats."""


@dataclass
class Story:
    """
    What happened to one call, which was due at 0.

    Attributes:
        over: When it was over.
        error: What its node failed with; None: it has a value.
        starts: (attempt, when it started) of all that started.
        ended: When its function last came to an end, where it really runs.
    """

    name: str
    events: RecordedEvents
    over: float = math.nan
    error: BaseException | None = None
    starts: list[tuple[int, float]] = field(default_factory=list)
    ended: float = 0.0

    def of(self, kind: Any) -> list[Any]:
        return [e for e in self.events.of(kind) if e.node_name == self.name]


def told(case: Case) -> list[Story]:
    """Run the calls of *case*."""
    clock, events = VirtualClock(), RecordedEvents()
    names = [f"call{number}" for number in range(len(case.endings))]
    stories = {name: Story(name, events) for name in names}
    left = {name: list(ends) for name, ends in zip(names, case.endings, strict=True)}

    def next_of(name: str) -> Takes | Fails | Hangs:
        return left[name].pop(0) if len(left[name]) > 1 else left[name][0]

    def script(call: Call) -> Takes | Fails | Hangs:
        stories[call.node_name].starts.append((call.attempt, clock.now()))
        return next_of(call.node_name)

    def function(name: str) -> int:
        story, ending = stories[name], next_of(name)
        story.starts.append((len(story.of(AttemptFailed)) + 1, clock.now()))
        assert not isinstance(ending, Hangs)
        clock.advance(ending.seconds if isinstance(ending, Takes) else ending.after)
        story.ended = clock.now()
        if isinstance(ending, Fails):
            raise ending.error
        return 1

    backend: Any = case.backend
    if backend == "scripted":
        backend = ScriptedBackend(clock, script, slots=case.slots)
    elif backend == "threading":
        backend = ThreadBackend(case.slots)
    calls = [task(function, name=name).bind(name=name) for name in names]
    with evaluate.context(clock=clock, default_backend=backend, callbacks=[events]) as ctx:
        try:
            ctx.evaluate(calls, on_failure="continue", overrides=case.policies)
        except ExecutionError:
            pass
    if case.backend == "threading":
        backend.close()
    for story in stories.values():
        (began,), ends = story.of(NodeStarted), story.of(NodeCompleted) + story.of(NodeFailed)
        assert began.time == 0
        (end,) = ends
        story.over, story.error = end.time, getattr(end, "error", None)
    return list(stories.values())


def check(case: Case) -> Counter[str]:
    """Check all calls of *case*; return what happened how often."""
    seen: Counter[str] = Counter()
    for story in told(case):
        seen.update(of_total(case, story))
        seen.update(of_waits(case, story))
        seen.update(of_attempts(case, story))
        seen.update(f"parked: {event.reason}" for event in story.of(CallParked))
        seen.update("fell back" for _ in story.of(FallbackUsed))
        seen["on real threads"] += case.backend != "scripted"
    return seen


def of_total(case: Case, story: Story) -> Iterator[str]:
    """The call is over in time, nothing of it starts later, and what hangs is told in time."""
    timeout = case.policies.timeout
    total = math.inf if timeout is None or timeout.total is None else timeout.total
    assert story.over <= max(total, story.ended) + ROUNDING
    assert all(start <= story.over + ROUNDING for _, start in story.starts)
    yield from ("total expired" for e in story.of(AttemptFailed) if is_total(e.error))
    for event in story.of(CallAbandoned):
        assert timeout is not None
        limit = min(total, math.inf if timeout.attempt is None else timeout.attempt)
        assert event.elapsed <= limit + timeout.grace + ROUNDING
        yield "abandoned"


def is_total(error: BaseException) -> bool:
    return isinstance(error, TaskTimeoutError) and error.kind == "total"


def of_waits(case: Case, story: Story) -> Iterator[str]:
    """Each failure leads to the wait that it should lead to, or to none."""
    retry = case.policies.retry
    assert retry is not None
    parked = {e.attempt: e for e in story.of(CallParked) if e.reason == "retry"}
    assert len(parked) == sum(e.reason == "retry" for e in story.of(CallParked))
    for event in story.of(CallParked):
        if event.reason == "retry budget" and retry.max_elapsed is not None:
            until = event.time + event.seconds
            assert until - first_start(case, story) <= retry.max_elapsed + ROUNDING
    failures = story.of(AttemptFailed)
    assert [event.attempt for event in failures] == list(range(1, len(failures) + 1))
    lost = 0
    for event in failures:
        number, wait = event.attempt, parked.get(event.attempt)
        last = wait is None and not any(attempt > number for attempt, _ in story.starts)
        # Where no worker can be lost, it is the function that has failed.
        lost += isinstance(event.error, WorkerDiedError) and case.backend == "scripted"
        left = lost <= retry.infrastructure_retries and number - lost <= retry.max_retries
        if not left or is_total(event.error):
            assert last
            yield "exhausted"
            continue
        hint = asked_for(retry, event.error)
        refused = None if hint is None else refusal(case, story, event.time, hint)
        if refused is not None:
            assert last, refused
            assert story.over <= event.time + ROUNDING
            if story.error is not None:
                assert refused in str(story.error)
            yield refused
        elif not last:
            yield from of_wait(case, story, event, wait, hint)


def asked_for(retry: RetryPolicy, error: BaseException) -> float | None:
    if retry.hint is None or not isinstance(error, HintedError):
        return None
    return HINTS[error.hint][1]


def refusal(case: Case, story: Story, now: float, hint: float) -> str | None:
    """Why a hint isn't followed, if it isn't; in the words of the error."""
    retry, timeout = case.policies.retry, case.policies.timeout
    assert retry is not None
    if hint > retry.max_hint:
        return "more than max_hint"
    if timeout is not None and timeout.total is not None and hint > timeout.total - now + ROUNDING:
        return "of the total are left"
    longest = retry.max_elapsed
    if longest is not None and now + hint - first_start(case, story) > longest + ROUNDING:
        return "later than max_elapsed"
    return None


def first_start(case: Case, story: Story) -> float:
    """When the first attempt started, or failed without."""
    breaker = case.policies.circuit_breaker
    starts = [start for attempt, start in story.starts if attempt == 1]
    if not starts:
        return min(event.time for event in story.of(AttemptFailed))
    # A failed probe is no attempt: the last one that was started again counts.
    return min(starts) if breaker is None or breaker.on_open == "fail" else max(starts)


def of_wait(
    case: Case, story: Story, failed: AttemptFailed, wait: CallParked | None, hint: float | None
) -> Iterator[str]:
    """A wait is as long as the hint says, else within the backoff; it passes no limit."""
    retry = case.policies.retry
    assert retry is not None
    seconds, since = (0.0, failed.time) if wait is None else (wait.seconds, wait.time)
    if hint is not None:
        assert seconds == hint <= retry.max_hint
        yield "hint followed"
    else:
        assert seconds <= retry.max_delay
        yield "above half of max_delay" if seconds > retry.max_delay / 2 else "waited"
    until = since + seconds
    if retry.max_elapsed is not None:
        assert until - first_start(case, story) <= retry.max_elapsed + ROUNDING
        yield "within max_elapsed"
    following = [start for attempt, start in story.starts if attempt == failed.attempt + 1]
    if following:
        assert min(following) >= until - ROUNDING
    if following and case.roomy and (wait is not None or retry.budget is None):
        assert min(following) <= until + ROUNDING


def of_attempts(case: Case, story: Story) -> Iterator[str]:
    """There are no more attempts and hedges than allowed, none longer or earlier."""
    retry, timeout, hedge = case.policies.retry, case.policies.timeout, case.policies.hedge
    assert retry is not None
    failures = story.of(AttemptFailed)
    assert len(failures) <= retry.max_attempts + retry.infrastructure_retries
    if timeout is not None and timeout.attempt is not None and hedge is None:
        assert all(event.ran <= timeout.attempt + ROUNDING for event in failures)
    for event in failures:
        if isinstance(event.error, TaskTimeoutError) and event.error.kind == "attempt":
            yield "attempt expired"
        if isinstance(event.error, (BulkheadFullError, CircuitOpenError, RateLimitedError)):
            yield "refused"
        if isinstance(event.error, HintedError) and HINTS[event.error.hint][1] is None:
            yield "nonsense" if event.error.hint != "none" else "no hint"
    made = Counter(event.attempt for event in story.of(CallHedged))
    if hedge is not None:
        assert all(number <= hedge.max_hedges for number in made.values())
        assert all(event.after == hedge.delay for event in story.of(CallHedged))
    yield from ("hedged" for _ in range(made.total()))


LEAST = {
    "waited": 100,
    "above half of max_delay": 5,
    "hint followed": 20,
    "nonsense": 30,
    "more than max_hint": 5,
    "of the total are left": 1,
    "within max_elapsed": 30,
    "later than max_elapsed": 2,
    "exhausted": 50,
    "attempt expired": 10,
    "total expired": 10,
    "abandoned": 2,
    "hedged": 20,
    "refused": 5,
    "fell back": 10,
    "parked: circuit breaker": 1,
    "parked: rate limit": 3,
    "parked: bulkhead": 3,
    "parked: retry budget": 1,
    "on real threads": 10,
}
"""What of 400 cases must have happened how often, for them to say something."""


def explore(examples: int, *, repeatable: bool) -> Counter[str]:
    """Check *examples* random cases; return what happened how often."""
    seen: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=repeatable,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def checked(case: Case) -> None:
        seen.update(check(case))

    checked()
    return seen


def test_limits_hold() -> None:
    """A call went on beyond a limit; or too little happened for that to say something."""
    seen = explore(400, repeatable=True)
    assert {what: seen[what] for what, least in LEAST.items() if seen[what] < least} == {}


@pytest.mark.nightly
def test_limits_hold_10_000_times() -> None:
    """The same, with other cases each time."""
    seen = explore(10_000, repeatable=False)
    assert {what: seen[what] for what, least in LEAST.items() if seen[what] < 10 * least} == {}
