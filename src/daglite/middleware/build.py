"""
Which middleware serves which policy, and in which order: the only place.

    around_call → total timeout → retry → around_attempt → attempt timeout → backend
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import NamedTuple

from daglite.core.call import Call, Outcome
from daglite.core.protocols import Middleware, Next
from daglite.middleware.deadline import TotalTimeout
from daglite.middleware.retry import Retry
from daglite.middleware.timeout import AttemptTimeout
from daglite.policies import PolicySet

__all__ = ["Chain", "build_chain"]


class Chain(NamedTuple):
    """
    A compiled chain.

    `enter` takes a call and returns how it ended.  A chain is `passive` when it would do
    nothing before the first attempt, and nothing after it if that succeeds.
    """

    enter: Next
    passive: bool


def build_chain(policies: PolicySet, innermost: Next) -> Chain | None:
    """
    Compose what *policies* ask for around *innermost*; None if they ask for nothing.

    Args:
        policies: The resolved policies of a task.
        innermost: Runs a call on its backend.
    """
    retry, timeout = policies.retry, policies.timeout
    links: list[Middleware] = [*policies.around_call]
    if timeout is not None and timeout.total is not None:
        links.append(TotalTimeout(timeout.total))
    if retry is not None:
        links.append(Retry(retry))
    links.extend(policies.around_attempt)
    if timeout is not None and timeout.attempt is not None:
        links.append(AttemptTimeout(timeout.attempt))
    if not links:
        return None
    enter = innermost
    for link in reversed(links):
        enter = _linked(link, enter)
    only_retry = len(links) == 1 and retry is not None and not retry.sees_results
    return Chain(enter, passive=only_retry)


def _linked(middleware: Middleware, call_next: Next) -> Next:
    def enter(call: Call) -> Awaitable[Outcome]:
        return middleware(call, call_next)

    return enter
