"""Policies: what is wanted when a call fails, hangs or takes too much. Plain data."""

from daglite.policies.base import Policy
from daglite.policies.breaker import CircuitBreaker
from daglite.policies.budget import RetryBudget
from daglite.policies.bulkhead import Bulkhead
from daglite.policies.cache import CachePolicy
from daglite.policies.chaos import Chaos
from daglite.policies.fallback import FallbackPolicy
from daglite.policies.hedge import Hedge
from daglite.policies.limits import ResourceLimits
from daglite.policies.map_policy import MapPolicy
from daglite.policies.options import policies_from_options
from daglite.policies.policy_set import PolicySet, resolve_policies
from daglite.policies.rate_limit import RateLimit
from daglite.policies.retry import RetryPolicy
from daglite.policies.timeout import TimeoutPolicy

__all__ = [
    "Bulkhead",
    "CachePolicy",
    "Chaos",
    "CircuitBreaker",
    "FallbackPolicy",
    "Hedge",
    "MapPolicy",
    "Policy",
    "PolicySet",
    "RateLimit",
    "ResourceLimits",
    "RetryBudget",
    "RetryPolicy",
    "TimeoutPolicy",
    "policies_from_options",
    "resolve_policies",
]
