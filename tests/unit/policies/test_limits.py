"""ResourceLimits: sizes, durations, amounts."""

import pickle

import pytest

from daglite.policies import ResourceLimits
from daglite.policies.frozen import FrozenMapping


def test_defaults():
    """The defaults are those of the documentation."""
    assert ResourceLimits().model_dump(exclude_unset=False) == {
        "max_memory": None,
        "max_cpu_time": None,
        "max_processes": None,
        "max_open_files": None,
        "grow": 1.0,
        "poll_interval": 0.05,
        "cpus": 1.0,
        "gpus": 0.0,
        "resources": {},
    }


def test_positions_and_units():
    """Memory and CPU time go by position."""
    policy = ResourceLimits("1GiB", "1m30s")
    assert (policy.max_memory, policy.max_cpu_time) == (2**30, 90.0)
    assert ResourceLimits(4096).max_memory == 4096


def test_growing_needs_a_limit():
    """What is there to grow may be taken away by a stronger layer."""
    weaker = ResourceLimits("1GB", grow=2)
    merged = ResourceLimits(None).merged_over(weaker)
    assert merged.given == {"max_memory": None}
    assert ResourceLimits(max_cpu_time=9, grow=2).grow == 2.0
    assert ResourceLimits(grow=1).grow == 1.0


def test_resources_never_change():
    """They are a mapping that has a hash, whatever was given."""
    given = {"b": 2, "a": 1}
    policy = ResourceLimits(resources=given)
    given["c"] = 3
    assert policy.resources == {"a": 1.0, "b": 2.0}
    assert hash(policy) == hash(ResourceLimits(resources={"a": 1, "b": 2}))
    assert repr(policy) == "ResourceLimits(resources={'a': 1.0, 'b': 2.0})"
    with pytest.raises(TypeError):
        policy.resources["c"] = 3


def test_frozen_mapping():
    """It is a mapping like a dict, and no other thing."""
    frozen = FrozenMapping({"b": 2, "a": 1})
    assert list(frozen) == ["a", "b"]
    assert len(frozen) == 2
    assert frozen["b"] == 2
    assert frozen == pickle.loads(pickle.dumps(frozen))
    assert frozen != [("a", 1), ("b", 2)]
    assert dict(frozen) == frozen
