"""Bulkhead: how many calls run at a time."""

from daglite.policies import Bulkhead


def test_defaults():
    """The defaults are those of the documentation."""
    assert Bulkhead(4).model_dump(exclude_unset=False) == {
        "max_concurrent": 4,
        "max_queue": None,
        "max_wait": None,
        "key": None,
    }


def test_without_a_queue():
    """A wait has no part in it: refused in one policy, left out of a merge."""
    assert Bulkhead(4, 0, max_wait=None) == Bulkhead(4, 0)
    merged = Bulkhead(4, 0).merged_over(Bulkhead(2, max_wait=9))
    assert merged.given == {"max_concurrent": 4, "max_queue": 0}
    assert Bulkhead(3, 1).merged_over(merged) == Bulkhead(3, 1, max_wait=9)


def test_who_says_how_long_to_wait_lets_wait():
    """A weaker layer without waiting places takes nothing of that away."""
    weakest, middle = Bulkhead(10, 0, key="api"), Bulkhead(4, max_wait=5)
    assert middle.merged_over(weakest) == Bulkhead(4, max_wait=5, key="api")
    assert Bulkhead(4, max_wait=None).merged_over(weakest) == Bulkhead(4, 0, key="api")
    assert Bulkhead(4, max_wait=5).merged_over(Bulkhead(9, 3)) == Bulkhead(4, 3, max_wait=5)
    for strongest, expected in [
        (Bulkhead(2), Bulkhead(2, max_wait=5, key="api")),
        (Bulkhead(2, 0), Bulkhead(2, 0, key="api")),
        (Bulkhead(2, 7), Bulkhead(2, 7, max_wait=5, key="api")),
        (Bulkhead(2, max_wait=9), Bulkhead(2, max_wait=9, key="api")),
    ]:
        assert strongest.merged_over(middle.merged_over(weakest)) == expected
        assert strongest.merged_over(middle).merged_over(weakest) == expected
