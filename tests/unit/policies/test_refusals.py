"""Nonsense in a policy: refused, with a message that names the field."""

import math
from datetime import timedelta

import pytest
import tenacity
import tenacity.asyncio.retry

from daglite.exceptions import PolicyError, TaskConfigurationError
from daglite.policies import PolicySet, RetryPolicy, TimeoutPolicy


class Unhashable:
    __hash__ = None

    def __call__(self, *args):
        return True


class UnhashableWait(tenacity.wait_fixed):
    __hash__ = None


async def async_predicate(value):
    return True


class AsyncPredicate:
    async def __call__(self, value):
        return True


WAIT = tenacity.wait_fixed(1)

RETRY = [
    # numbers
    ({"max_retries": -1}, "max_retries must be a whole number from 0; given: -1"),
    ({"max_retries": True}, "max_retries must be a whole number from 0; given: True"),
    ({"max_retries": 2.0}, "max_retries must be a whole number"),
    ({"max_retries": "3"}, "max_retries must be a whole number"),
    ({"max_retries": None}, "max_retries must be a whole number"),
    ({"max_retries": math.nan}, "max_retries must be a whole number"),
    ({"infrastructure_retries": -1}, "infrastructure_retries must be a whole number from 0"),
    ({"infrastructure_retries": False}, "infrastructure_retries must be a whole number"),
    ({"factor": 0.5}, "factor must be a number from 1; given: 0.5"),
    ({"factor": math.inf}, "factor must be a number from 1"),
    ({"factor": math.nan}, "factor must be a number from 1"),
    ({"factor": True}, "factor must be a number from 1"),
    ({"factor": "2"}, "factor must be a number from 1"),
    ({"seed": 1.5}, "seed must be a whole number, or None"),
    ({"seed": True}, "seed must be a whole number, or None"),
    # durations
    ({"delay": -1}, "delay: -1 is not a duration"),
    ({"delay": "soon"}, "delay: 'soon' is not a duration"),
    ({"delay": True}, "delay: True is not a duration"),
    ({"delay": math.nan}, "delay: nan is not a duration"),
    ({"delay": math.inf}, "delay: inf is not a duration"),
    ({"delay": None}, "delay: None is not a duration"),
    ({"delay": timedelta(seconds=-1)}, "delay: datetime.timedelta.* is not a duration"),
    ({"max_delay": ""}, "max_delay: '' is not a duration"),
    ({"max_delay": -1}, "max_delay: -1 is not a duration from 0;"),
    ({"max_hint": None}, "max_hint: None is not a duration"),
    ({"max_elapsed": 0}, "max_elapsed must be seconds above 0.*given: 0"),
    ({"max_elapsed": -3}, "max_elapsed: -3 is not a duration above 0;"),
    ({"max_elapsed": "1 fortnight"}, "max_elapsed: '1 fortnight' is not a duration"),
    # backoff and jitter
    ({"backoff": "exponentail"}, "backoff: 'exponentail' is no backoff, did you mean 'expon"),
    ({"backoff": ""}, "backoff: '' is no backoff; write 'none', 'constant'"),
    ({"backoff": None}, "backoff: None is no backoff"),
    ({"backoff": 2.0}, "backoff: 2.0 is no backoff"),
    ({"backoff": {1, 2}}, "backoff: .* is no backoff"),
    ({"backoff": []}, "backoff: an empty list has no delays"),
    ({"backoff": ()}, "backoff: an empty list has no delays"),
    ({"backoff": [1, -2]}, "backoff: -2 is not a duration"),
    ({"backoff": [1, "x"]}, "backoff: 'x' is not a duration"),
    ({"backoff": [1, True]}, "backoff: True is not a duration"),
    ({"backoff": UnhashableWait(1)}, "backoff: .* has no hash"),
    ({"backoff": tenacity.stop_never}, "backoff: .* is no backoff"),
    ({"jitter": "half"}, "jitter must be 'none', 'equal' or 'full'; given: 'half'"),
    ({"jitter": None}, "jitter must be"),
    ({"jitter": True}, "jitter must be"),
    # what to retry
    ({"retry_on": ()}, "retry_on: an empty tuple retries nothing"),
    ({"retry_on": []}, "retry_on: an empty tuple retries nothing"),
    ({"retry_on": None}, "retry_on: None says nothing about exceptions"),
    ({"retry_on": 5}, "retry_on: 5 says nothing about exceptions"),
    ({"retry_on": {ValueError}}, "retry_on: .* says nothing about exceptions"),
    ({"retry_on": int}, "retry_on: <class 'int'> is not an exception type"),
    ({"retry_on": (ValueError, 3)}, "retry_on: 3 is not an exception type"),
    ({"retry_on": KeyboardInterrupt}, "retry_on: KeyboardInterrupt is no subclass of Exception"),
    ({"retry_on": BaseException}, "retry_on: BaseException is no subclass of Exception"),
    ({"retry_on": ValueError()}, r"retry_on: ValueError\(\) says nothing"),
    ({"retry_on": "ValueError"}, "retry_on: 'ValueError' names nothing"),
    ({"retry_on": "builtins:ValueErorr"}, "retry_on: 'builtins:ValueErorr' can't be loaded"),
    ({"retry_on": "no_such_module:x"}, "retry_on: 'no_such_module:x' can't be loaded"),
    ({"retry_on": async_predicate}, "retry_on: .* is async"),
    ({"retry_on": AsyncPredicate()}, "retry_on: .* is async"),
    (
        {"retry_on": tenacity.asyncio.retry.retry_if_exception(async_predicate)},
        "retry_on: .* is async",
    ),
    ({"retry_on": Unhashable()}, "retry_on: .* has no hash"),
    ({"never": int}, "never: <class 'int'> is not an exception type"),
    ({"never": None}, "never: None is not an exception type"),
    ({"never": lambda error: True}, "never: .* is not an exception type"),
    ({"retry_on_result": 0}, "retry_on_result: 0 is not callable"),
    ({"retry_on_result": ValueError}, "retry_on_result: ValueError is an exception type"),
    ({"retry_on_result": "math:pi"}, "retry_on_result: 'math:pi' is not callable"),
    ({"retry_on_result": async_predicate}, "retry_on_result: .* is async"),
    # hints
    ({"hint": ""}, "hint must be the name of an attribute"),
    ({"hint": "retry after"}, "hint must be the name of an attribute"),
    ({"hint": "retry_after\n"}, "hint must be the name of an attribute"),
    ({"hint": 5}, "hint must be the name of an attribute"),
    ({"hint": "1st"}, "hint must be the name of an attribute"),
    # names
    ({"max_retires": 2}, "has no field 'max_retires', did you mean 'max_retries'"),
    ({"zzz": 2}, "has no field 'zzz'; its fields are max_retries, backoff, delay"),
    ({"budget": None}, "budget isn't available in this version of daglite"),
    # together
    ({"delay": 90}, r"max_delay \(1m\) is below delay \(1m30s\); raise max_delay or lower delay"),
    ({"max_delay": 0.5}, r"max_delay \(500ms\) is below delay \(1s\)"),
    ({"backoff": [1, "2m"]}, r"backoff has a delay of 2m, above max_delay \(1m\)"),
    ({"backoff": "decorrelated", "jitter": "none"}, "jitter='none' has no part in backoff='deco"),
    ({"backoff": "decorrelated", "jitter": "equal"}, "jitter='equal' has no part in backoff="),
    # what nothing would be made of
    *(
        ({"backoff": backoff, "factor": 2.0}, "factor=2.0 has no part in backoff=")
        for backoff in ("none", "constant", "linear", "fibonacci", "decorrelated", [1], WAIT)
    ),
    *(
        ({"backoff": backoff, "delay": 1}, "delay=1.0 has no part in backoff=.*; leave delay out")
        for backoff in ("none", [1, 2], WAIT)
    ),
    ({"backoff": "none", "max_delay": 60}, "max_delay=60.0 has no part in backoff='none'"),
    ({"backoff": "none", "jitter": "full"}, "jitter='full' has no part in backoff='none'"),
    ({"hint": None, "max_hint": 300}, "max_hint=300.0 has no part in hint=None"),
]

TIMEOUT = [
    ({}, "neither attempt nor total is given"),
    ({"attempt": None}, "neither attempt nor total is given"),
    ({"grace": 3}, "neither attempt nor total is given"),
    ({"attempt": 0}, "attempt must be seconds above 0.*given: 0"),
    ({"attempt": -1}, "attempt: -1 is not a duration above 0; write seconds such as 30"),
    ({"attempt": True}, "attempt: True is not a duration"),
    ({"attempt": math.inf}, "attempt: inf is not a duration"),
    ({"attempt": "30 sec"}, "attempt: '30 sec' is not a duration"),
    ({"total": 0}, "total must be seconds above 0"),
    ({"total": "0s"}, "total must be seconds above 0"),
    ({"attempt": 30, "total": 10}, r"attempt \(30s\) is above total \(10s\); raise total or lower"),
    ({"attempt": 30, "grace": -1}, "grace: -1 is not a duration"),
    ({"attempt": 30, "grace": None}, "grace: None is not a duration"),
    ({"attempt": 30, "on_expiry": "explode"}, "on_expiry must be 'kill', 'cancel' or 'abandon'"),
    ({"attempt": 30, "on_expiry": True}, "on_expiry must be"),
    ({"atempt": 30}, "has no field 'atempt', did you mean 'attempt'"),
]

SET = [
    ({"retry": True}, "retry must be a number of retries from 0, a RetryPolicy, or None"),
    ({"retry": "3"}, "retry must be a number of retries"),
    ({"retry": 2.5}, "retry must be a number of retries"),
    ({"retry": -1}, "RetryPolicy.max_retries must be a whole number from 0; given: -1"),
    ({"retry": TimeoutPolicy(3)}, r"retry must be .*given: TimeoutPolicy\(attempt=3.0\)"),
    ({"retry": {"max_retires": 3}}, "RetryPolicy has no field 'max_retires'"),
    ({"timeout": True}, "timeout must be seconds such as 30"),
    ({"timeout": RetryPolicy(3)}, "timeout must be seconds such as 30"),
    ({"timeout": 0}, "TimeoutPolicy.attempt must be seconds above 0"),
    ({"timeout": "soon"}, "TimeoutPolicy.attempt: 'soon' is not a duration"),
    ({"timeout": []}, "timeout must be seconds such as 30"),
    ({"around_call": 3}, "around_call: 3 is not callable"),
    ({"around_call": [print, 3]}, "around_call: 3 is not callable"),
    ({"around_attempt": dict}, r"around_attempt: <class 'dict'> is a class; .*dict\(\)"),
    ({"around_attempt": "builtins:nothing"}, "around_attempt: 'builtins:nothing' can't be loaded"),
    ({"around_attempt": Unhashable()}, "around_attempt: .* has no hash"),
    ({"cache": True}, "cache isn't available in this version of daglite"),
    ({"retries": 3}, "has no field 'retries', did you mean 'retry'"),
]

CASES = [
    (policy, fields, message)
    for policy, table in ((RetryPolicy, RETRY), (TimeoutPolicy, TIMEOUT), (PolicySet, SET))
    for fields, message in table
]


@pytest.mark.parametrize(
    ("policy", "fields", "message"), CASES, ids=lambda value: repr(value)[:40] if value else ""
)
def test_nonsense(policy, fields, message):
    """Nonsense is refused, and the message names the policy, the field, and what is wanted."""
    with pytest.raises(PolicyError, match=message) as caught:
        policy(**fields)
    assert "Policy" in str(caught.value).split()[0]
    assert isinstance(caught.value, TaskConfigurationError)


@pytest.mark.parametrize(("policy", "fields", "message"), CASES[:30], ids=lambda v: repr(v)[:40])
def test_nonsense_in_mappings(policy, fields, message):
    """A mapping is refused like the call."""
    with pytest.raises(PolicyError, match=message):
        policy.model_validate(fields)


def test_every_wrong_field_is_told():
    """One error tells all wrong fields, a line each."""
    with pytest.raises(PolicyError) as caught:
        RetryPolicy(-1, jitter="half", colour="red")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(
        field in line
        for field, line in zip(("max_retries", "jitter", "colour"), lines, strict=True)
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((3, "none", 2.0), "takes only max_retries and backoff by position; name the field for 2"),
        ((3,), "RetryPolicy.max_retries is given twice"),
    ],
)
def test_positions(args, message):
    """Only the first fields go by position, and none by both position and name."""
    with pytest.raises(PolicyError, match=message):
        RetryPolicy(*args, max_retries=1)


def test_no_positions():
    """A set takes nothing by position."""
    with pytest.raises(PolicyError, match=r"PolicySet takes nothing by position; name the field"):
        PolicySet(RetryPolicy(3))


@pytest.mark.parametrize("policy", [RetryPolicy, TimeoutPolicy, PolicySet])
@pytest.mark.parametrize("value", [3, None, "x", ["a"], {1: 2}], ids=repr)
def test_no_mapping(policy, value):
    """What is no mapping of fields is refused."""
    with pytest.raises(PolicyError, match=policy.__name__):
        policy.model_validate(value)


@pytest.mark.parametrize("policy", [RetryPolicy, TimeoutPolicy, PolicySet])
@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"x": 1}', '{"self": 1}'])
def test_bad_json(policy, text):
    """JSON that is broken, or holds something else, is refused."""
    with pytest.raises(PolicyError, match=policy.__name__):
        policy.model_validate_json(text)


def test_a_copy_is_checked():
    """A copy with changes is checked like a new policy, and keeps what was given."""
    policy = RetryPolicy(3, "linear")
    with pytest.raises(PolicyError, match="max_retries"):
        policy.model_copy(update={"max_retries": -1})
    copy = policy.model_copy(update={"delay": "2s"})
    assert copy == RetryPolicy(3, "linear", delay=2)
    assert copy.model_fields_set == {"max_retries", "backoff", "delay"}
    assert policy.model_copy() == policy


def test_the_message_stays_short():
    """A huge value is shortened in the message."""
    with pytest.raises(PolicyError) as caught:
        RetryPolicy(backoff="x" * 10_000)
    assert len(str(caught.value)) < 400


def test_the_message_survives_a_bad_repr():
    """The message is made even where the value's own repr fails."""

    class Rude:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(PolicyError, match=r"max_retries must be .* given: <a Rude>"):
        RetryPolicy(Rude())


@pytest.mark.parametrize("policy", [RetryPolicy(3), TimeoutPolicy(3), PolicySet(retry=3)], ids=repr)
@pytest.mark.parametrize("name", ["max_retries", "attempt", "retry", "colour"])
def test_frozen(policy, name):
    """A policy can't be changed, and the message says how to make another."""
    before = policy.model_dump()
    with pytest.raises(PolicyError, match=rf"Policy.* can't be changed; .*\{{'{name}': 4\}}"):
        setattr(policy, name, 4)
    with pytest.raises(PolicyError, match=r"Policy.* can't be changed"):
        delattr(policy, name)
    assert policy.model_dump() == before


@pytest.mark.parametrize(
    "fields",
    [
        {"backoff": "none", "jitter": "none"},
        {"backoff": "decorrelated", "jitter": "full"},
        {"backoff": WAIT, "jitter": "equal", "max_delay": 0.5},
        {"backoff": [0.1], "jitter": "equal", "max_delay": 0.5},
        {"backoff": "constant", "delay": 90, "max_delay": 100, "jitter": "equal"},
        {"factor": 3},
        {"hint": "wait", "max_hint": 3},
    ],
    ids=repr,
)
def test_what_has_a_part(fields):
    """Fields that mean something together are accepted."""
    assert RetryPolicy(**fields).model_fields_set == set(fields)
