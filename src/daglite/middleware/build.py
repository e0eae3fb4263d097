"""
Which middleware serves which policy, and in which order: the only place.

    around_call → total timeout → retry → around_attempt → attempt timeout → backend
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, NamedTuple, final

from daglite.core.call import Call, Outcome
from daglite.core.protocols import Middleware, Next
from daglite.exceptions import PolicyError
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
    links: list[Middleware] = [_Checked(each) for each in policies.around_call]
    if timeout is not None and timeout.total is not None:
        links.append(TotalTimeout(timeout.total))
    if retry is not None:
        links.append(Retry(retry))
    links.extend(_Checked(each) for each in policies.around_attempt)
    if timeout is not None and timeout.attempt is not None:
        links.append(AttemptTimeout(timeout.attempt))
    if not links:
        return None
    enter = innermost
    for link in reversed(links):
        enter = _linked(link, enter)
    only_retry = len(links) == 1 and retry is not None and not retry.sees_results
    return Chain(enter, passive=only_retry)


@final
class _Checked:
    """A user's middleware: it must give an outcome back, or its call would never end."""

    def __init__(self, middleware: Middleware) -> None:
        self._middleware = middleware

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        made: Any = self._middleware(call, call_next)
        if inspect.isawaitable(made):
            made = await made
            if isinstance(made, Outcome):
                return made
        name = getattr(self._middleware, "__qualname__", repr(self._middleware))
        return Outcome(
            error=PolicyError(
                f"the middleware {name} gave {made!r:.60} back instead of an outcome; it must be "
                "an async function that ends with: return await call_next(call)"
            )
        )


def _linked(middleware: Middleware, call_next: Next) -> Next:
    def enter(call: Call) -> Awaitable[Outcome]:
        return middleware(call, call_next)

    return enter
