"""Graphs without policies on threads: walkers take what is ready themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from daglite import ThreadBackend, current_call, evaluate, evaluate_async, task
from daglite.core import crew
from daglite.exceptions import ExecutionError, ParameterError
from tests.backends.journal import WAIT, eventually


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def total(xs: list[int], offset: int = 0) -> int:
    return sum(xs) + offset


@pytest.fixture
def backend() -> Iterator[ThreadBackend]:
    made = ThreadBackend(max_workers=2)
    yield made
    made.close()


def test_siblings_overlap(backend: ThreadBackend) -> None:
    """Two nodes that wait for each other both run."""
    meeting = threading.Barrier(2)

    @task
    def meet(x: int) -> int:
        meeting.wait(WAIT)
        return x

    assert evaluate([meet.bind(x=1), meet.bind(x=2)], default_backend=backend) == [1, 2]


def test_elements_of_a_map_overlap(backend: ThreadBackend) -> None:
    """Two elements that wait for each other both run."""
    meeting = threading.Barrier(2)

    @task
    def meet(x: int) -> int:
        meeting.wait(WAIT)
        return x

    assert evaluate(meet.extend(x=range(4)), default_backend=backend) == [0, 1, 2, 3]


def test_a_slow_element_holds_nobody_up(backend: ThreadBackend) -> None:
    """All others are done while the first one still runs."""
    others = threading.Semaphore(0)

    @task
    def slow_first(x: int) -> int:
        if x:
            others.release()
        else:
            for _ in range(99):
                assert others.acquire(timeout=WAIT)
        return x

    assert evaluate(slow_first.extend(x=range(100)), default_backend=backend) == list(range(100))


def test_elements_are_taken_as_threads_become_free(backend: ThreadBackend) -> None:
    """The source of a map is never more than the threads ahead of what is done."""
    done = 0
    ahead: list[int] = []

    class Source:
        """Not an iterator: that would stay on the caller's thread."""

        def __iter__(self) -> Iterator[int]:
            for i in range(200):
                ahead.append(i - done)
                yield i

    @task
    def count(x: int) -> int:
        nonlocal done
        done += 1
        return x

    assert evaluate(count.extend(x=Source()), default_backend=backend) == list(range(200))
    assert max(ahead) <= backend.slots


def test_two_runs_share_a_thread() -> None:
    """A long run goes to the back of the queue after its slice of time."""
    only = ThreadBackend(max_workers=1)
    short_is_done = threading.Event()
    long_has_begun = threading.Event()

    @task
    def step(x: int) -> int:
        long_has_begun.set()
        time.sleep(crew._SLICE)
        return x + 1

    @task
    def check(x: int) -> bool:
        return short_is_done.is_set()

    node = step.bind(x=0)
    for _ in range(20):
        node = step.bind(x=node)
    outcome: list[bool] = []
    long_run = threading.Thread(
        target=lambda: outcome.append(evaluate(check.bind(x=node), default_backend=only))
    )
    long_run.start()
    assert long_has_begun.wait(WAIT)
    assert evaluate(add.bind(x=1, y=2), default_backend=only) == 3
    short_is_done.set()
    long_run.join(WAIT)
    only.close()
    assert outcome == [True]


def test_a_long_map_gives_way() -> None:
    """It goes to the back of the queue after its slice of time, too, and then on where it was."""
    only = ThreadBackend(max_workers=1)
    short_is_done = threading.Event()
    long_has_begun = threading.Event()

    @task
    def element(x: int) -> tuple[int, bool]:
        long_has_begun.set()
        time.sleep(crew._SLICE)
        return x, short_is_done.is_set()

    outcome: list[tuple[int, bool]] = []
    long_run = threading.Thread(
        target=lambda: outcome.extend(evaluate(element.extend(x=range(20)), default_backend=only))
    )
    long_run.start()
    assert long_has_begun.wait(WAIT)
    assert evaluate(add.bind(x=1, y=2), default_backend=only) == 3
    short_is_done.set()
    long_run.join(WAIT)
    only.close()
    assert [x for x, _ in outcome] == list(range(20))
    assert outcome[-1] == (19, True)


def test_the_first_error_wins(backend: ThreadBackend) -> None:
    """One that comes before the caller has seen the first doesn't replace it."""
    caller_waits, second_is_told, first_has_failed = (threading.Event() for _ in range(3))

    class SecondError(Exception):
        def __str__(self) -> str:
            # Asked for the record of the failure, when the run was still going on.
            second_is_told.set()
            first_has_failed.wait(WAIT)
            return "second"

    @task
    def first() -> None:
        assert caller_waits.wait(WAIT)
        assert second_is_told.wait(WAIT)
        raise ValueError("first")

    @task
    def second() -> None:
        raise SecondError

    class Sleepy:
        """A clock that wakes the caller when both have failed."""

        now = staticmethod(time.monotonic)

        def wait(self, inbox: Any, until: float | None, outstanding: int) -> Any:
            caller_waits.set()
            assert eventually(lambda: inbox.qsize() == 1)
            first_has_failed.set()
            assert eventually(lambda: inbox.qsize() == 2)
            return inbox.get()

    with (
        evaluate.context(clock=Sleepy(), default_backend=backend) as ctx,
        pytest.raises(ValueError, match="first"),
    ):
        ctx.evaluate([first.bind(), second.bind()])


def test_the_source_of_a_map_may_fail(backend: ThreadBackend) -> None:
    """An error out of a generator is the map's failure."""

    def source() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable") as caught:
        evaluate(add.extend(x=source(), y=[1]), default_backend=backend)
    assert isinstance(caught.value, ExecutionError)
    assert caught.value.execution_path == ("add",)


def test_lengths_that_turn_out_to_differ(backend: ThreadBackend) -> None:
    """A zip over generators of different lengths says so when it is known."""
    with pytest.raises(ParameterError, match="equal length"):
        evaluate(add.zip(x=iter([1, 2]), y=iter([1])), default_backend=backend)


def test_a_result_that_is_not_iterable(backend: ThreadBackend) -> None:
    """A map over the result of a task that returns a number is refused with its name."""
    number = task(lambda: 3).bind()
    with pytest.raises(ParameterError, match="non-iterable int"):
        evaluate(add.fix(y=1).zip(x=number), default_backend=backend)


def test_arguments_by_name(backend: ThreadBackend) -> None:
    """Keyword-only parameters arrive, in single calls and in maps."""

    @task
    def scaled(x: int, *, factor: int) -> int:
        return x * factor

    assert evaluate(scaled.bind(x=2, factor=3), default_backend=backend) == 6
    assert evaluate(scaled.extend(x=[1, 2], factor=[10]), default_backend=backend) == [10, 20]


def test_the_failed_element_is_named(backend: ThreadBackend) -> None:
    """The path ends with the element, and its attempt is in the history."""

    @task
    def picky(x: int) -> int:
        if x == 7:
            raise ValueError("seven")
        return x

    with pytest.raises(ValueError, match="seven") as caught:
        evaluate(total.bind(xs=picky.extend(x=range(10))), default_backend=backend)
    error = caught.value
    assert isinstance(error, ExecutionError)
    assert error.execution_path == ("picky[7]",)
    assert [attempt.number for attempt in error.attempts] == [1]


def test_a_container_that_cannot_be_built(backend: ThreadBackend) -> None:
    """A set of results that don't hash is the failure of the node that needs it."""

    @task
    def unhashable() -> list[int]:
        return []

    with pytest.raises(TypeError, match="unhashable"):
        evaluate(total.bind(xs={unhashable.bind()}), default_backend=backend)


def test_what_a_task_may_know_of_itself(backend: ThreadBackend) -> None:
    """Each element sees its own number, and a single call sees none."""

    @task
    def who(x: int) -> tuple[str, int | None]:
        call = current_call()
        return call.node_name, call.element

    assert evaluate(who.extend(x=[5, 6]), default_backend=backend) == [("who", 0), ("who", 1)]
    assert evaluate(who.bind(x=5), default_backend=backend) == ("who", None)


def test_a_closed_backend_is_an_error(backend: ThreadBackend) -> None:
    """Nothing hangs when there are no threads any more."""
    backend.close()
    with pytest.raises(ExecutionError, match="closed"):
        evaluate(add.bind(x=1, y=1), default_backend=backend)


def test_short_runs_leave_the_threads_alone() -> None:
    """A run that has its value interrupts nobody, so no thread is lost."""
    backend = ThreadBackend(max_workers=4)
    for _ in range(200):
        result = evaluate(total.bind(xs=add.extend(x=range(5), y=[1])), default_backend=backend)
        assert result == 15
    assert backend.abandoned == 0
    backend.close()


def test_failing_runs_leave_threads_to_work_with() -> None:
    """However often a run fails in the middle, the next one has its threads."""
    backend = ThreadBackend(max_workers=3)

    @task
    def picky(x: int) -> int:
        if x == 11:
            raise ValueError("eleven")
        return x

    for _ in range(100):
        with pytest.raises(ValueError, match="eleven"):
            evaluate(total.bind(xs=picky.extend(x=range(30))), default_backend=backend)
        assert evaluate(add.extend(x=range(5), y=[1]), default_backend=backend) == [1, 2, 3, 4, 5]
    backend.close()


def test_busy_walkers_leave_the_free_slots_to_others() -> None:
    """What becomes ready while one of the threads is busy goes to those that aren't."""
    backend = ThreadBackend(4)
    meeting = threading.Barrier(3)

    @task
    def first(x: int) -> int:
        return x

    @task
    def meet(x: int) -> int:
        meeting.wait(WAIT)
        return x

    # One waits from the start; the other two are ready when `first` is done.
    begun = first.bind(x=1)
    waiting = [meet.bind(x=0), meet.bind(x=begun), meet.bind(x=begun)]
    assert evaluate(waiting, default_backend=backend) == [0, 1, 1]
    backend.close()


class Stuck:
    """A source that waits in the middle for what never comes."""

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate
        self.reached = threading.Event()

    def __iter__(self) -> Iterator[int]:
        yield 1
        self.reached.set()
        self.gate.wait(WAIT)
        yield 2


def test_a_source_that_hangs_holds_no_later_run(
    backend: ThreadBackend, gate: threading.Event
) -> None:
    """Its thread is given up, and those that wait for their turn go."""
    source = Stuck(gate)

    @task
    def same(x: int) -> int:
        return x

    async def main() -> None:
        run = asyncio.ensure_future(evaluate_async(same.zip(x=source), default_backend=backend))
        await asyncio.to_thread(source.reached.wait, WAIT)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        began = time.monotonic()
        both = [same.bind(x=1), same.bind(x=2)]
        assert await evaluate_async(both, default_backend=backend) == [1, 2]
        assert time.monotonic() - began < WAIT / 2

    asyncio.run(main())


@pytest.mark.parametrize("on", ["sequential", "threading"])
def test_whatever_a_source_raises_is_its_maps_failure(on: str) -> None:
    """The map is named, not what needs it."""

    class Source:
        def __iter__(self) -> Iterator[int]:
            yield 1
            raise SystemExit(3)

    @task
    def same(x: int) -> int:
        return x

    with pytest.raises(ExecutionError) as caught:
        evaluate(same.zip(x=Source()).join(total), default_backend=on)
    assert caught.value.node_name == "same"
