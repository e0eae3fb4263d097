"""
What every backend does; one is done when it passes.

Each test runs in three ways, as the engine takes another path for each: tasks that nothing is
asked of, tasks with a limit, and a run that somebody listens to.  A new backend needs a line in
`kinds.py`, and nothing here: tasks are functions of `tasks.py`, and keep what they did in a
`Journal`, so that they run in other processes as well.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from daglite import Backend, RetryPolicy, TimeoutPolicy, evaluate
from daglite.exceptions import ExecutionError, TaskTimeoutError
from tests.backends.journal import WAIT, Journal, eventually
from tests.backends.kinds import Kind
from tests.backends.tasks import (
    Picky,
    Seen,
    add,
    double,
    entering,
    failing,
    hanging,
    hangs_at_three,
    keywords,
    late_once,
    look_for_heavy,
    make_heavy,
    meeting,
    nested,
    noted,
    once_bad,
    picky,
    raising,
    raising_noted,
    slow_picky,
    total,
    use_heavy,
    who,
)

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
    """While the first ones run, the source is read a small window ahead and no further."""
    taken = 0
    seen: list[int] = []

    def source() -> Iterator[int]:
        nonlocal taken
        for x in range(1, 101):
            taken = x
            yield x

    def look() -> None:
        eventually(lambda: len(journal.notes) >= backend.slots)
        # Long enough for what would read on.
        time.sleep(0.05)
        seen.append(taken)
        journal.open()

    looking = threading.Thread(target=look)
    looking.start()
    assert run(hanging.fix(journal=journal).zip(x=source())) == list(range(1, 101))
    looking.join(WAIT)
    assert backend.slots <= seen[0] <= 2 * backend.slots + 1


def test_values_are_let_go(run: Callable[..., Any], backend: Backend) -> None:
    """A value dies when nobody needs it any more, before the run ends."""
    if not (backend.capabilities.shared_memory or backend.capabilities.in_place):
        pytest.skip("its values are copies")
    seen: Seen = []
    used = double.bind(use_heavy.bind(make_heavy.bind(seen)))
    assert run(look_for_heavy.bind(seen, used))
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


def test_keyboard_interrupt_out_of_a_task(
    run: Callable[..., Any], backend: Backend, way: str
) -> None:
    """On the caller's thread it is the user's; elsewhere it is a failure like others."""
    on_callers_thread = backend.capabilities.in_place and way != "timed"
    for expr in (raising.bind(KeyboardInterrupt), raising.zip(kind=[KeyboardInterrupt])):
        if on_callers_thread:
            with pytest.raises(KeyboardInterrupt) as interrupt:
                run(expr)
            assert not isinstance(interrupt.value, ExecutionError)
        else:
            with pytest.raises(ExecutionError, match="KeyboardInterrupt") as caught:
                run(expr)
            assert type(caught.value.original_exception) is KeyboardInterrupt
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
    everybody = list(range(1000, 1000 + backend.slots))
    # Each worker has loaded its tasks by then, and none is slower than others.
    assert all(run(meeting.fix(journal=journal, others=everybody).zip(x=everybody)))
    warmed = len(journal.notes)
    with pytest.raises(Picky):
        run(slow_picky.fix(journal=journal).zip(x=range(200)))
    assert len(journal.notes) - warmed <= 3 + 2 * backend.slots


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


@pytest.mark.parametrize("of", ["attempt", "total"])
def test_a_limit_is_kept(backend: Backend, kind: Kind, journal: Journal, of: str) -> None:
    """The error comes at the limit, not when the call ends, and no slot is lost."""
    limit = kind.short
    timeout = TimeoutPolicy(limit) if of == "attempt" else TimeoutPolicy(total=limit)
    began = time.monotonic()
    with pytest.raises(TaskTimeoutError) as caught:
        evaluate(hanging.with_options(timeout=timeout).bind(journal), default_backend=backend)
    took = time.monotonic() - began
    assert limit <= took < WAIT / 4
    error = caught.value
    assert (error.limit, error.kind, error.execution_path) == (limit, of, ("hanging",))
    assert limit <= error.elapsed <= took
    (attempt,) = error.attempts
    assert attempt.worker
    assert 0 < attempt.ran <= error.elapsed
    assert journal.notes == ["0"]
    everybody = list(range(1, backend.slots + 1))
    meets = meeting.fix(journal=journal, others=everybody)
    assert all(evaluate(meets.zip(x=everybody), default_backend=backend))


def test_a_call_out_of_time_gives_up_its_slot(
    backend: Backend, kind: Kind, journal: Journal
) -> None:
    """Others of the same run take it at once, though the call may run on."""
    late = hanging.with_options(timeout=kind.short).fix(journal=journal)
    hangs = [late.bind(x=-1) for _ in range(4)]
    quick = noted.with_options(timeout=WAIT).fix(journal=journal).zip(x=range(8))
    began = time.monotonic()
    with pytest.raises(TaskTimeoutError) as caught:
        evaluate([*hangs, quick], default_backend=backend, on_failure="continue")
    assert time.monotonic() - began < WAIT / 2
    assert len(caught.value.failures) == 4
    assert sorted(map(int, journal.notes)) == [-1] * 4 + list(range(8))


def test_a_limit_of_one_element(backend: Backend, kind: Kind, journal: Journal) -> None:
    """The error names the element that ran out of time."""
    policed = hangs_at_three.with_options(timeout=kind.ample).fix(journal=journal)
    with pytest.raises(TimeoutError) as caught:
        evaluate(policed.zip(x=range(6)), default_backend=backend)
    assert isinstance(caught.value, TaskTimeoutError)
    assert caught.value.execution_path == ("hangs_at_three[3]",)


def test_a_late_result_is_dropped(backend: Backend, kind: Kind, journal: Journal) -> None:
    """What an attempt that ran out of time still returns doesn't replace the next one's."""
    left_alone = None if backend.capabilities.kill else "abandon"
    timeout = TimeoutPolicy(kind.ample, on_expiry=left_alone)
    policed = late_once.with_options(timeout=timeout, retry=RetryPolicy(1, "none"))
    late = policed.bind(journal, patience=kind.ample / 2)
    assert evaluate(late, default_backend=backend) == 2
    assert ("late" in journal.notes) is not backend.capabilities.kill


def test_a_tasks_own_timeout_error(backend: Backend, journal: Journal) -> None:
    """It is an ordinary failure, and never said to be a limit's."""
    policed = raising.with_options(timeout=WAIT)
    with pytest.raises(TimeoutError) as caught:
        evaluate(policed.bind(TimeoutError), default_backend=backend)
    assert not isinstance(caught.value, TaskTimeoutError)


# -- many at once -------------------------------------------------------------------


def test_nested_runs_with_every_worker_busy(
    run: Callable[..., Any], backend: Backend, kind_name: str, way: str
) -> None:
    """Tasks that evaluate on their own backend don't wait for themselves."""
    calls = 2 * min(backend.slots, 8)
    runs = nested.fix(kind=kind_name, way=way).zip(x=range(calls))
    assert run(runs) == [sum(range(0, 2 * x, 2)) for x in range(calls)]


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
    meets = meeting.fix(journal=journal, others=[0, 1])
    assert run([meets.bind(x=0), meets.bind(x=1)]) == [True, True]
    assert run(meeting.fix(journal=journal, others=[2, 3]).zip(x=[2, 3])) == [True, True]


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
