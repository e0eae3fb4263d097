"""Calls that are sent to a backend, and answers that nobody waits for any more."""

from __future__ import annotations

from typing import Any, final

from daglite import Capabilities, Outcome, RetryPolicy, evaluate, task
from daglite.core.call import Call
from daglite.core.protocols import Done
from daglite.core.run import Run
from daglite.testing import VirtualClock


@final
class Stubborn:
    """A backend that can't cancel: it answers the first attempt after 20 s, others after 5 s."""

    name = "stubborn"
    capabilities = Capabilities()
    slots = 4

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.calls: list[Call] = []
        self.outstanding: list[int] = []

    def submit(self, call: Call, done: Done) -> None:
        self.calls.append(call)
        self.clock.hold(1)
        call.started = self.clock.now()
        seconds = 20 if call.node_name == "late" and call.attempt == 1 else 5

        def answer() -> None:
            self.clock.hold(-1)
            done(call, Outcome(call.attempt, started=call.started, ran=seconds))

        self.clock.call_at(self.clock.now() + seconds, answer)

    def cancel(self, call: Call) -> None: ...

    def cancel_run(self, run: Run) -> None:
        self.outstanding.append(run.kernel.outstanding)

    def is_running(self, call: Call) -> bool:
        return True

    def stack_of(self, call: Call) -> str | None:
        return None

    def close(self) -> None: ...


def test_a_late_answer_is_nobodys() -> None:
    """It neither is the value, nor is counted as that of another call under way."""
    clock = VirtualClock()
    backend = Stubborn(clock)
    retry = RetryPolicy(1, "constant", delay=3, jitter="none")

    def made(name: str) -> Any:
        return task(lambda x: x, name=name).with_options(timeout=10, retry=retry)

    chain = made("third").bind(x=made("second").bind(x=made("late").bind(x=0)))
    with evaluate.context(clock=clock, default_backend=backend) as ctx:
        # The late answer comes at 20 s, while the second is under way.
        assert ctx.evaluate([made("late").bind(x=0), chain]) == [2, 1]
    assert [(c.node_name, c.attempt, c.started) for c in backend.calls] == [
        ("late", 1, 0),
        ("late", 1, 0),
        ("late", 2, 13),
        ("late", 2, 13),
        ("second", 1, 18),
        ("third", 1, 23),
    ]
    assert backend.outstanding == [0]
