"""RateLimit: how many calls start in a time."""

from datetime import timedelta

from daglite.policies import RateLimit


def test_defaults():
    """The defaults are those of the documentation."""
    assert RateLimit(100).model_dump(exclude_unset=False) == {
        "rate": 100.0,
        "per": 1.0,
        "burst": 1,
        "max_wait": None,
        "key": None,
        "scope": "run",
    }


def test_positions_and_units():
    """The rate and its time go by position, and any wait may be no wait."""
    assert RateLimit(100, "1m") == RateLimit(rate=100, per=timedelta(minutes=1))
    assert RateLimit(0.5, max_wait="0s").max_wait == 0.0


def test_merging():
    """Field by field: a layer gives the rate, another one what is around it."""
    weaker = RateLimit(5, burst=3, key="api")
    assert RateLimit(9).merged_over(weaker) == RateLimit(9, burst=3, key="api")
