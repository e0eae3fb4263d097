"""TimeoutPolicy: which limits a call has."""

from datetime import timedelta

from daglite.policies import TimeoutPolicy


def test_defaults():
    """The defaults are those of the documentation."""
    policy = TimeoutPolicy(30)
    assert policy.model_dump(exclude_unset=False) == {
        "attempt": 30.0,
        "total": None,
        "grace": 5.0,
        "on_expiry": None,
    }


def test_durations():
    """Limits are read in every form of a duration."""
    policy = TimeoutPolicy("200ms", total=timedelta(minutes=5), grace="1s")
    assert (policy.attempt, policy.total, policy.grace) == (0.2, 300.0, 1.0)


def test_one_limit_is_enough():
    """Either limit can stand alone, and both may be the same."""
    assert TimeoutPolicy(total=5).attempt is None
    assert TimeoutPolicy(5).total is None
    assert TimeoutPolicy(5, total=5).total == 5.0
