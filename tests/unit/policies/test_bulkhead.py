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
