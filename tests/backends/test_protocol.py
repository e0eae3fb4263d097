"""What every backend does when it is called directly, as the engine calls it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from daglite import (
    Backend,
    Outcome,
    SequentialBackend,
    ThreadBackend,
    TimeoutPolicy,
    evaluate,
)
from daglite._clock import SystemClock
from daglite.core.call import Admit, Call, Target
from daglite.core.kernel import Kernel
from daglite.core.run import Listeners, Run
from daglite.exceptions import BackendError, TaskTimeoutError
from daglite.policies.timeout import Expiry
from tests.backends.journal import WAIT, Journal, eventually
from tests.backends.tasks import double, hanging, noted, raising


class Desk:
    """Sends the calls of one run to a backend, and takes their outcomes."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.run = Run("direct", Kernel(SystemClock()), Listeners(()), seed="direct")
        self._outcomes: SimpleQueue[tuple[Call, Outcome]] = SimpleQueue()

    def submit(
        self,
        made: Any,
        *args: Any,
        on_expiry: Expiry | None = None,
        admit: Admit | None = None,
    ) -> Call:
        """A call that may be ended, so that it never runs on this thread."""
        target = Target(made.name, made.func, timed=True, on_expiry=on_expiry)
        call = Call(self.run, target, 0, 0, None, args, ())
        call.admit = admit
        self.backend.submit(call, lambda call, outcome: self._outcomes.put((call, outcome)))
        return call

    def outcome_of(self, call: Call) -> Outcome:
        """The next outcome that comes, which must be that of *call*."""
        ended, outcome = self._outcomes.get(timeout=WAIT)
        assert ended is call
        return outcome

    def fill(self, journal: Journal) -> list[Call]:
        """A call that hangs in each slot."""
        calls = [self.submit(hanging, journal, -1) for _ in range(self.backend.slots)]
        assert eventually(lambda: journal.notes.count("-1") == len(calls))
        return calls

    def assert_works(self) -> None:
        """A call is run and answered, and nothing else is."""
        assert self.outcome_of(self.submit(double, 21)).value == 42
        with pytest.raises(Empty):
            self._outcomes.get_nowait()


@pytest.fixture
def desk(backend: Backend) -> Iterator[Desk]:
    made = Desk(backend)
    yield made
    backend.cancel_run(made.run)


def test_a_call_and_its_outcome(desk: Desk) -> None:
    """The value, where and when it started, and how long it ran."""
    began = desk.run.kernel.now()
    call = desk.submit(double, 4)
    outcome = desk.outcome_of(call)
    ended = desk.run.kernel.now()
    assert (outcome.value, outcome.error, outcome.ok) == (8, None, True)
    assert call.started is not None
    assert began <= call.started <= ended
    assert call.started == outcome.started
    assert 0 <= outcome.ran <= ended - began
    assert call.worker
    assert call.worker == outcome.worker
    assert not desk.backend.is_running(call)


def test_a_call_that_fails(desk: Desk) -> None:
    """What it raises is in the outcome, which tells as much as another."""
    call = desk.submit(raising, KeyError)
    outcome = desk.outcome_of(call)
    assert type(outcome.error) is KeyError
    assert outcome.started == call.started is not None
    assert outcome.worker == call.worker is not None
    desk.assert_works()


class Doorkeeper:
    """Lets a call start, or not, and notes when it was asked."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.answers.pop(0) if self.answers else True

    def ended(self, outcome: Outcome) -> None:
        raise AssertionError("that is for who takes the outcome")


def test_a_call_that_is_turned_away(desk: Desk, journal: Journal) -> None:
    """It isn't run, and its worker takes others; sent again, it is asked for again."""
    keeper = Doorkeeper(False)
    away = desk.submit(noted, journal, 1, admit=keeper)
    outcome = desk.outcome_of(away)
    assert (outcome.away, outcome.started, away.started) == (True, None, None)
    assert journal.notes == []
    desk.assert_works()
    desk.backend.submit(away, lambda call, outcome: desk._outcomes.put((call, outcome)))
    assert not desk.outcome_of(away).away
    assert journal.notes == ["1"]
    assert keeper.asked == 2


def test_a_call_is_asked_for_when_a_worker_is_free(desk: Desk, journal: Journal) -> None:
    """Not before, and not if it isn't wanted any more."""
    running = desk.fill(journal)
    keeper = Doorkeeper()
    waits = desk.submit(noted, journal, 1, admit=keeper)
    dropped = desk.submit(noted, journal, 2, admit=Doorkeeper())
    desk.backend.cancel(dropped)
    assert keeper.asked == 0
    journal.open()
    ended = [desk._outcomes.get(timeout=WAIT)[0] for _ in [*running, waits]]
    assert set(ended) == {*running, waits}
    assert keeper.asked == 1
    desk.assert_works()
    assert dropped.admit.asked == 0  # type: ignore[union-attr]


def test_a_call_that_runs(desk: Desk, journal: Journal) -> None:
    """It shows that it has started, and on which worker."""
    call = desk.submit(hanging, journal, 1)
    assert eventually(lambda: journal.notes == ["1"])
    if call.look is not None:
        call.look(call)
    assert call.started is not None
    assert call.worker
    stack = desk.backend.stack_of(call)
    assert stack is None or "in hanging" in stack
    journal.open()
    assert desk.outcome_of(call).value == 1
    assert desk.backend.stack_of(call) is None


def test_cancel_before_the_start(desk: Desk, journal: Journal) -> None:
    """The call is dropped where it waits, and those around it are run."""
    running = desk.fill(journal)
    dropped, last = desk.submit(noted, journal, 1), desk.submit(noted, journal, 2)
    desk.backend.cancel(dropped)
    desk.backend.cancel(dropped)
    assert not desk.backend.is_running(dropped)
    journal.open()
    ended = [desk._outcomes.get(timeout=WAIT)[0] for _ in [*running, last]]
    assert set(ended) == {*running, last}
    desk.assert_works()
    assert dropped.started is None
    assert "1" not in journal.notes


def test_cancel_while_it_runs(desk: Desk, journal: Journal) -> None:
    """Its outcome never comes, and its slot is there for others at once."""
    cancelled, *running = desk.fill(journal)
    desk.backend.cancel(cancelled)
    desk.backend.cancel(cancelled)
    desk.assert_works()
    journal.open()
    assert eventually(lambda: not desk.backend.is_running(cancelled))
    for call in running:
        assert desk._outcomes.get(timeout=WAIT)[0] is not cancelled, call
    desk.assert_works()


def test_a_late_outcome_never_comes(desk: Desk, journal: Journal) -> None:
    """A call that is left alone when it is cancelled still ends, but for nobody."""
    if desk.backend.capabilities.kill:
        pytest.skip("it leaves no call alone")
    call = desk.submit(hanging, journal, 1, on_expiry="abandon")
    assert eventually(lambda: journal.notes == ["1"])
    desk.backend.cancel(call)
    assert desk.backend.is_running(call)
    desk.assert_works()
    journal.open()
    assert eventually(lambda: not desk.backend.is_running(call))
    desk.assert_works()


def test_cancel_after_the_end(desk: Desk) -> None:
    """It changes nothing: there is one outcome, and the worker is as it was."""
    call = desk.submit(double, 4)
    assert desk.outcome_of(call).value == 8
    desk.backend.cancel(call)
    assert not desk.backend.is_running(call)
    for _ in range(2 * desk.backend.slots):
        desk.assert_works()


def test_cancel_run(desk: Desk, journal: Journal) -> None:
    """All calls of the run are ended or dropped, and those of other runs go on."""
    other = Desk(desk.backend)
    desk.fill(journal)
    dropped = desk.submit(noted, journal, 1)
    kept = other.submit(noted, journal, 2)
    desk.backend.cancel_run(desk.run)
    desk.backend.cancel_run(desk.run)
    assert other.outcome_of(kept).value == 2
    other.assert_works()
    journal.open()
    assert dropped.started is None
    assert "1" not in journal.notes
    assert desk._outcomes.empty()
    other.backend.cancel_run(other.run)


def test_cancel_run_beside_a_call_of_another(desk: Desk, journal: Journal) -> None:
    """What the other run has under way on the same workers isn't ended."""
    other = Desk(desk.backend)
    running = other.submit(hanging, journal, 1)
    assert eventually(lambda: journal.notes == ["1"])
    for _ in range(desk.backend.slots):
        desk.submit(hanging, journal, 2)
    desk.backend.cancel_run(desk.run)
    journal.open()
    assert other.outcome_of(running).value == 1
    other.assert_works()
    other.backend.cancel_run(other.run)


def test_cancel_run_without_calls(desk: Desk) -> None:
    """There is nothing to do, before the first call and after the last."""
    desk.backend.cancel_run(desk.run)
    later = Desk(desk.backend)
    later.assert_works()
    later.backend.cancel_run(later.run)
    Desk(desk.backend).assert_works()


def test_close(own_backend: Backend) -> None:
    """Twice is as good as once; a call that comes later is answered with what is wrong."""
    desk = Desk(own_backend)
    desk.assert_works()
    own_backend.cancel_run(desk.run)
    own_backend.close()
    own_backend.close()
    late = Desk(own_backend)
    if own_backend.capabilities.in_place:
        # What runs on the caller's thread can't be closed: only the helper threads end.
        late.assert_works()
        return
    error = late.outcome_of(late.submit(double, 1)).error
    assert isinstance(error, BackendError)
    assert "closed" in str(error)


def test_close_while_calls_run(own_backend: Backend, journal: Journal) -> None:
    """It doesn't wait for them."""
    desk = Desk(own_backend)
    running = desk.fill(journal)
    own_backend.close()
    journal.open()
    ended = [desk._outcomes.get(timeout=WAIT)[0] for _ in running]
    assert set(ended) == set(running)
    own_backend.cancel_run(desk.run)


def test_a_copy_through_pickle(backend: Backend) -> None:
    """It is as good as the backend, and works after that one is gone."""
    copy = pickle.loads(pickle.dumps(backend))
    assert type(copy) is type(backend)
    assert repr(copy) == repr(backend)
    assert (copy.name, copy.slots, copy.capabilities) == (
        backend.name,
        backend.slots,
        backend.capabilities,
    )
    assert evaluate(double.zip(x=range(20)), default_backend=copy) == list(range(0, 40, 2))
    Desk(copy).assert_works()
    if copy is not backend:
        copy.close()


@pytest.mark.parametrize(
    "made", [ThreadBackend(1, max_abandoned=1), SequentialBackend(max_abandoned=1)]
)
def test_a_copy_keeps_the_cap(made: Backend, journal: Journal) -> None:
    """How many calls may be abandoned is a part of what a backend is."""
    copy = pickle.loads(pickle.dumps(made))
    timed = hanging.with_options(timeout=TimeoutPolicy(0.05, on_expiry="abandon"))
    with pytest.raises(TaskTimeoutError):
        evaluate(timed.bind(journal), default_backend=copy)
    with pytest.raises(BackendError, match="max_abandoned=1"):
        evaluate(timed.bind(journal), default_backend=copy)
