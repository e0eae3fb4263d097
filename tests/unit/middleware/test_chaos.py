"""Chaos: which attempts are struck, by what, and how the other policies see that."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from daglite import (
    Capabilities,
    Chaos,
    CircuitBreaker,
    FallbackPolicy,
    PolicySet,
    RetryPolicy,
    TimeoutPolicy,
    evaluate,
    task,
)
from daglite.callbacks import AttemptFailed, CallParked, CircuitChanged, FaultInjected
from daglite.core.call import Call, Outcome
from daglite.exceptions import (
    ExecutionError,
    PolicyError,
    TaskConfigurationError,
    TaskTimeoutError,
    WorkerDiedError,
)
from daglite.middleware.chaos import FaultInjection
from daglite.testing import Fails, Hangs, RecordedEvents, ScriptedBackend, Takes
from tests.unit.lab import Lab


@task
def work(x: int = 0) -> int:
    return x


def drilled(rate: float = 1, **faults: Any) -> Any:
    return work.with_options(chaos=Chaos(rate, **faults))


def struck(lab: Lab) -> list[tuple[int | None, int]]:
    return [(event.element, event.attempt) for event in lab.events.of(FaultInjected)]


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedBackend, "capabilities", Capabilities(cancel=True, kill=True))


@pytest.mark.parametrize("said", [{}, {"chaos": False}, {"chaos": None}])
def test_nothing_happens_unless_the_run_says_so(lab: Lab, said: dict[str, Any]) -> None:
    """Not even a kill is refused."""
    assert lab(drilled(error=OSError, kill=True).extend(x=range(3)), **said) == [0, 1, 2]
    assert not struck(lab)


def test_an_error(lab: Lab) -> None:
    """It is raised instead of the call, which never starts."""
    with pytest.raises(ConnectionError, match="chaos struck attempt 1 of 'work'") as caught:
        lab(drilled(error=ConnectionError).bind(), chaos=True)
    assert isinstance(caught.value, ExecutionError)
    assert lab.backend.calls == []
    (record,) = caught.value.attempts
    assert (record.started, record.ran) == (0, 0)
    assert [event.fault for event in lab.events.of(FaultInjected)] == ["error"]


def test_an_error_is_a_failure_like_others(lab: Lab) -> None:
    """It is retried, counted by a circuit, and replaced by a fallback."""
    stack = drilled(error=ConnectionError).with_options(
        retry=RetryPolicy(2, "none"),
        circuit_breaker=CircuitBreaker(consecutive=3, on_open="fail"),
        fallback=FallbackPolicy(-1),
    )
    assert lab(stack.bind(), chaos=True) == -1
    assert struck(lab) == [(None, 1), (None, 2), (None, 3)]
    assert [event.after for event in lab.events.of(CircuitChanged)] == ["open"]


def test_a_probe_may_get_through(lab: Lab) -> None:
    """The attempt that the circuit starts again draws again, or it would fail for ever."""
    stack = drilled(0.5, error=OSError, seed=4).with_options(
        circuit_breaker=CircuitBreaker(consecutive=1, break_for=1, max_park=60),
        retry=RetryPolicy(6, "none"),
    )
    assert lab(stack.extend(x=range(20)), chaos=True) == list(range(20))
    assert any(event.before == "half_open" for event in lab.events.of(CircuitChanged))


def test_each_of_several_errors(lab: Lab) -> None:
    """One of them is drawn for each attempt."""
    some = drilled(error=(OSError, KeyError)).with_options(retry=RetryPolicy(30, "none"))
    with pytest.raises(Exception, match="chaos struck attempt 31"):
        lab(some.bind(), chaos=True)
    assert {type(event.error) for event in lab.events.of(AttemptFailed)} == {OSError, KeyError}


def test_latency(lab: Lab) -> None:
    """The call takes so much longer, and holds no worker meanwhile."""
    slow = drilled(latency=10).extend(x=range(8))
    assert lab(slow, {"work": Takes(1)}, slots=1, chaos=True) == list(range(8))
    assert lab.starts == list(range(8))
    assert lab.clock.now() == 18
    assert {(event.reason, event.seconds) for event in lab.events.of(CallParked)} == {("chaos", 10)}


def test_latency_counts_into_the_limit_of_the_attempt(lab: Lab) -> None:
    """Together with what the call takes, from its start: not with what it has queued."""
    slow = drilled(latency=10)
    script = {"work": Takes(4)}
    assert len(lab(slow.with_options(timeout=14.5).extend(x=range(9)), script, chaos=True)) == 9
    began = lab.clock.now()
    with pytest.raises(TaskTimeoutError) as caught:
        lab(slow.with_options(timeout=13).bind(), script, chaos=True)
    assert (caught.value.kind, caught.value.elapsed) == ("attempt", 13)
    assert lab.clock.now() - began == 13
    with pytest.raises(TaskTimeoutError, match="total"):
        lab(slow.with_options(timeout=TimeoutPolicy(total=6)).bind(), script, chaos=True)
    assert lab.clock.now() - began == 19


def test_latency_makes_calls_slow(lab: Lab) -> None:
    """A circuit that looks at slow calls sees it."""
    watched = drilled(latency=10).with_options(
        circuit_breaker=CircuitBreaker(slow_call=9, min_calls=3, window=3, on_open="fail")
    )
    lab([watched.bind(x=i) for i in range(3)], {"work": Takes(1)}, chaos=True)
    assert [event.after for event in lab.events.of(CircuitChanged)] == ["open"]


def test_corrupt(lab: Lab) -> None:
    """The result is another one; of a call that fails there is none."""
    assert lab(drilled(corrupt=str).bind(x=3), chaos=True) == "3"
    bad = task(lambda: 1 / 0, name="bad", chaos=Chaos(1, corrupt=str))
    with pytest.raises(ZeroDivisionError):
        lab(bad.bind(), chaos=True)
    with pytest.raises(TypeError):
        lab(drilled(corrupt=len).bind(x=3), chaos=True)


def test_a_corrupted_result_is_seen_by_retries(lab: Lab) -> None:
    """As if the function had returned it."""
    picky = RetryPolicy(1, "none", retry_on_result=lambda result: result == "3")
    with pytest.raises(ExecutionError, match="retry_on_result refused '3'"):
        lab(drilled(corrupt=str).with_options(retry=picky).bind(x=3), chaos=True)


def test_corrupt_leaves_failures_alone(lab: Lab) -> None:
    """There is no result to corrupt."""
    with pytest.raises(OSError, match="down"):
        lab(drilled(corrupt=len).bind(), {"work": Fails(OSError("down"))}, chaos=True)


@pytest.mark.usefixtures("killing")
@pytest.mark.parametrize("ending", [Hangs(), Takes(5), Takes(0)])
def test_kill(lab: Lab, ending: Any) -> None:
    """The backend ends the call as soon as it runs; that is a loss of the infrastructure."""
    with pytest.raises(WorkerDiedError, match="chaos killed its worker"):
        lab(drilled(kill=True).bind(), lambda call: ending, chaos=True)
    assert lab.clock.now() <= 0.02
    assert len(lab.backend.calls) == 1


@pytest.mark.usefixtures("killing")
def test_the_record_of_a_kill(lab: Lab) -> None:
    """It says when the attempt has started, how long it ran and where."""
    first = task(lambda: 1, name="first").bind()
    with pytest.raises(WorkerDiedError) as caught:
        lab(drilled(kill=True).bind(x=first), {"first": Takes(2, 1), "work": Hangs()}, chaos=True)
    (record,) = caught.value.attempts
    assert (record.started, record.worker) == (2, "scripted")
    assert record.ran == pytest.approx(lab.clock.now() - 2)
    assert 0 < record.ran <= 0.02


@pytest.mark.usefixtures("killing")
def test_the_record_of_a_kill_that_came_before_the_start(lab: Lab) -> None:
    """It says that the function never ran."""

    async def refuse(call: Call, call_next: Any) -> Outcome:
        return Outcome(error=OSError("no place"))

    killed = FaultInjection(Chaos(1, kill=True))

    async def around(call: Call, call_next: Any) -> Outcome:
        return await killed(call, lambda call: refuse(call, call_next))

    first = task(lambda: 1, name="first").bind()
    with pytest.raises(WorkerDiedError) as caught:
        lab(work.with_options(around_attempt=around).bind(x=first), {"first": Takes(2, 1)})
    (record,) = caught.value.attempts
    assert (record.started, record.ran) == (None, 0)


@pytest.mark.usefixtures("killing")
def test_kills_wait_for_the_call_to_start(lab: Lab) -> None:
    """A queued one isn't killed; it is retried as one whose worker has died."""
    patient = drilled(0.5, kill=True, seed=1).with_options(
        retry=RetryPolicy(0, "none", infrastructure_retries=9)
    )
    assert lab(patient.extend(x=range(9)), {"work": Takes(3)}, slots=1, chaos=True) == list(
        range(9)
    )
    assert 0 < len(struck(lab)) == len(lab.events.of(AttemptFailed))
    assert len(lab.backend.calls) == 9 + len(struck(lab))
    assert 27 <= lab.clock.now() <= 27 + 0.03 * len(struck(lab))


def test_what_cannot_be_killed_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything runs, and if the run has chaos only."""
    made = drilled(kill=True)
    for name in ("sequential", "threading"):
        with pytest.raises(PolicyError, match=rf"task 'work' asks for .*'{name}' can't kill"):
            evaluate(made.bind(), default_backend=name, chaos=True)
        assert evaluate(made.bind(x=2), default_backend=name) == 2
    monkeypatch.setattr(ScriptedBackend, "capabilities", Capabilities(cancel=True, kill=True))
    abandoned = made.with_options(timeout=TimeoutPolicy(3, on_expiry="abandon"))
    with pytest.raises(PolicyError, match="but also for on_expiry='abandon'"):
        lab(abandoned.bind(), chaos=True)


def test_an_error_that_cannot_be_made() -> None:
    """It is refused before anything runs."""
    with pytest.raises(PolicyError, match="task 'work': chaos can't raise UnicodeDecodeError, as"):
        evaluate(drilled(error=UnicodeDecodeError).bind(), chaos=True)


@pytest.mark.parametrize("rate", [0, 0.2, 1])
def test_the_share_that_is_struck(lab: Lab, rate: float) -> None:
    """As large as the rate says, each fault as often as the others, and no two runs alike."""
    made = drilled(rate, error=OSError, corrupt=str).with_options(fallback=FallbackPolicy(0))
    lab(made.extend(x=range(2_000)), chaos=True)
    found = struck(lab)
    assert abs(len(found) - rate * 2_000) <= 150 * bool(0 < rate < 1)
    faults = [event.fault for event in lab.events.of(FaultInjected)]
    assert abs(faults.count("error") - len(found) / 2) <= 180
    lab.events.events.clear()
    lab(made.extend(x=range(2_000)), chaos=True)
    assert (struck(lab) == found) is (rate != 0.2)


SEEDED = """
from daglite import Chaos, PolicySet, RetryPolicy, evaluate, task
from daglite.callbacks import FaultInjected
from daglite.testing import RecordedEvents

def struck(seed):
    events = RecordedEvents()
    made = task(lambda x: x, name="work", retry=RetryPolicy(9, "none"))
    chaos = Chaos(0.4, error=(OSError, KeyError), corrupt=str, seed=seed)
    expr = [made.extend(x=range(40)), made.bind(x=1)]
    evaluate(expr, policies=PolicySet(chaos=chaos), callbacks=[events], chaos=True)
    return [(e.element, e.attempt, e.fault) for e in events.of(FaultInjected)]
"""


def test_a_seed_strikes_the_same_attempts_in_another_process() -> None:
    """Another seed strikes others."""
    names: dict[str, Any] = {}
    exec(SEEDED, names)
    here = names["struck"](7)
    program = f"{SEEDED}\nprint(struck(7))"
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert there.stdout.strip() == str(here), there.stderr
    assert len(here) > 10
    assert names["struck"](8) != here


def test_tasks_with_one_seed_are_struck_apart(lab: Lab) -> None:
    """The draws of two nodes have nothing to do with each other."""
    made = drilled(0.5, corrupt=str, seed=1)
    found = lab([made.extend(x=range(64)), made.extend(x=range(64))], chaos=True)
    assert [type(x) for x in found[0]] != [type(x) for x in found[1]]


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_on_real_backends(backend: str) -> None:
    """In place and on threads, for bound tasks and maps."""
    made = drilled(0.5, error=OSError, latency=0.001).with_options(retry=RetryPolicy(30, "none"))
    events = RecordedEvents()
    found = evaluate(
        [made.extend(x=range(30)), made.bind(x=1)],
        default_backend=backend,
        chaos=True,
        callbacks=events,
    )
    assert found == [list(range(30)), 1]
    assert len(events.of(FaultInjected)) > 3


def test_a_context_with_chaos() -> None:
    """It holds for its calls, of which each may say something else."""
    drill = PolicySet(chaos=Chaos(1, corrupt=str))
    with evaluate.context(chaos=True, policies=drill) as ctx:
        assert ctx.evaluate(work.bind(x=1)) == "1"
        assert ctx.evaluate(work.bind(x=1), chaos=False) == 1
    with evaluate.context() as ctx:
        made = drilled(corrupt=str).bind(x=1)
        assert [ctx.evaluate(made, chaos=chaos) for chaos in (True, False, True)] == ["1", 1, "1"]


def test_a_run_inside_a_task_says_it_for_itself() -> None:
    """The chaos of the outer run doesn't strike there."""
    inner = drilled(corrupt=str)
    outer = task(lambda: evaluate(inner.bind(x=1)), name="outer")
    assert evaluate(outer.bind(), chaos=True) == 1


def test_the_policy_is_no_switch() -> None:
    """What `evaluate(chaos=)` takes is True or False; the message says where a policy goes."""
    wrong: Any = Chaos(1, error=OSError)
    with pytest.raises(TaskConfigurationError, match=r"True or False, not Chaos.*PolicySet\(chaos"):
        evaluate(work.bind(), chaos=wrong)


def test_what_isnt_struck_goes_on(lab: Lab) -> None:
    """The function runs, on its backend, as ever."""

    def script(call: Call) -> Any:
        return Takes(2)

    assert lab(drilled(0.0, error=OSError).bind(x=4), script, chaos=True) == 4
    assert lab.clock.now() == 2
