"""The limit of each attempt, from the moment that it starts to run."""

from __future__ import annotations

import pytest

from daglite import RetryPolicy, TimeoutPolicy, task
from daglite.callbacks import AttemptFailed, CallAbandoned
from daglite.exceptions import ExecutionError, PolicyError, TaskTimeoutError
from daglite.testing import Fails, Hangs, Takes
from tests.unit.lab import Lab


@task(timeout=10)
def work(x: int = 0) -> int:
    return x


@pytest.mark.parametrize("ending", [Takes(11), Takes(1000), Fails(OSError(), 11), Hangs()])
def test_the_error_comes_at_the_limit(lab: Lab, ending: object) -> None:
    """However the call would have ended."""
    with pytest.raises(TaskTimeoutError, match="ran longer than its timeout of 10 s") as caught:
        lab(work.bind(), {"work": ending})
    error = caught.value
    assert lab.clock.now() == 10
    assert (error.limit, error.elapsed, error.kind, error.stack) == (10, 10, "attempt", None)
    assert (error.node_name, error.execution_path) == ("work", ("work",))
    (record,) = error.attempts
    assert (record.number, record.started, record.ran, record.worker) == (1, 0, 10, "scripted")
    assert record.error == "TaskTimeoutError: ran longer than its timeout of 10 s"
    assert isinstance(error, TimeoutError)


@pytest.mark.parametrize("seconds", [0, 9.99, 10])
def test_in_time(lab: Lab, seconds: float) -> None:
    """A call that ends in time, or at the very moment, is not late."""
    assert lab(work.bind(x=3), {"work": Takes(seconds)}) == 3
    assert lab.clock.now() == seconds


def test_several_at_the_very_moment(lab: Lab) -> None:
    """None of them is late because another one was looked at first."""
    assert lab(work.extend(x=range(8)), {"work": Takes(10, 3)}, slots=4) == [3] * 8
    assert lab.clock.now() == 20


def test_waiting_for_a_place_is_not_counted(lab: Lab) -> None:
    """A call that was queued for long has its whole limit once it runs."""
    assert lab(work.extend(x=range(5)), {"work": Takes(8)}, slots=1) == [0, 1, 2, 3, 4]
    assert lab.starts == [0, 8, 16, 24, 32]


def test_a_queued_call_that_is_late(lab: Lab) -> None:
    """It is ended one limit after its start: not before, not after."""

    def script(call: object) -> object:
        return Takes(8) if getattr(call, "element", 0) == 0 else Hangs()

    with pytest.raises(TaskTimeoutError) as caught:
        lab(work.extend(x=range(2)), script, slots=1)
    assert lab.clock.now() == 18
    assert caught.value.attempts[0].started == 8
    assert caught.value.execution_path == ("work[1]",)


def test_each_attempt_has_the_whole_limit(lab: Lab) -> None:
    """What earlier attempts and the back-off took isn't counted."""
    flaky = work.with_options(retry=RetryPolicy(2, "constant", delay=30, jitter="none"))
    script = {"work": [Hangs(), Fails(OSError(), 9), Takes(9)]}
    assert lab(flaky.bind(x=2), script) == 2
    assert lab.starts == [0, 40, 79]
    assert [type(e.error).__name__ for e in lab.events.of(AttemptFailed)] == [
        "TaskTimeoutError",
        "OSError",
    ]


def test_retries_run_out(lab: Lab) -> None:
    """The last timeout is the error, with the history of all."""
    with pytest.raises(TaskTimeoutError) as caught:
        lab(work.with_options(retry=RetryPolicy(2, "none")).bind(), {"work": Hangs()})
    assert [(a.started, a.ran) for a in caught.value.attempts] == [(0, 10), (10, 10), (20, 10)]


def test_the_tasks_own_timeout_error(lab: Lab) -> None:
    """It is an ordinary failure, and isn't relabelled."""
    own = TimeoutError("of the task")
    with pytest.raises(TimeoutError, match="of the task") as caught:
        lab(work.bind(), {"work": Fails(own, 5)})
    assert not isinstance(caught.value, TaskTimeoutError)
    assert caught.value.__cause__ is own


def test_a_map_goes_on_at_its_pace(lab: Lab) -> None:
    """One element's timeout and retry leave the others alone, and results in order."""
    flaky = work.with_options(retry=RetryPolicy(1, "constant", delay=5, jitter="none"))

    def script(call: object) -> object:
        late = getattr(call, "element", 0) == 1 and getattr(call, "attempt", 0) == 1
        return Takes(50) if late else Takes(4)

    assert lab(flaky.extend(x=range(6)), script, slots=2) == [0, 1, 2, 3, 4, 5]
    assert lab.clock.now() == 19


@pytest.mark.parametrize(("grace", "told"), [(0, [10]), (5, [15]), (500, [])])
def test_grace(lab: Lab, grace: float, told: list[float]) -> None:
    """An abandoned call that still runs after its grace is told; the error doesn't wait."""
    hangs = work.with_options(timeout=TimeoutPolicy(10, grace=grace))
    other = task(lambda: 0, name="other")
    script = {"work": Hangs(), "other": Takes(100, 0)}
    with pytest.raises(TaskTimeoutError):
        lab([hangs.bind(), other.bind()], script, on_failure="continue")
    assert [(e.elapsed, e.attempt) for e in lab.events.of(CallAbandoned)] == [
        (elapsed, 1) for elapsed in told
    ]


def test_a_call_that_ends_within_its_grace(lab: Lab) -> None:
    """It isn't told to be abandoned."""
    ends = work.with_options(timeout=TimeoutPolicy(10, grace=5))
    script = {"work": Takes(12), "other": Takes(100, 0)}
    with pytest.raises(TaskTimeoutError):
        lab([ends.bind(), task(lambda: 0, name="other").bind()], script, on_failure="continue")
    assert lab.clock.now() == 100
    assert lab.events.of(CallAbandoned) == []


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_a_kill_that_the_backend_lacks(lab: Lab, backend: str) -> None:
    """It is refused before anything runs, with what to write."""
    killed = work.with_options(timeout=TimeoutPolicy(10, on_expiry="kill"), backend=backend)
    first = task(lambda: 0, name="first")
    with pytest.raises(
        PolicyError,
        match=r"task 'work' asks for on_expiry='kill', but backend '\w+' can't kill a call; "
        r"use on_expiry='cancel' or 'abandon', or leave it out",
    ):
        lab(killed.bind(x=first.bind()))
    assert lab.backend.calls == []


@pytest.mark.parametrize("on_expiry", ["cancel", "abandon", None])
def test_what_the_backend_can(lab: Lab, on_expiry: object) -> None:
    """The other ways to expire are accepted, and known to the backend."""
    policy = TimeoutPolicy(attempt=10, on_expiry=on_expiry)  # type: ignore[arg-type]
    seen: list[object] = []

    def script(call: object) -> None:
        seen.append(call.target.on_expiry)  # type: ignore[attr-defined]

    lab(work.with_options(timeout=policy).bind(), script)
    assert seen == [on_expiry]


def test_a_late_error_of_a_failed_run_is_dropped(lab: Lab) -> None:
    """Only the first failure is told."""
    with pytest.raises(ExecutionError):
        lab([work.bind(x=1), work.bind(x=2)], {"work": Hangs()})
    assert lab.clock.now() == 10
    assert lab.events.names().count("NodeFailed") == 1
