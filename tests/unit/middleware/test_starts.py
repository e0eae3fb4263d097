"""What policies say of starts holds for starts: however long calls waited for all else before."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

import daglite
from daglite import (
    Bulkhead,
    CircuitBreaker,
    FallbackPolicy,
    MapPolicy,
    RateLimit,
    RetryPolicy,
    TimeoutPolicy,
    evaluate,
    task,
)
from daglite.callbacks import (
    AttemptFailed,
    CallParked,
    CircuitChanged,
    ElementFailed,
    ProbeFailed,
)
from daglite.core.call import Call, Outcome
from daglite.exceptions import (
    BackendError,
    BulkheadFullError,
    CircuitOpenError,
    ExecutionError,
    RateLimitedError,
)
from daglite.testing import Fails, Takes, VirtualClock
from tests.unit.lab import Lab


@task
def work(x: int = 0, after: Any = None) -> int:
    return x


@task
def other(x: int = 0) -> int:
    return x


def starts(lab: Lab, name: str = "work") -> list[float]:
    return sorted(c.started for c in lab.backend.calls if c.name == name and c.started is not None)


def later(seconds: int) -> Any:
    """Something to wait for: the script lets it take so many seconds."""
    return other.with_options(name="later").bind(x=seconds)


# -- rate limits ------------------------------------------------------------------


def test_a_rate_is_kept_behind_busy_workers(lab: Lab) -> None:
    """Calls whose turn came while no worker was free don't go off together."""
    metered = work.with_options(rate_limit=1)
    script = {"other": Takes(60, 0), "work": Takes(0.01, 0)}
    lab([other.extend(x=range(4)), metered.extend(x=range(30))], script, slots=4)
    assert starts(lab) == list(range(60, 90))
    assert [c.element for c in lab.backend.calls if c.name == "work"] == list(range(30))


def test_a_rate_is_kept_behind_a_bulkhead(lab: Lab) -> None:
    """Nor do those that waited for a place."""
    shared: dict[str, Any] = {
        "rate_limit": RateLimit(2, burst=3, key="k"),
        "bulkhead": Bulkhead(1, key="k"),
    }
    slow = other.with_options(**shared).bind()
    script = {"other": Takes(30, 0), "work": Takes(0.01, 0)}
    lab([slow, work.with_options(**shared).extend(x=range(12))], script, slots=8)
    went = starts(lab)
    assert went[0] == 30
    assert all(b - a >= 0.5 - 1e-9 for a, b in zip(went, went[3:], strict=False))


def test_a_call_refused_by_its_bulkhead_took_no_turn(lab: Lab) -> None:
    """Its token is there for the next."""
    limit = RateLimit(1, 10, burst=5, key="api")
    full = work.with_options(
        rate_limit=limit, bulkhead=Bulkhead(1, 0, key="b"), fallback=FallbackPolicy(-1)
    )
    hog = other.with_options(name="hog", bulkhead=Bulkhead(1, 0, key="b")).bind()
    refused = [full.bind(x=i, after=later(1)) for i in range(5)]
    last = work.with_options(name="last", rate_limit=limit).bind(after=refused)
    lab(
        [hog, last],
        lambda call: Takes({"hog": 100, "later": 1}.get(call.node_name, 0.1), 0),
        slots=8,
    )
    assert starts(lab, "last") == [1]


def test_a_call_that_is_sent_back_by_the_circuit_took_no_turn(lab: Lab) -> None:
    """It is metered when it starts."""
    shared = CircuitBreaker("dependency", consecutive=1, break_for=10)
    limit = RateLimit(1, 100, burst=2)
    held = {"circuit_breaker": shared, "rate_limit": limit, "bulkhead": Bulkhead(1, key="b")}
    hold = other.with_options(name="hold", bulkhead=Bulkhead(1, key="b")).bind()
    trip = other.with_options(name="trip", circuit_breaker=shared, fallback=FallbackPolicy(-1))
    again = work.with_options(**held).bind(after=later(6))

    def script(call: Call) -> Any:
        if call.node_name == "trip":
            return Fails(OSError("down"), 2)
        return Takes({"hold": 5, "later": 6}.get(call.node_name, 1), 0)

    lab([hold, trip.bind(), work.with_options(**held).bind(), again], script, slots=8)
    assert starts(lab) == [12, 13]


def test_a_task_isnt_kept_waiting_by_a_long_map_of_another(lab: Lab) -> None:
    """Of each task's calls only the first stands in line."""
    limit = RateLimit(10, key="api")
    big = other.with_options(name="big", rate_limit=limit).extend(x=range(500))
    small = work.with_options(rate_limit=limit).bind(after=later(1))
    script = lambda call: Takes(1 if call.node_name == "later" else 0.01, 0)  # noqa: E731
    lab([big, small], script)
    assert starts(lab)[0] <= 1.3


def test_a_turn_that_comes_at_the_end_of_max_wait(lab: Lab) -> None:
    """The eleventh of ten each second has waited a second, which it may."""
    metered = work.with_options(
        rate_limit=RateLimit(10, max_wait=1), map_policy=MapPolicy("collect")
    )
    results = lab(metered.extend(x=range(20)), slots=20)
    assert [isinstance(result, RateLimitedError) for result in results].count(False) == 11
    assert lab.clock.now() == pytest.approx(1)


def test_waiting_is_told_once(lab: Lab) -> None:
    """With the time that it is going to take."""
    lab(work.with_options(rate_limit=1).extend(x=range(5)), slots=5)
    told = lab.events.of(CallParked)
    assert [(event.element, event.seconds) for event in told] == [(1, 1), (2, 2), (3, 3), (4, 4)]


# -- circuits ---------------------------------------------------------------------


def test_nothing_starts_on_an_open_circuit_behind_busy_workers(lab: Lab) -> None:
    """Though it was closed when the calls were queued."""
    breaker = CircuitBreaker("d", consecutive=1, break_for=30)
    dead = work.with_options(circuit_breaker=breaker, fallback=FallbackPolicy(-1))

    def script(call: Call) -> Any:
        if call.node_name == "other":
            return Takes(60, 0)
        return Fails(OSError("down"), 1) if lab.clock.now() < 5 else Takes(1, 0)

    lab([other.extend(x=range(3)), dead.extend(x=range(6))], script, slots=4)
    assert starts(lab) == [0, 31, 32, 33, 34, 35]


def stale_probe(lab: Lab, key: str, opener: Any = None) -> list[tuple[str, float]]:
    """A probe waits for its turn from 15 to 100 s; return which calls started, and when."""
    breaker = CircuitBreaker(key, consecutive=1, break_for=10, max_park=40, scope="process")
    limit = RateLimit(1, 100, key="r")
    calm = {"fallback": FallbackPolicy(-1)}
    both: dict[str, Any] = {"circuit_breaker": breaker, "rate_limit": limit, **calm}
    metered = work.with_options(name="metered", **both).bind()
    trip = work.with_options(name="trip", circuit_breaker=breaker, **calm).bind(after=later(1))
    late = work.with_options(name="late", **both).bind(after=later(15))
    probe = work.with_options(name="probe", circuit_breaker=breaker, **calm).bind(after=later(90))

    def script(call: Call) -> Any:
        if call.node_name in ("later", "opener"):
            return Takes(call.args[0], 0) if call.node_name == "later" else None
        return Takes(0.5, 0) if call.node_name == "metered" else Fails(OSError("down"), 1)

    lab([metered, trip, late, probe, *([] if opener is None else [opener])], script, slots=8)
    names = ("trip", "late", "probe")
    return [(c.name, c.started) for c in lab.backend.calls if c.name in names and c.started]


def test_a_probe_that_waited_too_long_doesnt_start_on_an_open_circuit(lab: Lab) -> None:
    """Its lease is over, another probe has failed meanwhile: it waits like the others."""
    went = dict(stale_probe(lab, "stale"))
    assert went["trip"] == 1
    opened = [(e.time, e.retry_in or 0) for e in lab.events.of(CircuitChanged) if e.after == "open"]
    assert any(began < 100 < began + wait for began, wait in opened)
    for moment in went.values():
        assert not any(began < moment < began + wait for began, wait in opened)


def test_a_probe_that_waits_doesnt_start_when_somebody_opens_the_circuit(lab: Lab) -> None:
    """Forced open is forced open."""

    @task
    def opener(after: int) -> None:
        daglite.force_open("by hand")

    assert stale_probe(lab, "by hand", opener.bind(after=later(50))) == [("trip", 1)]


def test_max_park_counts_what_is_waited_for_the_circuit_alone(lab: Lab) -> None:
    """Not the turns that came before, nor what probes ran."""
    breaker = CircuitBreaker("dep", consecutive=2, break_for=5, max_park=20)
    metered = work.with_options(circuit_breaker=breaker, rate_limit=1, retry=RetryPolicy(3, "none"))

    def script(call: Call) -> Any:
        down = 100 <= lab.clock.now() < 103
        return Fails(OSError("down"), 0.1) if down else Takes(0.1, call.args[0])

    assert lab(metered.extend(x=range(200)), script) == list(range(200))
    lab.events.events.clear()
    slow = work.with_options(circuit_breaker=breaker, retry=RetryPolicy(2, "none"))
    began = lab.clock.now()
    with pytest.raises(CircuitOpenError):
        lab(slow.bind(), lambda call: Fails(OSError("down"), 50))
    # Two attempts open it; then four breaks of 5 s, and probes of 50 s at their ends.
    assert [moment - began for moment in starts(lab)] == [0, 50, 105, 160, 215, 270]


def test_no_more_probes_than_breaks_that_a_call_could_have_waited_for(lab: Lab) -> None:
    """A call whose probes outlast their lease would go on for ever: its last failure counts."""
    breaker = CircuitBreaker("dep", consecutive=1, break_for=1, probe_lease=1, max_park=2)
    slow = work.with_options(circuit_breaker=breaker, retry=RetryPolicy(1, "none"))
    quick = other.with_options(
        circuit_breaker=breaker, fallback=FallbackPolicy(-1), retry=RetryPolicy(200, "none")
    )

    def script(call: Call) -> Any:
        return Fails(OSError("down"), 10 if call.node_name == "work" else 0.25)

    with pytest.raises(ExecutionError):
        lab([slow.bind(), *(quick.bind() for _ in range(9))], script, on_failure="continue")
    assert breaker.most_probes == 3
    assert len(starts(lab)) <= 2 * (breaker.most_probes + 1)


def test_the_error_of_a_failed_probe_is_told(lab: Lab) -> None:
    """In an event, and as the cause of what the call ends with."""
    breaker = CircuitBreaker("d", consecutive=1, break_for=5, max_park=5.5)
    dead = work.with_options(circuit_breaker=breaker, retry=RetryPolicy(3, "none"))
    with pytest.raises(CircuitOpenError) as caught:
        lab(dead.bind(), lambda call: Fails(OSError(f"down at {lab.clock.now()}"), 1))
    assert str(caught.value.__cause__) == "down at 6.0"
    (probe,) = lab.events.of(ProbeFailed)
    assert (str(probe.error), probe.attempt, probe.ran) == ("down at 6.0", 2, 1)
    assert [event.attempt for event in lab.events.of(AttemptFailed)] == [1, 2]


def test_what_somebody_does_to_a_circuit_is_told_where_calls_wait_for_it(lab: Lab) -> None:
    """`reset` by hand wakes them, and each run is told once."""
    by_hand = CircuitBreaker("ev", scope="process", max_park=1000)

    @task
    def opens(x: int) -> None:
        daglite.force_open("ev")

    @task
    def closes(after: int) -> None:
        daglite.reset("ev")

    waits = [
        work.with_options(name=name, circuit_breaker=by_hand).bind(after=opens.bind(x=1))
        for name in ("one", "two")
    ]
    closed = closes.bind(after=later(50))
    script = lambda call: Takes(50, 0) if call.node_name == "later" else None  # noqa: E731
    lab([*waits, closed], script)
    told = [(e.time, e.before, e.after, e.reason) for e in lab.events.of(CircuitChanged)]
    assert told == [(50, "forced_open", "closed", "reset")]
    assert lab.clock.now() == 50


def test_an_open_circuit_wakes_few(lab: Lab) -> None:
    """Of many that wait only as many go as may be probes; and each is told once between runs."""
    breaker = CircuitBreaker(consecutive=1, break_for=1, max_park=500)
    many = work.with_options(circuit_breaker=breaker, retry=RetryPolicy(1, "none"))
    script = lambda call: Fails(OSError(), 0.5) if lab.clock.now() < 30 else Takes(0, 0)  # noqa: E731
    lab(many.extend(x=range(300)), script, slots=16)
    probes = len(lab.events.of(ProbeFailed))
    assert 15 <= probes <= 25
    assert len(lab.events.of(CallParked)) <= 300 + probes


def test_slow_calls_with_their_retries(lab: Lab) -> None:
    """Where whole calls count, a call takes from its first start to its end."""
    breaker = CircuitBreaker(
        "d", failure_rate=None, slow_call=5, slow_rate=0.5, min_calls=2, counts="call"
    )
    slow = work.with_options(circuit_breaker=breaker, retry=RetryPolicy(1, [10], jitter="none"))
    script = {"work": [Fails(OSError("down"), 4), Takes(1, 0)]}
    lab([slow.bind(x=i) for i in range(2)], script)
    (event,) = lab.events.of(CircuitChanged)
    assert event.reason == "2 of 2 calls took too long"


def test_a_hanging_dependency_under_a_total(lab: Lab) -> None:
    """A call that its total ends while it runs is a failure; one that waits is no news."""
    breaker = CircuitBreaker("d", consecutive=2, on_open="fail")
    hangs = work.with_options(circuit_breaker=breaker, timeout=TimeoutPolicy(total=5, grace=0))
    with pytest.raises(ExecutionError):
        lab([hangs.bind(x=i) for i in range(5)], {"work": Takes(9, 0)}, slots=1)
    lab.events.events.clear()
    calls = [hangs.bind(x=i) for i in range(5)]
    with pytest.raises(ExecutionError):
        lab(calls, {"work": Takes(9, 0)}, slots=2, on_failure="continue")
    assert [event.reason for event in lab.events.of(CircuitChanged)] == ["2 failures in a row"]
    assert len(starts(lab)) == 2


# -- no retry later than max_elapsed ------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"circuit_breaker": CircuitBreaker(consecutive=1, break_for=30)}, "the circuit 'work'"),
        ({"rate_limit": RateLimit(1, 60)}, "its turn under the rate limit 'work'"),
    ],
)
def test_a_wait_beyond_max_elapsed_fails_at_once(lab: Lab, options: Any, match: str) -> None:
    """As a back-off would, with the error of the attempt before."""
    retry = RetryPolicy(2, "none", max_elapsed=10)
    hasty = work.with_options(retry=retry, **options)
    with pytest.raises(OSError, match=rf"down; not tried again: {match}.*max_elapsed=10 s"):
        lab(hasty.bind(), {"work": [Fails(OSError("down"), 1), Takes(1, 5)]})
    assert (lab.starts, lab.clock.now()) == ([0], 1)


def test_no_place_before_max_elapsed(lab: Lab) -> None:
    """Nobody knows how long that takes: the call waits, and no longer than it may."""
    hasty = work.with_options(
        retry=RetryPolicy(2, [2], jitter="none", max_elapsed=10), bulkhead=Bulkhead(1, key="b")
    )
    hog = other.with_options(name="hog", bulkhead=Bulkhead(1, key="b"))
    script = {"work": [Fails(OSError("down"), 1)], "hog": Takes(99, 0)}
    with pytest.raises(OSError, match="the bulkhead 'b' has no place before max_elapsed=10 s"):
        lab([hasty.bind(), hog.bind()], script)
    assert lab.clock.now() == 10


def test_no_worker_before_max_elapsed(lab: Lab) -> None:
    """A retry that stood in a queue too long isn't started."""
    hasty = work.with_options(
        retry=RetryPolicy(2, [2], jitter="none", max_elapsed=10), bulkhead=Bulkhead(4)
    )
    script = {"work": [Fails(OSError("down"), 1)], "other": Takes(20, 0)}
    with pytest.raises(OSError, match="no worker was free before max_elapsed=10 s is over"):
        lab([hasty.bind(), other.bind()], script, slots=1)
    assert starts(lab) == [0]


# -- what messages name -------------------------------------------------------------


def test_messages_name_what_ran_out(lab: Lab) -> None:
    """The field of the policy, and what to do."""
    parked = CircuitBreaker("d", consecutive=1, break_for=50, max_park=5)
    dead = work.with_options(circuit_breaker=parked, retry=RetryPolicy(1, "none"))
    with pytest.raises(CircuitOpenError, match=r"has waited max_park=5 s for it; a probe may go"):
        lab(dead.bind(), {"work": [Fails(OSError("down"), 1)] * 2})
    full = work.with_options(bulkhead=Bulkhead(1, 0))
    with pytest.raises(BulkheadFullError, match="raise max_concurrent, or max_queue to let more"):
        lab([full.bind(x=i) for i in range(2)], {"work": Takes(1, 0)})
    late = work.with_options(rate_limit=RateLimit(1, max_wait=0), map_policy=MapPolicy("collect"))
    lab(late.extend(x=range(2)), {"work": Takes(1, 0)})
    assert "raise it to wait longer" in str(lab.events.of(ElementFailed)[0].error)


# -- backends -----------------------------------------------------------------------


class NeverAsks:
    """A backend as nobody should write it."""

    name = "careless"
    capabilities = daglite.Capabilities()
    slots = 1

    def submit(self, call: Call, done: Any) -> None:
        call.started = call.run.kernel.now()
        done(call, Outcome(call.invoke(), started=call.started))

    def cancel(self, call: Call) -> None: ...
    def cancel_run(self, run: Any) -> None: ...
    def close(self) -> None: ...

    def is_running(self, call: Call) -> bool:
        return False

    def stack_of(self, call: Call) -> None:
        return None


def test_a_backend_that_doesnt_ask_is_found_out() -> None:
    """What can't be kept isn't dropped in silence; without such policies it needn't ask."""
    backend = NeverAsks()
    with evaluate.context(clock=VirtualClock(), default_backend=backend) as ctx:
        assert ctx.evaluate(work.with_options(bulkhead=1).bind(x=3)) == 3
        with pytest.raises(BackendError, match=r"'careless' started a call of 'work' without"):
            ctx.evaluate(work.with_options(rate_limit=1).bind(x=3))


def test_a_rate_on_the_callers_thread() -> None:
    """In place, too, and the starts are an interval apart."""
    clock, went = VirtualClock(), []

    @task(rate_limit=RateLimit(4), circuit_breaker=CircuitBreaker())
    def here(x: int) -> int:
        went.append(clock.now())
        return x

    with evaluate.context(clock=clock, default_backend="sequential") as ctx:
        assert ctx.evaluate(here.extend(x=range(6))) == list(range(6))
    assert [b - a for a, b in pairwise(went)] == [0.25] * 5
