"""The options of a task, read into a PolicySet."""

import pytest

from daglite.exceptions import ParameterError, PolicyError, TaskConfigurationError
from daglite.policies import (
    Bulkhead,
    CachePolicy,
    FallbackPolicy,
    PolicySet,
    RateLimit,
    ResourceLimits,
    RetryPolicy,
    TimeoutPolicy,
    policies_from_options,
)
from daglite.policies.base import NOT_GIVEN


def middleware(call, call_next):
    return call_next(call)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, PolicySet()),
        ({"retry": 3}, PolicySet(retry=3)),
        ({"retry": RetryPolicy(3, "linear")}, PolicySet(retry=RetryPolicy(3, "linear"))),
        ({"retry": 3, "backoff": "linear"}, PolicySet(retry=RetryPolicy(3, "linear"))),
        ({"retry": 3, "backoff": [1, "2s"]}, PolicySet(retry=RetryPolicy(3, [1, 2]))),
        ({"retry": None}, PolicySet(retry=None)),
        ({"timeout": 30}, PolicySet(timeout=30)),
        ({"timeout": "30s"}, PolicySet(timeout=30)),
        ({"timeout": TimeoutPolicy(total=3)}, PolicySet(timeout=TimeoutPolicy(total=3))),
        ({"timeout": None}, PolicySet(timeout=None)),
        ({"around_call": [middleware]}, PolicySet(around_call=[middleware])),
        ({"around_attempt": middleware}, PolicySet(around_attempt=middleware)),
        ({"around_attempt": None}, PolicySet(around_attempt=None)),
        ({"rate_limit": 100}, PolicySet(rate_limit=RateLimit(100))),
        ({"bulkhead": 4}, PolicySet(bulkhead=Bulkhead(4))),
        ({"cache": "1h"}, PolicySet(cache=CachePolicy(3600))),
        ({"max_memory": "1GB"}, PolicySet(limits=ResourceLimits("1GB"))),
        ({"max_cpu_time": "1m", "max_memory": None}, PolicySet(limits=ResourceLimits(None, 60))),
        ({"idempotent": True}, PolicySet(idempotent=True)),
        ({"idempotent": None}, PolicySet(idempotent=None)),
        ({"fallback": FallbackPolicy(0)}, PolicySet(fallback=FallbackPolicy(0))),
        ({"retry": NOT_GIVEN, "backoff": NOT_GIVEN, "cache": NOT_GIVEN}, PolicySet()),
    ],
    ids=repr,
)
def test_options(options, expected):
    """Options are read; what is not given is not in the set, None is."""
    assert policies_from_options("task 'train'", **options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry": True}, "option retry must be a number of retries"),
        ({"retry": "3"}, "option retry must be a number of retries"),
        ({"retry": -1}, "RetryPolicy.max_retries must be a whole number from 0 to 10.9; given: -1"),
        ({"retry": TimeoutPolicy(3)}, "option retry must be a number of retries"),
        ({"timeout": False}, "option timeout must be seconds"),
        ({"timeout": -1}, "TimeoutPolicy.attempt: -1 is not a duration"),
        ({"timeout": "soon"}, "TimeoutPolicy.attempt: 'soon' is not a duration"),
        ({"cache": False}, "option cache must be True, a lifetime"),
        ({"fallback": 0}, r"option fallback must be .*FallbackPolicy\(0\)"),
        ({"idempotent": 1}, "option idempotent must be True, False or None"),
        ({"max_memory": "lots"}, "ResourceLimits.max_memory: 'lots' is not a size above 0"),
        (
            {"max_memory": "1GB", "limits": ResourceLimits(1)},
            "option max_memory: '1GB' is given next to limits=.* write max_memory into the Res",
        ),
        ({"max_cpu_time": 3, "limits": None}, "option max_cpu_time: 3 is given next to limits="),
        ({"around_call": 3}, "option around_call: 3 is not callable"),
        ({"around_attempt": [dict]}, "option around_attempt: .* is a class"),
        ({"backoff": "linear"}, "backoff='linear' is given without retry=.* as in retry=3"),
        ({"backoff": "linear", "retry": None}, "given with retry=None.* a number of retries"),
        ({"backoff": "linear", "retry": True}, "given with retry=True.* a number of retries"),
        (
            {"backoff": "linear", "retry": RetryPolicy(3)},
            "the short form together with the long one; write the backoff into the RetryPolicy",
        ),
        ({"retry": 3, "backoff": "expo"}, "RetryPolicy.backoff: 'expo' is no backoff"),
        ({"retry": 3, "backoff": None}, "RetryPolicy.backoff: None is no backoff"),
        *(
            ({name: value}, f"option {name}= isn't available in this version of daglite")
            for name, value in {
                "priority": 3,
                "validate_input": True,
                "sandbox": False,
                "at_most_once": True,
            }.items()
        ),
    ],
    ids=repr,
)
def test_refused(options, message):
    """What makes no sense is refused, with the task and the option in the message."""
    with pytest.raises(PolicyError, match=rf"^task 'train': .*{message}"):
        policies_from_options("task 'train'", **options)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("retrys", ", did you mean 'retry'?"),
        ("backnd", ", did you mean 'backend'?"),
        ("max_retries", ", did you mean 'retry'?"),
        ("delay", ", did you mean 'retry=RetryPolicy(delay=...)'?"),
        ("burst", ", did you mean 'rate_limit=RateLimit(burst=...)'?"),
        ("max_memry", ", did you mean 'max_memory'?"),
        ("total", ", did you mean 'timeout=TimeoutPolicy(total=...)'?"),
        ("zzz", ""),
    ],
)
def test_unknown(name, hint):
    """An unknown option is no policy; the message knows what may have been meant."""
    with pytest.raises(TaskConfigurationError) as caught:
        policies_from_options("task 'train'", **{name: 3})
    assert not isinstance(caught.value, (PolicyError, ParameterError))
    message = str(caught.value)
    assert message.startswith(f"task 'train': there is no option '{name}'{hint}; the options are ")
