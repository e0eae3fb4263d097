"""FallbackPolicy: a value or a function, and never both."""

import enum
import operator

import pytest

from daglite import task
from daglite.exceptions import PolicyError
from daglite.policies import FallbackPolicy, PolicySet


class Colour(enum.Enum):
    RED = 1


def test_defaults():
    """What isn't chosen isn't written with a value that would be read as given."""
    assert FallbackPolicy(0).model_dump(exclude_unset=False) == {
        "value": 0,
        "func": None,
        "on": (Exception,),
    }
    by_function = FallbackPolicy(func=operator.truth)
    assert by_function.model_dump(exclude_unset=False) == {
        "func": operator.truth,
        "on": (Exception,),
    }
    for policy in (by_function, FallbackPolicy(None)):
        whole = policy.model_dump_json(exclude_unset=False)
        assert FallbackPolicy.model_validate_json(whole) == policy


def test_none_is_a_value():
    """Given, None is what a failed call gives."""
    assert FallbackPolicy(None).given == {"value": None}
    assert FallbackPolicy(value=None).value is None


def test_values_that_are_only_equal():
    """0, 0.0 and False aren't the same to who gets them."""
    values = [FallbackPolicy(value) for value in (0, 0.0, False)]
    assert len(set(values)) == 3
    assert values[0] != values[1] != values[2]


@pytest.mark.parametrize(
    ("weaker", "stronger", "given"),
    [
        ({"value": 0}, {"func": repr}, {"func": repr}),
        ({"func": repr}, {"value": None}, {"value": None}),
        ({"value": 0, "on": OSError}, {"value": 1}, {"value": 1, "on": (OSError,)}),
        ({"func": repr, "on": OSError}, {"value": 1}, {"value": 1, "on": (OSError,)}),
    ],
    ids=repr,
)
def test_the_choice_of_the_stronger(weaker, stronger, given):
    """It takes the place of the weaker one's, whichever that is."""
    merged = FallbackPolicy(**stronger).merged_over(FallbackPolicy(**weaker))
    assert merged.given == given


def test_the_order_of_merging():
    """Three layers merge to the same whichever two come first."""
    weak, middle, strong = FallbackPolicy(0), FallbackPolicy(func=repr), FallbackPolicy(1)
    one = strong.merged_over(middle.merged_over(weak))
    assert one == strong.merged_over(middle).merged_over(weak) == FallbackPolicy(1)


@pytest.mark.parametrize(
    "value", [(1, 2), Colour.RED, float("nan"), float("inf"), b"x", 1j], ids=repr
)
def test_values_without_a_json_form(value):
    """They are accepted in Python, and refused in JSON with the way out."""
    policy = FallbackPolicy(value)
    assert policy.value is value
    for written in (policy, PolicySet(fallback=policy)):
        with pytest.raises(PolicyError, match=r"Policy\w*: value holds .*name a function with"):
            written.model_dump_json()
        with pytest.raises(PolicyError, match=r"value holds .* can't be written to JSON"):
            written.model_dump(mode="json")


def test_a_function_without_a_name():
    """It can't be written to JSON."""
    with pytest.raises(
        PolicyError, match=r"^FallbackPolicy: func holds .* can't be written to JSO"
    ):
        FallbackPolicy(func=lambda error: 0).model_dump_json()


def test_a_task_is_no_value():
    """Nobody would run it."""
    made = task(lambda: 0, name="last")
    for fields in ({"value": made}, {"func": made}):
        with pytest.raises(PolicyError, match="is a task; give its plain function"):
            FallbackPolicy(**fields)
