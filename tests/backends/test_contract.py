"""
What every backend does; one is done when it passes.

Tasks are functions of this module and keep what they did in a `Journal`, so that they run in
other processes as well.  Each test runs in three ways, as the engine takes another path for
each: tasks that nothing is asked of, tasks with a limit, and a run that somebody listens to.
"""

from __future__ import annotations

import gc
import pickle
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daglite import (
    Backend,
    PolicySet,
    RetryPolicy,
    ThreadBackend,
    TimeoutPolicy,
    current_call,
    evaluate,
    find_backend,
    task,
)
from daglite.exceptions import ExecutionError, TaskTimeoutError
from tests.backends.journal import WAIT, Journal, eventually


class Deaf:
    """Listens, and does nothing."""

    def on_event(self, event: object) -> None:
        pass


BACKENDS: dict[str, Callable[[], Backend]] = {
    "sequential": lambda: find_backend("sequential"),
    "threading": lambda: find_backend("threading"),
    "one thread": lambda: ThreadBackend(1),
    "four threads": lambda: ThreadBackend(4),
}
SHARED = ("sequential", "threading")

WAYS: dict[str, dict[str, Any]] = {
    "bare": {},
    "timed": {"policies": PolicySet(timeout=TimeoutPolicy(WAIT))},
    "watched": {"callbacks": [Deaf()]},
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made = BACKENDS[request.param]()
    yield made
    if request.param not in SHARED:
        made.close()


@pytest.fixture(params=WAYS)
def run(request: pytest.FixtureRequest, backend: Backend) -> Callable[..., Any]:
    """`evaluate`, on the backend and in the way of this test."""
    way = WAYS[request.param]

    def run(expr: Any, **options: Any) -> Any:
        return evaluate(expr, default_backend=backend, **way, **options)

    return run


class Picky(Exception):
    """Carries more than a message."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


@task
def double(x: int) -> int:
    return 2 * x


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def total(xs: list[int], offset: int = 0) -> int:
    return sum(xs) + offset


@task
def keywords(a: int, /, b: int, *, c: int = 3, d: int = 4) -> tuple[int, int, int, int]:
    return a, b, c, d


@task
def picky(x: int, bad: int) -> int:
    if x == bad:
        raise Picky(f"{x} is bad", 42)
    return x


@task
def noted(journal: Journal, x: int) -> int:
    journal.note(x)
    return x


@task
def failing(journal: Journal, times: int) -> int:
    """Fail the first *times* attempts."""
    number = journal.note("attempt")
    if number <= times:
        raise ValueError(f"attempt {number}")
    return number


@task
def hanging(journal: Journal, x: int = 0) -> int:
    journal.note(x)
    journal.hang()
    return x


@task
def raising(kind: type[BaseException]) -> None:
    raise kind("from a task")


# -- values -------------------------------------------------------------------------


def test_values(run: Callable[..., Any]) -> None:
    """Single calls, chains, and several roots in their container."""
    both = add.bind(double.bind(1), double.bind(2))
    assert run(both) == 6
    assert run([both, double.bind(5)]) == [6, 10]
    assert run({"a": both, "b": (double.bind(5),)}) == {"a": 6, "b": (10,)}


def test_arguments_by_name(run: Callable[..., Any]) -> None:
    """By position, by name, by keyword only, and by default."""
    assert run(keywords.bind(1, d=6, b=double.bind(1))) == (1, 2, 3, 6)
    assert run(keywords.fix(a=1, c=0).zip(b=[1, 2], d=[3, 4])) == [(1, 1, 0, 3), (1, 2, 0, 4)]


def test_a_map_keeps_its_order(run: Callable[..., Any]) -> None:
    """Whatever order its elements end in."""
    elements = add.extend(x=[10, 20], y=range(50))
    assert run(elements) == [x + y for x in (10, 20) for y in range(50)]
    assert run(elements.map(double).join(total)) == sum(
        2 * (x + y) for x in (10, 20) for y in range(50)
    )


def test_an_empty_map(run: Callable[..., Any]) -> None:
    """It has an empty list, and who joins it gets that."""
    empty = double.zip(x=[])
    assert run(empty) == []
    assert run(empty.join(total)) == 0


def test_a_big_map(run: Callable[..., Any]) -> None:
    """10,000 elements out of a generator keep their order."""
    assert run(double.zip(x=(i for i in range(10_000)))) == list(range(0, 20_000, 2))


def test_a_map_takes_elements_as_they_are_wanted(
    run: Callable[..., Any], backend: Backend, journal: Journal
) -> None:
    """For calls that take their time the source is a small window ahead of what has ended."""
    ahead = []

    def source() -> Iterator[int]:
        for i in range(60):
            ahead.append(i - journal.notes.count("end"))
            yield i

    assert run(slow.fix(journal=journal).zip(x=source())) == list(range(60))
    assert max(ahead) <= 2 * backend.slots + 1


@task
def slow(journal: Journal, x: int) -> int:
    time.sleep(0.005)
    journal.note("end")
    return x


class Heavy:
    """Something that a weak reference can see die."""


def test_values_are_let_go(run: Callable[..., Any], backend: Backend) -> None:
    """A value dies when nobody needs it any more, before the run ends."""
    if not (backend.capabilities.shared_memory or backend.capabilities.in_place):
        pytest.skip("its values are copies")
    seen: list[weakref.ref[Heavy]] = []

    @task
    def make() -> Heavy:
        made = Heavy()
        seen.append(weakref.ref(made))
        return made

    @task
    def use(heavy: Heavy) -> int:
        return 1

    @task
    def look(x: int) -> bool:
        def is_dead() -> bool:
            gc.collect()
            return seen[0]() is None

        return eventually(is_dead, 2)

    assert run(look.bind(double.bind(use.bind(make.bind()))))
    assert seen[0]() is None


def test_twice_on_the_same_future(run: Callable[..., Any], journal: Journal) -> None:
    """It runs twice, and nothing is left of the first time."""
    future = noted.fix(journal=journal).zip(x=[1, 2]).join(total)
    assert run(future) == run(future) == 3
    assert sorted(journal.notes) == ["1", "1", "2", "2"]


def test_a_call_knows_itself(run: Callable[..., Any]) -> None:
    """Name, element and attempt, wherever it runs."""
    assert run(who.extend(x=[5, 6])) == [("who", 0, 1), ("who", 1, 1)]
    assert run(who.bind(5)) == ("who", None, 1)


@task
def who(x: int) -> tuple[str, int | None, int]:
    call = current_call()
    return call.node_name, call.element, call.attempt


# -- failures -----------------------------------------------------------------------


def test_an_error_tells_what_failed(run: Callable[..., Any]) -> None:
    """Its type, the path to the element, the attempt, and the original as its cause."""
    elements = picky.fix(bad=14).zip(x=double.zip(x=range(10)))
    with pytest.raises(Picky, match="14 is bad") as caught:
        run(elements.join(total))
    error: Any = caught.value
    assert isinstance(error, ExecutionError)
    assert error.execution_path == ("double", "picky[7]")
    assert error.node_name == "picky"
    assert [(a.number, a.error.split(":")[0]) for a in error.attempts] == [(1, "Picky")]
    assert type(error.__cause__) is type(error.original_exception) is Picky
    assert error.code == 42


def test_an_error_survives_pickle(run: Callable[..., Any]) -> None:
    """With all that it tells."""
    with pytest.raises(Picky) as caught:
        run(picky.bind(x=double.bind(1), bad=2))
    error: Any = caught.value
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, Picky)
    assert isinstance(copy, ExecutionError)
    assert copy.execution_path == error.execution_path == ("double", "picky")
    assert copy.attempts == error.attempts
    assert str(copy) == str(error)


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, StopIteration, StopAsyncIteration])
def test_what_else_a_task_may_raise(run: Callable[..., Any], kind: type[BaseException]) -> None:
    """It is the task's failure: it ends neither a thread, nor a generator of ours."""
    for expr in (raising.bind(kind), raising.zip(kind=[kind])):
        with pytest.raises(ExecutionError, match=kind.__name__) as caught:
            run(expr)
        assert type(caught.value.original_exception) is kind
    assert run(double.zip(x=range(8))) == list(range(0, 16, 2))


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, StopIteration])
def test_what_is_never_retried(
    backend: Backend, journal: Journal, kind: type[BaseException]
) -> None:
    """What isn't an `Exception` is final; what is one is tried again."""
    policed = raising_noted.with_options(retry=RetryPolicy(2, "none"))
    with pytest.raises(ExecutionError):
        evaluate(policed.bind(journal=journal, kind=kind), default_backend=backend)
    assert len(journal.notes) == (3 if issubclass(kind, Exception) else 1)


@task
def raising_noted(journal: Journal, kind: type[BaseException]) -> None:
    journal.note("attempt")
    raise kind


def test_keyboard_interrupt_out_of_a_task(run: Callable[..., Any], backend: Backend) -> None:
    """On the caller's thread it is the user's; elsewhere it is a failure like others."""
    with pytest.raises((KeyboardInterrupt, ExecutionError)) as caught:
        run(raising.bind(KeyboardInterrupt))
    if not backend.capabilities.in_place:
        assert isinstance(caught.value, ExecutionError)
        assert isinstance(caught.value.original_exception, KeyboardInterrupt)
    assert run(double.zip(x=range(8))) == list(range(0, 16, 2))


def test_siblings_do_not_start_after_a_failure(run: Callable[..., Any], journal: Journal) -> None:
    """Those that hadn't when the first one failed never do."""
    first, rest = picky.bind(1, bad=1), noted.fix(journal=journal).zip(x=slow_range(journal))
    with pytest.raises(Picky):
        run([first, rest])
    ran = len(journal.notes)
    assert ran < 200
    assert not eventually(lambda: len(journal.notes) > ran, 0.02)


def slow_range(journal: Journal) -> Iterator[int]:
    for i in range(200):
        time.sleep(0.002)
        yield i


def test_a_failed_element_stops_its_map(
    run: Callable[..., Any], backend: Backend, journal: Journal
) -> None:
    """No element starts that wasn't under way."""
    with pytest.raises(Picky):
        run(slow_picky.fix(journal=journal).zip(x=range(200)))
    assert len(journal.notes) <= 3 + 2 * backend.slots


@task
def slow_picky(journal: Journal, x: int) -> int:
    journal.note(x)
    time.sleep(0.005)
    if x == 2:
        raise Picky("two", 2)
    return x


def test_continue_finishes_what_it_can(run: Callable[..., Any], journal: Journal) -> None:
    """Branches that don't depend on a failure run; one error holds all failures."""
    bad = picky.bind(1, bad=1)
    lost = noted.bind(journal, bad)
    good = noted.bind(journal, double.bind(2))
    worse = picky.fix(bad=3).zip(x=[2, 3])
    with pytest.raises(ExecutionError) as caught:
        run([bad, lost, good, worse], on_failure="continue")
    assert {failure.execution_path for failure in caught.value.failures} == {
        ("picky",),
        ("picky[1]",),
    }
    assert journal.notes == ["4"]


# -- policies -----------------------------------------------------------------------


@pytest.mark.parametrize(("times", "attempts"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_attempts_are_counted(
    run: Callable[..., Any], journal: Journal, times: int, attempts: int
) -> None:
    """As many retries as allowed and needed, and no more."""
    policed = failing.with_options(retry=RetryPolicy(2, "none")).bind(journal, times)
    if times < 3:
        assert run(policed) == attempts
    else:
        with pytest.raises(ValueError, match="attempt 3") as caught:
            run(policed)
        assert isinstance(caught.value, ExecutionError)
        assert [a.number for a in caught.value.attempts] == [1, 2, 3]
        assert [a.error for a in caught.value.attempts] == [
            f"ValueError: attempt {i}" for i in (1, 2, 3)
        ]
    assert len(journal.notes) == attempts


def test_elements_are_retried_one_by_one(backend: Backend, journal: Journal) -> None:
    """Each has attempts of its own, and all keep their places."""
    policed = once_bad.with_options(retry=RetryPolicy(1, "none")).fix(journal=journal)
    assert evaluate(policed.zip(x=range(30)), default_backend=backend) == list(range(30))
    assert sorted(map(int, journal.notes)) == sorted([*range(30), *range(0, 30, 3)])


@task
def once_bad(journal: Journal, x: int) -> int:
    if journal.note(x) == 1 and x % 3 == 0:
        raise ValueError(str(x))
    return x


@pytest.mark.parametrize("kind", ["attempt", "total"])
def test_a_limit_is_kept(backend: Backend, journal: Journal, kind: str) -> None:
    """The error comes at the limit, not when the call ends, and the backend goes on working."""
    timeout = TimeoutPolicy(0.05) if kind == "attempt" else TimeoutPolicy(total=0.05)
    began = time.monotonic()
    with pytest.raises(TaskTimeoutError) as caught:
        evaluate(hanging.with_options(timeout=timeout).bind(journal), default_backend=backend)
    took = time.monotonic() - began
    assert 0.05 <= took < WAIT / 4
    error = caught.value
    assert (error.limit, error.kind, error.execution_path) == (0.05, kind, ("hanging",))
    assert 0.05 <= error.elapsed <= took
    assert len(error.attempts) == 1
    assert evaluate(double.zip(x=range(8)), default_backend=backend) == list(range(0, 16, 2))


def test_a_limit_of_one_element(backend: Backend, journal: Journal) -> None:
    """The error names the element that ran out of time."""
    policed = hangs_at_three.with_options(timeout=0.1).fix(journal=journal)
    with pytest.raises(TimeoutError) as caught:
        evaluate(policed.zip(x=range(6)), default_backend=backend)
    assert isinstance(caught.value, TaskTimeoutError)
    assert caught.value.execution_path == ("hangs_at_three[3]",)


@task
def hangs_at_three(journal: Journal, x: int) -> int:
    if x == 3:
        journal.hang()
    return x


def test_a_late_result_is_dropped(backend: Backend, journal: Journal) -> None:
    """What an attempt that ran out of time still returns doesn't replace the next one's."""
    policed = late_once.with_options(timeout=0.05, retry=RetryPolicy(1, "none"))
    assert evaluate(policed.bind(journal), default_backend=backend) == 2


@task
def late_once(journal: Journal) -> int:
    number = journal.note("attempt")
    if number == 1:
        journal.hang(0.1)
    return number


def test_a_tasks_own_timeout_error(backend: Backend, journal: Journal) -> None:
    """It is an ordinary failure, and never said to be a limit's."""
    policed = raising.with_options(timeout=WAIT)
    with pytest.raises(TimeoutError) as caught:
        evaluate(policed.bind(TimeoutError), default_backend=backend)
    assert not isinstance(caught.value, TaskTimeoutError)


# -- many at once -------------------------------------------------------------------


def test_nested_runs_with_every_worker_busy(run: Callable[..., Any], backend: Backend) -> None:
    """Tasks that evaluate on their own backend don't wait for themselves."""
    calls = 2 * min(backend.slots, 8)

    @task
    def outer(x: int) -> int:
        return int(run(double.fix().zip(x=range(x)).join(total)))

    expected = [sum(range(0, 2 * x, 2)) for x in range(calls)]
    assert run(outer.zip(x=range(calls))) == expected


def test_from_many_threads_at_once(run: Callable[..., Any]) -> None:
    """Eight runs don't mix up their values, and a failing one harms none."""
    results: dict[int, Any] = {}

    def work(y: int) -> None:
        try:
            results[y] = run(picky.fix(bad=7).zip(x=range(y, y + 40, 8)))
        except Picky as error:
            results[y] = error

    threads = [threading.Thread(target=work, args=(y,)) for y in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert isinstance(results.pop(7), Picky)
    assert results == {y: list(range(y, y + 40, 8)) for y in range(7)}


def test_siblings_overlap(run: Callable[..., Any], backend: Backend, journal: Journal) -> None:
    """As many calls run at once as there are slots."""
    if backend.slots == 1:
        pytest.skip("it has one slot")
    assert run([meeting.bind(journal, 0), meeting.bind(journal, 1)]) == [True, True]
    assert run(meeting.fix(journal=journal).zip(x=[2, 3])) == [True, True]


@task
def meeting(journal: Journal, x: int) -> bool:
    """Whether its neighbour was there while this ran."""
    journal.note(x)
    return eventually(lambda: str(x ^ 1) in journal.notes)


def test_never_more_than_its_slots(
    run: Callable[..., Any], backend: Backend, journal: Journal
) -> None:
    """However many are ready."""
    assert run(entering.fix(journal=journal).zip(x=range(40))) == list(range(40))
    inside = most = 0
    for note in journal.notes:
        inside += 1 if note == "in" else -1
        most = max(most, inside)
    assert 1 <= most <= backend.slots


@task
def entering(journal: Journal, x: int) -> int:
    journal.note("in")
    time.sleep(0.001)
    journal.note("out")
    return x
