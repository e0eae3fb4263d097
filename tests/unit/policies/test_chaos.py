"""Chaos: which faults strike, and how often."""

import operator

import pytest

from daglite.exceptions import PolicyError
from daglite.policies import Chaos


def test_defaults():
    """The defaults are those of the documentation: nothing is struck."""
    assert Chaos(kill=True).model_dump(exclude_unset=False) == {
        "rate": 0.0,
        "error": (),
        "latency": None,
        "kill": True,
        "corrupt": None,
        "seed": None,
    }


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"error": OSError}, {"error": (OSError,)}),
        ({"latency": "2s", "error": ()}, {"latency": 2.0}),
        ({"kill": True, "latency": None}, {"kill": True}),
        ({"corrupt": operator.not_, "kill": False}, {"corrupt": operator.not_}),
        ({"error": "builtins:OSError", "kill": True}, {"error": (OSError,), "kill": True}),
    ],
    ids=repr,
)
def test_faults(fields, faults):
    """Those that were given, and no others."""
    assert Chaos(0.5, **fields).faults == faults


def test_code_without_a_name():
    """A function that can't be named can't be written to JSON."""
    with pytest.raises(PolicyError, match=r"corrupt holds .* can't be written to JSON"):
        Chaos(corrupt=lambda result: None).model_dump_json()
