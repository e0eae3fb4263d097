"""Nonsense in a policy: refused, with a message that names the field."""

import math
from datetime import timedelta

import pytest
import tenacity
import tenacity.asyncio.retry

from daglite.exceptions import PolicyError, TaskConfigurationError
from daglite.policies import (
    Bulkhead,
    CachePolicy,
    Chaos,
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    MapPolicy,
    PolicySet,
    RateLimit,
    ResourceLimits,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
)


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
    ({"max_retries": -1}, r"max_retries must be a whole number from 0 to 10\^9; given: -1"),
    ({"max_retries": True}, r"max_retries must be a whole number from 0 to 10\^9; given: True"),
    ({"max_retries": 2.0}, "max_retries must be a whole number"),
    ({"max_retries": "3"}, "max_retries must be a whole number"),
    ({"max_retries": None}, "max_retries must be a whole number"),
    ({"max_retries": math.nan}, "max_retries must be a whole number"),
    (
        {"max_retries": 10**9 + 1},
        r"max_retries must be a whole number from 0 to 10\^9; given: 1000",
    ),
    ({"infrastructure_retries": 10**400}, r"infrastructure_retries must be .* to 10\^9"),
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
    ({"max_elapsed": 5e-324}, "max_elapsed: 5e-324 is shorter than a microsecond; write seconds"),
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
    ({"budget": 0.2}, "budget must be a RetryBudget, or None for no budget; given: 0.2"),
    ({"budget": {"ration": 1}}, "RetryBudget has no field 'ration', did you mean 'ratio'"),
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
    ({"attempt": 9e-7}, "attempt: 9e-07 is shorter than a microsecond; write seconds such as 30"),
    ({"total": 5e-324}, "total: 5e-324 is shorter than a microsecond"),
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
    ({"retry": -1}, r"RetryPolicy.max_retries must be a whole number from 0 to 10\^9; given: -1"),
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
    ({"priority": 3}, "priority isn't available in this version of daglite"),
    ({"circuit_breaker": 5}, "circuit_breaker must be a CircuitBreaker, or None; given: 5"),
    ({"circuit_breaker": {"windw": 5}}, "CircuitBreaker has no field 'windw', did you mean 'wind"),
    ({"circuit_breaker": {}, "hedge": Bulkhead(3)}, "hedge must be a Hedge"),
    ({"rate_limit": True}, "rate_limit must be a number above 0 for each second, a RateLimit, or"),
    ({"rate_limit": 0}, "RateLimit.rate must be a number above 0"),
    ({"rate_limit": "100"}, "rate_limit must be a number above 0"),
    ({"rate_limit": {}}, "RateLimit.rate is missing; give a number above 0"),
    ({"bulkhead": 2.5}, "bulkhead must be a whole number from 1, a Bulkhead, or None"),
    ({"bulkhead": 0}, r"Bulkhead.max_concurrent must be a whole number from 1 to 10\^9; given: 0"),
    ({"bulkhead": False}, "bulkhead must be a whole number"),
    ({"fallback": {}}, "FallbackPolicy: neither value nor func is given"),
    ({"map_policy": "skip"}, "map_policy must be a MapPolicy, such as .*skip"),
    ({"chaos": 0.1}, "chaos must be a Chaos, or None"),
    ({"limits": "1GB"}, "limits must be a ResourceLimits, such as"),
    ({"max_memory": 0}, "ResourceLimits.max_memory must be bytes above 0"),
    ({"max_memory": 1, "limits": None}, "max_memory: 1 is given next to limits="),
    ({"cache": False}, "cache must be True, a lifetime such as 3600 or '1h', a CachePolicy, or"),
    ({"cache": 0}, "CachePolicy.ttl must be seconds above 0"),
    ({"cache": "soon"}, "CachePolicy.ttl: 'soon' is not a duration above 0"),
    ({"idempotent": "yes"}, "idempotent must be True, False or None; given: 'yes'"),
    ({"idempotent": 1}, "idempotent must be True, False or None"),
    ({"retries": 3}, "has no field 'retries', did you mean 'retry'"),
]

BREAKER = [
    ({"key": ""}, "key must be text that isn't blank, or None for the name of the task"),
    ({"key": "  "}, "key must be text that isn't blank"),
    ({"key": 3}, "key must be text that isn't blank"),
    ({"failure_rate": 0}, "failure_rate must be a share above 0, up to 1.*given: 0"),
    ({"failure_rate": 50}, "failure_rate must be a share above 0, up to 1"),
    ({"failure_rate": math.nan}, "failure_rate must be a share"),
    ({"failure_rate": True}, "failure_rate must be a share"),
    ({"consecutive": 0}, "consecutive must be a whole number from 1"),
    ({"consecutive": True}, "consecutive must be a whole number from 1"),
    ({"consecutive": 2.5}, "consecutive must be a whole number from 1"),
    ({"min_calls": 0}, "min_calls must be a whole number from 1"),
    ({"window_type": "calls"}, "window_type must be 'count' or 'time'; given: 'calls'"),
    ({"window": 0}, "window must be above 0"),
    ({"window": True}, "window: True is not a whole number of calls"),
    ({"window": 50.0}, "window: 50.0 is not a whole number of calls"),
    ({"window": "5m"}, "window: '5m' is not a whole number of calls.*give window_type='time'"),
    ({"window_type": "time", "window": "5 calls"}, "window: '5 calls' is not a duration above 0"),
    ({"window_type": "time", "window": "0s"}, "window must be above 0"),
    ({"window_type": "time", "window": math.inf}, "window: inf is not a duration"),
    ({"window_type": "time", "window": 5e-324}, "window: 5e-324 is shorter than a microsecond"),
    ({"window": 10**6 + 1}, r"window: 1000001 calls are too many; write 10\^6 at most, or"),
    ({"window": 10**12}, "window: 1000000000000 calls are too many"),
    ({"consecutive": 10**400}, r"consecutive must be a whole number from 1 to 10\^9, or None"),
    ({"min_calls": 10**10}, r"min_calls must be a whole number from 1 to 10\^9"),
    ({"probes": 10**400}, r"probes must be a whole number from 1 to 10\^9"),
    ({"break_for": 5e-324}, "break_for: 5e-324 is shorter than a microsecond"),
    ({"window": 9}, r"window \(9 calls\) is below min_calls \(10\).*raise window or lower min_ca"),
    ({"min_calls": 101}, r"window \(100 calls\) is below min_calls \(101\)"),
    ({"slow_call": 0}, "slow_call must be seconds above 0"),
    ({"slow_call": -1}, "slow_call: -1 is not a duration above 0"),
    ({"slow_call": 2, "slow_rate": 1.5}, "slow_rate must be a share above 0, up to 1"),
    ({"slow_rate": 0.5}, "slow_rate=0.5 has no part in slow_call=None; leave .* or give slow_call"),
    ({"break_for": 0}, "break_for must be seconds above 0"),
    ({"break_for": math.nan}, "break_for: nan is not a duration"),
    ({"break_factor": 0.9}, "break_factor must be a number from 1"),
    ({"break_factor": math.inf}, "break_factor must be a number from 1"),
    ({"max_break": 10}, r"max_break \(10s\) is below break_for \(30s\); raise max_break or lower"),
    ({"break_for": "1h"}, r"max_break \(10m\) is below break_for \(1h\)"),
    ({"probes": 0}, "probes must be a whole number from 1"),
    ({"probe_lease": 0}, "probe_lease must be seconds above 0"),
    ({"on_open": "wait"}, "on_open must be 'park' or 'fail'"),
    ({"max_park": 0}, "max_park must be seconds above 0.*on_open='fail' is for not waiting"),
    ({"max_park": None}, "max_park: None is not a duration above 0"),
    ({"on_open": "fail", "max_park": 5}, "max_park=5.0 has no part in on_open='fail'"),
    ({"ignore": 5}, "ignore: 5 is not an exception type"),
    ({"ignore": KeyboardInterrupt}, "ignore: KeyboardInterrupt is no subclass of Exception"),
    ({"ignore": Exception}, "ignore has Exception, so that no failure counts"),
    ({"counts": "calls"}, "counts must be 'attempt' or 'call'"),
    ({"scope": "world"}, "scope must be 'run', 'process' or 'host'"),
    ({"mode": "off"}, "mode must be 'on', 'metrics_only', 'disabled' or 'forced_open'"),
    ({"failure_rate": None}, "failure_rate is None, .*can never open; give one of them"),
    ({"consecutive": 5, "window": 5}, "window=5 has no part in failure_rate=None; .*or give fail"),
    ({"consecutive": 5, "min_calls": 5}, "min_calls=5 has no part in failure_rate=None"),
    ({"consecutive": 5, "window_type": "time"}, "window_type='time' has no part in failure_rate"),
    ({"threshold": 5}, "has no field 'threshold'; its fields are key"),
]

BUDGET = [
    ({"ratio": -0.1}, "ratio must be a share from 0 to 1 such as 0.2; given: -0.1"),
    ({"ratio": 20}, "ratio must be a share from 0 to 1"),
    ({"ratio": True}, "ratio must be a share from 0 to 1"),
    ({"min_per_second": -1}, "min_per_second must be a number from 0"),
    ({"min_per_second": math.inf}, "min_per_second must be a number from 0"),
    (
        {"min_per_second": 5e-324},
        "min_per_second.* 5e-324 each second is less than one in ten years",
    ),
    ({"min_per_second": 1e300}, r"min_per_second must be a number from 0 to 10\^9"),
    ({"window": 5e-324}, "window: 5e-324 is shorter than a microsecond"),
    ({"ratio": 0, "min_per_second": 0}, "ratio and min_per_second are both 0.*raise one of them"),
    ({"window": 0}, "window must be seconds above 0"),
    ({"on_exhausted": "wait"}, "on_exhausted must be 'pace' or 'fail'"),
    ({"key": ""}, "key must be text"),
    ({"scope": "node"}, "scope must be 'run', 'process' or 'host'"),
]

RATE = [
    ({}, "rate is missing; give a number above 0, such as 100"),
    ({"rate": 0}, "rate must be a number above 0"),
    ({"rate": -1}, "rate must be a number above 0"),
    ({"rate": True}, "rate must be a number above 0"),
    ({"rate": math.nan}, "rate must be a number above 0"),
    ({"rate": math.inf}, "rate must be a number above 0"),
    ({"rate": "100/s"}, "rate must be a number above 0"),
    ({"rate": None}, "rate must be a number above 0"),
    (
        {"rate": 5e-324},
        r"rate \(5e-324\) and per \(1s\) allow less than one .* in ten years; raise",
    ),
    (
        {"rate": 1, "per": 4e8},
        "per .* less than one attempt in ten years; raise rate or shorten per",
    ),
    ({"rate": 5e-324, "per": 1e308}, "less than one attempt in ten years"),
    (
        {"rate": 2e9},
        r"rate \(2000000000.0\) and per \(1s\) allow more than 10\^9 attempts each second; low",
    ),
    (
        {"rate": 1e308, "per": 1e-6},
        r"allow more than 10\^9 attempts each second; lower rate or leng",
    ),
    ({"rate": 1, "per": 5e-324}, "per: 5e-324 is shorter than a microsecond"),
    ({"rate": 10**400}, "rate must be a number above 0"),
    ({"rate": 1, "burst": 10**400}, r"burst must be a whole number from 1 to 10\^9"),
    ({"rate": 1, "per": 0}, "per must be seconds above 0"),
    ({"rate": 1, "per": "minute"}, "per: 'minute' is not a duration above 0"),
    ({"rate": 1, "burst": 0}, "burst must be a whole number from 1"),
    ({"rate": 1, "burst": 1.5}, "burst must be a whole number from 1"),
    ({"rate": 1, "max_wait": -1}, "max_wait: -1 is not a duration from 0"),
    ({"rate": 1, "max_wait": False}, "max_wait: False is not a duration"),
    ({"rate": 1, "key": 5}, "key must be text"),
    ({"rate": 1, "scope": None}, "scope must be 'run'"),
    ({"rate": 1, "max_rate": 5}, "has no field 'max_rate'"),
]

BULKHEAD = [
    ({}, "max_concurrent is missing; give a whole number from 1"),
    ({"max_concurrent": 0}, "max_concurrent must be a whole number from 1"),
    ({"max_concurrent": True}, "max_concurrent must be a whole number"),
    ({"max_concurrent": 2.0}, "max_concurrent must be a whole number"),
    ({"max_concurrent": None}, "max_concurrent must be a whole number"),
    ({"max_concurrent": 1, "max_queue": -1}, "max_queue must be a whole number from 0"),
    ({"max_concurrent": 10**30}, r"max_concurrent must be a whole number from 1 to 10\^9"),
    (
        {"max_concurrent": 1, "max_queue": 10**400},
        r"max_queue must be a .* from 0 to 10\^9, or None",
    ),
    ({"max_concurrent": 1, "max_wait": -1}, "max_wait: -1 is not a duration from 0"),
    ({"max_concurrent": 1, "max_queue": 0, "max_wait": 5}, "max_wait=5.0 has no part in max_que"),
    ({"max_concurrent": 1, "scope": "host"}, "has no field 'scope'"),
]

FALLBACK = [
    ({}, "neither value nor func is given; give one of them, value=None for None"),
    ({"func": None}, "neither value nor func is given"),
    ({"on": OSError}, "neither value nor func is given"),
    ({"value": None, "func": repr}, "value and func are both given; give one of them"),
    ({"value": []}, r"value: \[\] has no hash.*give func=, a function of the error"),
    ({"func": 5}, "func: 5 is not callable"),
    ({"func": async_predicate}, "func: .* is async; give a plain function"),
    ({"func": "builtins:nothing"}, "func: 'builtins:nothing' can't be loaded"),
    ({"value": 0, "on": ()}, "on: an empty tuple has no error to fall back on"),
    ({"value": 0, "on": int}, "on: <class 'int'> is not an exception type"),
    ({"value": 0, "on": SystemExit}, "on: SystemExit is no subclass of Exception and passes"),
    ({"default": 0}, "has no field 'default'"),
]

HEDGE = [
    ({}, "neither delay nor quantile is given; give one of them"),
    ({"delay": None}, "neither delay nor quantile is given"),
    ({"max_hedges": 2}, "neither delay nor quantile is given"),
    ({"delay": 1, "quantile": 0.9}, "delay and quantile are both given; give one of them"),
    ({"delay": -1}, "delay: -1 is not a duration from 0"),
    ({"delay": True}, "delay: True is not a duration"),
    ({"quantile": 0}, "quantile must be a share above 0, below 1, such as 0.95"),
    ({"quantile": 1}, "quantile must be a share above 0, below 1"),
    ({"quantile": 95}, "quantile must be a share above 0, below 1"),
    ({"quantile": math.nan}, "quantile must be a share above 0, below 1"),
    ({"delay": 1, "max_hedges": 0}, "max_hedges must be a whole number from 1"),
    ({"delay": 1, "max_hedges": 10**10}, r"max_hedges must be a whole number from 1 to 10\^9"),
]

MAP = [
    ({"on_error": "ignore"}, "on_error must be 'raise', 'skip' or 'collect'; given: 'ignore'"),
    ({"on_error": None}, "on_error must be 'raise', 'skip' or 'collect'"),
    ({"min_success_ratio": 0.5}, "min_success_ratio=0.5 has no part in on_error='raise'"),
    ({"max_failures": 3}, "max_failures=3 has no part in on_error='raise'; .*another on_error"),
    ({"on_error": "skip", "min_success_ratio": 1.1}, "min_success_ratio must be a share from 0"),
    ({"on_error": "skip", "min_success_ratio": -1}, "min_success_ratio must be a share from 0"),
    ({"on_error": "skip", "min_success_ratio": True}, "min_success_ratio must be a share from 0"),
    ({"on_error": "skip", "max_failures": -1}, "max_failures must be a whole number from 0"),
    ({"on_error": "skip", "max_failures": 0.1}, "max_failures must be a whole number from 0"),
    ({"on_error": "skip", "max_failures": 10**10}, r"max_failures must be a .* from 0 to 10\^9"),
]

CHAOS = [
    ({}, "no fault is given; give at least one of error, latency, kill and corrupt"),
    ({"rate": 0.5}, "no fault is given"),
    ({"rate": 0.5, "kill": False}, "no fault is given"),
    ({"kill": True, "rate": 1.5}, "rate must be a share from 0 to 1 such as 0.1; given: 1.5"),
    ({"kill": True, "rate": -0.5}, "rate must be a share from 0 to 1"),
    ({"kill": True, "rate": True}, "rate must be a share from 0 to 1"),
    ({"kill": 1}, "kill must be True or False; given: 1"),
    ({"error": OSError()}, r"error: OSError\(\) is not an exception type"),
    ({"error": GeneratorExit}, "error: GeneratorExit is no subclass of Exception"),
    ({"latency": 0}, "latency must be seconds above 0"),
    ({"latency": "long"}, "latency: 'long' is not a duration above 0"),
    ({"corrupt": True}, "corrupt: True is not callable"),
    ({"kill": True, "seed": 1.5}, "seed must be a whole number, or None"),
]

LIMITS = [
    ({"max_memory": 0}, "max_memory must be bytes above 0 such as '1GB', or None for no limit"),
    ({"max_memory": -1}, "max_memory: -1 is not a size above 0; write whole bytes"),
    ({"max_memory": 1.5}, "max_memory: 1.5 is not a size above 0"),
    ({"max_memory": True}, "max_memory: True is not a size above 0"),
    ({"max_memory": "1 gig"}, "max_memory: '1 gig' is not a size above 0"),
    ({"max_memory": "60s"}, "max_memory: '60s' is not a size above 0"),
    ({"max_cpu_time": 0}, "max_cpu_time must be seconds above 0"),
    ({"max_cpu_time": "1GB"}, "max_cpu_time: '1GB' is not a duration above 0"),
    ({"max_processes": -1}, "max_processes must be a whole number from 0"),
    ({"max_open_files": 0}, "max_open_files must be a whole number from 1"),
    ({"max_processes": 10**10}, r"max_processes must be a whole number from 0 to 10\^9"),
    ({"max_memory": 1, "grow": 0.5}, "grow must be a number from 1"),
    ({"grow": 2}, "grow=2.0 has no part in max_memory=None; leave grow out or give max_memory"),
    ({"poll_interval": 0}, "poll_interval must be seconds above 0"),
    ({"cpus": -1}, "cpus must be a number from 0"),
    ({"gpus": math.nan}, "gpus must be a number from 0"),
    ({"cpus": True}, "cpus must be a number from 0"),
    ({"resources": 5}, "resources: 5 is no mapping of names to amounts; write one such as"),
    ({"resources": {5: 1}}, "resources: 5 is no name of a resource"),
    ({"resources": {" ": 1}}, "resources: ' ' is no name of a resource"),
    ({"resources": {"a": 0}}, "resources: 'a' has the amount 0; give a number above 0, or leave"),
    ({"resources": {"a": True}}, "resources: 'a' has the amount True"),
    ({"resources": {"a": "1"}}, "resources: 'a' has the amount '1'"),
    ({"resources": {"a": math.inf}}, "resources: 'a' has the amount inf"),
    ({"memory": 1}, "has no field 'memory', did you mean 'max_memory'"),
]

CACHE = [
    ({"ttl": 0}, "ttl must be seconds above 0 such as 3600 or '1h', or None for ever"),
    ({"ttl": True}, "ttl: True is not a duration above 0"),
    ({"key": 5}, "key: 5 is not callable"),
    ({"key": "my key"}, "key: 'my key' names nothing"),
    ({"ignore": 5}, "ignore: 5 is not the name of a parameter"),
    ({"ignore": ["not a name"]}, "ignore: 'not a name' is not the name of a parameter"),
    ({"key": repr, "ignore": "x"}, r"ignore=\('x',\) has no part in key="),
    ({"version": ""}, "version must be text that isn't blank, a whole number, or None; given: ''"),
    ({"version": True}, "version must be text that isn't blank, a whole number, or None"),
    ({"version": 1.5}, "version must be text"),
    ({"depends_on": 5}, "depends_on: 5 is no code; give a function or a class"),
    ({"depends_on": Unhashable()}, "depends_on: .* has no hash"),
    ({"env": "A=B"}, "env: 'A=B' is not the name of an environment variable"),
    ({"env": ("A", "")}, "env: '' is not the name of an environment variable"),
    ({"single_flight": True}, "single_flight must be 'host', 'process' or False; given: True"),
    ({"single_flight": 0}, "single_flight: 0 is not 'host', 'process' or False"),
    ({"stale_if_error": 5}, "stale_if_error=5.0 has no part in ttl=None; .* or give ttl"),
    ({"ttl": 9, "stale_if_error": 0}, "stale_if_error must be seconds above 0"),
    ({"refresh_ahead": 5}, "refresh_ahead=5.0 has no part in ttl=None"),
    ({"ttl": 5, "refresh_ahead": 5}, r"refresh_ahead \(5s\) is not below ttl \(5s\); lower"),
    ({"ttl": 5, "refresh_ahead": 6}, r"refresh_ahead \(6s\) is not below ttl \(5s\); lower"),
    ({"cache_none": None}, "cache_none must be True or False"),
    ({"cache_errors": "OSError"}, "cache_errors: 'OSError' names nothing"),
    ({"cache_errors": OSError}, "cache_errors is given without error_ttl or ttl.*give error_ttl"),
    ({"error_ttl": 5}, r"error_ttl=5.0 has no part in cache_errors=\(\)"),
    ({"max_value_bytes": 0}, "max_value_bytes must be bytes above 0"),
    ({"serializer": "json"}, "serializer must be 'auto' or 'pickle'"),
    ({"verify": False}, "verify must be 'sha256' or 'hmac'"),
    ({"on_store_error": "log"}, "on_store_error must be 'ignore' or 'raise'"),
    ({"on_unhashable": "ignore"}, "on_unhashable must be 'raise' or 'skip'"),
    ({"single_flight": 0.0}, "single_flight: 0.0 is not 'host', 'process' or False"),
    ({"store": ""}, "store: '' is no path of a folder; write one, or None"),
    ({"store": 5}, "store: 5 is no path of a folder; write one, or None"),
    ({"store": b"x"}, "store: b'x' is no path of a folder"),
]

TABLES = {
    RetryPolicy: RETRY,
    TimeoutPolicy: TIMEOUT,
    PolicySet: SET,
    CircuitBreaker: BREAKER,
    RetryBudget: BUDGET,
    RateLimit: RATE,
    Bulkhead: BULKHEAD,
    FallbackPolicy: FALLBACK,
    Hedge: HEDGE,
    MapPolicy: MAP,
    Chaos: CHAOS,
    ResourceLimits: LIMITS,
    CachePolicy: CACHE,
}

CASES = [(policy, fields, message) for policy, table in TABLES.items() for fields, message in table]


@pytest.mark.parametrize(
    ("policy", "fields", "message"), CASES, ids=lambda value: repr(value)[:40] if value else ""
)
def test_nonsense(policy, fields, message):
    """Nonsense is refused, and the message names the policy, the field, and what is wanted."""
    with pytest.raises(PolicyError, match=message) as caught:
        policy(**fields)
    first = str(caught.value).split()[0].split(".")[0].rstrip(":")
    assert first in {each.__name__ for each in TABLES}
    assert first == policy.__name__ or policy in (PolicySet, RetryPolicy)
    assert isinstance(caught.value, TaskConfigurationError)


@pytest.mark.parametrize(("policy", "fields", "message"), CASES[::4], ids=lambda v: repr(v)[:40])
def test_nonsense_in_mappings(policy, fields, message):
    """A mapping is refused like the call."""
    with pytest.raises(PolicyError, match=message):
        policy.model_validate(fields)


@pytest.mark.parametrize("policy", TABLES)
def test_every_field_says_what_it_takes(policy):
    """And leaves none of that to pydantic's own words."""
    for name in policy.model_fields:
        with pytest.raises(PolicyError) as caught:
            policy.model_validate({name: Unhashable()})
        (complaint,) = (
            line
            for line in str(caught.value).splitlines()
            if line.startswith(f"{policy.__name__}.{name}")
        )
        assert " is wrong: " not in complaint


@pytest.mark.parametrize(
    ("policy", "fields"),
    [
        (RetryPolicy, {"factor": "2"}),
        (Hedge, {"quantile": "0.9"}),
        (Hedge, {"delay": 1, "max_hedges": "2"}),
        (RateLimit, {"rate": "5"}),
        (RetryBudget, {"ratio": "0.1"}),
        (CircuitBreaker, {"failure_rate": "0.5"}),
        (CircuitBreaker, {"key": b"api"}),
        (CachePolicy, {"version": b"2"}),
        (Chaos, {"rate": "0.5", "error": OSError}),
        (Chaos, {"error": OSError, "seed": 3.0}),
        (RetryPolicy, {"seed": "3"}),
        (MapPolicy, {"min_success_ratio": "0.5", "on_error": "skip"}),
    ],
    ids=repr,
)
def test_what_only_looks_like_it(policy, fields):
    """Text isn't read as a number, a number with a point as a whole one, nor bytes as text."""
    with pytest.raises(PolicyError, match=rf"{policy.__name__}\.\w+ must be "):
        policy.model_validate(fields)


def test_what_several_kinds_of_values_refuse_is_told_once():
    """A field that takes text or a number complains in one line."""
    with pytest.raises(PolicyError) as caught:
        CachePolicy(version=1.5)
    assert len(str(caught.value).splitlines()) == 1


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


@pytest.mark.parametrize("policy", TABLES)
@pytest.mark.parametrize("value", [3, None, "x", ["a"], {1: 2}], ids=repr)
def test_no_mapping(policy, value):
    """What is no mapping of fields is refused."""
    message = "" if value == {1: 2} else " is made from a mapping of its fields; given: "
    with pytest.raises(PolicyError, match=f"^{policy.__name__}{message}"):
        policy.model_validate(value)


@pytest.mark.parametrize("policy", TABLES)
@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"x": 1}', '{"self": 1}'])
def test_bad_json(policy, text):
    """JSON that is broken, or holds something else, is refused."""
    messages = {"": " can't be read: ", "{": " can't be read: ", "3": " is made from .*given: 3"}
    with pytest.raises(PolicyError, match=f"^{policy.__name__}{messages.get(text, '')}"):
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


def test_a_number_too_long_to_be_written():
    """It is refused like other large ones."""
    with pytest.raises(
        PolicyError, match=r"max_retries must be a whole number from 0 to 10\^9; gi"
    ):
        RetryPolicy(10**5000)


def test_the_bounds_themselves():
    """They can be kept: what is allowed is carried out to the last digit."""
    year = 365 * 86_400
    assert RateLimit(1, 10 * year).per == RateLimit(0.1, year).per * 10
    assert RateLimit(10**9).rate == RateLimit(10**3, 1e-6).rate * 10**6
    assert RateLimit(1, burst=10**9).burst == Bulkhead(10**9).max_concurrent == 10**9
    assert RetryBudget(0, min_per_second=1 / (10 * year)).min_per_second > 0
    assert CircuitBreaker(window=10**6).window == 10**6
    assert RetryPolicy(10**9).max_retries == 10**9
    assert TimeoutPolicy(1e-6).attempt == 1e-6
