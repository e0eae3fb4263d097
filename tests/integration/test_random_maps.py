"""Random maps under random policies, in virtual time: they end, and leave nothing behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from daglite import (
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    MapPolicy,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    task,
)
from daglite.callbacks import ElementFailed, NodeFailed
from daglite.core import maps
from daglite.core.call import Call
from daglite.exceptions import ExecutionError
from daglite.testing import Fails, Hangs, Takes
from tests.unit.lab import Lab

_ATTEMPTS = 5
"""Attempts whose endings differ; later ones end like the last of them."""

work = task(lambda x: x, name="work")
other = task(lambda: 7, name="other")


class Scenario:
    """
    A map, its policies, and how its calls end.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.draw = draw = random.Random(seed)
        self.elements = draw.choice([0, 1, 2, 5, 20, 60])
        self.slots = draw.choice([1, 2, 3, 8])
        self.most_parked = draw.choice([1, 2, 5, 10_000])
        self.on_failure: Any = draw.choice(["stop", "continue"])
        self.on_error: Any = draw.choice(["raise", "skip", "collect"])
        self.broken_at = draw.choice([None, None, None, draw.randrange(self.elements + 1)])
        self.taken = 0
        self.options = self._options()
        share = draw.choice([0, 0.05, 0.3])
        self.endings = {
            (element, attempt): self._ending(share, element)
            for element in range(self.elements)
            for attempt in range(1, _ATTEMPTS + 1)
        }

    def _options(self) -> dict[str, Any]:
        draw, options = self.draw, {}
        total = draw.choice([None, None, 30, 1000])
        attempt = draw.choice([None, None, 5])
        self.limited = bool(total or attempt)
        if self.limited:
            options["timeout"] = TimeoutPolicy(attempt, total=total)
        if draw.random() < 0.5:
            budget = draw.choice([None, RetryBudget(0.3, min_per_second=draw.choice([0.5, 2]))])
            delay = draw.choice([0, 0.5, 20])
            options["retry"] = RetryPolicy(
                draw.choice([1, 3]), "constant", delay=delay, jitter="none", budget=budget
            )
        if draw.random() < 0.3:
            options["bulkhead"] = draw.choice([1, 2, 5])
        if draw.random() < 0.3:
            options["rate_limit"] = RateLimit(draw.choice([0.5, 2, 50]), burst=draw.choice([1, 3]))
        if draw.random() < 0.3:
            counts = draw.choice(["attempt", "call"])
            options["circuit_breaker"] = CircuitBreaker(
                consecutive=draw.choice([2, 5]), break_for=draw.choice([1, 15]), counts=counts
            )
        if draw.random() < 0.3 and self.slots > 1 and options.get("bulkhead") != 1:
            delay = Hedge(draw.choice([0, 0.5, 2]), max_hedges=draw.choice([1, 2]))
            options |= {"hedge": draw.choice([delay, Hedge(quantile=0.9)]), "idempotent": True}
        if draw.random() < 0.2:
            options["fallback"] = FallbackPolicy(-1, on=KeyError)
        if self.on_error != "raise":
            options["map_policy"] = MapPolicy(
                self.on_error,
                max_failures=draw.choice([None, 0, 3]),
                min_success_ratio=draw.choice([0.0, 0.5, 0.9]),
            )
        return options

    def _ending(self, share: float, element: int) -> Takes | Fails | Hangs:
        seconds, chance = self.draw.choice([0, 0.001, 0.3, 1, 4, 7]), self.draw.random()
        if chance < share:
            return Fails(self.draw.choice([OSError, KeyError])("x"), seconds)
        if chance < share + 0.01 and self.limited:
            return Hangs()
        return Takes(seconds, element)

    def source(self) -> Iterator[int]:
        for element in range(self.elements):
            if element == self.broken_at:
                raise LookupError("broken")
            self.taken += 1
            yield element

    def script(self, call: Call) -> Takes | Fails | Hangs:
        if call.element is None:
            return Takes(300, 7)
        return self.endings[call.element, min(call.attempt, _ATTEMPTS)]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[maps.MapRun]:
    """The maps that were run, whose counts are looked at whenever they change."""
    made: list[maps.MapRun] = []
    init, parked = maps.MapRun.__init__, maps.MapRun.parked

    def kept(self: maps.MapRun, *args: Any) -> None:
        init(self, *args)
        made.append(self)

    def checked(self: maps.MapRun, by: int, reason: str) -> None:
        parked(self, by, reason)
        assert min(self._under_way, self._parked, self._queued) >= 0

    monkeypatch.setattr(maps.MapRun, "__init__", kept)
    monkeypatch.setattr(maps.MapRun, "parked", checked)
    return made


def check_values(scenario: Scenario, lab: Lab, values: list[Any]) -> None:
    """Each in its place, as far as its element hasn't failed."""
    failed = {event.element for event in lab.events.of(ElementFailed)}
    left = [each for each in range(scenario.elements) if each not in failed]
    if scenario.on_error == "collect":
        assert {i for i, each in enumerate(values) if isinstance(each, ExecutionError)} == failed
        values = [each for i, each in enumerate(values) if i not in failed]
    assert len(values) == len(left)
    assert all(value in (element, -1) for value, element in zip(values, left, strict=True))


@pytest.mark.parametrize("block", range(10))
def test_random_maps(block: int, runs: list[maps.MapRun], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A map ends, and with it all that it has begun, whatever its policies are.

    Its values are in order; after its failure none of its elements starts; its counts are zero when
    it is through, and never below.
    """
    for seed in range(block * 25, block * 25 + 25):
        runs.clear()
        scenario, lab = Scenario(seed), Lab()
        monkeypatch.setattr(maps, "MOST_PARKED", scenario.most_parked)
        expr = [work.with_options(**scenario.options).extend(x=scenario.source()), other.bind()]
        options: dict[str, Any] = {"slots": scenario.slots, "on_failure": scenario.on_failure}
        failure: ExecutionError | None = None
        try:
            values, _ = lab(expr, scenario.script, **options)
        except ExecutionError as error:
            failure = error
        else:
            check_values(scenario, lab, values)
        failed = [event for event in lab.events.of(NodeFailed) if event.node_name == "work"]
        assert (failure is not None) == (len(failed) == 1), seed
        (run,) = runs
        if failed:
            calls = [call.started or 0 for call in lab.backend.calls if call.element is not None]
            assert all(started <= failed[0].time for started in calls), seed
        else:
            assert scenario.taken == scenario.elements
            assert (run._under_way, run._parked, run._queued) == (0, 0, 0), seed
        if scenario.on_failure == "continue":
            assert not run._activities, seed
            assert run._ahead is None or not run._ahead._under_way, seed
        assert not lab.backend._records, seed
