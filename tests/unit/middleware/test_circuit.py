"""Circuit breakers in runs: who is let through, who waits, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from daglite import (
    CircuitBreaker,
    Hedge,
    MapPolicy,
    RateLimit,
    RetryPolicy,
    TimeoutPolicy,
    evaluate,
    find_backend,
    task,
)
from daglite.callbacks import AttemptFailed, CallHedged, CallParked, CircuitChanged
from daglite.core.call import Call
from daglite.exceptions import (
    BulkheadFullError,
    CircuitOpenError,
    PolicyError,
    RateLimitedError,
)
from daglite.testing import Fails, Hangs, Takes
from tests.unit.lab import Lab


@task
def work(x: int = 0) -> int:
    return x


def guarded(**options: Any) -> Any:
    """`work` behind a breaker that opens after five failures in a row, for 15 s."""
    given: dict[str, Any] = {"consecutive": 5, "break_for": 15, **options}
    return work.with_options(circuit_breaker=CircuitBreaker(**given))


def down_until(moment: float, lab: Lab, takes: float = 0.1) -> Any:
    """A dependency that fails up to that moment, by the lab's clock."""

    def script(call: Call) -> Any:
        return Fails(OSError("down"), takes) if lab.clock.now() < moment else Takes(takes)

    return script


def circuits(lab: Lab) -> list[tuple[str, str]]:
    return [(event.before, event.after) for event in lab.events.of(CircuitChanged)]


@pytest.mark.parametrize(("slots", "most"), [(1, 5), (4, 8), (16, 20)])
def test_a_dead_dependency_sees_few_calls(lab: Lab, slots: int, most: int) -> None:
    """No more than it takes to open, and those that were under way: W - 1."""
    dead = guarded(on_open="fail")
    with pytest.raises(OSError, match="down"):
        lab(
            [dead.bind(x=i) for i in range(200)],
            lambda call: Fails(OSError("down"), 1),
            slots=slots,
            on_failure="continue",
        )
    assert len(lab.backend.calls) <= most


def test_an_outage(lab: Lab) -> None:
    """Calls wait it out: few are wasted, all succeed, and soon after it is over."""
    patient = guarded(on_open="park").with_options(retry=RetryPolicy(2, "exponential", delay=1))
    assert lab(patient.extend(x=range(1_000)), down_until(60, lab), slots=16) == list(range(1_000))
    assert len(lab.events.of(AttemptFailed)) <= 25
    assert lab.clock.now() <= 80


def test_a_probe_costs_no_attempt(lab: Lab) -> None:
    """What the breaker asks for, the task doesn't pay: not in retries, nor in its record."""
    flaky = guarded().with_options(retry=RetryPolicy(5, "none"))
    assert lab(flaky.bind(x=3), down_until(40, lab, 0.0)) == 3
    # Five failures open it at 0; probes go at 15, 30 and 45, of which the last one succeeds.
    assert [event.attempt for event in lab.events.of(AttemptFailed)] == [1, 2, 3, 4, 5]
    assert [call.started for call in lab.backend.calls] == [0, 0, 0, 0, 0, 15, 30, 45]
    assert circuits(lab) == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


def test_parked_no_longer_than_max_park(lab: Lab) -> None:
    """Then the call fails, with the seconds that the circuit stays open."""
    dead = guarded(max_park=20).with_options(retry=RetryPolicy(9, "none"))
    with pytest.raises(CircuitOpenError, match="the circuit 'work' is open") as caught:
        lab(dead.bind(), lambda call: Fails(OSError("down")))
    assert lab.clock.now() == 20
    assert caught.value.key == "work"
    assert caught.value.retry_in == 10
    assert {event.reason for event in lab.events.of(CallParked)} == {"circuit breaker"}


def test_no_probe_after_max_park(lab: Lab) -> None:
    """A call that has waited so long isn't asked for one more, though there is room for it."""
    dead = guarded(consecutive=1, break_for=5, probes=3, max_park=5)
    with pytest.raises(CircuitOpenError, match="the circuit 'work' is half open"):
        lab(dead.with_options(retry=1, backoff="none").bind(), lambda _: Fails(OSError("down"), 2))
    assert lab.starts == [0, 7]
    assert lab.clock.now() == 9


def test_a_failed_probe_after_max_park_that_closes(lab: Lab) -> None:
    """Its own failure is the call's: there is no circuit to wait for any more."""
    given: dict[str, Any] = {"consecutive": None, "failure_rate": 0.9, "min_calls": 1}
    flaky = guarded(**given, break_for=5, probes=2, max_park=5, key="dependency")
    patient = flaky.with_options(name="patient", retry=1, backoff="none")
    late = task(lambda: 1, name="late").bind()
    script = {
        "late": Takes(2, 0),
        "patient": [Fails(OSError("down"), 1), Fails(OSError("down"), 2)],
        "work": Takes(1, 1),
    }
    with pytest.raises(OSError, match="down"):
        lab([patient.bind(), flaky.bind(x=late)], script)
    assert circuits(lab)[-1] == ("half_open", "closed")
    assert lab.clock.now() == 8


def test_opened_and_closed_before_the_start(lab: Lab) -> None:
    """A call that waits for its turn meanwhile needn't wait for a second one."""
    shared: dict[str, Any] = {"consecutive": 1, "break_for": 1, "key": "dependency"}
    metered = guarded(**shared, on_open="fail").with_options(rate_limit=RateLimit(0.1))
    retry = RetryPolicy(1, "constant", delay=5, jitter="none")
    waits = guarded(**shared, on_open="fail").with_options(name="other", retry=retry)
    script = {"other": [Fails(OSError("down"), 1), Takes(0, 1)], "work": Takes(0, 1)}
    assert lab([metered.bind(x=0), metered.bind(x=1), waits.bind()], script) == [1, 1, 1]
    assert circuits(lab)[-1] == ("half_open", "closed")
    assert sorted(moment for moment in lab.starts if moment is not None) == [0, 0, 6, 10]


def test_parked_to_the_last_moment(lab: Lab) -> None:
    """Who has little time left waits that long for the probe of another call."""
    patient = guarded(key="dependency", consecutive=1, max_park=15.5)
    first = patient.with_options(name="first")
    script = {"first": Fails(OSError("down")), "work": Takes(0.2, 1)}
    with pytest.raises(OSError, match="down"):
        lab([first.bind(), patient.bind(), patient.bind()], script, slots=1, on_failure="continue")
    assert lab.starts == [0, 15, 15.2]


def test_a_probe_at_the_start(lab: Lab) -> None:
    """A call that has waited for its turn until the break is over goes as the probe."""
    shared = {"consecutive": 1, "break_for": 3, "key": "dependency"}
    metered = guarded(**shared).with_options(rate_limit=RateLimit(0.1))
    first = guarded(**shared).with_options(name="first")
    script = {"first": Fails(OSError("down"), 1), "work": Takes(0, 1)}
    with pytest.raises(OSError, match="down"):
        lab(
            [metered.bind(x=0), metered.bind(x=1), first.bind()],
            script,
            on_failure="continue",
        )
    assert circuits(lab) == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]
    assert lab.clock.now() == 10


def test_a_failed_probe_where_calls_are_refused(lab: Lab) -> None:
    """Its own error is the call's: it hasn't been refused."""
    dead = guarded(key="refusing", consecutive=1, on_open="fail", scope="process")
    for moment in (0, 20):
        lab.clock.advance(moment - lab.clock.now())
        with pytest.raises(OSError, match="down"):
            lab(dead.bind(), {"work": Fails(OSError("down"))})
    assert circuits(lab)[-1] == ("half_open", "open")


def test_a_failed_probe_of_whole_calls(lab: Lab) -> None:
    """It isn't made again: with its retries it has had its chance."""
    dead = guarded(key="probed whole", counts="call", consecutive=1, scope="process")
    for moment in (0, 20):
        lab.clock.advance(moment - lab.clock.now())
        with pytest.raises(OSError, match="down"):
            lab(dead.bind(), {"work": Fails(OSError("down"))})
        assert (len(lab.backend.calls), lab.clock.now()) == (1, moment)
    assert circuits(lab)[-1] == ("half_open", "open")


@pytest.mark.parametrize(
    "error",
    [RateLimitedError("too fast", retry_in=1, key="k"), BulkheadFullError("full", key="k")],
)
def test_refusals_of_the_other_side_are_failures(lab: Lab, error: Exception) -> None:
    """An error of the function counts, though a limit around it would raise the same."""
    retry = RetryPolicy(9, "none", retry_on=(RateLimitedError, BulkheadFullError))
    dead = guarded(consecutive=2, on_open="fail").with_options(retry=retry)
    with pytest.raises(CircuitOpenError):
        lab(dead.bind(), {"work": Fails(error)})
    assert len(lab.backend.calls) == 2


def test_a_probe_with_an_ignored_error(lab: Lab) -> None:
    """It gives its place to the next."""
    shared: dict[str, Any] = {"key": "dependency", "consecutive": 1, "ignore": KeyError}
    script = {
        "first": Fails(OSError("down")),
        "work": [Fails(KeyError("k"), 1), Takes(0, 1)],
    }
    picky = guarded(**shared, max_park=100).with_options(retry=RetryPolicy(1, "none"))
    first = guarded(**shared, max_park=100).with_options(name="first")
    with pytest.raises(OSError, match="down"):
        lab([first.bind(), picky.bind()], script, slots=1, on_failure="continue")
    assert [call.started for call in lab.backend.calls] == [0, 15, 16]


def test_ignored_errors_are_no_news(lab: Lab) -> None:
    """They neither open it nor close it."""
    picky = guarded(ignore=KeyError).with_options(retry=RetryPolicy(20, "none"))
    with pytest.raises(KeyError):
        lab(picky.bind(), lambda call: Fails(KeyError("k")))
    assert len(lab.backend.calls) == 21
    assert circuits(lab) == []


def test_whole_calls_may_count(lab: Lab) -> None:
    """With their retries: five calls of three attempts each; the sixth isn't made."""
    dead = guarded(key="whole", counts="call", on_open="fail", scope="process")
    dead = dead.with_options(retry=RetryPolicy(2, "none"))
    attempts = []
    for _ in range(5):
        with pytest.raises(OSError, match="down"):
            lab(dead.bind(), lambda call: Fails(OSError("down")))
        attempts.append(len(lab.backend.calls))
    assert attempts == [3] * 5
    with pytest.raises(CircuitOpenError):
        lab(dead.bind())
    assert circuits(lab) == [("closed", "open")]


def test_a_probe_that_hangs_frees_its_place(lab: Lab) -> None:
    """At the limit of its attempt, or when its lease is over; a cancelled one at once."""
    limited = guarded(probe_lease=5).with_options(
        retry=RetryPolicy(9, "none"), timeout=TimeoutPolicy(2)
    )

    def script(call: Call) -> Any:
        if lab.clock.now() < 15:
            return Fails(OSError("down"))
        return Hangs() if lab.clock.now() < 20 else Takes(0)

    assert lab(limited.bind(x=1), script) == 1
    assert lab.clock.now() < 60


def test_tasks_share_a_circuit_by_its_key(lab: Lab) -> None:
    """Five failures of one stop the other, too; and both must mean the same."""
    shared = CircuitBreaker("api", consecutive=5, on_open="fail")
    one = work.with_options(name="one", circuit_breaker=shared, retry=RetryPolicy(9, "none"))
    two = work.with_options(name="two", circuit_breaker=shared)
    with pytest.raises(CircuitOpenError, match="the circuit 'api'"):
        lab([one.bind()], {"one": [Fails(OSError("down"))] * 9})
    other = two.with_options(circuit_breaker=CircuitBreaker("api", consecutive=6))
    with pytest.raises(PolicyError, match="share the circuit breaker 'api'"):
        lab([two.bind(), other.with_options(name="other").bind()])


def test_runs_share_what_the_process_has(lab: Lab) -> None:
    """A circuit of the process is open for the next run; one of a run is forgotten with it."""
    for scope, again in (("run", OSError), ("process", CircuitOpenError)):
        breaker = CircuitBreaker(f"of {scope}", consecutive=5, on_open="fail", scope=scope)
        dead = work.with_options(circuit_breaker=breaker, retry=RetryPolicy(4, "none"))
        with pytest.raises(OSError, match="down"):
            lab(dead.bind(), lambda call: Fails(OSError("down")))
        with pytest.raises(again):
            lab(dead.bind(), lambda call: Fails(OSError("down")))


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_in_place_and_on_threads(backend: str) -> None:
    """The same on the caller's thread and on real ones."""
    calls: list[int] = []

    @task(circuit_breaker=CircuitBreaker(consecutive=5, on_open="fail"))
    def dead(x: int) -> int:
        calls.append(x)
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        evaluate(
            [dead.bind(x=i) for i in range(50)], default_backend=backend, on_failure="continue"
        )
    assert 5 <= len(calls) <= 5 + find_backend(backend).slots - 1


# -- the total of a call ----------------------------------------------------------


def timed(counts: Any, **options: Any) -> Any:
    """`guarded`, counting so, with a total of 5 s."""
    given: dict[str, Any] = {"consecutive": 3, "on_open": "fail", "break_for": 300, **options}
    return guarded(counts=counts, **given).with_options(
        timeout=TimeoutPolicy(total=5), map_policy=MapPolicy("collect")
    )


@pytest.mark.parametrize("counts", ["attempt", "call"])
@pytest.mark.parametrize("hedge", [None, Hedge(4)])
def test_a_total_is_a_timeout(lab: Lab, counts: Any, hedge: Hedge | None) -> None:
    """A dependency that hangs opens the circuit, whichever limit ends the calls."""
    hanging = timed(counts).with_options(hedge=hedge, idempotent=True)
    lab(hanging.extend(x=range(40)), lambda _: Hangs(), slots=4)
    assert sum(call.started is not None for call in lab.backend.calls) <= 3 + 4 - 1
    (opened,) = lab.events.of(CircuitChanged)
    assert (opened.after, opened.time) == ("open", 5)


def test_a_total_is_a_timeout_whenever_it_begins(lab: Lab) -> None:
    """Moments that are no round numbers are rounded, and yet it is over when it is."""
    late = task(lambda x: x, name="late")
    for number in range(50):
        lab.events.events.clear()
        hanging = timed("attempt", consecutive=1).with_options(timeout=TimeoutPolicy(total=0.7))
        expr = [hanging.with_options(map_policy=None).bind(x=late.bind(x=1))]
        with pytest.raises(TimeoutError):
            lab(expr, {"late": Takes(number / 7 + 0.1, 1), "work": Hangs()})
        assert circuits(lab) == [("closed", "open")]


@pytest.mark.parametrize("counts", ["attempt", "call"])
def test_a_total_that_is_over_in_a_queue(lab: Lab, counts: Any) -> None:
    """A call that never started says nothing of the dependency."""
    other = task(lambda: 0, name="other")
    calls = [other.bind(), *(timed(counts).bind(x=i) for i in range(9))]
    with pytest.raises(TimeoutError):
        lab(calls, {"other": Takes(20, 0)}, slots=1, on_failure="continue")
    assert circuits(lab) == []


@pytest.mark.parametrize(("counts", "needed"), [("attempt", 4), ("call", 3)])
def test_a_total_that_is_over_between_attempts(lab: Lab, counts: Any, needed: int) -> None:
    """The call has failed then; no attempt has that hadn't before."""
    late = timed(counts, consecutive=needed).with_options(
        retry=RetryPolicy(1, "constant", delay=50, jitter="none"),
        timeout=TimeoutPolicy(total=50.5),
    )
    lab(late.extend(x=range(3)), {"work": Fails(OSError("down"), 1)})
    assert len(lab.backend.calls) == 3
    assert circuits(lab) == ([] if counts == "attempt" else [("closed", "open")])


@pytest.mark.parametrize(("counts", "opens"), [("attempt", False), ("call", True)])
def test_a_total_that_is_over_before_a_retry_starts(lab: Lab, counts: Any, opens: bool) -> None:
    """The call had started, but this attempt hadn't: it waited for a worker."""
    once = timed(counts, consecutive=1 if opens else 2).with_options(retry=RetryPolicy(1, "none"))
    other = task(lambda: 0, name="other")
    script = {"work": [Fails(OSError("down"), 1), Takes(1, 0)], "other": Takes(50, 0)}
    with pytest.raises(TimeoutError):
        lab([once.bind(), other.bind()], script, slots=1, on_failure="continue")
    assert circuits(lab) == ([("closed", "open")] if opens else [])
    assert lab.starts == [0, 1, None]


@pytest.mark.parametrize("counts", ["attempt", "call"])
def test_a_total_that_is_ignored(lab: Lab, counts: Any) -> None:
    """`ignore` says which errors count, and a timeout is one."""
    hanging = timed(counts, ignore=TimeoutError)
    lab(hanging.extend(x=range(12)), lambda _: Hangs(), slots=4)
    assert circuits(lab) == []
    assert lab.clock.now() == 10


@pytest.mark.parametrize("counts", ["attempt", "call"])
def test_a_probe_that_its_total_ends(lab: Lab, counts: Any) -> None:
    """It has failed: the circuit opens again, and waits for the next one."""
    down = timed(counts, on_open="park", break_for=10, max_park=100, probe_lease=50)
    hanging = down.with_options(timeout=TimeoutPolicy(total=5))
    lab(hanging.extend(x=range(9)), lambda _: Hangs(), slots=3)
    assert circuits(lab)[:3] == [("closed", "open"), ("open", "half_open"), ("half_open", "open")]


@pytest.mark.parametrize("counts", ["attempt", "call"])
def test_other_cancellations_are_neutral(lab: Lab, counts: Any) -> None:
    """A run that ends, or a hedge that lost, is no failure, with a total or without."""
    hedged = timed(counts).with_options(hedge=Hedge(1), idempotent=True)
    script = lambda call: Hangs() if not call.repeats else Takes(1, 0)  # noqa: E731
    lab(hedged.extend(x=range(12)), script, slots=24)
    assert circuits(lab) == []
    assert len(lab.events.of(CallHedged)) == 12
    bad = task(lambda: 0, name="bad")
    scripts = {"bad": Fails(KeyError("bad"), 2), "work": Hangs()}
    shared = [timed(counts, scope="process", key=f"neutral {counts}").bind(x=i) for i in range(3)]
    with pytest.raises(KeyError):
        lab([bad.bind(), *shared], scripts, slots=4)
    assert circuits(lab) == []
