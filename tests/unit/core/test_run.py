"""What a run tells, to whom, and that nobody who listens can harm it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from daglite import task
from daglite.callbacks import (
    ExecutionCallback,
    MapProgress,
    NodeCompleted,
    NodeStarted,
    RunFinished,
    RunStarted,
)
from daglite.core.kernel import Kernel
from daglite.core.run import Listeners, Run
from daglite.exceptions import ExecutionError
from daglite.testing import Fails, Takes, VirtualClock
from tests.unit.lab import Lab


@task
def work(x: int = 0) -> int:
    return x


class Methods:
    """The mission's protocol, without events."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_node_start(self, node_id: int, node_name: str) -> None:
        self.told.append(("start", node_id, node_name))

    def on_node_complete(self, node_id: int, result: Any) -> None:
        self.told.append(("complete", node_id, result))

    def on_node_error(self, node_id: int, error: Exception) -> None:
        self.told.append(("error", node_id, error))


def test_events_tell_when(lab: Lab) -> None:
    """Times are seconds since the run began, wherever the clock stood then."""
    lab.clock.advance(1000)
    lab(work.with_options(name="b").bind(x=work.bind(x=1)), {"work": Takes(3), "b": Takes(4)})
    assert [(type(e).__name__, e.time) for e in lab.events.events] == [
        ("RunStarted", 0),
        ("NodeStarted", 0),
        ("NodeCompleted", 3),
        ("NodeStarted", 3),
        ("NodeCompleted", 7),
        ("RunFinished", 7),
    ]
    assert [e.elapsed for e in lab.events.of(NodeCompleted)] == [3, 4]
    assert [(e.ok, e.elapsed) for e in lab.events.of(RunFinished)] == [(True, 7)]
    assert len({e.run_id for e in lab.events.events}) == 1


def test_roots_and_nodes(lab: Lab) -> None:
    """A run tells what was asked for, and how many tasks it takes."""
    a, b = work.with_options(name="a").bind(), work.with_options(name="b").bind(x=work.bind())
    lab({"x": a, "y": [b, a]})
    (started,) = lab.events.of(RunStarted)
    assert set(started.roots) == {"a", "b"}
    assert started.nodes == 3


@pytest.mark.parametrize("backend", ["sequential", None])
def test_the_methods(lab: Lab, backend: str | None) -> None:
    """Each may be there without the others, and gets ids, names, results and errors."""
    methods = Methods()
    a = work.with_options(backend=backend, name="a").bind(x=5)
    b = work.with_options(backend=backend, name="b").extend(x=[a, 6])
    lab(b, callbacks=[methods])
    ids = [told[1] for told in methods.told]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert [(told[0], told[2]) for told in methods.told] == [
        ("start", "a"),
        ("complete", 5),
        ("start", "b"),
        ("complete", [5, 6]),
    ]
    methods.told.clear()
    bad = task(lambda: 1 / 0, name="bad").with_options(backend=backend)
    with pytest.raises(ZeroDivisionError) as caught:
        lab(bad.bind(), callbacks=methods)
    assert methods.told[-1][0] == "error"
    assert methods.told[-1][2] is caught.value
    assert isinstance(caught.value, ExecutionError)
    assert methods.told[-1][1] == caught.value.node_id


def test_a_callback_that_derives(lab: Lab) -> None:
    """What it leaves out it inherits, and that does nothing."""

    class OnComplete(ExecutionCallback):
        def __init__(self) -> None:
            self.results: list[Any] = []

        def on_node_complete(self, node_id: int, result: Any) -> None:
            self.results.append(result)

    callback, bad = OnComplete(), work.with_options(name="bad")
    with pytest.raises(OSError, match="down"):
        lab(bad.bind(x=work.bind(x=1)), {"bad": Fails(OSError("down"))}, callbacks=callback)
    assert callback.results == [1]


class Broken:
    """Raises in all that it hears."""

    def __init__(self) -> None:
        self.heard = 0

    def on_node_start(self, node_id: int, node_name: str) -> None:
        self.heard += 1
        raise RuntimeError("broken start")

    def on_event(self, event: object) -> None:
        self.heard += 1
        raise RuntimeError("broken event")


@pytest.mark.parametrize("backend", ["sequential", None])
def test_a_callback_that_raises(
    lab: Lab, backend: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on, it is still told, and each of its methods is reported once per run."""
    broken, other = Broken(), Methods()
    made = work.with_options(backend=backend)
    with caplog.at_level(logging.ERROR, "daglite"):
        assert lab([made.bind(x=i) for i in range(4)], callbacks=[broken, other]) == [0, 1, 2, 3]
    assert sorted(record.getMessage().split(" failed in ")[1] for record in caplog.records) == [
        "on_event; the run goes on",
        "on_node_start; the run goes on",
    ]
    assert all(record.exc_info for record in caplog.records)
    assert broken.heard == 4 + len(lab.events.events)
    assert len(other.told) == 8


def test_a_callback_that_raises_hides_no_failure(lab: Lab) -> None:
    """The task's error is what `evaluate` raises."""

    class OnError:
        def on_node_error(self, node_id: int, error: Exception) -> None:
            raise RuntimeError("broken callback")

    with pytest.raises(OSError, match="down"):
        lab(work.bind(), {"work": Fails(OSError("down"))}, callbacks=[OnError()])


def test_several_callbacks_hear_the_same_in_order(lab: Lab) -> None:
    """Those of the context come first, then those of the call."""
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_node_start(self, node_id: int, node_name: str) -> None:
            order.append(self.name)

    lab(work.bind(), callbacks=(Named("a"), Named("b")))
    assert order == ["a", "b"]
    assert lab.events.names()[0] == "RunStarted"


def test_nobody_listens() -> None:
    """Then there is nothing to call."""
    listeners = Listeners(())
    assert not listeners.any
    assert listeners.on_event is None
    run = Run("r", Kernel(VirtualClock()), listeners, seed="r")
    run.emit(RunFinished, True, 0.0)


def test_progress_is_told_now_and_then(lab: Lab) -> None:
    """At most every 0.1 s for each map; the first report comes 0.1 s after the first look."""
    clock = VirtualClock()
    run = Run("r", Kernel(clock), Listeners([lab.events]), seed="r")
    node: Any = work.extend(x=[1, 2])
    for done in range(1, 40):
        run.tell_progress(node, done, 40)
        clock.advance(0.03125)
    told = lab.events.of(MapProgress)
    assert [event.done for event in told] == list(range(5, 40, 4))
    assert {event.total for event in told} == {40}


def test_cancel_wakes_the_kernel() -> None:
    """From any thread; the kernel's next turn ends at once."""
    kernel = Kernel(VirtualClock())
    run = Run("r", kernel, Listeners(()), seed="r")
    run.cancel()
    kernel.turn()
    assert run.cancelled


def test_a_map_tells_its_size(lab: Lab) -> None:
    """Where that is known before it starts."""
    lab(work.extend(x=[1, 2, 3]))
    lab(work.extend(x=iter([1, 2])))
    assert [event.elements for event in lab.events.of(NodeStarted)] == [3, None]
    assert [event.elements for event in lab.events.of(NodeCompleted)] == [3, 2]
