"""CachePolicy: how long, for which calls, where."""

import operator
from pathlib import Path

import pytest

from daglite.exceptions import PolicyError
from daglite.policies import CachePolicy


def test_defaults():
    """The defaults are those of the documentation."""
    assert CachePolicy().model_dump(exclude_unset=False) == {
        "ttl": None,
        "key": None,
        "ignore": (),
        "version": None,
        "depends_on": (),
        "env": (),
        "single_flight": "host",
        "stale_if_error": None,
        "refresh_ahead": None,
        "cache_none": True,
        "cache_errors": (),
        "error_ttl": None,
        "max_value_bytes": None,
        "serializer": "auto",
        "verify": "sha256",
        "on_store_error": "ignore",
        "on_unhashable": "raise",
        "store": None,
    }


def test_one_or_several():
    """A single name, function or class will do for a list of them."""
    policy = CachePolicy(
        "1h", ignore="x", env=["A"], depends_on="operator:add", cache_errors=OSError
    )
    assert (policy.ignore, policy.env, policy.cache_errors) == (("x",), ("A",), (OSError,))
    assert policy.depends_on == (operator.add,)


def test_versions_of_different_types():
    """Version 1 isn't version "1"."""
    assert CachePolicy(version=1) != CachePolicy(version="1")


def test_stores():
    """A path, as text or as such."""
    assert CachePolicy(store=Path("a/b")) == CachePolicy(store="a/b")
    assert CachePolicy(store=None).store is None


def test_code_without_a_name():
    """A function that can't be named can't be written to JSON."""
    with pytest.raises(PolicyError, match=r"key holds .* can't be written to JSON"):
        CachePolicy(key=lambda x: x).model_dump_json()


@pytest.mark.parametrize(
    ("weaker", "stronger", "given"),
    [
        ({"ttl": 9, "refresh_ahead": 3}, {"ttl": None}, {"ttl": None}),
        ({"ttl": 9, "stale_if_error": 3}, {"ttl": None}, {"ttl": None}),
        (
            {"cache_errors": OSError, "error_ttl": 3},
            {"cache_errors": ()},
            {"cache_errors": ()},
        ),
        ({"ignore": "x"}, {"key": repr}, {"key": repr}),
    ],
    ids=repr,
)
def test_what_has_no_part_in_a_merge(weaker, stronger, given):
    """It is left out without a word."""
    assert CachePolicy(**stronger).merged_over(CachePolicy(**weaker)).given == given


def test_nothing_written_out():
    """None where there is nothing to bound has a part."""
    CachePolicy(stale_if_error=None, refresh_ahead=None, error_ttl=None)
    CachePolicy(10, cache_errors=OSError)
    CachePolicy(cache_errors=OSError, error_ttl=3)
