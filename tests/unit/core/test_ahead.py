"""Calls that run elsewhere and enter their chain only where that has something to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from daglite import (
    FallbackPolicy,
    RateLimit,
    RetryPolicy,
    TimeoutPolicy,
    current_call,
    evaluate,
    task,
)
from daglite.callbacks import AttemptFailed, CallAbandoned
from daglite.core.call import Call
from daglite.core.engine import Engine
from daglite.exceptions import ExecutionError, TaskTimeoutError
from daglite.testing import Fails, Hangs, ScriptedBackend, Takes
from tests.unit.lab import Lab

RETRY = RetryPolicy(2, "constant", delay=7, jitter="none")


@task
def work(x: int = 0) -> int:
    return x


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The element of each call that enters a chain."""
    elements: list[int | None] = []
    enter = Engine.enter

    def counted(engine: Engine, call, step, on_done):  # type: ignore[no-untyped-def]
        elements.append(call.element)
        return enter(engine, call, step, on_done)

    monkeypatch.setattr(Engine, "enter", counted)
    return elements


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"retry": RETRY},
        {"timeout": TimeoutPolicy(attempt=10, total=30)},
        {"retry": RETRY, "timeout": 10, "fallback": FallbackPolicy(value=0)},
    ],
)
def test_what_succeeds_in_time_enters_no_chain(
    lab: Lab, entered: list[int | None], options: dict[str, object]
) -> None:
    """Neither elements nor nodes."""
    made = work.with_options(**options)
    assert lab(made.extend(x=range(20)), {"work": Takes(1)}) == list(range(20))
    assert lab([made.bind(x=1), made.bind(x=2)]) == [1, 2]
    assert entered == []


def test_what_has_to_wait_for_its_turn_does(lab: Lab, entered: list[int | None]) -> None:
    """A rate is asked before the call starts."""
    made = work.with_options(rate_limit=RateLimit(1, per=10))
    assert lab(made.extend(x=range(3))) == [0, 1, 2]
    assert entered == [0, 1, 2]
    assert lab.starts == [0, 10, 20]


def test_only_what_fails_is_tried_again(lab: Lab, entered: list[int | None]) -> None:
    """Its first attempt counts as such."""

    @task(retry=RETRY)
    def odd(x: int) -> int:
        if x == 1 and current_call().attempt < 3:
            raise OSError(x)
        return x

    assert lab(odd.extend(x=range(4))) == [0, 1, 2, 3]
    assert entered == [1]
    assert [(e.element, e.attempt) for e in lab.events.of(AttemptFailed)] == [(1, 1), (1, 2)]
    assert lab.clock.now() == 14


def by_element(*endings: Takes | Fails | Hangs) -> Callable[[Call], Takes | Fails | Hangs | None]:
    """A script that has an ending for the first attempt of each element."""

    def script(call: Call) -> Takes | Fails | Hangs | None:
        return endings[call.element or 0] if call.attempt == 1 else None

    return script


def test_each_has_its_own_limit(lab: Lab, entered: list[int | None]) -> None:
    """It begins when the call starts, not when another one did."""
    made = work.with_options(timeout=10).extend(x=range(3))
    with pytest.raises(TaskTimeoutError) as caught:
        lab(made, by_element(Takes(4), Takes(9), Hangs()), slots=2)
    assert caught.value.attempts[0].started == 4
    assert lab.clock.now() == 14
    assert entered == [2]


def test_a_chain_that_waits_for_what_began_before_it(lab: Lab, entered: list[int | None]) -> None:
    """Whoever had to queue for longer than the limit is in time all the same."""
    made = work.with_options(timeout=10, retry=RETRY)
    script = by_element(Takes(8), Takes(8), Takes(8), Fails(OSError(), 1))
    roots = [made.extend(x=range(4)), made.extend(x=[9])]
    assert lab(roots, script, slots=1) == [[0, 1, 2, 3], [9]]
    assert {1, 2, 3} <= set(entered)
    assert [e.element for e in lab.events.of(AttemptFailed)] == [3]


def test_a_total_begins_with_the_submission(lab: Lab) -> None:
    """Although the chain is entered at its end."""
    made = work.with_options(timeout=TimeoutPolicy(attempt=50, total=60))
    with pytest.raises(TaskTimeoutError) as caught:
        lab(made.extend(x=range(2)), by_element(Takes(45), Hangs()), slots=1)
    assert (caught.value.kind, caught.value.elapsed) == ("total", 60)
    assert lab.clock.now() == 60


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_the_function_sees_its_total(backend: str) -> None:
    """In the first attempt, too."""

    @task(timeout=TimeoutPolicy(total=1_000))
    def left() -> float | None:
        return current_call().remaining

    remaining = evaluate(left.bind(), default_backend=backend)
    assert remaining is not None
    assert 900 < remaining <= 1_000


def test_what_is_dropped_and_goes_on_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the graph goes on meanwhile."""
    monkeypatch.setattr(ScriptedBackend, "is_running", lambda self, call: True)
    made = work.with_options(timeout=TimeoutPolicy(attempt=100, grace=3))
    other = made.with_options(name="other")
    first = by_element(Fails(ValueError(), 1), Hangs())

    def script(call: Call) -> Takes | Fails | Hangs | None:
        return Takes(50) if call.node_name == "other" else first(call)

    with pytest.raises(ExecutionError):
        lab([made.extend(x=range(2)), other.bind()], script, on_failure="continue")
    assert lab.clock.now() == 50
    assert [e.element for e in lab.events.of(CallAbandoned)] == [1]
