"""What the sequential backend does beyond the contract: places, order, helper threads."""

from __future__ import annotations

import os
import pickle
import signal
import threading

import pytest

from daglite import SequentialBackend, TimeoutPolicy, evaluate, task
from daglite.exceptions import BackendError, TaskTimeoutError
from tests.backends.journal import WAIT, eventually

here = task(lambda: threading.current_thread() is CALLER, name="here")
CALLER = threading.current_thread()


def test_untimed_calls_run_in_place() -> None:
    """On the caller's own thread, also when they may be tried again."""
    backend = SequentialBackend()
    assert evaluate(here.bind(), default_backend=backend)
    assert evaluate(here.with_options(retry=2).bind(), default_backend=backend)


@pytest.mark.parametrize("timeout", [TimeoutPolicy(WAIT), TimeoutPolicy(total=WAIT)])
def test_timed_calls_run_on_a_helper(timeout: TimeoutPolicy) -> None:
    """The caller's thread waits, so that it can leave."""
    backend = SequentialBackend()
    assert not evaluate(here.with_options(timeout=timeout).bind(), default_backend=backend)
    backend.close()


@pytest.mark.parametrize("options", [{}, {"timeout": WAIT}, {"retry": 1}])
def test_the_order_is_fixed(options: dict[str, float]) -> None:
    """One call at a time, in the order of the graph, run after run."""
    backend = SequentialBackend()
    orders: list[list[str]] = []

    def note(name: str, needs: object = None) -> str:
        orders[-1].append(name)
        return name

    noted = task(note, name="note").with_options(**options)  # type: ignore[arg-type]
    a, b = noted.bind(name="a"), noted.bind(name="b")
    expr = [noted.bind(name="c", needs=[a, b]), noted.bind(name="d", needs=a), noted.bind(name="e")]
    for _ in range(5):
        orders.append([])
        assert evaluate(expr, default_backend=backend) == ["c", "d", "e"]
    assert sorted(orders[0]) == ["a", "b", "c", "d", "e"]
    assert all(order == orders[0] for order in orders)
    backend.close()


@pytest.mark.usefixtures("no_threads_left")
def test_close_ends_the_helpers() -> None:
    """Those that wait for the next run."""
    backend = SequentialBackend()
    assert not evaluate(here.with_options(timeout=WAIT).bind(), default_backend=backend)
    backend.close()
    backend.close()


def test_a_helper_is_used_again() -> None:
    """A hundred runs don't leave a hundred threads."""
    backend = SequentialBackend()
    timed = task(lambda: threading.get_ident(), name="timed").with_options(timeout=WAIT)
    before = threading.active_count()
    for _ in range(100):
        evaluate(timed.bind(), default_backend=backend)
    assert threading.active_count() <= before + 1
    backend.close()


def test_few_helpers_stay_after_many_runs_at_once() -> None:
    """Who comes in a burst leaves no threads behind for ever."""
    backend = SequentialBackend()
    all_here = threading.Barrier(30)
    timed = task(lambda: all_here.wait(WAIT), name="timed").with_options(timeout=WAIT)

    def run() -> None:
        evaluate(timed.bind(), default_backend=backend)

    before = threading.active_count()
    callers = [threading.Thread(target=run) for _ in range(30)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(WAIT)
    assert eventually(lambda: threading.active_count() <= before + 8)
    backend.close()


def test_the_cap_holds_here_too(gate: threading.Event) -> None:
    """Abandoned calls are counted over all runs of the backend that share a helper."""
    backend = SequentialBackend(max_abandoned=2)
    hang = task(lambda: gate.wait(WAIT), name="hang").with_options(timeout=0.01)
    for _ in range(2):
        with pytest.raises(TaskTimeoutError):
            evaluate(hang.bind(), default_backend=backend)
    with pytest.raises(BackendError, match="max_abandoned=2"):
        evaluate(hang.bind(), default_backend=backend)
    assert evaluate(here.bind(), default_backend=backend)
    gate.set()
    assert eventually(lambda: _runs(backend))
    backend.close()


def _runs(backend: SequentialBackend) -> bool:
    try:
        return not evaluate(here.with_options(timeout=WAIT).bind(), default_backend=backend)
    except BackendError:
        return False


def test_the_cap_holds_for_runs_at_once(gate: threading.Event) -> None:
    """Runs on several threads have a helper each, but one cap."""
    backend = SequentialBackend(max_abandoned=2)
    hang = task(lambda: gate.wait(WAIT), name="hang").with_options(timeout=0.02)
    meeting = threading.Barrier(4)
    errors: list[BaseException] = []

    def work() -> None:
        meeting.wait(WAIT)
        for _ in range(3):
            try:
                evaluate(hang.bind(), default_backend=backend)
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len(errors) == 12
    # Four may pass the cap together: each is let in before one of the others is abandoned.
    late = [error for error in errors if isinstance(error, TaskTimeoutError)]
    assert len(late) <= 5
    backend.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_while_a_call_runs(gate: threading.Event) -> None:
    """The child doesn't wait for threads that it doesn't have: a busy one, and an idle one."""
    backend = SequentialBackend()
    timed = here.with_options(timeout=WAIT)
    began = threading.Event()

    def work() -> None:
        began.set()
        gate.wait(WAIT)

    busy = task(work).with_options(timeout=WAIT).bind()
    thread = threading.Thread(target=lambda: evaluate(busy, default_backend=backend))
    thread.start()
    assert began.wait(WAIT)
    assert not evaluate(timed.bind(), default_backend=backend)
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(evaluate(timed.bind(), default_backend=backend))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.set()
    thread.join(WAIT)
    backend.close()


def test_pickle() -> None:
    """The cap goes with it."""
    backend = SequentialBackend(max_abandoned=7)
    assert pickle.loads(pickle.dumps(backend)).max_abandoned == 7
