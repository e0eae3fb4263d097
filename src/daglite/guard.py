"""
A function and its chain: how one call of a protected function is carried out.

    call ─► ready path: the function itself ─► value
                 │ it failed, or something must be waited for
                 └─► chain, on a kernel of this call alone ─► value · error

A chain that has nothing to do before the first attempt, or only to look at its state, isn't
entered: the function is called at once.  At its first failure the chain is, and finds the outcome
of that attempt in the call, as it does in `run_straight`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from itertools import count
from typing import Any, final

from daglite._clock import Clock
from daglite.backends.pool import slot_lender
from daglite.core.call import Call, Outcome, Target
from daglite.core.current import call_on_this_thread
from daglite.core.dispatch import Dispatch
from daglite.core.failures import error_of_function
from daglite.core.kernel import Kernel
from daglite.core.no_waits import no_waits
from daglite.core.on_loop import OnLoop, make_on_loop
from daglite.core.protocols import Backend
from daglite.core.run import Run
from daglite.exceptions import RunCancelledError, filled
from daglite.middleware.build import build_chain, prepare_states
from daglite.middleware.circuit import wake
from daglite.policies import PolicySet
from daglite.session import SILENT, new_run_id, process_states
from daglite.state.breaker import Breaker, Permit
from daglite.state.bucket import Bucket
from daglite.state.permits import Permits
from daglite.state.registry import Registry, Scope

__all__ = ["Guard"]

_shared = Registry({"process": process_states()})
"""What protected functions remember together: where their policies name a key."""


@final
class _States:
    """What one function's policies remember: by key with others, without one for itself alone."""

    def __init__(self) -> None:
        self._own = Registry({"process": process_states()})

    def _of(self, policy: Any) -> Registry:
        return self._own if policy.key is None else _shared

    def breaker(self, policy: Any, key: str, user: str, scope: Scope) -> Breaker:
        return self._of(policy).breaker(policy, key, user, scope)

    def bucket(self, policy: Any, key: str, user: str, scope: Scope) -> Bucket:
        return self._of(policy).bucket(policy, key, user, scope)

    def permits(self, policy: Any, key: str, user: str) -> Permits:
        return self._of(policy).permits(policy, key, user)

    def budget(self, policy: Any, key: str, user: str, scope: Scope) -> Any:
        return self._of(policy).budget(policy, key, user, scope)


@final
class Guard:
    """
    A function with its chain.

    Args:
        func: What to call.
        name: For messages.
        policies: Resolved.
        backend: Where untimed calls run in place, and timed ones on a helper thread.
        clock: Tells the time.
        on_loop: Whether *func* makes coroutines, which are awaited on the caller's event loop.

    Raises:
        PolicyError: A key is in use with another policy.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        name: str,
        policies: PolicySet,
        backend: Backend,
        clock: Clock,
        *,
        on_loop: bool,
    ) -> None:
        self._func = func
        self._policies = policies
        self._backend = backend
        self._clock = clock
        timeout = policies.timeout
        self._timed = timeout is not None
        self._in_context = self._timed and not on_loop
        self._target = Target(name, _in_context(func) if self._in_context else func)
        if timeout is not None:
            self._target.timed = True
            self._target.on_expiry, self._target.grace = timeout.on_expiry, timeout.grace
        innermost = make_on_loop if on_loop else Dispatch(backend)
        chain = build_chain(policies, innermost, backend)
        self._enter = innermost if chain is None else chain.enter
        self._states = _States()
        if chain is not None and chain.stateful:
            prepare_states(policies, self._states, name)
        self._numbers = count()
        breaker = policies.circuit_breaker
        self._times_calls = breaker is not None and breaker.slow_call is not None

    # -- ready paths --------------------------------------------------------------

    def function(self) -> Callable[..., Any]:
        """The function to be called in place of a plain one."""
        if not self._is_ready():
            return lambda *args, **kwargs: self.carry_out(args, kwargs)
        breaker, bucket, places = self._ready_states()
        if places is not None and breaker is None and bucket is None:
            return self._within(places)
        if bucket is not None or places is not None:
            return self._admitted(breaker, bucket, places)
        return self._plain() if breaker is None else self._behind(breaker)

    def async_function(self) -> Callable[..., Any]:
        """The same for an ``async def``."""
        if not self._is_ready():
            return self._all_of_the_chain()
        breaker, bucket, places = self._ready_states()
        if bucket is not None or places is not None:
            return self._all_of_the_chain()
        return self._plain_async() if breaker is None else self._behind_async(breaker)

    def _is_ready(self) -> bool:
        """Whether the chain has nothing to do before a call but to look at its states."""
        policies = self._policies
        retry, breaker = policies.retry, policies.circuit_breaker
        return not (
            policies.around_call
            or policies.around_attempt
            or policies.timeout is not None
            or (retry is not None and (retry.sees_results or retry.budget is not None))
            or (breaker is not None and breaker.counts == "call")
        )

    def _ready_states(self) -> tuple[Breaker | None, Bucket | None, Permits | None]:
        policies, states, name = self._policies, self._states, self._target.name
        breaker, bucket, places = policies.circuit_breaker, None, None
        rate, bulkhead = policies.rate_limit, policies.bulkhead
        if rate is not None:
            bucket = states.bucket(rate, rate.key or name, name, rate.scope)
        if bulkhead is not None:
            places = states.permits(bulkhead, bulkhead.key or name, name)
        if breaker is None or breaker.mode == "disabled":
            return None, bucket, places
        return states.breaker(breaker, breaker.key or name, name, breaker.scope), bucket, places

    def _plain(self) -> Callable[..., Any]:
        func, now, carry_out = self._func, self._clock.now, self.carry_out

        def protected(*args: Any, **kwargs: Any) -> Any:
            began = now()
            try:
                return func(*args, **kwargs)
            except Exception as error:
                before = Outcome.of_failure(error, began, now())
            # Out here, or what follows would seem to come of handling it.
            try:
                return carry_out(args, kwargs, before)
            finally:
                del before

        return protected

    def _plain_async(self) -> Callable[..., Any]:
        func, now, carry_out = self._func, self._clock.now, self.carry_out_async

        async def protected(*args: Any, **kwargs: Any) -> Any:
            began = now()
            try:
                return await func(*args, **kwargs)
            except Exception as error:
                before = Outcome.of_failure(error, began, now())
            try:
                return await carry_out(args, kwargs, before)
            finally:
                del before

        return protected

    def _behind(self, breaker: Breaker) -> Callable[..., Any]:
        func, now, carry_out = self._func, self._clock.now, self.carry_out
        succeed, times_calls = breaker.succeed, self._times_calls

        def protected(*args: Any, **kwargs: Any) -> Any:
            permit = breaker.passing
            if permit is None or no_waits:
                return carry_out(args, kwargs)
            began = now()
            try:
                value = func(*args, **kwargs)
            except Exception as error:
                before = Outcome.of_failure(error, began, now())
            else:
                if permit is breaker.calm and not times_calls:
                    return value
                moved = succeed(permit, began, now())
                if moved is not None:
                    wake(moved.wake)
                return value
            try:
                return carry_out(args, kwargs, before, permit)
            finally:
                del before

        return protected

    def _behind_async(self, breaker: Breaker) -> Callable[..., Any]:
        func, now, carry_out = self._func, self._clock.now, self.carry_out_async
        succeed, times_calls = breaker.succeed, self._times_calls

        async def protected(*args: Any, **kwargs: Any) -> Any:
            permit = breaker.passing
            if permit is None or no_waits:
                return await carry_out(args, kwargs)
            began = now()
            try:
                value = await func(*args, **kwargs)
            except Exception as error:
                before = Outcome.of_failure(error, began, now())
            else:
                if permit is breaker.calm and not times_calls:
                    return value
                moved = succeed(permit, began, now())
                if moved is not None:
                    wake(moved.wake)
                return value
            try:
                return await carry_out(args, kwargs, before, permit)
            finally:
                del before

        return protected

    def _within(self, places: Permits) -> Callable[..., Any]:
        func, now, carry_out = self._func, self._clock.now, self.carry_out
        take, release = places.take, places.release

        def protected(*args: Any, **kwargs: Any) -> Any:
            if not take():
                return carry_out(args, kwargs)
            began = now()
            try:
                return func(*args, **kwargs)
            except Exception as error:
                before = Outcome.of_failure(error, began, now())
            finally:
                woken: Any = release()
                if woken is not None:
                    woken()
            try:
                return carry_out(args, kwargs, before)
            finally:
                del before

        return protected

    def _admitted(
        self, breaker: Breaker | None, bucket: Bucket | None, places: Permits | None
    ) -> Callable[..., Any]:
        func, now, carry_out = self._func, self._clock.now, self.carry_out

        def protected(*args: Any, **kwargs: Any) -> Any:
            permit = None if breaker is None else breaker.passing
            began = now()
            if no_waits or (permit is None and breaker is not None):
                return carry_out(args, kwargs)
            turn = None if bucket is None else bucket.reserve(began)
            if (turn is not None and turn.wait) or (places is not None and not places.take()):
                if turn is not None and bucket is not None:
                    bucket.give_back(turn)
                return carry_out(args, kwargs)
            try:
                value = func(*args, **kwargs)
            except Exception as error:
                before = Outcome.of_failure(error, began, now())
            else:
                moved = None
                if breaker is not None and permit is not None:
                    moved = breaker.succeed(permit, began, now())
                if moved is not None:
                    wake(moved.wake)
                return value
            finally:
                if places is not None:
                    wake([places.release()])
            try:
                return carry_out(args, kwargs, before, permit)
            finally:
                del before

        return protected

    def _all_of_the_chain(self) -> Callable[..., Any]:
        carry_out = self.carry_out_async

        async def protected(*args: Any, **kwargs: Any) -> Any:
            return await carry_out(args, kwargs)

        return protected

    # -- the chain ----------------------------------------------------------------

    def carry_out(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        before: Outcome | None = None,
        permit: Permit | None = None,
    ) -> Any:
        """
        Send a call through the chain, on this thread.

        Args:
            args, kwargs: Its arguments.
            before: How its first attempt ended, if that was made already.
            permit: The breaker's, for that attempt.

        Returns:
            What the function returned, or a fallback.

        Raises:
            ExecutionError: It failed.
        """
        call = self._call(Kernel(self._clock), args, kwargs, before, permit)
        run, outer = call.run, call_on_this_thread.call
        if outer is None:
            outcome = self._outcome_of(call)
        else:
            # In a task: its cancellation is ours, and while we wait others have its slot.
            run.caller = outer
            run.kernel.while_waiting = slot_lender()
            with outer.run.nesting(run, outer):
                outcome = self._outcome_of(call)
        return _settled(call, outcome)

    async def carry_out_async(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        before: Outcome | None = None,
        permit: Permit | None = None,
    ) -> Any:
        """The same in the running task of an event loop; see `carry_out`."""
        on_loop = OnLoop(self._clock)
        call = self._call(on_loop.kernel, args, kwargs, before, permit)
        call.run.on_loop = on_loop
        return _settled(call, await on_loop.carry_out(self._enter, call))

    def _call(
        self,
        kernel: Kernel,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        before: Outcome | None,
        permit: Permit | None,
    ) -> Call:
        run_id = new_run_id()
        run = Run(run_id, kernel, SILENT, seed=run_id)
        run.of_graph = False
        run.states = self._states
        if self._in_context:
            args = (copy_context(), *args)
        if kwargs:
            args = (*args, *kwargs.values())
        call = Call(run, self._target, 0, next(self._numbers), None, args, tuple(kwargs))
        if before is not None:
            call.done_before, call.granted = before, permit
            run.began = run.began if before.started is None else before.started
        return call

    def _outcome_of(self, call: Call) -> Outcome:
        run, kernel = call.run, call.run.kernel
        activity = kernel.spawn(_through(self._enter, call))
        try:
            while not activity.done:
                if run.cancelled:
                    raise filled(RunCancelledError(f"the call of {call.node_name!r} was cancelled"))
                kernel.turn()
        finally:
            run.stopped = True
            if not activity.done:
                kernel.cancel(activity)
                kernel.turn(block=False)
            if self._timed:
                self._backend.cancel_run(run)
        # A middleware raised: its fault, but this call's failure.
        return Outcome(error=activity.error) if activity.error is not None else activity.value


def _settled(call: Call, outcome: Outcome) -> Any:
    error = outcome.error
    if error is None:
        return outcome.value
    try:
        if isinstance(error, Exception):
            raise error_of_function(call, outcome)
        # `SystemExit`, or a cancellation: no failure of the function.
        raise error
    finally:
        # It leads back here.
        del error, outcome


def _in_context(func: Callable[..., Any]) -> Callable[..., Any]:
    """*func* for a helper thread: in the context of the caller."""

    def in_context(context: Context, /, *args: Any, **kwargs: Any) -> Any:
        # Each attempt has one of its own, as an abandoned one may still be in it.
        return context.copy().run(func, *args, **kwargs)

    return in_context


async def _through(enter: Callable[[Call], Any], call: Call) -> Outcome:
    outcome: Outcome = await enter(call)
    return outcome
