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
    assert RateLimit(9).merged_over(weaker) == RateLimit(9, key="api")


def test_a_rate_goes_with_its_time():
    """Whoever says how many says in what time, and how many at once: 100 are 100 each second."""
    weaker = RateLimit(10, "1m", burst=5, max_wait=3, key="api", scope="process")
    kept = {"max_wait": 3, "key": "api", "scope": "process"}
    assert RateLimit(100).merged_over(weaker) == RateLimit(100, **kept)
    assert RateLimit(100, burst=2).merged_over(weaker) == RateLimit(100, burst=2, **kept)
    last, middle = RateLimit(7), RateLimit(100, "1h")
    for merged in (
        last.merged_over(middle.merged_over(weaker)),
        last.merged_over(middle).merged_over(weaker),
    ):
        assert merged == RateLimit(7, **kept)
