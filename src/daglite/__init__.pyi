from typing import Final

from daglite.backends.processes.backend import ProcessBackend as ProcessBackend
from daglite.backends.registry import find_backend as find_backend
from daglite.backends.sequential import SequentialBackend as SequentialBackend
from daglite.backends.threads import ThreadBackend as ThreadBackend
from daglite.circuits import breakers as breakers
from daglite.circuits import force_open as force_open
from daglite.circuits import reset as reset
from daglite.core.builder import build_graph as build_graph
from daglite.core.call import Call as Call
from daglite.core.call import Outcome as Outcome
from daglite.core.current import current_call as current_call
from daglite.core.decorator import task as task
from daglite.core.dispatch import run_here as run_here
from daglite.core.protocols import Backend as Backend
from daglite.core.protocols import Capabilities as Capabilities
from daglite.core.protocols import Middleware as Middleware
from daglite.core.protocols import Next as Next
from daglite.core.task import MapTaskFuture as MapTaskFuture
from daglite.core.task import Task as Task
from daglite.core.task import TaskFuture as TaskFuture
from daglite.evaluation import evaluate as evaluate
from daglite.evaluation import evaluate_async as evaluate_async
from daglite.explanation import Explanation as Explanation
from daglite.explanation import explain as explain
from daglite.linting import Finding as Finding
from daglite.linting import lint as lint
from daglite.policies import Bulkhead as Bulkhead
from daglite.policies import CachePolicy as CachePolicy
from daglite.policies import Chaos as Chaos
from daglite.policies import CircuitBreaker as CircuitBreaker
from daglite.policies import FallbackPolicy as FallbackPolicy
from daglite.policies import Hedge as Hedge
from daglite.policies import MapPolicy as MapPolicy
from daglite.policies import Policy as Policy
from daglite.policies import PolicySet as PolicySet
from daglite.policies import RateLimit as RateLimit
from daglite.policies import ResourceLimits as ResourceLimits
from daglite.policies import RetryBudget as RetryBudget
from daglite.policies import RetryPolicy as RetryPolicy
from daglite.policies import TimeoutPolicy as TimeoutPolicy
from daglite.protection import protect as protect
from daglite.settings import DagliteSettings as DagliteSettings
from daglite.settings import get_global_settings as get_global_settings
from daglite.settings import set_global_settings as set_global_settings
from daglite.state.breaker import BreakerSnapshot as BreakerSnapshot

__version__: Final[str]
__all__ = [
    "Backend",
    "BreakerSnapshot",
    "Bulkhead",
    "CachePolicy",
    "Call",
    "Capabilities",
    "Chaos",
    "CircuitBreaker",
    "DagliteSettings",
    "Explanation",
    "FallbackPolicy",
    "Finding",
    "Hedge",
    "MapPolicy",
    "MapTaskFuture",
    "Middleware",
    "Next",
    "Outcome",
    "Policy",
    "PolicySet",
    "ProcessBackend",
    "RateLimit",
    "ResourceLimits",
    "RetryBudget",
    "RetryPolicy",
    "SequentialBackend",
    "Task",
    "TaskFuture",
    "ThreadBackend",
    "TimeoutPolicy",
    "breakers",
    "build_graph",
    "current_call",
    "evaluate",
    "evaluate_async",
    "explain",
    "find_backend",
    "force_open",
    "get_global_settings",
    "lint",
    "protect",
    "reset",
    "run_here",
    "set_global_settings",
    "task",
]
