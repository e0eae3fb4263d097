"""The options of a task that are policies, read into a set."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from tenacity.wait import wait_base

from daglite.exceptions import PolicyError, TaskConfigurationError
from daglite.policies.backoff import BackoffName, Delays
from daglite.policies.base import NOT_GIVEN, Policy
from daglite.policies.breaker import CircuitBreaker
from daglite.policies.bulkhead import Bulkhead
from daglite.policies.cache import CachePolicy
from daglite.policies.chaos import Chaos
from daglite.policies.code import shown
from daglite.policies.fallback import FallbackPolicy
from daglite.policies.hedge import Hedge
from daglite.policies.limits import ResourceLimits
from daglite.policies.map_policy import MapPolicy
from daglite.policies.messages import did_you_mean
from daglite.policies.middlewares import Middleware
from daglite.policies.policy_set import LATER_OPTIONS, PolicySet
from daglite.policies.rate_limit import RateLimit
from daglite.policies.retry import RetryPolicy
from daglite.policies.timeout import TimeoutPolicy

__all__ = ["BackoffOption", "CacheOption", "MiddlewareOption", "policies_from_options"]

BackoffOption: TypeAlias = BackoffName | Delays | wait_base
CacheOption: TypeAlias = CachePolicy | Literal[True] | float | str | timedelta | None
MiddlewareOption: TypeAlias = Middleware | Sequence[Middleware] | None

_POLICIES: dict[str, type[Policy]] = {
    "retry": RetryPolicy,
    "timeout": TimeoutPolicy,
    "circuit_breaker": CircuitBreaker,
    "rate_limit": RateLimit,
    "bulkhead": Bulkhead,
    "fallback": FallbackPolicy,
    "hedge": Hedge,
    "map_policy": MapPolicy,
    "chaos": Chaos,
    "limits": ResourceLimits,
    "cache": CachePolicy,
}
# Of which not each is a slot, and each stands for one.
_OPTIONS = (
    *_POLICIES,
    "backoff",
    "max_memory",
    "max_cpu_time",
    "idempotent",
    "around_call",
    "around_attempt",
)
_OTHERS = ("name", "description", "backend", "tags")


def policies_from_options(where: str, **options: Any) -> PolicySet:
    """
    Read the options that are policies, and the short forms of them.

    What is `NOT_GIVEN` isn't in the set; None is, and takes a policy away.

    Args:
        where: What the options belong to, for messages: ``"task 'train'"``.

    Raises:
        PolicyError: An option makes no sense, or belongs to a later version.
        TaskConfigurationError: There is no such option.
    """
    given = {name: value for name, value in options.items() if value is not NOT_GIVEN}
    for name in given:
        _check_name(where, name)
    try:
        if "backoff" in given:
            given["retry"] = _retry_with_backoff(given.get("retry", NOT_GIVEN), given["backoff"])
            del given["backoff"]
        return PolicySet(**given)
    except PolicyError as error:
        raise PolicyError(f"{where}: {_as_option(error.problem)}", fix=error.fix) from error


def _check_name(where: str, name: str) -> None:
    if name in _OPTIONS:
        return
    if name in LATER_OPTIONS:
        raise PolicyError(
            f"{where}: option {name}= isn't available in this version of daglite; leave it out"
        )
    hint = _field_of_a_policy(name) or did_you_mean(name, (*_OPTIONS, *_OTHERS))
    raise TaskConfigurationError(
        f"{where}: there is no option '{name}'{hint}; "
        f"the options are {', '.join((*_OTHERS, *_OPTIONS))}"
    )


def _field_of_a_policy(name: str) -> str:
    """``", did you mean 'retry=RetryPolicy(delay=...)'?"``, or nothing if no policy has it."""
    if name == "max_retries":
        return ", did you mean 'retry'?"
    for option, policy in _POLICIES.items():
        if name in policy.model_fields:
            return f", did you mean '{option}={policy.__name__}({name}=...)'?"
    return ""


def _retry_with_backoff(retry: object, backoff: Any) -> RetryPolicy:
    if isinstance(retry, RetryPolicy):
        raise PolicyError(
            f"backoff={shown(backoff)} is given next to retry=RetryPolicy(...), the short form "
            f"together with the long one; write the backoff into the RetryPolicy"
        )
    if not isinstance(retry, int) or isinstance(retry, bool):
        asked = "without retry=" if retry is NOT_GIVEN else f"with retry={shown(retry)}"
        raise PolicyError(
            f"backoff={shown(backoff)} is given {asked}; "
            f"it needs a number of retries, as in retry=3, backoff='exponential'"
        )
    return RetryPolicy(retry, backoff)


def _as_option(message: str) -> str:
    # The user wrote an option, not a set.
    return message.replace("PolicySet.", "option ", 1)
