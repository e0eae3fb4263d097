"""
A function and its chain: how one call of a protected function is carried out.

    call ─► shortcut: the function itself ─► value
                 │ it failed, or something must be waited for
                 └─► chain, on a kernel of this call alone ─► value · error

Where a `Shortcut` can be taken the chain is entered at the first failure alone, and finds the
outcome of that attempt in the call, as it does in `run_straight`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from itertools import count
from types import FunctionType
from typing import Any, final

from daglite._clock import Clock
from daglite.backends.pool import slot_lender
from daglite.core.attempts import let_go
from daglite.core.call import Call, Outcome, Target
from daglite.core.current import call_on_this_thread
from daglite.core.dispatch import Dispatch
from daglite.core.failures import error_of_function
from daglite.core.interrupts import held_off, holding_off, interruptible
from daglite.core.kernel import Kernel
from daglite.core.on_loop import OnLoop, make_on_loop
from daglite.core.protocols import Backend
from daglite.core.run import Run
from daglite.exceptions import RunCancelledError, filled
from daglite.host_states import HostStates
from daglite.middleware.build import build_chain, prepare_states
from daglite.middleware.circuit import wake
from daglite.middleware.shortcut import Shortcut, may_skip
from daglite.policies import PolicySet
from daglite.session import SILENT, new_run_id
from daglite.settings import get_global_settings
from daglite.state.answers import Permit, Transition
from daglite.state.permits import Permits
from daglite.state.process import states_of
from daglite.state.registry import Definition, Registry, Scope
from daglite.state.shared import AnyBreaker, AnyBucket

__all__ = ["Guard"]


@final
class _States:
    """What one function's policies remember: by key with others, without one for itself alone."""

    def __init__(self, clock: Clock, owner: Definition | None) -> None:
        shared = states_of(clock).functions
        host = HostStates(clock, get_global_settings().state_dir)
        self._own = Registry()
        # All of them from one place, where a key that is used with two scopes is found out.
        self._keyed = Registry({"run": shared, "process": shared, "host": host}, owner=owner)

    def _of(self, policy: Any) -> Registry:
        return self._own if policy.key is None else self._keyed

    def breaker(self, policy: Any, key: str, user: str, scope: Scope) -> AnyBreaker:
        return self._of(policy).breaker(policy, key, user, scope)

    def bucket(self, policy: Any, key: str, user: str, scope: Scope) -> AnyBucket:
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
        self._policies = policies
        self._backend = backend
        self._clock = clock
        self._timed = policies.timeout is not None
        self._in_context = self._timed and not on_loop
        self._states = _States(clock, _definition_of(func))
        # The chain holds interrupts off; the function has none of its places to give back.
        self._func = func if self._timed or on_loop else interruptible(func)
        self._holds_off = not on_loop and (self._timed or policies.bulkhead is not None)
        self._target = self._targeted(name)
        self._dispatch = Dispatch(backend)
        innermost = make_on_loop if on_loop else self._dispatch
        chain = build_chain(policies, innermost, backend)
        self._enter = innermost if chain is None else chain.enter
        if chain is not None and chain.stateful:
            prepare_states(policies, self._states, name)
        self._numbers = count()
        self._shortcut = Shortcut(policies, name) if may_skip(policies) else None
        if not self._holds_off:
            self._func = func

    def _targeted(self, name: str) -> Target:
        timeout = self._policies.timeout
        target = Target(name, _in_context(self._func) if self._in_context else self._func)
        if timeout is not None:
            target.timed = True
            target.on_expiry, target.grace = timeout.on_expiry, timeout.grace
        return target

    def function(self) -> Callable[..., Any]:
        """The function to be called in place of a plain one."""
        shortcut, now, chained = self._shortcut, self._clock.now, self.carry_out
        if shortcut is None:
            return lambda *args, **kwargs: chained(args, kwargs)
        if shortcut.limit is None:
            ready = shortcut.plain(self._func, self._states, now, _told, chained)
        else:
            ready = shortcut.timed(self._ahead, self._made, self._states, now, _told, chained)
        return holding_off(ready) if self._holds_off else ready

    def async_function(self) -> Callable[..., Any]:
        """The same for an ``async def``."""
        shortcut, now, chained = self._shortcut, self._clock.now, self.carry_out_async
        if shortcut is None:
            return self._all_of_the_chain()
        if shortcut.limit is None:
            return shortcut.awaited(self._func, self._states, now, _told, chained)
        return shortcut.timed_on_loop(
            self._func, self._made_on_loop, self._states, now, _told, chained
        )

    def _all_of_the_chain(self) -> Callable[..., Any]:
        carry_out = self.carry_out_async

        async def protected(*args: Any, **kwargs: Any) -> Any:
            return await carry_out(args, kwargs)

        return protected

    def _made(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        return self._call(Kernel(self._clock), args, kwargs)

    def _made_on_loop(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        on_loop = OnLoop(self._clock)
        call = self._call(on_loop.kernel, args, kwargs)
        call.run.on_loop = on_loop
        return call

    def _ahead(self, call: Call, limit: float) -> Outcome | None:
        """Make the timed *call* before its chain is entered; None: it takes too long."""
        run, goes_on = call.run, False
        try:
            if call_on_this_thread.call is None:
                outcome = self._dispatch.ahead(call, limit)
            else:
                with _as_nested(run):
                    outcome = self._dispatch.ahead(call, limit)
            goes_on = outcome is None or outcome.error is not None
        finally:
            if not goes_on:
                self._backend.cancel_run(run)
        return outcome

    def carry_out(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        before: Outcome | None = None,
        permit: Permit | None = None,
        call: Call | None = None,
    ) -> Any:
        """
        Send a call through the chain, on this thread.

        Args:
            args, kwargs: Its arguments.
            before: How its first attempt ended, if that was made already.
            permit: The breaker's, for that attempt.
            call: The call, if there is one already.

        Returns:
            What the function returned, or a fallback.

        Raises:
            ExecutionError: It failed.
        """
        if call is None:
            call = self._made(args, kwargs)
        _had(call, before, permit)
        with held_off(), _as_nested(call.run):
            outcome = self._outcome_of(call)
        try:
            return _settled(call, outcome)
        finally:
            # They lead back to this frame.
            del before, call, outcome

    async def carry_out_async(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        before: Outcome | None = None,
        permit: Permit | None = None,
        call: Call | None = None,
    ) -> Any:
        """The same in the running task of an event loop; see `carry_out`."""
        if call is None:
            call = self._made_on_loop(args, kwargs)
        _had(call, before, permit)
        outcome = await call.run.on_loop.carry_out(self._enter, call)
        try:
            return _settled(call, outcome)
        finally:
            del before, call, outcome

    def _call(self, kernel: Kernel, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        run_id = new_run_id()
        run = Run(run_id, kernel, SILENT, seed=run_id)
        run.of_graph = False
        run.states = self._states
        if self._in_context:
            args = (copy_context(), *args)
        if kwargs:
            args = (*args, *kwargs.values())
        return Call(run, self._target, 0, next(self._numbers), None, args, tuple(kwargs))

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
            kernel.end()
        if activity.error is not None:
            # A middleware raised: its fault, but this call's failure.
            return Outcome(error=activity.error)
        outcome: Outcome = activity.value
        # What the call was waited for by would lead from its error back to the call.
        del activity.value
        return outcome


def _as_nested(run: Run) -> AbstractContextManager[None]:
    """In a task, its cancellation is that of *run*, and while that waits others have its slot."""
    outer = call_on_this_thread.call
    if outer is None:
        return _alone
    run.caller = outer
    run.kernel.while_waiting = slot_lender()
    return outer.run.nesting(run, outer)


_alone = nullcontext()


def _had(call: Call, before: Outcome | None, permit: Permit | None) -> None:
    """Leave in *call* what was done of it before."""
    call.granted = permit
    if before is not None:
        call.done_before = before
        if before.started is not None:
            call.run.began = before.started


def _told(moved: Transition) -> None:
    """Nobody listens to a protected function but those who wait."""
    wake(moved.wake)


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
        let_go(error, beyond=True)
        # It leads back here.
        del error, outcome


def _definition_of(func: Callable[..., Any]) -> Definition | None:
    """Where *func* is defined, if there is one such function at a time."""
    if not isinstance(func, FunctionType) or "<" in func.__qualname__:
        return None
    return Definition(f"{func.__module__}.{func.__qualname__}", id(func))


def _in_context(func: Callable[..., Any]) -> Callable[..., Any]:
    """*func* for a helper thread: in the context of the caller."""

    def in_context(context: Context, /, *args: Any, **kwargs: Any) -> Any:
        # Each attempt has one of its own, as an abandoned one may still be in it.
        return context.copy().run(func, *args, **kwargs)

    return in_context


async def _through(enter: Callable[[Call], Any], call: Call) -> Outcome:
    outcome: Outcome = await enter(call)
    return outcome
