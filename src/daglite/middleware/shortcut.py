"""
A way past the chain, for calls that have to wait for nothing.

    states let it go ─► the function ─► value, and the breaker is told
        │ not now          │ it failed, or takes longer than its limit
        └──────────────────┴─► the chain, which finds what was done already in the call

Most calls succeed at once, and to look at the states costs a part of what the chain does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, final

from daglite.core.call import Call, Outcome
from daglite.core.dispatch import Dispatch
from daglite.core.no_waits import no_waits
from daglite.core.on_loop import Attempt
from daglite.core.run import Run
from daglite.middleware.circuit import tell
from daglite.policies import PolicySet
from daglite.state.answers import Permit, Transition
from daglite.state.permits import Permits
from daglite.state.registry import States
from daglite.state.shared import AnyBreaker, AnyBucket

__all__ = ["Chained", "Made", "Shortcut", "may_skip"]

Made: TypeAlias = Callable[[tuple[Any, ...], Mapping[str, Any]], Call]
"""Makes the call of a function with these arguments."""


class Chained(Protocol):
    """
    Sends a call through its chain, or has that done.

    Args:
        args, kwargs: Its arguments.
        before: How its first attempt ended, if that was made.
        permit: The breaker's, for that attempt.
        call: The call, if there is one already; it may still be under way.
    """

    def __call__(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        before: Outcome | None = None,
        permit: Permit | None = None,
        call: Call | None = None,
    ) -> Any: ...


def may_skip(policies: PolicySet) -> bool:
    """Whether the chain of *policies* has nothing to do before a call but to look at states."""
    retry, breaker = policies.retry, policies.circuit_breaker
    return not (
        policies.around_call
        or policies.around_attempt
        or policies.hedge is not None
        or (retry is not None and (retry.sees_results or retry.budget is not None))
        or (breaker is not None and breaker.counts == "call")
    )


class _Gate(NamedTuple):
    """
    What the states say; None: there is nothing to ask.

    `enter` takes the time, and returns a permit or None: the call has to wait.  A call that has
    entered owes `places` a release, and `circuit` is to be told of one that succeeds.
    """

    enter: Callable[[float], object] | None
    places: Permits | None
    circuit: AnyBreaker | None


@final
class Shortcut:
    """
    Makes the functions that take the short way.

    Args:
        policies: Those of a chain that `may_skip` allows to skip.
        name: The task's or the function's, for states without a key.
    """

    def __init__(self, policies: PolicySet, name: str) -> None:
        self._policies = policies
        self._name = name
        timeout = policies.timeout
        self._total = None if timeout is None else timeout.total
        self.limit: float | None = None
        """Seconds that a call may take before its chain is entered; None: it is untimed."""
        if timeout is not None:
            limits = [each for each in (timeout.attempt, timeout.total) if each is not None]
            self.limit = min(limits)

    def in_run(
        self,
        dispatch: Dispatch,
        body: Callable[..., Any],
        run: Run,
        made: Made,
        chained: Chained,
    ) -> Callable[..., Any]:
        """What *run* calls in place of *body*, the body of a task."""
        states, now, told = run.states, run.kernel.now, partial(tell, run)
        if self.limit is None:
            return self.plain(body, states, now, told, chained)
        return self.timed(dispatch.ahead, made, states, now, told, chained)

    def plain(
        self,
        func: Callable[..., Any],
        states: States,
        now: Callable[[], float],
        told: Callable[[Transition], None],
        chained: Chained,
    ) -> Callable[..., Any]:
        """*func*, called in place."""
        enter, places, circuit = self._gate(states)
        release = None if places is None else places.release

        def protected(*args: Any, **kwargs: Any) -> Any:
            permit: Any = None
            began = now()
            if enter is not None:
                permit = enter(began)
                if permit is None:
                    return chained(args, kwargs)
            try:
                value = func(*args, **kwargs)
            except Exception as error:
                before = Outcome.of_failure(error, began, now())
            else:
                if circuit is not None and permit is not circuit.calm:
                    moved = circuit.succeed(permit, began, now())
                    if moved is not None:
                        told(moved)
                return value
            finally:
                if release is not None:
                    woken: Any = release()
                    if woken is not None:
                        woken()
            # Out here, or what follows would seem to come of handling it.
            try:
                return chained(args, kwargs, before, permit)
            finally:
                del before

        return protected

    def awaited(
        self,
        func: Callable[..., Awaitable[Any]],
        states: States,
        now: Callable[[], float],
        told: Callable[[Transition], None],
        chained: Chained,
    ) -> Callable[..., Awaitable[Any]]:
        """The same for an ``async def``."""
        enter, places, circuit = self._gate(states)
        release = None if places is None else places.release

        async def protected(*args: Any, **kwargs: Any) -> Any:
            permit: Any = None
            began = now()
            if enter is not None:
                permit = enter(began)
                if permit is None:
                    return await chained(args, kwargs)
            try:
                value = await func(*args, **kwargs)
            except Exception as error:
                before = Outcome.of_failure(error, began, now())
            else:
                if circuit is not None and permit is not circuit.calm:
                    moved = circuit.succeed(permit, began, now())
                    if moved is not None:
                        told(moved)
                return value
            finally:
                if release is not None:
                    woken: Any = release()
                    if woken is not None:
                        woken()
            try:
                return await chained(args, kwargs, before, permit)
            finally:
                del before

        return protected

    def timed(
        self,
        ahead: Callable[[Call, float], Outcome | None],
        made: Made,
        states: States,
        now: Callable[[], float],
        told: Callable[[Transition], None],
        chained: Chained,
    ) -> Callable[..., Any]:
        """What *made* makes, where *ahead* runs it (see `Dispatch.ahead`)."""
        enter, places, circuit = self._gate(states)
        leave = None if places is None else partial(_leave, places)
        limit, total = self.limit, self._total
        assert limit is not None

        def protected(*args: Any, **kwargs: Any) -> Any:
            permit: Any = None
            began = now()
            if enter is not None:
                permit = enter(began)
                if permit is None:
                    return chained(args, kwargs)
            call, held = None, leave
            try:
                call = made(args, kwargs)
                call.due = began
                if total is not None:
                    call.expires = began + total
                outcome = ahead(call, limit)
                if outcome is None:
                    # It goes on, and so it keeps its place.
                    call.held, held = held, None
            finally:
                if held is not None:
                    held()
            if outcome is not None and outcome.error is None:
                if circuit is not None and permit is not circuit.calm:
                    ended = now()
                    moved = circuit.succeed(permit, ended - outcome.ran, ended)
                    if moved is not None:
                        told(moved)
                return outcome.value
            try:
                return chained(args, kwargs, outcome, permit, call)
            finally:
                del call, outcome

        return protected

    def timed_on_loop(
        self,
        func: Callable[..., Awaitable[Any]],
        made: Made,
        states: States,
        now: Callable[[], float],
        told: Callable[[Transition], None],
        chained: Chained,
    ) -> Callable[..., Awaitable[Any]]:
        """*func* on an event loop; *made* makes the call for its chain, if it has to be entered."""
        enter, places, circuit = self._gate(states)
        leave = None if places is None else partial(_leave, places)
        limit = self.limit
        assert limit is not None

        async def protected(*args: Any, **kwargs: Any) -> Any:
            permit: Any = None
            began = now()
            if enter is not None:
                permit = enter(began)
                if permit is None:
                    return await chained(args, kwargs)
            call, held = None, leave
            try:
                attempt = Attempt(partial(func, *args, **kwargs), now)
                outcome = await attempt.within(limit)
                if outcome is None or outcome.error is not None:
                    call = made(args, kwargs)
                    call.due = began
                if outcome is None and call is not None:
                    call.run.on_loop.adopt(call, attempt)
                    call.held, held = held, None
            finally:
                if held is not None:
                    held()
            if outcome is not None and outcome.error is None:
                if circuit is not None and permit is not circuit.calm:
                    ended = now()
                    moved = circuit.succeed(permit, ended - outcome.ran, ended)
                    if moved is not None:
                        told(moved)
                return outcome.value
            try:
                return await chained(args, kwargs, outcome, permit, call)
            finally:
                del call, outcome

        return protected

    # -- what the states say ------------------------------------------------------

    def _gate(self, states: States) -> _Gate:
        policies, name = self._policies, self._name
        breaker, rate, bulkhead = policies.circuit_breaker, policies.rate_limit, policies.bulkhead
        circuit, bucket, places = None, None, None
        if breaker is not None and breaker.mode != "disabled":
            circuit = states.breaker(breaker, breaker.key or name, name, breaker.scope)
        if rate is not None:
            bucket = states.bucket(rate, rate.key or name, name, rate.scope)
        if bulkhead is not None:
            places = states.permits(bulkhead, bulkhead.key or name, name)
        return _Gate(_enter(circuit, bucket, places), places, circuit)


def _leave(places: Permits) -> None:
    woken: Any = places.release()
    if woken is not None:
        woken()


def _enter(
    breaker: AnyBreaker | None, bucket: AnyBucket | None, places: Permits | None
) -> Callable[[float], object] | None:
    if breaker is None and bucket is None:
        if places is None:
            return None
        take = places.take
        return lambda now: take() or None
    if breaker is not None and bucket is None and places is None:
        return lambda now: None if no_waits else breaker.passing

    def enter(now: float) -> object:
        permit: object = True if breaker is None else breaker.passing
        if no_waits or permit is None:
            return None
        if places is not None and not places.take():
            return None
        if bucket is None or bucket.take_at_once(now):
            return permit
        if places is not None:
            _leave(places)
        return None

    return enter
