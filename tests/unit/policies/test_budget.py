"""RetryBudget: how many retries all calls have together."""

from daglite.policies import RetryBudget


def test_defaults():
    """The defaults are those of the documentation."""
    assert RetryBudget().model_dump(exclude_unset=False) == {
        "ratio": 0.2,
        "min_per_second": 1.0,
        "window": 10.0,
        "on_exhausted": "pace",
        "key": None,
        "scope": "run",
    }


def test_either_part_may_be_nothing():
    """Retries for first calls, or retries in a time; and the ratio goes by position."""
    assert RetryBudget(0).min_per_second == 1.0
    assert RetryBudget(1, min_per_second=0) == RetryBudget(ratio=1.0, min_per_second=0.0)
