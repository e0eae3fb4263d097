"""Policies of users among the middlewares of a set."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from typing import Any

import pytest

from daglite import Policy, PolicySet, RetryPolicy, task
from daglite.exceptions import PolicyError
from tests.unit.office_hours import OfficeHours

EARLY = OfficeHours(opens=7)
PATH = "tests.unit.office_hours:OfficeHours"


async def through(call: Any, call_next: Any) -> Any:
    return await call_next(call)


class Named(Policy):
    """A field that stands for something else in JSON."""

    policy: str = "mine"

    async def __call__(self, call: Any, call_next: Any) -> Any:
        return await call_next(call)


class Listing(Policy):
    """A field without a hash."""

    names: list[str]

    async def __call__(self, call: Any, call_next: Any) -> Any:
        return await call_next(call)


class Idle(Policy):
    """Nothing that carries it out."""

    seconds: float = 1.0


def said(longest_wait: object) -> Any:
    """A middleware that says so."""

    async def middleware(call: Any, call_next: Any) -> Any:
        return await call_next(call)

    middleware.longest_wait = longest_wait  # type: ignore[attr-defined]
    return middleware


@pytest.mark.parametrize(
    "policies",
    [
        PolicySet(around_call=EARLY),
        PolicySet(around_attempt=[EARLY, operator.add, OfficeHours()], retry=3),
        EARLY,
        OfficeHours(),
    ],
    ids=repr,
)
def test_round_trips(policies: Policy) -> None:
    """It is data like any other policy: equal, hashable, and all of it comes back."""
    names = {"PolicySet": PolicySet, "RetryPolicy": RetryPolicy, "OfficeHours": OfficeHours}
    for other in (
        type(policies).model_validate_json(policies.model_dump_json()),
        type(policies).model_validate(policies.model_dump()),
        type(policies).model_validate(policies.model_dump(mode="json")),
        pickle.loads(pickle.dumps(policies)),
        copy.deepcopy(policies),
        eval(repr(policies), dict(names)),
    ):
        assert other == policies
        assert hash(other) == hash(policies)
        assert other.given == policies.given


def test_its_json() -> None:
    """The class by its import string, with the given fields beside it."""
    policies = PolicySet(around_call=[EARLY, operator.add])
    written = {"around_call": [{"policy": PATH, "opens": 7}, "_operator:add"]}
    assert json.loads(policies.model_dump_json()) == written
    assert PolicySet.model_validate({"around_call": {"policy": PATH, "opens": "7"}}) == PolicySet(
        around_call=EARLY
    )


def test_its_json_schema() -> None:
    """An import string, a mapping with the class, or several of them."""
    (text, policy, several, _) = PolicySet.model_json_schema()["properties"]["around_call"]["anyOf"]
    assert (text["type"], policy["type"], several["type"]) == ("string", "object", "array")
    assert policy["required"] == ["policy"]
    assert several["items"] == {"anyOf": [text, policy]}
    assert OfficeHours.model_json_schema()["properties"]["opens"]["maximum"] == 23


def test_a_task_that_has_it_pickles() -> None:
    """With its policies."""
    made = task(operator.add, name="add", around_attempt=EARLY)
    assert pickle.loads(pickle.dumps(made)).bind(1, 2) is not None


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        (RetryPolicy(3), r"RetryPolicy\(max_retries=3\) doesn't say how it is carried out"),
        (Idle(), r"Idle\(\) .* async def __call__\(self, call, call_next\)"),
        (OfficeHours, r"is a class; give an object of it, OfficeHours\(\)"),
        (Named(), "Named has a field 'policy', .* another name"),
        (Listing(names=["a"]), "has no hash, and a policy needs one"),
        ({}, "{} doesn't say which policy it is"),
        ({"policy": 3}, "3 is no class of policies"),
        ({"policy": "operator:add"}, "'operator:add' is no class of policies"),
        ({"policy": "builtins:dict"}, "'builtins:dict' is no class of policies"),
        ({"policy": "tests.unit.office_hours:Hours"}, "has no 'Hours'"),
        ({"policy": PATH, "opens": 24}, "OfficeHours.opens must be an hour from 0 to 23"),
        ({"policy": PATH, "opened": 8}, "no field 'opened', did you mean 'opens'"),
        (said("soon"), "longest_wait of .*'soon' is not a duration"),
        (said(-1), "longest_wait of .*-1"),
        (said(float("inf")), "longest_wait of .*inf"),
        (said(lambda: 3), "longest_wait of "),
    ],
    ids=repr,
)
def test_refusals(value: Any, wrong: str) -> None:
    """What can't be a middleware is refused when the set is made, and the message says why."""
    with pytest.raises(PolicyError, match=wrong):
        PolicySet(around_attempt=value)


@pytest.mark.parametrize("longest", [None, 0, 3, "1h"])
def test_what_a_middleware_may_say(longest: object) -> None:
    """Nothing, or a duration."""
    PolicySet(around_call=said(longest))


def test_a_local_class_is_not_written() -> None:
    """It has no import string, and the message names the field."""

    class Local(OfficeHours):
        pass

    with pytest.raises(PolicyError, match=r"around_call holds .*can't be written to JSON"):
        PolicySet(around_call=Local()).model_dump_json()


def test_it_checks_itself() -> None:
    """A policy of a user refuses nonsense with the errors of all policies."""
    with pytest.raises(PolicyError, match="OfficeHours: opens=17 is not before closes=17"):
        OfficeHours(opens=17)
    with pytest.raises(PolicyError, match=r"OfficeHours\.timezone: there is no timezone 'Nowhere'"):
        OfficeHours(timezone="Nowhere")
    with pytest.raises(PolicyError, match="can't be changed"):
        EARLY.opens = 3


def test_the_layers_add_up() -> None:
    """As those of functions do."""
    merged = PolicySet(around_call=EARLY).merged_over(PolicySet(around_call=[through]))
    assert merged.around_call == (through, EARLY)
