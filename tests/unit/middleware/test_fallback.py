"""Fallbacks: which failures they replace, and by what."""

from __future__ import annotations

from typing import Any

import pytest

from daglite import FallbackPolicy, RetryPolicy, TimeoutPolicy, task
from daglite.callbacks import FallbackUsed
from daglite.testing import Fails, Hangs
from tests.unit.lab import Lab


@task
def work(x: int = 0) -> int:
    return x


def test_a_value(lab: Lab) -> None:
    """It takes the place of the result, for elements of maps too; who listens is told."""
    safe = work.with_options(fallback=FallbackPolicy(-1))
    script = lambda call: Fails(OSError("down")) if call.element == 1 else None  # noqa: E731
    assert lab(safe.extend(x=[5, 6, 7]), script) == [5, -1, 7]
    (used,) = lab.events.of(FallbackUsed)
    assert (used.node_name, used.element, str(used.error)) == ("work", 1, "down")


def test_a_function_of_the_error(lab: Lab) -> None:
    """It is called with what failed; None is a value as well."""
    told = work.with_options(fallback=FallbackPolicy(func=lambda error: str(error)))
    assert lab(told.bind(), {"work": Fails(OSError("down"))}) == "down"
    none = work.with_options(fallback=FallbackPolicy(None))
    assert lab(none.bind(), {"work": Fails(OSError("down"))}) is None


def test_after_all_else_has_failed(lab: Lab) -> None:
    """Retries come first, and a total that runs out is a failure like others."""
    safe = work.with_options(fallback=FallbackPolicy(-1), retry=RetryPolicy(2, "none"))
    assert lab(safe.bind(), lambda call: Fails(OSError("down"))) == -1
    assert len(lab.backend.calls) == 3
    late = work.with_options(fallback=FallbackPolicy(-1), timeout=TimeoutPolicy(total=5))
    assert lab(late.bind(), {"work": Hangs()}) == -1


def test_other_failures_stay(lab: Lab) -> None:
    """Only what `on` names is replaced."""
    picky = work.with_options(fallback=FallbackPolicy(-1, on=KeyError))
    with pytest.raises(OSError, match="down"):
        lab(picky.bind(), {"work": Fails(OSError("down"))})


def test_a_fallback_that_fails(lab: Lab) -> None:
    """Its own error is the call's; what it should have replaced is the cause."""

    def broken(error: Exception) -> Any:
        raise ValueError("nothing left")

    with pytest.raises(ValueError, match="nothing left") as caught:
        lab(
            work.with_options(fallback=FallbackPolicy(func=broken)).bind(),
            {"work": Fails(OSError("down"))},
        )
    original = caught.value.__cause__
    assert isinstance(original, ValueError)
    assert isinstance(original.__cause__, OSError)
