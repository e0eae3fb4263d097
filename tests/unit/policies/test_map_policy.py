"""MapPolicy: what a failed element does to its map."""

import pytest

from daglite.policies import MapPolicy


def test_defaults():
    """The defaults are those of the documentation."""
    assert MapPolicy().model_dump(exclude_unset=False) == {
        "on_error": "raise",
        "min_success_ratio": 1.0,
        "max_failures": None,
    }


@pytest.mark.parametrize("on_error", ["skip", "collect"])
def test_who_stands_failures_stands_them(on_error):
    """Without a bound no share of successes is asked for; one that is given holds."""
    assert MapPolicy(on_error).min_success_ratio == 0.0
    assert MapPolicy(on_error, max_failures=3).min_success_ratio == 0.0
    assert MapPolicy(on_error, min_success_ratio=1.0).min_success_ratio == 1.0
    assert MapPolicy(on_error) == MapPolicy(on_error, min_success_ratio=0)


def test_bounds_that_say_what_raise_does():
    """The defaults written out have a part with "raise"."""
    policy = MapPolicy("raise", min_success_ratio=1, max_failures=0)
    assert policy.model_fields_set == {"on_error", "min_success_ratio", "max_failures"}


def test_bounds_of_a_weaker_layer():
    """They are left out where the first failure is the end, and come back."""
    weaker = MapPolicy("skip", min_success_ratio=0.9, max_failures=5)
    merged = MapPolicy("raise").merged_over(weaker)
    assert merged.given == {"on_error": "raise"}
    again = MapPolicy("collect").merged_over(merged)
    assert again == MapPolicy("collect", min_success_ratio=0.9, max_failures=5)
