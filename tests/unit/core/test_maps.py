"""Maps on a backend of their own: the window, the order, and where elements come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from daglite import (
    CircuitBreaker,
    MapPolicy,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    evaluate,
    task,
)
from daglite.callbacks import (
    AttemptFailed,
    CallParked,
    ElementFailed,
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
)
from daglite.core import maps
from daglite.core.call import Call
from daglite.exceptions import ExecutionError, ParameterError
from daglite.testing import Fails, Hangs, Takes
from tests.unit.lab import Lab


@task
def work(x: int) -> int:
    return x


RETRY = RetryPolicy(1, "constant", delay=50, jitter="none")


def test_results_are_in_order(lab: Lab) -> None:
    """Whatever the order in which elements end."""
    assert lab(work.extend(x=range(8)), lambda call: Takes(8 - call.element)) == list(range(8))


def test_no_elements(lab: Lab) -> None:
    """The result is an empty list, and the map has started and completed."""
    assert lab(work.extend(x=[])) == []
    assert lab(work.extend(x=iter(()))) == []
    assert [event.elements for event in lab.events.of(NodeStarted)] == [0, None]
    assert [event.elements for event in lab.events.of(NodeCompleted)] == [0, 0]


class Source:
    """An endless source that counts what was taken from it."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        while self.taken < self.end:
            self.taken += 1
            yield self.taken


@pytest.mark.parametrize("policies", [{}, {"timeout": 90}])
def test_the_window(lab: Lab, policies: dict[str, Any]) -> None:
    """Elements are taken as places become free: a small multiple of the slots at a time."""
    source = Source(10_000)
    most = 0

    def script(call: Call) -> Any:
        nonlocal most
        assert call.element is not None
        most = max(most, source.taken - call.element)
        return Takes(1) if call.element < 500 else Fails(KeyError("enough"))

    with pytest.raises(KeyError):
        lab(work.with_options(**policies).extend(x=source), script)
    assert most <= 2 * 4 + 1
    assert source.taken < 520


def test_quick_calls_have_a_larger_window(lab: Lab) -> None:
    """When calls take next to no time more of them lie ready, up to a limit."""
    source = Source(5_000)
    most = 0

    def script(call: Call) -> Any:
        nonlocal most
        assert call.element is not None
        most = max(most, source.taken - call.element)

    assert lab(work.extend(x=source), script) == list(range(1, 5_001))
    assert 4 * 2 < most <= 4 * maps._MOST_PER_SLOT + 1


def test_the_window_grows_step_by_step(lab: Lab) -> None:
    """A few quick calls don't have hundreds lie ready: each look makes it four times as large."""
    source = Source(2_000)
    ahead: list[int] = []

    def script(call: Call) -> Any:
        assert call.element is not None
        ahead.append(source.taken - call.element)

    assert lab(work.extend(x=source), script) == list(range(1, 2_001))
    assert max(ahead[:4]) <= 8
    assert max(ahead[:20]) <= 4 * 8
    assert max(ahead[:80]) <= 4 * 4 * 8
    assert max(ahead) > 4 * 4 * 8


def test_the_window_shrinks_again(lab: Lab) -> None:
    """When quick elements are followed by slow ones only a few of those lie ready."""
    source = Source(5_000)
    ahead: list[int] = []

    def script(call: Call) -> Any:
        assert call.element is not None
        ahead.append(source.taken - call.element)
        return Takes(0 if call.element < 2_000 else 1)

    assert lab(work.extend(x=source), script) == list(range(1, 5_001))
    assert max(ahead[:2_000]) > 100
    assert max(ahead[3_000:]) <= 2 * 4 + 1


def test_the_first_failure_stops_the_map(lab: Lab) -> None:
    """No further element is started, and the error tells which it was."""
    source = Source(1000)

    def script(call: Call) -> Any:
        return Fails(ValueError("bad"), 1) if call.element == 5 else Takes(2)

    with pytest.raises(ValueError, match="bad") as caught:
        lab(work.extend(x=source), script)
    error = caught.value
    assert isinstance(error, ExecutionError)
    assert error.execution_path == ("work[5]",)
    assert lab.clock.now() == 3
    assert source.taken < 20
    assert [event.element for event in lab.events.of(NodeFailed)] == [5]


def test_a_failed_map_starts_no_more_while_others_go_on(lab: Lab) -> None:
    """With on_failure="continue" other branches are finished, but not the map."""
    other = task(lambda: 7, name="other")

    def script(call: Call) -> Any:
        if call.node_name == "other":
            return Takes(100)
        return Fails(ValueError("bad"), 1) if call.element == 0 else Takes(2)

    with pytest.raises(ValueError, match="bad"):
        lab([work.extend(x=Source(1000)), other.bind()], script, on_failure="continue")
    assert len(lab.backend.calls) <= 10
    assert 100 <= lab.clock.now() <= 104


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rate_limit": 1},
        {"bulkhead": 1},
        {"retry": RetryPolicy(2, "constant", delay=10, jitter="none", retry_on=OSError)},
        {"timeout": 90},
    ],
)
def test_a_failed_map_drops_its_elements(lab: Lab, options: dict[str, Any]) -> None:
    """With on_failure="continue" none starts after that, parked or queued, and none runs on."""
    slow = task(lambda: 7, name="slow")

    def script(call: Call) -> Any:
        if call.node_name == "slow":
            return Takes(200)
        if "retry" in options and call.element != 3:
            return Fails(OSError(), 0.1)
        return Fails(ValueError("bad"), 0.5) if call.element in (0, 3) else Takes(300)

    limited = work.with_options(**options)
    with pytest.raises(ValueError, match="bad"):
        lab([limited.extend(x=range(100)), slow.bind()], script, on_failure="continue", slots=3)
    (failed,) = lab.events.of(NodeFailed)
    assert max(call.started or 0 for call in lab.backend.calls) <= failed.time
    assert lab.clock.now() <= 201


def test_a_failed_map_gives_its_workers_back(lab: Lab) -> None:
    """What depends on nothing that failed starts at once, where its elements ran or queued."""

    def script(call: Call) -> Any:
        if call.node_name == "late":
            return Takes(1)
        return Fails(ValueError("bad"), 2) if call.element == 0 else Takes(100)

    first = task(lambda: 1, name="first", backend="sequential")
    late = task(lambda x: x, name="late")
    expr = [work.extend(x=range(100)), late.bind(x=late.bind(x=first.bind()))]
    with pytest.raises(ValueError, match="bad"):
        lab(expr, script, on_failure="continue", slots=2)
    assert lab.clock.now() <= 5


@pytest.mark.parametrize("retry", [0, 3])
def test_two_failures_of_one_map(lab: Lab, retry: int) -> None:
    """Only the first counts."""
    flaky = work.with_options(retry=retry, backoff="none")
    with pytest.raises(OSError, match="bad") as caught:
        lab(flaky.extend(x=range(4)), {"work": Fails(OSError("bad"), 1)}, on_failure="continue")
    assert isinstance(caught.value, ExecutionError)
    assert len(caught.value.failures) == 1
    assert len(lab.events.of(NodeFailed)) == 1


def test_a_source_that_fails(lab: Lab) -> None:
    """What the source raises is the map's failure; calls under way are dropped."""

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("broken source")

    with pytest.raises(LookupError, match="broken source") as caught:
        lab(work.extend(x=broken()), {"work": Takes(5)})
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.execution_path == ("work",)
    assert lab.clock.now() == 0


def test_a_source_that_is_none(lab: Lab) -> None:
    """Something that can't be iterated is found when it is there."""
    five = task(lambda: 5, name="five")
    with pytest.raises(ParameterError, match="'work': parameter 'x' needs an iterable"):
        lab(five.bind().map(work))


class Leaving:
    """A source that ends the process, it thinks."""

    def __init__(self, error: BaseException, at_once: bool) -> None:
        self.error = error
        self.at_once = at_once

    def __iter__(self) -> Iterator[int]:
        if self.at_once:
            raise self.error
        return self.elements()

    def elements(self) -> Iterator[int]:
        yield 1
        raise self.error


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("backend", ["sequential", "threading"])
@pytest.mark.parametrize("options", [{}, {"timeout": 9}, {"map_policy": MapPolicy("skip")}])
def test_a_source_that_leaves(backend: str, options: dict[str, Any], at_once: bool) -> None:
    """A `SystemExit` of a source fails the map like one of a call; a Ctrl-C is the user's."""
    made = task(lambda x: x, name="work", **options)
    source = task(lambda error, at_once: Leaving(error, at_once), name="source")
    left = source.bind(error=SystemExit(3), at_once=at_once).map(made)
    with pytest.raises(ExecutionError, match="'work' failed: SystemExit: 3"):
        evaluate(left, default_backend=backend, on_failure="continue")
    ended = source.bind(error=KeyboardInterrupt(), at_once=at_once).map(made)
    with pytest.raises(KeyboardInterrupt):
        evaluate(ended, default_backend=backend, on_failure="continue")


def test_lengths_that_differ(lab: Lab) -> None:
    """Of iterators it is found when one of them ends."""
    pair = task(lambda x, y: (x, y), name="pair")
    with pytest.raises(ParameterError, match=r"\.zip\(\) needs iterables of equal length"):
        lab(pair.zip(x=iter([1, 2, 3]), y=iter([1, 2])))


def test_a_parked_element_holds_no_place(lab: Lab) -> None:
    """All others are done before its back-off is over."""

    def script(call: Call) -> Any:
        return Fails(OSError(), 1) if call.element == 0 and call.attempt == 1 else Takes(1)

    flaky = work.with_options(retry=RETRY)
    assert lab(flaky.extend(x=range(20)), script, slots=1) == list(range(20))
    assert lab.backend.calls[-1].started == 51
    assert lab.clock.now() == 52


def test_too_many_parked_elements(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a limit no further ones are started, so that memory stays bounded."""
    monkeypatch.setattr(maps, "MOST_PARKED", 10)

    def script(call: Call) -> Any:
        return Fails(OSError(), 1) if call.attempt == 1 else Takes(1)

    flaky = work.with_options(retry=RETRY)
    assert lab(flaky.extend(x=range(100)), script, slots=2) == list(range(100))
    for moment in range(int(lab.clock.now())):
        parked = sum(
            c.attempt == 1 and c.started is not None and c.started < moment < c.started + 51
            for c in lab.backend.calls
        )
        assert parked <= 10 + 2 * 2 + 1


def test_many_that_make_room_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The map is looked at once for all of them."""
    looks: list[int] = []
    pump = maps.MapRun.pump

    def look(self: maps.MapRun) -> None:
        looks.append(1)
        pump(self)

    monkeypatch.setattr(maps.MapRun, "pump", look)
    flaky = work.with_options(
        retry=RETRY, circuit_breaker=CircuitBreaker(consecutive=1, break_for=100)
    )

    def script(call: Call) -> Any:
        return Fails(OSError(), 1) if call.element == 0 and call.attempt == 1 else Takes(2, 0)

    lab(flaky.extend(x=range(400)), script, slots=50)
    parked = [event for event in lab.events.of(CallParked) if event.reason == "circuit breaker"]
    assert len(parked) > 300
    assert len(looks) < 200


def test_a_parked_element_of_a_failed_map(lab: Lab) -> None:
    """It is woken by the end of the run, and starts nothing."""

    def script(call: Call) -> Any:
        return Fails(OSError(), 1) if call.element == 0 else Fails(KeyError("bad"), 2)

    flaky = work.with_options(retry=RetryPolicy(3, [50], jitter="none", retry_on=OSError))
    with pytest.raises(KeyError):
        lab(flaky.extend(x=range(10)), script)
    assert lab.clock.now() == 2


def test_progress(lab: Lab) -> None:
    """It is told at most every 0.1 s, and never backwards."""
    lab(work.extend(x=range(100)), {"work": Takes(0.03)})
    told = lab.events.of(MapProgress)
    assert {event.total for event in told} == {100}
    assert [event.done for event in told] == sorted(event.done for event in told)
    times = [event.time for event in told]
    assert all(times[i + 1] - times[i] >= 0.1 - 1e-9 for i in range(len(times) - 1))
    assert len(told) >= 5


def test_two_maps_share_the_places(lab: Lab) -> None:
    """Neither waits until the other is done."""
    script = {"a": Takes(1), "b": Takes(1)}
    a, b = (work.with_options(name=name).extend(x=range(20)) for name in "ab")
    assert lab([a, b], script, slots=2) == [list(range(20))] * 2
    assert lab.clock.now() == 20
    first = {c.name: c.started for c in reversed(lab.backend.calls)}
    assert all(started is not None and started < 10 for started in first.values())


def test_a_map_of_a_map(lab: Lab) -> None:
    """The second begins when the first is done."""
    doubled = work.extend(x=range(4)).map(task(lambda y: 2 * y, name="double"))
    assert lab(doubled, {"work": Takes(3), "double": Takes(2)}) == [0, 2, 4, 6]
    assert lab.clock.now() == 5


def test_products(lab: Lab) -> None:
    """`extend` of several goes over all combinations, the first slowest."""
    pair = task(lambda x, y: (x, y), name="pair")
    assert lab(pair.extend(x=[1, 2], y=iter("ab"))) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_a_hanging_element_hurts_its_map_alone(lab: Lab) -> None:
    """Its timeout is its own; other nodes have gone on meanwhile."""
    timed = work.with_options(timeout=30)
    other = task(lambda: 7, name="other")

    def script(call: Call) -> Any:
        return Hangs() if call.element == 0 else Takes(1)

    with pytest.raises(TimeoutError):
        lab([timed.extend(x=range(3)), other.bind()], script, on_failure="continue")
    assert lab.clock.now() == 30
    assert "other" in [event.node_name for event in lab.events.of(NodeCompleted)]


@pytest.mark.parametrize("elements", [3, 600])
def test_in_place_beside_other_work(lab: Lab, elements: int) -> None:
    """A map on the caller's thread makes room: parked calls and other nodes go on."""
    order: list[Any] = []

    def note(x: Any) -> Any:
        order.append(x)
        if x == 0 and order.count(0) == 1:
            raise OSError
        lab.clock.advance(1)
        return x

    here = task(note).with_options(backend="sequential", retry=RetryPolicy(1, [5], jitter="none"))
    expr = [here.extend(x=range(elements)), here.bind(x="a"), work.bind(x=1)]
    assert lab(expr) == [list(range(elements)), "a", 1]
    # An element whose wait is over doesn't wait for all the others.
    again = order.index(0, 1)
    assert order.count(0) == 2
    assert again <= (5 if elements == 3 else 257)


def test_a_total_is_not_spent_in_a_long_window(lab: Lab) -> None:
    """Elements don't queue up behind others because those before them were quick."""
    timed = task(lambda x: x, name="work").with_options(timeout=TimeoutPolicy(total=1))

    def script(call: Call) -> Any:
        assert call.element is not None
        return Takes(0.0001 if call.element < 500 else 0.3)

    assert len(lab(timed.extend(x=range(600)), script, slots=2)) == 600


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bulkhead": 2},
        {"bulkhead": 1},
        {"rate_limit": 2},
        {"rate_limit": RateLimit(1, "7s")},
        {"rate_limit": 2, "bulkhead": 2, "retry": 1},
    ],
)
def test_a_total_is_not_spent_in_a_policys_queue(lab: Lab, options: dict[str, Any]) -> None:
    """An element begins when there will soon be a turn and a place for it."""
    timed = work.with_options(timeout=TimeoutPolicy(total=20), **options)
    assert lab(timed.extend(x=range(100)), lambda _: Takes(1, 0)) == [0] * 100


@pytest.mark.parametrize("options", [{"bulkhead": 2}, {"rate_limit": 2}])
def test_one_that_waits_is_enough(lab: Lab, options: dict[str, Any]) -> None:
    """With a total no time is lost either: the next one is there when the limit allows it."""
    timed = work.with_options(timeout=TimeoutPolicy(total=20), **options)
    lab(timed.extend(x=range(100)), lambda _: Takes(1, 0), slots=8)
    limited = lab.clock.now()
    lab.clock = type(lab.clock)()
    lab(timed.with_options(timeout=None).extend(x=range(100)), lambda _: Takes(1, 0), slots=8)
    assert limited == lab.clock.now()


def test_an_outage_spends_few_totals(lab: Lab) -> None:
    """Of the elements of a map those alone whose call met the open circuit, and the next one."""
    timed = work.with_options(
        timeout=TimeoutPolicy(total=20),
        map_policy=MapPolicy("collect"),
        retry=RetryPolicy(3, "constant", delay=1, jitter="none"),
        circuit_breaker=CircuitBreaker(consecutive=5, break_for=15),
    )

    def script(call: Call) -> Any:
        return Fails(OSError("down"), 0.1) if lab.clock.now() < 60 else Takes(0.1, 0)

    found = lab(timed.extend(x=range(200)), script)
    assert sum(isinstance(each, ExecutionError) for each in found) < 40
    assert lab.clock.now() < 85


def test_a_back_off_makes_room_beside_a_total(lab: Lab) -> None:
    """Elements that wait for their retry, or its budget, hold up no others."""
    budget = RetryBudget(0.2, min_per_second=0.1)
    flaky = work.with_options(
        timeout=TimeoutPolicy(total=1000),
        retry=RetryPolicy(1, "constant", delay=50, jitter="none", budget=budget),
    )

    def script(call: Call) -> Any:
        assert call.element is not None
        return Fails(OSError(), 1) if call.attempt == 1 and call.element < 20 else Takes(1)

    assert lab(flaky.extend(x=range(100)), script, slots=2) == list(range(100))
    firsts = [call.started for call in lab.backend.calls if call.attempt == 1]
    assert max(each for each in firsts if each is not None) < 50


@pytest.mark.parametrize(
    ("options", "most"), [({}, 100), ({"timeout": TimeoutPolicy(total=99)}, 8)]
)
def test_a_wait_of_a_middleware(lab: Lab, options: dict[str, Any], most: int) -> None:
    """Nobody knows what it waits for: with a total it keeps its place, and stops no others."""
    waiting: list[int] = []

    async def stagger(call: Call, call_next: Any) -> Any:
        waiting.append(1)
        seen.append(len(waiting))
        await call.park(5, "a whim")
        waiting.pop()
        return await call_next(call)

    seen: list[int] = []
    staggered = work.with_options(around_call=stagger, **options)
    assert lab(staggered.extend(x=range(100)), lambda _: Takes(1, 0), slots=4) == [0] * 100
    assert max(seen) == most


# -- MapPolicy --------------------------------------------------------------------


def tolerant(*given: Any, **fields: Any) -> Any:
    return work.with_options(map_policy=MapPolicy(*given, **fields))


def fails_at(*elements: int, takes: float = 1) -> Any:
    """A script in which those elements fail."""

    def script(call: Call) -> Any:
        if call.element in elements:
            return Fails(ValueError(f"bad {call.element}"), takes)
        return Takes(takes)

    return script


def test_skip(lab: Lab) -> None:
    """Failed elements are left out, the others stay in order; who listens is told of each."""
    assert lab(tolerant("skip").extend(x=range(8)), fails_at(0, 5, 7)) == [1, 2, 3, 4, 6]
    assert [event.element for event in lab.events.of(ElementFailed)] == [0, 5, 7]
    assert [event.element for event in lab.events.of(AttemptFailed)] == [0, 5, 7]
    assert not lab.events.of(NodeFailed)
    assert [event.elements for event in lab.events.of(NodeCompleted)] == [5]


def test_none_is_no_failure(lab: Lab) -> None:
    """An element whose result is None isn't left out."""
    nothing = task(lambda x: None, name="nothing", map_policy=MapPolicy("skip"))
    assert lab(nothing.extend(x=range(3))) == [None, None, None]


def test_collect(lab: Lab) -> None:
    """The error stands in its place: what `evaluate` would have raised."""
    found = lab(tolerant("collect").extend(x=range(4)), fails_at(2))
    error = found[2]
    assert found == [0, 1, error, 3]
    assert isinstance(error, ValueError)
    assert isinstance(error, ExecutionError)
    assert error.execution_path == ("work[2]",)
    assert len(error.attempts) == 1
    assert lab.events.of(ElementFailed)[0].error is error


def test_the_next_task_sees_what_was_collected(lab: Lab) -> None:
    """Errors are results like others; what was skipped is not there."""
    kinds = task(lambda results: [isinstance(r, ValueError) for r in results], name="kinds")
    script = fails_at(1, takes=0)
    assert lab(tolerant("collect").extend(x=[5, 6]).join(kinds), script) == [False, True]
    doubled = tolerant("skip").extend(x=[5, 6]).map(task(lambda y: 2 * y, name="double"))
    only = lambda call: script(call) if call.node_name == "work" else None  # noqa: E731
    assert lab(doubled, only) == [10]


@pytest.mark.parametrize("on_error", ["skip", "collect"])
def test_all_fail(lab: Lab, on_error: Any) -> None:
    """Without a bound any number may; no elements meet any bound."""
    bad = {"work": Fails(OSError("bad"))}
    assert len(lab(tolerant(on_error).extend(x=range(5)), bad)) in (0, 5)
    strict = tolerant(on_error, min_success_ratio=1.0, max_failures=0)
    assert lab(strict.extend(x=[]), bad) == lab(strict.extend(x=iter(())), bad) == []


def test_after_retries(lab: Lab) -> None:
    """An element has failed when its call has."""
    patient = tolerant("skip").with_options(retry=RetryPolicy(2, "none"))

    def script(call: Call) -> Any:
        failing = call.element == 0 or (call.element == 1 and call.attempt < 3)
        return Fails(OSError("bad"), 1) if failing else Takes(1)

    assert lab(patient.extend(x=range(3)), script) == [1, 2]
    (lost,) = lab.events.of(ElementFailed)
    assert isinstance(lost.error, ExecutionError)
    assert (lost.element, len(lost.error.attempts)) == (0, 3)


def test_too_many_failures(lab: Lab) -> None:
    """One more than the bound fails the map at once, with the first errors and the counts."""
    source = Source(1_000)
    with pytest.raises(ExecutionError) as caught:
        lab(tolerant("skip", max_failures=2).extend(x=source), fails_at(1, 4, 9, 15))
    error = caught.value
    assert error.message == "task 'work' failed: 3 elements failed, more than max_failures=2 allows"
    assert error.execution_path == ("work",)
    assert [e.execution_path for e in error.failures[1:]] == [
        ("work[1]",),
        ("work[4]",),
        ("work[9]",),
    ]
    assert isinstance(error.__cause__, ValueError)
    assert not isinstance(error, ValueError)
    assert lab.clock.now() == 3
    assert source.taken < 30
    assert [event.element for event in lab.events.of(ElementFailed)] == [1, 4, 9]
    assert [(e.element, e.error) for e in lab.events.of(NodeFailed)] == [(None, error)]


def test_as_many_failures_as_it_stands(lab: Lab) -> None:
    """The bound itself is allowed."""
    bounded = tolerant("skip", max_failures=2, min_success_ratio=0.8)
    assert len(lab(bounded.extend(x=range(10)), fails_at(1, 4))) == 8


def test_a_ratio_that_cannot_be_met_any_more(lab: Lab) -> None:
    """Where the number of elements is known the map fails with the failure that is too many."""
    bounded = tolerant("collect", min_success_ratio=0.9).extend(x=range(100))
    with pytest.raises(ExecutionError, match="11 of 100 elements failed, more than min_succ") as e:
        lab(bounded, fails_at(*range(0, 100, 2)), slots=1)
    assert "more than min_success_ratio=0.9 allows" in str(e.value)
    assert lab.clock.now() == 21
    assert len(e.value.failures) == 1 + 10


def test_a_ratio_of_an_unknown_number(lab: Lab) -> None:
    """It is told when the source has ended, and not before."""
    bounded = tolerant("skip", min_success_ratio=0.5)
    assert lab(bounded.extend(x=iter(range(20))), fails_at(*range(10))) == list(range(10, 20))
    with pytest.raises(ExecutionError, match="11 of 20 elements failed, more than min_success"):
        lab(bounded.extend(x=iter(range(20))), fails_at(*range(11)), slots=1)
    # Those that are under way when the source ends aren't waited for.
    began = lab.clock.now()
    slow = lambda call: Takes(99) if call.element == 3 else Fails(OSError(), 1)  # noqa: E731
    with pytest.raises(ExecutionError, match="3 of 4 elements failed"):
        lab(bounded.extend(x=iter(range(4))), slow)
    assert lab.clock.now() == began + 1


@pytest.mark.parametrize(("ratio", "failures"), [(0.55, 45), (0.07, 93), (0.29, 71)])
def test_a_ratio_is_met_exactly(lab: Lab, ratio: float, failures: int) -> None:
    """Without errors of rounding: 0.55 * 100 is above 55."""
    bounded = tolerant("skip", min_success_ratio=ratio)
    assert len(lab(bounded.extend(x=range(100)), fails_at(*range(failures)))) == 100 - failures
    with pytest.raises(ExecutionError, match=f"{failures + 1} of 100 elements failed"):
        lab(bounded.extend(x=range(100)), fails_at(*range(failures + 1)))


class Modest(list[int]):
    """It has more elements than it says."""

    def __len__(self) -> int:
        return 2


def test_a_source_that_understates(lab: Lab) -> None:
    """What has come counts, not what was said."""
    bounded = tolerant("skip", min_success_ratio=0.5)
    assert len(lab(bounded.extend(x=Modest(range(10))), fails_at(7, 8, 9))) == 7


def test_a_failed_map_is_one_failure_among_others(lab: Lab) -> None:
    """With on_failure="continue" its element errors are told beside the other nodes' errors."""
    other = task(lambda: 1, name="other")

    def script(call: Call) -> Any:
        if call.node_name == "other":
            return Fails(KeyError("k"), 50)
        return fails_at(0, 1)(call)

    bounded = tolerant("skip", max_failures=1).extend(x=range(30))
    with pytest.raises(ExecutionError) as caught:
        lab([bounded, other.bind()], script, on_failure="continue")
    paths = [e.execution_path[-1] for e in caught.value.failures]
    assert paths == ["work", "work[0]", "work[1]", "other"]
    assert len(lab.events.of(NodeFailed)) == 2


@pytest.mark.parametrize("backend", ["sequential", "threading"])
@pytest.mark.parametrize("options", [{}, {"retry": 1, "backoff": "none"}, {"timeout": 20}])
def test_on_real_backends(backend: str, options: dict[str, Any]) -> None:
    """Neither the straight run nor a crew of threads takes it, with and without a chain."""

    def odd(x: int) -> int:
        if x % 2 == 0:
            raise ValueError("even")
        return x

    made = task(odd, name="odd", map_policy=MapPolicy("skip"), **options)
    assert evaluate(made.extend(x=range(600)), default_backend=backend) == list(range(1, 600, 2))
    collected = made.with_options(map_policy=MapPolicy("collect")).extend(x=range(5))
    found = evaluate(collected, default_backend=backend)
    assert [isinstance(each, ValueError) for each in found] == [True, False, True, False, True]
    strict = made.with_options(map_policy=MapPolicy("skip", max_failures=3))
    with pytest.raises(ExecutionError, match="4 of 600 elements failed"):
        evaluate(strict.extend(x=range(600)), default_backend=backend)


def test_what_is_no_failure_of_an_element(lab: Lab) -> None:
    """A `SystemExit` isn't skipped, and neither is a source that fails."""
    script = lambda call: Fails(SystemExit(3)) if call.element == 1 else None  # noqa: E731
    with pytest.raises(ExecutionError, match="SystemExit: 3"):
        lab(tolerant("skip").extend(x=range(3)), script)

    def broken() -> Iterator[int]:
        yield 1
        raise LookupError("broken source")

    with pytest.raises(LookupError, match="broken source"):
        lab(tolerant("skip").extend(x=broken()), {"work": Takes(5)})


@pytest.mark.parametrize("policy", [None, MapPolicy(), MapPolicy("raise", max_failures=0)])
def test_raise_is_what_happens_without_a_policy(lab: Lab, policy: MapPolicy | None) -> None:
    """The element's own error, and no word of elements that failed."""
    with pytest.raises(ValueError, match="bad 5"):
        lab(work.with_options(map_policy=policy).extend(x=range(9)), fails_at(5))
    assert not lab.events.of(ElementFailed)


def test_a_bound_task_has_no_elements(lab: Lab) -> None:
    """A task may be used both ways: a call of its own fails as ever."""
    with pytest.raises(OSError, match="bad"):
        lab(tolerant("skip").bind(x=1), {"work": Fails(OSError("bad"))})


def test_progress_counts_failed_elements(lab: Lab) -> None:
    """They are done, too."""
    lab(tolerant("skip").extend(x=range(40)), fails_at(*range(0, 40, 2)), slots=1)
    assert lab.events.of(MapProgress)[-1].done == 40


def test_failures_in_the_turn_that_ends_the_run(lab: Lab) -> None:
    """Nothing is told of them any more."""
    with pytest.raises(ExecutionError, match="1 of 4 elements failed"):
        lab(tolerant("skip", max_failures=0).extend(x=range(4)), {"work": Fails(OSError(), 1)})
    assert len(lab.events.of(ElementFailed)) == 1
    assert len(lab.events.of(NodeFailed)) == 1
