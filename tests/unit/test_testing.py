"""The tools for users' tests: scripted calls and recorded events."""

from __future__ import annotations

import math
from typing import Any

import pytest

from daglite import Backend, TimeoutPolicy, current_call, evaluate, task
from daglite.callbacks import CallAbandoned, NodeCompleted
from daglite.core.call import Call
from daglite.exceptions import BackendError, TaskTimeoutError
from daglite.testing import (
    Fails,
    Hangs,
    RecordedEvents,
    ScriptedBackend,
    ScriptedCall,
    Takes,
    VirtualClock,
)
from tests.unit.lab import Lab


@task
def double(x: int) -> int:
    return 2 * x


@task
def add(xs: list[int]) -> int:
    return sum(xs)


def test_it_is_a_backend() -> None:
    """It has all that the protocol asks for."""
    backend = ScriptedBackend(VirtualClock(), slots=3)
    assert isinstance(backend, Backend)
    assert repr(backend) == "ScriptedBackend(slots=3)"
    assert backend.slots == 3


def test_without_a_script_the_function_runs(lab: Lab) -> None:
    """It takes no time, and the call is kept."""
    assert lab(double.bind(x=4)) == 8
    assert lab.clock.now() == 0
    assert lab.backend.calls == [ScriptedCall("double", None, 1, 0.0)]


def test_a_value_in_place_of_the_function(lab: Lab) -> None:
    """`Takes` with a value doesn't call the function; time passes all the same."""
    assert lab(double.bind(x=4), {"double": Takes(3, "scripted")}) == "scripted"
    assert lab.clock.now() == 3


def test_the_function_takes_the_scripted_time(lab: Lab) -> None:
    """`Takes` without a value runs it, also when it fails, or lets time pass itself."""
    assert lab(double.bind(x=4), {"double": Takes(3)}) == 8
    assert lab.clock.now() == 3
    with pytest.raises(ZeroDivisionError):
        lab(task(lambda: 1 / 0, name="broken").bind(), {"broken": Takes(2)})
    assert lab.clock.now() == 5
    slow = task(lambda: lab.clock.advance(60), name="slow")
    lab(slow.bind(), {"slow": Takes(2)})
    assert lab.clock.now() == 65


def test_a_failure_after_some_time(lab: Lab) -> None:
    """`Fails` raises its error when its time has come."""
    error = ValueError("scripted")
    with pytest.raises(ValueError, match="scripted") as caught:
        lab(double.bind(x=4), {"double": Fails(error, after=7)})
    assert caught.value.__cause__ is error
    assert lab.clock.now() == 7


def test_a_list_has_an_entry_for_each_attempt(lab: Lab) -> None:
    """Past its end, the function is run; each call of a task starts at the first."""
    flaky = double.with_options(retry=5, backoff="none")
    script = {"double": [Fails(OSError(), 1), Fails(OSError(), 2)]}
    assert lab(flaky.extend(x=[1, 2]), script) == [2, 4]
    assert [(c.element, c.attempt) for c in lab.backend.calls] == [
        (0, 1),
        (1, 1),
        (0, 2),
        (1, 2),
        (0, 3),
        (1, 3),
    ]


def test_a_function_as_the_script(lab: Lab) -> None:
    """It sees the call; None lets the task's function run."""

    def script(call: Call) -> Takes | None:
        return Takes(1, -1) if call.element == 1 else None

    assert lab(double.extend(x=[1, 2, 3]), script) == [2, -1, 6]


def test_calls_wait_for_a_place(lab: Lab) -> None:
    """No more than `slots` run at the same time; the others start when one ends."""
    assert lab(double.extend(x=range(5)), {"double": Takes(10)}, slots=2) == [0, 2, 4, 6, 8]
    assert lab.starts == [0, 0, 10, 10, 20]
    assert lab.clock.now() == 30


def test_siblings_overlap(lab: Lab) -> None:
    """Nodes that don't need each other take the time of the longest."""
    script = {"a": Takes(5, 1), "b": Takes(8, 2)}
    a, b = (task(lambda: 0, name=name).bind() for name in "ab")
    assert lab(add.bind(xs=[a, b]), script) == 3
    assert lab.clock.now() == 8


def test_the_function_knows_its_call(lab: Lab) -> None:
    """`current_call` works as on any backend."""
    where = task(lambda: current_call().node_name, name="where")
    assert lab(where.bind()) == "where"


def test_a_hanging_call_gives_its_place_back(lab: Lab) -> None:
    """When a timeout gives it up, the next one starts; after its grace it is told."""
    hangs = double.with_options(timeout=TimeoutPolicy(10, grace=5))

    def script(call: Call) -> Hangs | Takes:
        return Hangs() if call.element == 0 else Takes(20)

    with pytest.raises(TaskTimeoutError):
        lab(hangs.extend(x=[1, 2]), script, slots=1)
    assert lab.starts == [0, None]
    lab.events.events.clear()
    nodes = [hangs.with_options(name="hangs").bind(x=1), double.bind(x=2)]
    with pytest.raises(TaskTimeoutError):
        lab(nodes, {"hangs": Hangs(), "double": Takes(20)}, slots=1, on_failure="continue")
    assert lab.starts == [10, 20]
    assert [event.elapsed for event in lab.events.of(CallAbandoned)] == [15]
    assert len(lab.events.of(NodeCompleted)) == 1


def test_a_cancelled_call_ends(lab: Lab) -> None:
    """One that doesn't hang isn't abandoned, and its late value is dropped."""
    slow = double.with_options(timeout=TimeoutPolicy(10, grace=1), name="slow")
    with pytest.raises(TaskTimeoutError):
        lab(
            [slow.bind(x=1), double.bind(x=2)],
            {"slow": Takes(15), "double": Takes(30)},
            on_failure="continue",
        )
    assert lab.events.of(CallAbandoned) == []
    assert lab.clock.now() == 30


def test_what_waits_can_be_cancelled(lab: Lab) -> None:
    """A call that never started stays without a start, and others go on."""
    waits = double.with_options(timeout=TimeoutPolicy(total=5), name="waits")
    with pytest.raises(TaskTimeoutError):
        lab(
            [double.bind(x=1), waits.bind(x=2), double.bind(x=3)],
            {"double": Takes(20)},
            slots=1,
            on_failure="continue",
        )
    assert lab.starts == [0, None, 20]


def test_nothing_is_left_after_a_failed_run(lab: Lab) -> None:
    """The calls of the run are dropped: the next run feels nothing of them."""
    with pytest.raises(OSError, match="failed"):
        lab(
            [double.bind(x=1), task(lambda: 0, name="bad").bind(), double.bind(x=2)],
            {"double": Takes(50), "bad": Fails(OSError(), 1)},
            slots=2,
        )
    backend, clock = lab.backend, lab.clock
    with evaluate.context(clock=clock, default_backend=backend) as ctx:
        assert ctx.evaluate(task(lambda: 7, name="next").bind()) == 7
    assert clock.now() == 1


def test_cancelling_what_has_ended_does_nothing(lab: Lab) -> None:
    """As with any backend, a call may end before it is cancelled."""
    seen: list[Call] = []

    def script(call: Call) -> None:
        seen.append(call)

    lab(double.bind(x=1), script)
    lab.backend.cancel(seen[0])
    assert not lab.backend.is_running(seen[0])
    assert lab.backend.stack_of(seen[0]) is None


def test_a_closed_backend_takes_nothing(lab: Lab) -> None:
    """Its calls fail with a `BackendError`."""
    backend = ScriptedBackend(lab.clock)
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        lab(double.bind(x=1), default_backend=backend)


@pytest.mark.parametrize("clock", [None, VirtualClock()])
def test_another_clock_is_refused(clock: VirtualClock | None) -> None:
    """The run would wait for ever: nobody lets the backend's time pass."""
    backend = ScriptedBackend(VirtualClock())
    with (
        evaluate.context(clock=clock, default_backend=backend) as ctx,
        pytest.raises(BackendError, match=r"another clock; write evaluate\.context\(clock="),
    ):
        ctx.evaluate(double.bind(x=1))


@pytest.mark.parametrize("slots", [0, -1, True, 1.5, "2"])
def test_slots_that_make_no_sense(slots: Any) -> None:
    """They are a whole number from 1."""
    with pytest.raises(BackendError, match="slots is a number from 1 up"):
        ScriptedBackend(VirtualClock(), slots=slots)


def test_scripts_that_make_no_sense(lab: Lab) -> None:
    """A script of the wrong kind is refused; a wrong entry fails its call, and says why."""
    with pytest.raises(BackendError, match="a mapping of task names"):
        ScriptedBackend(lab.clock, 5)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match=r"has 5 for attempt 1 of task 'double'; write Takes"):
        lab(double.bind(x=1), {"double": 5})
    with pytest.raises(KeyError):
        lab(double.bind(x=1), lambda call: {}["nothing"])


@pytest.mark.parametrize("seconds", [-1, -0.1, math.nan, math.inf, True, "3s", None])
def test_times_that_make_no_sense(seconds: Any) -> None:
    """An ending takes a number of seconds from 0; all else is refused before anything runs."""
    with pytest.raises(BackendError, match=r"^Takes: seconds is a number from 0, not "):
        Takes(seconds)
    with pytest.raises(BackendError, match=r"^Fails: after is a number from 0, not "):
        Fails(OSError(), seconds)
    assert (Takes(0).seconds, Takes(2.5).seconds, Fails(OSError(), 3).after) == (0, 2.5, 3)


@pytest.mark.parametrize("error", ["busy", OSError, None, 3])
def test_what_is_no_error(error: Any) -> None:
    """Neither a text nor a class can be raised from."""
    with pytest.raises(BackendError, match=r"^Fails: error is an exception such as OSError\('busy"):
        Fails(error)
    assert isinstance(Fails(KeyboardInterrupt()).error, KeyboardInterrupt)


def test_names_that_nothing_asked_for(lab: Lab) -> None:
    """A name with a typo is unused, whatever became of the call that it was meant for."""
    assert lab(double.bind(x=4), {"dubble": Takes(3), "double": Takes(1), "add": []}) == 8
    assert lab.backend.unused == ("dubble", "add")
    assert lab(double.bind(x=4), lambda call: None) == 8
    assert lab.backend.unused == ()
    assert ScriptedBackend(lab.clock).unused == ()
    assert ScriptedBackend(lab.clock, {"double": Takes(1)}).unused == ("double",)


def test_a_strict_script(lab: Lab) -> None:
    """What it says nothing of fails, and its function isn't run, unless it says so."""

    def strict(script: Any) -> Any:
        fails = task(lambda x: pytest.fail("it runs"), name="fetch")
        backend = ScriptedBackend(lab.clock, script, strict=True)
        return lab(fails.with_options(retry=1, backoff="none").bind(x=1), default_backend=backend)

    nothing = r"says nothing of attempt 1 of task 'fetch'; "
    with pytest.raises(BackendError, match=nothing + r"it has 'fetsch', 'add'; .* Takes\(\)"):
        strict({"fetsch": Takes(3), "add": Takes(1)})
    with pytest.raises(BackendError, match=nothing + r"return Takes\(\)"):
        strict(lambda call: None)
    with pytest.raises(BackendError, match="says nothing of attempt 2 of task 'fetch'"):
        strict({"fetch": [Fails(OSError())]})
    assert strict({"fetch": [Fails(OSError()), Takes(1, "page")]}) == "page"
    assert strict(lambda call: Takes(1, "page")) == "page"
    whole = ScriptedBackend(lab.clock, {"double": Takes()}, strict=True)
    assert lab(double.bind(x=4), default_backend=whole) == 8


@pytest.mark.parametrize(
    ("script", "strict", "message"),
    [(None, True, "strict=True needs a script"), ({}, 1, "strict is True or False, not 1")],
)
def test_strictness_that_makes_no_sense(script: Any, strict: Any, message: str) -> None:
    """Without a script nothing could run at all."""
    with pytest.raises(BackendError, match=message):
        ScriptedBackend(VirtualClock(), script, strict=strict)


def test_recorded_events(lab: Lab) -> None:
    """They are kept in order, and can be asked for by type."""
    lab(double.bind(x=1))
    events: RecordedEvents = lab.events
    assert events.names() == ["RunStarted", "NodeStarted", "NodeCompleted", "RunFinished"]
    assert [event.node_name for event in events.of(NodeCompleted)] == ["double"]
