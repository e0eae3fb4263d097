"""Retries: how often, after which waits, and what is never tried again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tenacity import retry_if_result, wait_fixed
from tenacity.wait import wait_base

from daglite import RetryPolicy, TimeoutPolicy, evaluate, task
from daglite.callbacks import AttemptFailed, CallParked
from daglite.exceptions import (
    BackendError,
    ExecutionError,
    ParameterError,
    PolicyError,
    SerializationError,
    TaskTimeoutError,
    WorkerDiedError,
)
from daglite.testing import Fails, Takes, VirtualClock
from tests.unit.lab import Lab


def constant(retries: int, **more: Any) -> RetryPolicy:
    """Waits of 10 s."""
    return RetryPolicy(retries, "constant", delay=10, jitter="none", **more)


@task
def work(x: int = 0) -> int:
    return x


def failing(times: int, error: BaseException | None = None, after: float = 0.0) -> dict[str, Any]:
    """A script by which `work` fails that many times."""
    return {"work": [Fails(error or OSError("down"), after)] * times}


def asking(seconds: object) -> OSError:
    """An error that asks for a wait."""
    error = OSError("busy")
    error.retry_after = seconds  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("retries", [0, 1, 3, 7])
def test_counts(lab: Lab, retries: int) -> None:
    """`RetryPolicy(n)` is at most n + 1 calls, and the last one may still succeed."""
    flaky = work.with_options(retry=constant(retries))
    assert lab(flaky.bind(x=5), failing(retries)) == 5
    assert len(lab.backend.calls) == retries + 1
    with pytest.raises(OSError, match="down") as caught:
        lab(flaky.bind(x=5), failing(retries + 1))
    assert len(lab.backend.calls) == retries + 1
    assert isinstance(caught.value, ExecutionError)
    assert len(caught.value.attempts) == retries + 1


def test_without_a_policy_nothing_runs_twice(lab: Lab) -> None:
    """Neither after a failure of the task nor after a loss of the infrastructure."""
    for error in (OSError("down"), WorkerDiedError("lost")):
        with pytest.raises(ExecutionError):
            lab(work.bind(), failing(1, error))
        assert len(lab.backend.calls) == 1


def test_the_back_off_grows_over_both_kinds_of_failures(lab: Lab) -> None:
    """A loss between two failures of the task doesn't have the waits begin anew."""
    lost, down = Fails(WorkerDiedError("lost")), Fails(OSError("down"))
    policy = RetryPolicy(2, "exponential", delay=1, jitter="none", infrastructure_retries=2)
    flaky = work.with_options(retry=policy)
    for endings in ([lost, down, lost, down], [down, lost, down, lost], [down, down, lost, lost]):
        began = lab.clock.now()
        assert lab(flaky.bind(x=5), {"work": endings}) == 5
        starts = [start - began for start in lab.starts if start is not None]
        assert starts == [0, 1, 1 + 2, 1 + 2 + 4, 1 + 2 + 4 + 8]


@pytest.mark.parametrize(
    ("policy", "starts"),
    [
        (RetryPolicy(4, "none"), [0, 0, 0, 0, 0]),
        (RetryPolicy(4, "constant", delay=3, jitter="none"), [0, 3, 6, 9, 12]),
        (RetryPolicy(4, "linear", delay=1, jitter="none"), [0, 1, 3, 6, 10]),
        (RetryPolicy(4, "exponential", delay=1, jitter="none"), [0, 1, 3, 7, 15]),
        (RetryPolicy(4, "exponential", delay=1, factor=3, jitter="none"), [0, 1, 4, 13, 40]),
        (RetryPolicy(4, "fibonacci", delay=1, jitter="none"), [0, 1, 2, 4, 7]),
        (RetryPolicy(4, [5, 1, 2], jitter="none"), [0, 5, 6, 8, 10]),
        (RetryPolicy(4, "exponential", delay=1, max_delay=2, jitter="none"), [0, 1, 3, 5, 7]),
        (RetryPolicy(4, wait_fixed(6)), [0, 6, 12, 18, 24]),
    ],
)
def test_waits(lab: Lab, policy: RetryPolicy, starts: list[float]) -> None:
    """Each backoff waits as its name says, between the end of an attempt and the next start."""
    lab(work.with_options(retry=policy).bind(), failing(4))
    assert lab.starts == starts


def test_decorrelated_waits_grow_from_each_other(lab: Lab) -> None:
    """Each lies between the delay and three times the one before."""
    policy = RetryPolicy(30, "decorrelated", delay=1, max_delay=1e9, seed=1)
    lab(work.with_options(retry=policy).bind(), failing(30))
    waits = [later - earlier for earlier, later in pairwise(lab.starts)]
    assert all(0.999 <= wait <= 3.001 * max(1, last) for last, wait in pairwise([1, *waits]))
    assert max(waits) > 100


def test_what_a_wait_object_is_told(lab: Lab) -> None:
    """The error of the attempt that has failed, its number and the seconds since the first."""
    told: list[tuple[Any, ...]] = []

    class Asks(wait_base):
        def __call__(self, retry_state: Any) -> float:
            error = retry_state.outcome.exception()
            told.append((str(error), retry_state.attempt_number, retry_state.seconds_since_start))
            return 10

    patient = work.with_options(retry=RetryPolicy(2, Asks()))
    script = {"work": [Fails(OSError("a"), 2), Fails(OSError("b"), 3), Takes(0, 1)]}
    assert lab(patient.bind(), script) == 1
    assert told == [("a", 1, 2), ("b", 2, 15)]


def test_waits_begin_when_the_attempt_has_failed(lab: Lab) -> None:
    """What an attempt takes comes on top of the back-off."""
    lab(work.with_options(retry=constant(2)).bind(), failing(2, after=3))
    assert lab.starts == [0, 13, 26]


@pytest.mark.parametrize(("jitter", "least"), [("full", 0.0), ("equal", 0.5)])
def test_jitter_stays_within_its_bounds(lab: Lab, jitter: Any, least: float) -> None:
    """It never exceeds the wait without it, and differs from call to call."""
    policy = RetryPolicy(1, "constant", delay=10, jitter=jitter)
    lab(work.with_options(retry=policy).extend(x=range(40)), failing(1), slots=40)
    waits = [event.seconds for event in lab.events.of(CallParked)]
    assert len(set(waits)) == 40
    assert least * 10 <= min(waits) <= max(waits) < 10


def test_a_seed_repeats_the_waits() -> None:
    """The same seed waits the same in each run; another one, or none, doesn't."""

    def waits(seed: int | None) -> list[float]:
        lab = Lab()
        lab(work.with_options(retry=RetryPolicy(5, seed=seed)).bind(), failing(5))
        return [event.seconds for event in lab.events.of(CallParked)]

    assert waits(1) == waits(1)
    assert waits(1) != waits(2)
    assert waits(None) != waits(None)


def test_each_draw_is_another(lab: Lab) -> None:
    """A wait's random part depends on the attempt, on the node and on the element."""
    waiting = work.with_options(retry=RetryPolicy(3, "constant", delay=10, max_delay=10, seed=1))
    calls = [waiting.bind(x=0), waiting.bind(x=0), waiting.extend(x=[0, 0])]
    lab(calls, lambda call: Fails(OSError()) if call.attempt < 4 else Takes(1, 1), slots=4)
    parked = lab.events.of(CallParked)
    waits = {(event.node_id, event.element, event.attempt): event.seconds for event in parked}
    assert len(waits) == len(set(waits.values())) == 12


def test_losses_are_counted_apart(lab: Lab) -> None:
    """`infrastructure_retries` and `max_retries` are two budgets."""
    lost, down = Fails(WorkerDiedError("lost")), Fails(OSError("down"))
    flaky = work.with_options(retry=constant(2, infrastructure_retries=2))
    assert lab(flaky.bind(x=3), {"work": [lost, down, lost, down]}) == 3
    assert len(lab.backend.calls) == 5
    with pytest.raises(WorkerDiedError):
        lab(flaky.bind(x=3), {"work": [lost, down, lost, lost]})
    assert len(lab.backend.calls) == 4
    with pytest.raises(OSError, match="down"):
        lab(flaky.bind(x=3), {"work": [lost, down, down, down]})
    assert len(lab.backend.calls) == 4


def test_losses_are_no_errors_of_the_function(lab: Lab) -> None:
    """`retry_on` doesn't stop them from being tried again; `never` does."""
    picky = work.with_options(retry=constant(2, retry_on=ValueError))
    assert lab(picky.bind(x=3), failing(3, WorkerDiedError("lost"))) == 3
    assert len(lab.backend.calls) == 4
    picky = work.with_options(retry=constant(2, never=WorkerDiedError))
    with pytest.raises(WorkerDiedError):
        lab(picky.bind(x=3), failing(3, WorkerDiedError("lost")))
    assert len(lab.backend.calls) == 1


@pytest.mark.parametrize(
    ("retries", "losses", "calls"), [(3, 0, 1), (0, 2, 3), (0, 0, 1), (1, 4, 5)]
)
def test_only_losses(lab: Lab, retries: int, losses: int, calls: int) -> None:
    """They burn nothing of `max_retries`."""
    flaky = work.with_options(retry=constant(retries, infrastructure_retries=losses))
    with pytest.raises(WorkerDiedError):
        lab(flaky.bind(), failing(9, WorkerDiedError("lost")))
    assert len(lab.backend.calls) == calls


@pytest.mark.parametrize(
    ("options", "error", "calls"),
    [
        ({"retry_on": OSError}, ConnectionError(), 3),
        ({"retry_on": OSError}, ValueError(), 1),
        ({"retry_on": (OSError, ValueError)}, ValueError(), 3),
        ({"never": OSError}, ConnectionError(), 1),
        ({"retry_on": OSError, "never": ConnectionError}, ConnectionError(), 1),
        ({"retry_on": OSError, "never": ConnectionError}, OSError(), 3),
        ({"retry_on": TimeoutError}, TimeoutError(), 3),
        # What can't get better by itself, unless it is named:
        ({}, SerializationError("can't"), 1),
        ({}, ParameterError("can't"), 1),
        ({"retry_on": SerializationError}, SerializationError("can't"), 3),
        ({}, BackendError("may be"), 3),
        # What no policy may swallow:
        ({}, SystemExit(1), 1),
        ({}, GeneratorExit(), 1),
    ],
)
def test_which_errors(lab: Lab, options: dict[str, Any], error: BaseException, calls: int) -> None:
    """`never` beats `retry_on`; permanent errors want to be named."""
    with pytest.raises(ExecutionError):
        lab(work.with_options(retry=constant(2, **options)).bind(), failing(9, error))
    assert len(lab.backend.calls) == calls


def test_a_hint_replaces_the_wait(lab: Lab) -> None:
    """Also where it is shorter than the backoff, and though it is above max_delay."""
    script = {"work": [Fails(asking(200)), Fails(asking(1)), Fails(asking("x"))]}
    assert lab(work.with_options(retry=constant(3, max_delay=60)).bind(x=1), script) == 1
    assert lab.starts == [0, 200, 201, 211]


def test_a_hint_by_another_name(lab: Lab) -> None:
    """`hint` names the attribute; None looks at none."""
    lab(work.with_options(retry=constant(1, hint=None)).bind(), failing(1, asking(200)))
    assert lab.starts == [0, 10]
    error = asking(200)
    error.pause = 4  # type: ignore[attr-defined]
    lab(work.with_options(retry=constant(1, hint="pause")).bind(), failing(1, error))
    assert lab.starts == [10, 14]


def test_a_hint_above_max_hint(lab: Lab) -> None:
    """The call fails at once, and says why."""
    flaky = work.with_options(retry=constant(3, max_hint=30))
    with pytest.raises(
        OSError, match="not tried again: retry_after asks for a wait of 31 s, more than max_hint=30"
    ):
        lab(flaky.bind(), failing(1, asking(31)))
    assert (len(lab.backend.calls), lab.clock.now()) == (1, 0)
    assert lab(flaky.bind(x=2), failing(1, asking(30))) == 2


def test_a_hint_beyond_the_total(lab: Lab) -> None:
    """One longer than what is left of the total fails at once, and says how much is left."""
    flaky = work.with_options(retry=constant(3), timeout=TimeoutPolicy(total=60))
    script = {"work": [Fails(OSError(), 5), Fails(asking(41), 5), Takes(0, 1)]}
    with pytest.raises(OSError, match="wait of 41 s, but only 40 s of the total are left"):
        lab(flaky.bind(), script)
    assert lab.clock.now() == 20
    script["work"][1] = Fails(asking(39), 5)
    assert lab(flaky.bind(), script) == 1
    with pytest.raises(OSError, match=r"wait of 1 s, but only 0\.5 s of the total are left"):
        lab(flaky.bind(), {"work": Fails(asking(1), 59.5)})


def test_a_hint_of_just_what_is_left_of_the_total(lab: Lab) -> None:
    """It is waited for, and the total ends the call then."""
    flaky = work.with_options(retry=constant(3), timeout=TimeoutPolicy(total=60))
    with pytest.raises(TaskTimeoutError, match="total of 60 s"):
        lab(flaky.bind(), failing(1, asking(50), after=10))
    assert lab.clock.now() == 60


def test_max_elapsed(lab: Lab) -> None:
    """No attempt starts later; one that starts at the very moment does."""
    flaky = work.with_options(retry=constant(9, max_elapsed=25))
    with pytest.raises(OSError, match="30 s after the first, later than max_elapsed=25 s"):
        lab(flaky.bind(), failing(9))
    assert lab.starts == [0, 10, 20]
    assert lab.clock.now() == 20
    at_the_moment = work.with_options(retry=constant(9, max_elapsed=20))
    assert lab(at_the_moment.bind(x=8), failing(2)) == 8


def test_max_elapsed_counts_what_attempts_take(lab: Lab) -> None:
    """It runs from the first attempt, not over the waits alone."""
    with pytest.raises(OSError, match="max_elapsed=25 s"):
        lab(work.with_options(retry=constant(9, max_elapsed=25)).bind(), failing(9, after=8))
    assert lab.starts == [0, 18]


def test_max_elapsed_holds_for_hints(lab: Lab) -> None:
    """A hint that leads past it isn't waited for."""
    with pytest.raises(OSError, match="26 s after the first, later than max_elapsed=25 s"):
        lab(work.with_options(retry=constant(9, max_elapsed=25)).bind(), failing(9, asking(26)))
    assert lab.clock.now() == 0


def negative(value: int) -> bool:
    return value < 0


def test_results_that_are_refused(lab: Lab) -> None:
    """A refused result is a failed attempt: recorded, told, and tried again."""
    poll = work.with_options(retry=constant(2, retry_on_result=negative))
    script = {"work": [Takes(1, -1), Takes(1, -2), Takes(1, 7)]}
    assert lab(poll.bind(), script) == 7
    assert lab.starts == [0, 11, 22]
    assert [event.attempt for event in lab.events.of(AttemptFailed)] == [1, 2]
    with pytest.raises(ExecutionError, match="refused -3") as caught:
        lab(poll.bind(), {"work": [Takes(1, -1), Takes(1, -2), Takes(1, -3), Takes(1, 7)]})
    assert len(lab.backend.calls) == 3
    assert [a.error for a in caught.value.attempts] == [
        f"retry_on_result refused {value}" for value in (-1, -2, -3)
    ]


def test_the_outcome_of_a_refused_result(lab: Lab) -> None:
    """A middleware around the call sees when and where the last attempt ran."""
    seen: list[tuple[Any, ...]] = []

    async def watch(call: Any, call_next: Any) -> Any:
        outcome = await call_next(call)
        seen.append((outcome.ok, outcome.started, outcome.ran, outcome.worker))
        return outcome

    poll = work.with_options(retry=constant(1, retry_on_result=negative), around_call=watch)
    with pytest.raises(ExecutionError, match="refused -1"):
        lab(poll.bind(), {"work": Takes(2, -1)})
    assert seen == [(False, 12, 2, "scripted")]


def test_a_refused_result_whose_retry_would_be_too_late(lab: Lab) -> None:
    """Its error says both: what was refused, and why nothing more was tried."""
    poll = work.with_options(retry=constant(2, retry_on_result=negative, max_elapsed=15))
    with pytest.raises(ExecutionError, match=r"refused -1; not tried again: .*max_elapsed=15 s"):
        lab(poll.bind(), {"work": Takes(6, -1)})


@pytest.mark.parametrize("backend", ["sequential", None])
def test_a_retry_object_of_tenacity_sees_results(lab: Lab, backend: str | None) -> None:
    """It may refuse a result, wherever the task runs."""
    values = iter([-1, -2, 5])
    poll = task(lambda: next(values), name="poll").with_options(
        retry=constant(3, retry_on=retry_if_result(negative)), backend=backend
    )
    assert lab(poll.bind()) == 5
    assert lab.clock.now() == 20


def test_the_history(lab: Lab) -> None:
    """One record for each attempt: when it started, ran and waited, its error and its worker."""
    flaky = work.with_options(retry=RetryPolicy(2, "exponential", delay=2, jitter="none"))
    script = {
        "first": Takes(4, 0),
        "work": [Fails(OSError("a"), 1), Fails(ValueError("b"), 2), Fails(KeyError("c"), 3)],
    }
    first = task(lambda: 0, name="first")
    with pytest.raises(KeyError) as caught:
        lab(flaky.bind(x=first.bind()), script)
    assert isinstance(caught.value, ExecutionError)
    assert [
        (a.number, a.started, a.ran, a.waited, a.error, a.worker) for a in caught.value.attempts
    ] == [
        (1, 4, 1, 0, "OSError: a", "scripted"),
        (2, 7, 2, 2, "ValueError: b", "scripted"),
        (3, 13, 3, 4, "KeyError: 'c'", "scripted"),
    ]
    assert caught.value.execution_path == ("first", "work")
    assert "failed after 3 attempts" in str(caught.value)


def test_events(lab: Lab) -> None:
    """Each failed attempt and each wait is told, those without a wait too."""
    lab(work.with_options(retry=constant(2)).bind(), failing(2, after=1))
    assert [(e.time, e.attempt, e.ran) for e in lab.events.of(AttemptFailed)] == [
        (1, 1, 1),
        (12, 2, 1),
    ]
    assert [(e.time, e.seconds, e.reason) for e in lab.events.of(CallParked)] == [
        (1, 10, "retry"),
        (12, 10, "retry"),
    ]
    lab.events.events.clear()
    lab(work.with_options(retry=RetryPolicy(1, "none")).bind(), failing(1))
    assert lab.events.of(CallParked) == []


def test_a_parked_call_holds_no_slot(lab: Lab) -> None:
    """Others run while it waits, though there is one place only."""
    flaky = work.with_options(retry=constant(1))
    other = task(lambda: 0, name="other")
    script = {"work": [Fails(OSError(), 1), Takes(1, 5)], "other": Takes(4, 6)}
    assert lab([flaky.bind(), other.bind(), other.bind()], script, slots=1) == [5, 6, 6]
    assert [(c.name, c.started) for c in lab.backend.calls] == [
        ("work", 0),
        ("other", 1),
        ("other", 5),
        ("work", 11),
    ]


def test_parked_calls_hold_no_place_in_a_map(lab: Lab) -> None:
    """However many wait, the other elements are started."""
    flaky = work.with_options(
        retry=RetryPolicy(1, "constant", delay=1000, jitter="none", max_delay=1000)
    )

    def script(call: Any) -> Any:
        return Fails(OSError(), 1) if call.attempt == 1 and call.element < 20 else Takes(1)

    assert lab(flaky.extend(x=range(30)), script, slots=1) == list(range(30))
    first = [c.started for c in lab.backend.calls if c.attempt == 1]
    assert first == list(range(30))
    assert min(c.started for c in lab.backend.calls if c.attempt == 2) == 1001


def test_an_attempt_timeout_is_retried(lab: Lab) -> None:
    """It is a failure like others; `retry_on` matches it as a `TimeoutError`."""
    policies = {"timeout": 5, "retry": constant(2, retry_on=TimeoutError)}
    assert lab(work.with_options(**policies).bind(x=4), {"work": [Takes(60), Takes(4)]}) == 4
    assert lab.starts == [0, 15]
    policies["retry"] = constant(2, retry_on=OSError, never=TimeoutError)
    with pytest.raises(TaskTimeoutError):
        lab(work.with_options(**policies).bind(x=4), {"work": [Takes(60), Takes(4)]})
    assert len(lab.backend.calls) == 1


def test_cancellation_passes_through(lab: Lab) -> None:
    """A call that is parked when the run fails isn't tried again."""
    flaky = work.with_options(retry=constant(5))
    bad = task(lambda: 0, name="bad")
    with pytest.raises(ValueError, match="bad"):
        lab([flaky.bind(), bad.bind()], {**failing(9), "bad": Fails(ValueError("bad"), 15)})
    assert [c.started for c in lab.backend.calls if c.name == "work"] == [0, 10]
    assert lab.clock.now() == 15


class _Soon(wait_base):
    """Gives no number."""

    def __call__(self, retry_state: Any) -> Any:
        return "soon"


def test_a_wait_object_that_gives_no_wait(lab: Lab) -> None:
    """The call fails, and its error says what is wrong with the policy."""
    with pytest.raises(PolicyError, match=r"backoff: .* gave a wait of 'soon' before retry 1"):
        lab(work.with_options(retry=RetryPolicy(1, _Soon())).bind(), failing(1))


@pytest.mark.parametrize("error", [WorkerDiedError("lost"), OSError("lost")])
def test_why_nothing_more_is_tried(lab: Lab, error: Exception) -> None:
    """Errors of daglite and of the task say it alike."""
    with pytest.raises(type(error), match=r"lost; not tried again: .*max_elapsed=5 s allows"):
        lab(
            work.with_options(retry=RetryPolicy(1, [4], jitter="none", max_elapsed=5)).bind(),
            failing(9, error, after=3),
        )


def test_virtual_time_can_start_anywhere() -> None:
    """Records count from the run's begin, not from the clock's zero."""
    lab = Lab()
    lab.clock = VirtualClock(start=1e6)
    with pytest.raises(OSError, match="down") as caught:
        lab(work.with_options(retry=constant(1)).bind(), failing(2))
    assert isinstance(caught.value, ExecutionError)
    assert [a.started for a in caught.value.attempts] == [0, 10]


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_max_elapsed_counts_the_first_attempt(on_failure: Any) -> None:
    """In place, where the chain is entered after the first attempt has failed, too."""
    clock, starts = VirtualClock(), []

    @task(retry=RetryPolicy(3, "constant", delay=1, jitter="none", max_elapsed=25))
    def slow() -> None:
        starts.append(clock.now())
        clock.advance(10)
        raise OSError("down")

    with evaluate.context(clock=clock) as ctx, pytest.raises(OSError, match="max_elapsed"):
        ctx.evaluate(slow.bind(), on_failure=on_failure)
    assert starts == [0, 11, 22]


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_a_lost_worker_that_a_task_tells_of_itself(backend: str) -> None:
    """Where no worker can be lost, it is a failure of the task: that of a run inside, say."""
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise WorkerDiedError("lost")

    policy = RetryPolicy(2, "none", infrastructure_retries=4)
    with pytest.raises(WorkerDiedError):
        evaluate(task(fail, name="fail", retry=policy).bind(), default_backend=backend)
    assert len(tries) == 3
