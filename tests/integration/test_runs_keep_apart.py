"""What one run, session or process does is not felt by another."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from daglite import Outcome, ThreadBackend, current_call, evaluate, find_backend, task
from daglite._clock import VirtualClock
from daglite.core.call import Call
from daglite.core.protocols import Capabilities, Done
from daglite.core.run import Run
from daglite.exceptions import RunCancelledError
from daglite.session import Options, Session


def test_one_backend_for_each_shared_pool() -> None:
    """Tasks that name the same backend have the same one."""
    assert find_backend("threading") is find_backend("threading")
    assert find_backend("threading", threads=3) is not find_backend("threading", threads=5)


def test_a_dropped_backend_is_collected() -> None:
    """`evaluate` keeps no backend that it was given, so its idle threads end."""
    backend = ThreadBackend(1)
    assert evaluate(task(lambda x: x).bind(x=1), default_backend=backend) == 1
    gone = weakref.ref(backend)
    del backend
    gc.collect()
    assert gone() is None


def test_a_call_may_undo_what_its_context_says() -> None:
    """What `ctx.evaluate` is given is stronger than the context."""
    ran: list[int] = []
    fail = task(lambda: 1 / 0, name="fail")
    note = task(lambda x: ran.append(x), name="note")
    with evaluate.context(on_failure="continue") as ctx, pytest.raises(ZeroDivisionError):
        ctx.evaluate([fail.bind(), note.bind(x=1)], on_failure="stop")
    assert not ran
    where = task(lambda: threading.current_thread() is threading.main_thread())
    with evaluate.context(use_async=True) as ctx:
        assert not ctx.evaluate(where.bind())
        assert ctx.evaluate(where.bind(), use_async=False)


def test_processes_of_the_same_number_have_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is unique over machines: containers all count their processes from 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    key = evaluate(task(lambda: current_call().idempotency_key).bind())
    prefix = key.split("-")[0]
    assert len(prefix) == 16
    assert int(prefix, 16) != 1


def test_a_forked_process_has_other_runs() -> None:
    """Parent and child don't make the same keys."""
    made = task(lambda: current_call().run_id).bind()
    here, there = os.pipe()
    child = os.fork()
    if not child:
        os.write(there, evaluate(made).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(there)
    theirs = os.read(here, 100).decode()
    os.close(here)
    assert theirs.split("-")[0] != evaluate(made).split("-")[0]


def test_a_map_in_place_is_cancelled_in_the_middle() -> None:
    """Quick elements stop soon after, slow ones at the next."""
    clock = VirtualClock()
    for seconds, most in ((0.0, 2048), (1.0, 2)):
        runs: list[Run] = []
        ran = 0

        def element(x: int, seconds: float = seconds, runs: list[Run] = runs) -> int:
            nonlocal ran
            ran += 1
            clock.advance(seconds)
            if x == 50:
                runs[0].cancel()
            return x

        session = Session(Options(), clock)
        with pytest.raises(RunCancelledError):
            session.evaluate(
                task(element).fix(seconds=seconds, runs=runs).extend(x=range(100_000)),
                Options(),
                on_run=runs.append,
            )
        assert ran <= 51 + most


class Late:
    """A backend that answers a cancelled call all the same, and knows no `Call.cancelled`."""

    name = "late"
    capabilities = Capabilities()
    slots = 4

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.held: list[tuple[Call, Done]] = []

    def submit(self, call: Call, done: Done) -> None:
        call.started = self.clock.now()
        self.clock.hold(1)
        if call.node_name == "hangs":
            self.held.append((call, done))
        else:
            self.clock.call_at(self.clock.now() + 5, lambda: self._answer(call, done))

    def _answer(self, call: Call, done: Done) -> None:
        self.clock.hold(-1)
        done(call, Outcome(value=call.node_name))

    def cancel(self, call: Call) -> None:
        for held, done in self.held:
            if held is call:
                self.clock.hold(-1)
                done(call, Outcome(value="too late"))

    def cancel_run(self, run: Run) -> None: ...
    def is_running(self, call: Call) -> bool:
        return False

    def stack_of(self, call: Call) -> str | None:
        return None

    def close(self) -> None: ...


def test_a_late_answer_is_not_counted() -> None:
    """Whatever a backend sends for a call that ran out of time is dropped."""
    clock = VirtualClock()
    backend = Late(clock)
    runs: list[Run] = []
    hangs = task(lambda: None, name="hangs").with_options(timeout=1)
    other = task(lambda: None, name="other").with_options(retry=1)
    session = Session(Options(default_backend=backend), clock)
    with pytest.raises(TimeoutError):
        session.evaluate(
            [hangs.bind(), other.bind()], Options(on_failure="continue"), on_run=runs.append
        )
    assert runs[0].kernel.outstanding == 0
