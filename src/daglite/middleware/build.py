"""
Which middleware serves which policy, and in which order: the only place.

    around_call → fallback → total timeout → (circuit of calls) → retry → (growing limits)
        → hedge → around_attempt → circuit, rate, bulkhead → attempt timeout → (chaos) → backend
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any, NamedTuple, final

from daglite.core.call import Call, Outcome
from daglite.core.protocols import Backend, Middleware, Next
from daglite.exceptions import PolicyError
from daglite.middleware.admission import Admission
from daglite.middleware.chaos import FaultInjection
from daglite.middleware.circuit import CircuitOfCalls
from daglite.middleware.deadline import TotalTimeout
from daglite.middleware.fallback import Fallback
from daglite.middleware.growth import Growth
from daglite.middleware.hedge import Hedging
from daglite.middleware.retry import Retry
from daglite.middleware.shortcut import may_skip
from daglite.middleware.timeout import AttemptTimeout
from daglite.policies import CircuitBreaker, PolicySet
from daglite.state.registry import States

__all__ = ["Chain", "build_chain", "links_of", "prepare_states"]


class Chain(NamedTuple):
    """
    A compiled chain.

    `enter` takes a call and returns how it ended.  A chain is `passive` when it would do
    nothing before the first attempt, and nothing after it if that succeeds.  It is `stateful`
    when it needs `Run.states`.  One that `may_skip` can be gone past by a `Shortcut`.
    """

    enter: Next
    passive: bool
    stateful: bool
    may_skip: bool


def build_chain(
    policies: PolicySet, innermost: Next, backend: Backend, *, chaos: bool = False
) -> Chain | None:
    """
    Compose what *policies* ask for around *innermost*; None if they ask for nothing.

    Args:
        policies: The resolved policies of a task.
        innermost: Runs a call on its backend.
        backend: That backend.
        chaos: Whether the run has asked for faults.

    Raises:
        PolicyError: An error of `Chaos` can't be made.
    """
    links = [link for _, link in links_of(policies, backend, chaos=chaos)]
    if not links:
        return None
    enter = innermost
    for link in reversed(links):
        enter = _linked(link, enter)
    retry, breaker = policies.retry, _working(policies.circuit_breaker)
    rate, bulkhead = policies.rate_limit, policies.bulkhead
    budget = None if retry is None else retry.budget
    stateful = any(policy is not None for policy in (breaker, rate, bulkhead, budget))
    faults = chaos and policies.chaos is not None and policies.chaos.rate > 0
    skips = may_skip(policies) and not faults
    passive = skips and not stateful and policies.timeout is None
    return Chain(enter, passive, stateful, skips)


def links_of(
    policies: PolicySet, backend: Backend, *, chaos: bool = False
) -> list[tuple[str, Middleware]]:
    """The links of a chain, the outermost first, each with its name for people."""
    retry, timeout, breaker = policies.retry, policies.timeout, _working(policies.circuit_breaker)
    rate, bulkhead = policies.rate_limit, policies.bulkhead
    of_calls = breaker is not None and breaker.counts == "call"
    links: list[tuple[str, Middleware]] = []
    links += [("around_call", _Checked(each)) for each in policies.around_call]
    if policies.fallback is not None:
        links.append(("fallback", Fallback(policies.fallback)))
    if timeout is not None and timeout.total is not None:
        links.append(("total timeout", TotalTimeout(timeout.total)))
    if breaker is not None and of_calls:
        links.append(("circuit breaker", CircuitOfCalls(breaker)))
    if retry is not None:
        links.append(("retry", Retry(retry, losses=backend.capabilities.loses_workers)))
    if retry is not None and policies.limits is not None and policies.limits.grow > 1:
        links.append(("growing limits", Growth(policies.limits.grow)))
    if policies.hedge is not None:
        links.append(("hedge", Hedging(policies.hedge)))
    links += [("around_attempt", _Checked(each)) for each in policies.around_attempt]
    circuit = None if of_calls else breaker
    faults = chaos and policies.chaos is not None and policies.chaos.rate > 0
    admits = {"circuit breaker": circuit, "rate limit": rate, "bulkhead": bulkhead}
    if any(each is not None for each in admits.values()):
        name = " + ".join(name for name, each in admits.items() if each is not None)
        links.append((name, Admission(backend, circuit, rate, bulkhead, early=not faults)))
    if timeout is not None and timeout.attempt is not None:
        links.append(("attempt timeout", AttemptTimeout(timeout.attempt)))
    if faults and policies.chaos is not None:
        links.append(("chaos", FaultInjection(policies.chaos)))
    return links


def _working(breaker: CircuitBreaker | None) -> CircuitBreaker | None:
    return None if breaker is None or breaker.mode == "disabled" else breaker


@final
class _Checked:
    """A user's middleware: whatever it does, its call ends with an outcome."""

    def __init__(self, middleware: Middleware) -> None:
        self._middleware = middleware

    async def __call__(self, call: Call, call_next: Next, /) -> Outcome:
        try:
            made: Any = self._middleware(call, call_next)
            if inspect.isawaitable(made):
                made = await made
                if isinstance(made, Outcome):
                    return made
        except Exception as error:
            return _failure(call.latest, error)
        name = getattr(self._middleware, "__qualname__", repr(self._middleware))
        wrong = PolicyError(
            f"the middleware {name} gave {made!r:.60} back instead of an outcome; it must be "
            "an async function that ends with: return await call_next(call)"
        )
        return _failure(call.latest, wrong)


def _failure(call: Call, error: Exception) -> Outcome:
    """The outcome of *call*, whose function may have run, or not, before *error* came."""
    ran = 0.0 if call.started is None else call.now() - call.started
    return Outcome(error=error, started=call.started, ran=ran, worker=call.worker)


def prepare_states(policies: PolicySet, states: States, task: str) -> None:
    """
    Make what *policies* remember of calls of *task*, before the first one.

    Raises:
        PolicyError: A key is in use with another policy.
    """
    breaker, rate, bulkhead = policies.circuit_breaker, policies.rate_limit, policies.bulkhead
    if breaker is not None and breaker.mode != "disabled":
        states.breaker(breaker, breaker.key or task, task, breaker.scope)
    if rate is not None:
        states.bucket(rate, rate.key or task, task, rate.scope)
    if bulkhead is not None:
        states.permits(bulkhead, bulkhead.key or task, task)
    budget = None if policies.retry is None else policies.retry.budget
    if budget is not None:
        states.budget(budget, budget.key or task, task, budget.scope)


def _linked(middleware: Middleware, call_next: Next) -> Next:
    def enter(call: Call) -> Awaitable[Outcome]:
        return middleware(call, call_next)

    return enter
