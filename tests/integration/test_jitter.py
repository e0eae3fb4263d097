"""Calls that fail together come back apart, and at the same moments where a seed says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daglite import RetryPolicy, evaluate, task
from daglite._clock import VirtualClock
from daglite.callbacks import AttemptFailed, CallParked
from daglite.core.attempts import draw
from daglite.core.call import Call, Target
from daglite.core.kernel import Kernel
from daglite.core.run import Listeners, Run
from daglite.testing import Fails, RecordedEvents, ScriptedBackend, Takes

ROOT = Path(__file__).parents[2]

CALLS = 1_000
CAP = 8.0

AT_THE_CAP: list[tuple[str, dict[str, Any], float]] = [
    ("constant", {"delay": CAP}, 0.0),
    ("linear", {"delay": CAP}, 0.0),
    ("exponential", {"delay": CAP}, 0.0),
    ("fibonacci", {"delay": CAP}, 0.0),
    ("exponential", {"delay": CAP, "jitter": "equal"}, CAP / 2),
    # Three times its first wait is far above the cap.
    ("decorrelated", {"delay": 5.0}, 5.0),
]
"""Backoff, its options, and the shortest wait: the first one is at the cap."""


class Outage:
    """
    Calls that all fail at the same instant, as often as their policy allows.

    Attributes:
        run_id: The run's.
        failed: The first failure of each call.
        waits: (element, attempt that failed) -> seconds before the next one.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        clock, events = VirtualClock(), RecordedEvents()
        last = policy.max_attempts

        def ending(call: Call) -> Takes | Fails:
            return Takes() if call.attempt == last else Fails(ConnectionError("down"), 3)

        backend = ScriptedBackend(clock, ending, slots=CALLS)
        made = task(lambda x: x, name="fetch", retry=policy).extend(x=range(CALLS))
        with evaluate.context(clock=clock, default_backend=backend, callbacks=[events]) as ctx:
            assert ctx.evaluate(made) == list(range(CALLS))
        self.run_id = events.events[0].run_id
        self.failed = [event for event in events.of(AttemptFailed) if event.attempt == 1]
        self.waits = {
            (event.element or 0, event.attempt): event.seconds for event in events.of(CallParked)
        }
        assert len(self.waits) == CALLS * policy.max_retries

    def written(self) -> list[str]:
        """All waits, to the last bit."""
        return [f"{where} {self.waits[where].hex()}" for where in sorted(self.waits)]


def seeded() -> Outage:
    return Outage(RetryPolicy(3, "exponential", delay=CAP / 2, max_delay=CAP, seed=11))


def replayed(run_id: str) -> list[str]:
    """The waits of a run with *run_id*, as `Outage.written` has them."""
    run = Run(run_id, Kernel(VirtualClock()), Listeners([]), seed=run_id)
    target, lines = Target("fetch", print), []
    for element in range(CALLS):
        call = Call(run, target, 1, 0, element, (), ())
        lines.append(f"{(element, 1)} {(draw(call, run.seed) * CAP).hex()}")
    return lines


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize(("backoff", "options", "least"), AT_THE_CAP)
def test_calls_at_the_cap_come_back_apart(
    backoff: Any, options: dict[str, Any], least: float, seed: int | None
) -> None:
    """1,000 calls fail at once and wait at `max_delay`: their waits differ, none is above it."""
    outage = Outage(RetryPolicy(1, backoff, max_delay=CAP, seed=seed, **options))
    assert len(outage.failed) == CALLS
    assert {event.time for event in outage.failed} == {3.0}
    waits = outage.waits.values()
    assert len(set(waits)) >= 900
    assert least <= min(waits) <= max(waits) <= CAP
    # Over all of what is allowed: no tenth of it has twice its share, or less than half.
    tenths = [0] * 10
    for wait in waits:
        tenths[min(int(10 * (wait - least) / (CAP - least)), 9)] += 1
    assert CALLS / 20 < min(tenths) <= max(tenths) < CALLS / 5, tenths


def test_the_waits_of_one_call_differ_too() -> None:
    """A call that waits at the cap again and again doesn't always draw the same."""
    waits = Outage(RetryPolicy(3, "constant", delay=CAP, max_delay=CAP, seed=7)).waits
    assert len(set(waits.values())) >= 0.9 * 3 * CALLS
    assert max(waits.values()) <= CAP


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
def test_another_process_waits_the_same(hash_seed: str) -> None:
    """To the last bit: with the same seed, whatever the run, and without one for a run's id."""
    here = seeded()
    unseeded = Outage(RetryPolicy(1, "constant", delay=CAP, max_delay=CAP))
    program = (
        "import sys; from tests.integration.test_jitter import replayed, seeded; made = seeded(); "
        "print(made.run_id, *made.written(), *replayed(sys.argv[1]), sep=chr(10))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, unseeded.run_id],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    run_id, *lines = done.stdout.splitlines() or [""]
    assert len(lines) == 4 * CALLS, done.stderr
    assert run_id not in (here.run_id, unseeded.run_id)
    assert lines[: 3 * CALLS] == here.written()
    assert lines[3 * CALLS :] == unseeded.written()


def test_another_seed_or_run_waits_otherwise() -> None:
    """Else the seed would mean nothing."""
    policy = RetryPolicy(1, "constant", delay=CAP, max_delay=CAP)
    seeds = [policy, policy, *(policy.model_copy(update={"seed": seed}) for seed in (1, 2))]
    waits = [set(Outage(each).waits.values()) for each in seeds]
    assert len(set.union(*waits)) >= 0.9 * len(seeds) * CALLS
