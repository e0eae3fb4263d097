"""The engine: order, failures, and that a run always ends."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from daglite import Capabilities, Outcome, PolicySet, RetryPolicy, evaluate, task
from daglite.callbacks import NodeCompleted, NodeFailed, RunFinished
from daglite.core.call import Call
from daglite.core.dispatch import run_here
from daglite.core.protocols import Done
from daglite.core.run import Run
from daglite.exceptions import ExecutionError, RunCancelledError
from daglite.testing import Fails, Hangs, Takes
from tests.unit.lab import Lab


@task
def work(*, name: str = "", x: Any = None) -> Any:
    return x


def node(name: str, x: Any = None) -> Any:
    """A node of that name."""
    return work.with_options(name=name).bind(x=x)


class Batches:
    """A backend that answers several calls at once, as a busy pool may."""

    name = "batches"
    capabilities = Capabilities()
    slots = 4

    def __init__(self, size: int) -> None:
        self.size = size
        self.waiting: list[tuple[Call, Done]] = []

    def submit(self, call: Call, done: Done) -> None:
        self.waiting.append((call, done))
        if len(self.waiting) == self.size:
            for each, answer in self.waiting:
                answer(each, run_here(each))

    def cancel(self, call: Call) -> None:
        call.cancelled = True

    def cancel_run(self, run: Run) -> None:
        self.waiting.clear()

    def is_running(self, call: Call) -> bool:
        return False

    def stack_of(self, call: Call) -> str | None:
        return None

    def close(self) -> None:
        pass


@pytest.mark.parametrize("policies", [None, PolicySet(retry=0)])
def test_a_value_that_comes_with_a_failure(policies: PolicySet | None) -> None:
    """The run ends, though something else succeeded in the same turn."""
    bad = task(lambda: 1 / 0, name="bad").bind()
    expr = [bad, node("after", node("good"))]
    with pytest.raises(ZeroDivisionError):
        evaluate(expr, default_backend=Batches(2), policies=policies)


@pytest.mark.parametrize("number", [1, 3])
def test_the_elements_of_a_map_that_come_with_a_failure(number: int) -> None:
    """The same within a map."""
    inverse = task(lambda x: 1 / x, name="inverse")
    with pytest.raises(ZeroDivisionError) as caught:
        evaluate(inverse.extend(x=[0] * number + [1] * (4 - number)), default_backend=Batches(4))
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.failures == (caught.value,)


@pytest.mark.parametrize("policies", [None, PolicySet(timeout=100)])
def test_a_source_is_not_read_on_after_a_failure(policies: PolicySet | None) -> None:
    """Elements that end in the turn of another node's failure ask for no more."""
    taken: list[int] = []

    def source() -> Iterator[int]:
        for x in range(1000):
            taken.append(x)
            yield x

    bad = task(lambda: 1 / 0, name="bad").bind()
    mapped = work.with_options(name="mapped").extend(x=source())
    with pytest.raises(ZeroDivisionError):
        # The window is of eight elements, of which seven are answered with the failure.
        evaluate([bad, mapped], default_backend=Batches(8), policies=policies)
    assert len(taken) == 8


def test_two_failures_at_once(lab: Lab) -> None:
    """Under "stop" the first one is told and raised, and no other."""
    bad = task(lambda: 1 / 0, name="bad")
    with pytest.raises(ZeroDivisionError) as caught:
        lab([bad.bind(), bad.bind()], default_backend=Batches(2))
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.failures == (caught.value,)
    assert lab.events.names().count("NodeFailed") == 1


def test_a_diamond(lab: Lab) -> None:
    """A node starts when the last of its inputs is there."""
    top = node("top", 1)
    expr = node("bottom", [node("left", top), node("right", top)])
    assert lab(expr, {name: Takes(s) for name, s in [("top", 1), ("left", 5), ("right", 3)]}) == [
        1,
        1,
    ]
    assert [(c.name, c.started) for c in lab.backend.calls] == [
        ("top", 0),
        ("left", 1),
        ("right", 1),
        ("bottom", 6),
    ]


def test_a_shared_node_runs_once(lab: Lab) -> None:
    """However many need it, and however often one does."""
    shared = node("shared", 2)
    assert lab([shared, shared, node("other", (shared, shared))]) == [2, 2, (2, 2)]
    assert [c.name for c in lab.backend.calls] == ["shared", "other"]


def test_stop_at_the_first_failure(lab: Lab) -> None:
    """What hasn't started doesn't start, and the error is raised at once."""
    script = {"bad": Fails(OSError("bad"), 2), "long": Takes(100)}
    with pytest.raises(OSError, match="bad"):
        lab([node("long"), node("bad"), node("waits"), node("after", node("bad"))], script, slots=2)
    assert lab.clock.now() == 2
    assert [c.started for c in lab.backend.calls if c.name == "waits"] == [None]


def test_continue_after_failures(lab: Lab) -> None:
    """All that doesn't depend on a failure is finished; the error holds all, in order."""
    script = {
        "late": Fails(ValueError("late"), 9),
        "early": Fails(KeyError("early"), 1),
        "good": Takes(20, 3),
    }
    lost = node("lost", node("lost too", [node("early"), node("good")]))
    with pytest.raises(KeyError) as caught:
        lab([node("late"), lost, node("after", node("good"))], script, on_failure="continue")
    error = caught.value
    assert isinstance(error, ExecutionError)
    assert [each.node_name for each in error.failures] == ["early", "late"]
    assert isinstance(error.failures[1], ValueError)
    assert "other failures: 1" in str(error)
    assert lab.clock.now() == 20
    assert {c.name for c in lab.backend.calls} == {"late", "early", "good", "after"}
    assert [e.node_name for e in lab.events.of(NodeFailed)] == ["early", "late"]
    assert [e.node_name for e in lab.events.of(NodeCompleted)] == ["good", "good", "after"]
    assert [e.ok for e in lab.events.of(RunFinished)] == [False]


def test_continue_with_one_failure(lab: Lab) -> None:
    """The error is that one, alone in its `failures`."""
    with pytest.raises(OSError, match="failed") as caught:
        lab([node("bad"), node("good")], {"bad": Fails(OSError())}, on_failure="continue")
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.failures == (caught.value,)


def test_continue_without_a_failure(lab: Lab) -> None:
    """The value is returned."""
    assert lab([node("a", 1), node("b", 2)], on_failure="continue") == [1, 2]


def test_a_node_that_needs_two_failed_ones(lab: Lab) -> None:
    """It is lost once: the run still ends."""
    script = {"a": Fails(OSError("a"), 1), "b": Fails(OSError("b"), 2)}
    lost = node("lost", [node("a"), node("b")])
    with pytest.raises(OSError, match="a") as caught:
        lab([lost, node("deeper", lost)], script, on_failure="continue")
    assert isinstance(caught.value, ExecutionError)
    assert len(caught.value.failures) == 2


def test_a_failed_map_and_its_branch(lab: Lab) -> None:
    """A map fails with its first element; other branches go on."""

    def script(call: Call) -> Any:
        return Fails(OSError("bad"), 1) if call.element == 1 else Takes(1)

    mapped = work.with_options(name="mapped").extend(x=range(4))
    with pytest.raises(OSError, match="bad") as caught:
        lab([node("sum", mapped), node("other", node("first", 5))], script, on_failure="continue")
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.execution_path == ("mapped[1]",)
    assert [e.element for e in lab.events.of(NodeFailed)] == [1]


def test_the_path_to_a_failure(lab: Lab) -> None:
    """Names and ids from a source of the graph to the failed node, gathers left out."""
    expr = node("c", [node("b", {"k": node("a")})])
    with pytest.raises(OSError, match="failed") as caught:
        lab(expr, {"c": Fails(OSError())})
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.execution_path == ("a", "b", "c")
    assert len(set(caught.value.path_ids)) == 3
    assert caught.value.path_ids[-1] == caught.value.node_id


class Thing:
    """Something whose end can be watched."""


class Watched:
    """Makes things, and tells later whether they live."""

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self.refs: list[weakref.ref[Thing]] = []
        self.alive: list[bool] = []

    def make(self) -> list[Thing]:
        things = [Thing() for _ in range(self.number)]
        self.refs = [weakref.ref(thing) for thing in things]
        return things

    def look(self, after: object) -> None:
        gc.collect()
        self.alive = [ref() is not None for ref in self.refs]


three = task(lambda a, b, c: (a, b, c), name="three")


@pytest.mark.parametrize("gathered", [False, True])
def test_what_a_lost_node_was_given_is_released(lab: Lab, gathered: bool) -> None:
    """It doesn't hold one input until another of them is done."""
    watched = Watched()
    inputs = [task(watched.make).bind(), node("bad"), node("slow")]
    lost = node("lost", inputs) if gathered else three.bind(*inputs)
    look = task(watched.look).bind(after=node("wait"))
    script = {"bad": Fails(OSError("bad"), 1), "slow": Takes(100), "wait": Takes(10)}
    with pytest.raises(OSError, match="bad"):
        lab([lost, look], script, on_failure="continue")
    assert lab.clock.now() == 100
    assert watched.alive == [False]


def test_a_map_holds_no_element_that_is_done(lab: Lab) -> None:
    """When all were started, its source is let go, and only those under way are held."""
    watched = Watched(6)
    mapped = task(lambda thing: 1, name="mapped").extend(thing=task(watched.make).bind())
    look = task(watched.look).bind(after=node("wait"))

    def script(call: Call) -> Any:
        if call.node_name == "mapped":
            return Takes(100 if call.element == 2 else 1)
        return Takes(10) if call.node_name == "wait" else None

    lab([mapped, look], script)
    # The first one isn't looked at: `zip` keeps the first tuple that it made.
    assert watched.alive[1:] == [False, True, False, False, False]


def test_the_source_of_a_failed_map_is_released(lab: Lab) -> None:
    """It doesn't hold elements that will never be started until those under way are done."""
    watched = Watched(100)
    mapped = task(lambda thing: 1, name="mapped").extend(thing=task(watched.make).bind())
    look = task(watched.look).bind(after=node("wait"))

    def script(call: Call) -> Any:
        if call.node_name == "mapped":
            return Takes(100, 1) if call.element else Fails(OSError("bad"), 1)
        return Takes(10) if call.node_name == "wait" else None

    with pytest.raises(OSError, match="bad"):
        lab([mapped, look], script, on_failure="continue", slots=6)
    assert watched.alive[50:] == [False] * 50


def test_a_failed_map_holds_nothing_when_its_last_element_is_done(lab: Lab) -> None:
    """Neither its source nor its results, however long other branches take."""
    source, results = Watched(100), Watched()
    mapped = task(lambda thing: results.make(), name="mapped")
    expr = [mapped.extend(thing=task(source.make).bind())]
    for watched in (source, results):
        expr.append(task(watched.look).bind(after=node("wait")))

    def script(call: Call) -> Any:
        if call.node_name == "mapped":
            return Fails(OSError("bad"), 1) if call.element == 1 else Takes(1)
        return Takes(10) if call.node_name == "wait" else None

    with pytest.raises(OSError, match="bad"):
        lab(expr, script, on_failure="continue", slots=6)
    assert source.alive == [False] * 100
    assert results.alive == [False]


@pytest.mark.parametrize("backend", ["sequential", None])
@pytest.mark.parametrize("policies", [None, PolicySet(retry=1)])
def test_values_are_released(lab: Lab, backend: str | None, policies: PolicySet | None) -> None:
    """A value is let go when the last node that needs it has run, by whatever it was needed."""
    made: list[weakref.ref[Thing]] = []

    def make() -> list[Thing]:
        thing = Thing()
        made.append(weakref.ref(thing))
        return [thing]

    def alive(after: object) -> bool:
        gc.collect()
        return made[-1]() is not None

    things = task(make).bind()
    by_call = task(lambda things: 1, name="call").bind(things=things)
    by_gather = task(lambda things: 1, name="gather").bind(things={"k": things})
    by_map = task(lambda thing: 1, name="map").extend(thing=things)
    options: dict[str, Any] = {"default_backend": backend, "policies": policies}
    with evaluate.context(clock=lab.clock) as ctx:
        options["default_backend"] = backend or lab.backend
        for user in (by_call, by_gather, by_map):
            assert ctx.evaluate(task(alive).bind(after=user), **options) is False
        kept = [task(alive).bind(after=by_call), things]
        assert ctx.evaluate(kept, **options)[0] is True


def test_events_in_order(lab: Lab) -> None:
    """A run begins and ends with its own events; a node starts before it completes."""
    lab(node("b", node("a")))
    assert lab.events.names() == [
        "RunStarted",
        "NodeStarted",
        "NodeCompleted",
        "NodeStarted",
        "NodeCompleted",
        "RunFinished",
    ]


def test_a_cancelled_run(lab: Lab) -> None:
    """It ends with `RunCancelledError`, and leaves nothing behind."""

    def script(call: Call) -> Hangs:
        lab.clock.call_at(5, call.run.cancel)
        return Hangs()

    with pytest.raises(RunCancelledError, match="cancelled"):
        lab([node("a"), node("b")], script)
    assert lab.clock.now() == 5
    assert [e.ok for e in lab.events.of(RunFinished)] == [False]


def test_parked_calls_of_a_cancelled_run(lab: Lab) -> None:
    """A back-off is cut short."""
    lab.clock.call_at(0, lambda: None)

    def script(call: Call) -> Fails:
        lab.clock.call_at(50, call.run.cancel)
        return Fails(OSError())

    retry = RetryPolicy(3, "constant", delay=60, jitter="none")
    with pytest.raises(RunCancelledError):
        lab(work.with_options(retry=retry).bind(), script)
    assert lab.clock.now() == 50


def test_a_gather_that_fails(lab: Lab) -> None:
    """What can't be put together is the failure of the node that wanted it."""
    with pytest.raises(TypeError, match="unhashable"):
        lab(node("set", {node("a", []), 2}))


def test_in_place_and_elsewhere_together(lab: Lab) -> None:
    """Tasks that run on the caller's thread and others, in one graph and in the right order."""
    here = work.with_options(backend="sequential")
    order: list[str] = []

    def note(name: str, x: Any = None) -> Any:
        order.append(name)
        return x

    noting = task(note)
    away = noting.bind(name="away", x=1)
    local = noting.with_options(backend="sequential").bind(name="here", x=away)
    assert lab([noting.bind(name="last", x=local), here.bind(x=7)], {"note": Takes(3)}) == [1, 7]
    assert order == ["away", "here", "last"]


def test_an_outcome_of_a_middleware_is_the_value(lab: Lab) -> None:
    """The engine takes what the chain returns."""

    async def twice(call: Call, call_next: Any) -> Outcome:
        outcome: Outcome = await call_next(call)
        return Outcome(outcome.value * 2)

    assert lab(work.with_options(around_call=twice).extend(x=[1, 2])) == [2, 4]
