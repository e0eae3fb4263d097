"""From a task to its step: which policies it has, where it runs, and through which chain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, final

from daglite.core.dispatch import Dispatch
from daglite.core.graph import TaskInfo
from daglite.core.plan import Step
from daglite.core.protocols import Backend
from daglite.exceptions import BackendError, PolicyError
from daglite.middleware.build import build_chain
from daglite.middleware.shortcut import Shortcut
from daglite.policies import PolicySet, ResourceLimits, RetryPolicy, TimeoutPolicy, resolve_policies
from daglite.settings import DagliteSettings

__all__ = ["NOT_YET", "Planner", "check_carried_out", "check_promises"]

NOT_YET = frozenset(
    {
        "cache",
    }
)
"""Slots of a set, and fields of a slot, for which there is no middleware yet."""


@final
class Planner:
    """
    Makes the steps of tasks, which keep them: a step may lead back to its task.

    Args:
        settings: The weakest layer: policies of tasks for which no other layer has one.
        default_backend: For tasks that name none.
        find: Gives a backend by its name, or the backend that it is given.
        policies: Defaults, which fill what the tasks leave open.
        overrides: The last word over the tasks.
        chaos: Whether `Chaos` strikes; else it isn't even looked at.

    Raises:
        SettingsError: *settings* has a value that can't be.
    """

    def __init__(
        self,
        settings: DagliteSettings,
        default_backend: str | Backend,
        find: Callable[[str | Backend], Backend],
        policies: PolicySet | None = None,
        overrides: PolicySet | None = None,
        *,
        chaos: bool = False,
    ) -> None:
        settings.validate()
        self._default_backend = default_backend
        self._find = find
        self._chaos = chaos
        self._of_settings = _of_settings(settings)
        self._weaker = [] if policies is None else [("evaluate(policies=)", policies)]
        self._stronger = [] if overrides is None else [("evaluate(overrides=)", overrides)]

    def step_of(self, task: TaskInfo) -> Step:
        """
        What the plan says of *task*.

        Raises:
            BackendError: Its backend is unknown.
            PolicyError: Its policies contradict each other, or the backend can't keep them.
        """
        step: Step | None = task.steps.get(self)
        if step is None:
            step = task.steps[self] = self._made(task)
        return step

    def _made(self, task: TaskInfo) -> Step:
        layers = [*self._weaker, ("@task", task.policies), *self._stronger]
        spoken = {slot for _, layer in layers for slot in layer.given}
        left = {slot: p for slot, p in self._of_settings.items() if slot not in spoken}
        try:
            policies = resolve_policies([("settings", PolicySet(**left)), *layers])
        except PolicyError as error:
            raise PolicyError(f"task {task.name!r}: {error.problem}", fix=error.fix) from error
        check_carried_out(f"task {task.name!r}", policies)
        try:
            backend, moved_for = self._backend_for(task, policies)
        except BackendError as error:
            raise BackendError(f"task {task.name!r}: {error.problem}", fix=error.fix) from error
        check_promises(f"task {task.name!r}", policies, backend)
        if self._chaos:
            _check_kills(task, policies, backend)
        waits = (policies.circuit_breaker, policies.rate_limit, policies.bulkhead)
        prompt = any(policy is not None for policy in waits)
        dispatch = Dispatch(backend)
        try:
            chain = build_chain(policies, dispatch, backend, chaos=self._chaos)
        except PolicyError as error:
            raise PolicyError(f"task {task.name!r}: {error.problem}", fix=error.fix) from error
        if chain is None:
            return Step(
                task, policies, backend, dispatch, bare=True, passive=True, moved_for=moved_for
            )
        skips = chain.may_skip and not chain.passive and backend.capabilities.in_place
        return Step(
            task,
            policies,
            backend,
            chain.enter,
            bare=False,
            passive=chain.passive,
            stateful=chain.stateful,
            ahead=chain.may_skip and not chain.stateful,
            skip=partial(Shortcut(policies, task.name).in_run, dispatch) if skips else None,
            prompt=prompt,
            moved_for=moved_for,
        )

    def _backend_for(self, task: TaskInfo, policies: PolicySet) -> tuple[Backend, tuple[str, ...]]:
        """
        The backend that *task* names; else the run's, if it can keep *policies*; else "process".

        Returns:
            The backend, and what the run's can't keep.
        """
        if task.backend is not None:
            return self._find(task.backend), ()
        backend = self._find(self._default_backend)
        can, timeout, limits = backend.capabilities, policies.timeout, policies.limits
        beyond = [] if can.limits else _limits(policies)
        if limits is not None and limits.cpus != 1 and not can.limits:
            beyond.append(f"cpus={limits.cpus:g}")
        if timeout is not None and timeout.on_expiry == "kill" and not can.kill:
            beyond.append("on_expiry='kill'")
        return (self._find("process") if beyond else backend), tuple(beyond)


def _of_settings(settings: DagliteSettings) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if settings.max_retries:
        given["retry"] = RetryPolicy(settings.max_retries)
    if settings.task_timeout is not None:
        given["timeout"] = TimeoutPolicy(settings.task_timeout)
    return given


def check_carried_out(whose: str, policies: PolicySet) -> None:
    """
    Refuse a policy that nobody carries out: it is never accepted and ignored.

    Args:
        whose: Who has them, for the message.
        policies: Resolved.

    Raises:
        PolicyError: There is one.
    """
    wanted = [slot for slot, value in policies.given.items() if value is not None]
    for slot in wanted:
        if slot in NOT_YET:
            raise PolicyError(
                f"{whose}: {slot}= can't be carried out in this version of daglite yet",
                fix="leave it out",
            )


def _limits(policies: PolicySet) -> list[str]:
    """Names of the limits that somebody has to keep."""
    limits = policies.limits
    if limits is None:
        return []
    names = ("max_memory", "max_cpu_time", "max_processes", "max_open_files")
    return [name for name in names if getattr(limits, name) is not None]


def check_promises(whose: str, policies: PolicySet, backend: Backend) -> None:
    """
    Refuse what *backend* can't do: a policy is kept or refused.

    Raises:
        PolicyError: There is something.
    """
    if policies.hedge is not None and backend.slots < 2:
        raise PolicyError(
            f"{whose} has hedge=, but backend {backend.name!r} makes one call at a time",
            fix="use a backend with more workers, such as 'threading', or leave it out",
        )
    wanted = None if policies.timeout is None else policies.timeout.on_expiry
    can = backend.capabilities
    limited = _limits(policies)
    if limited and not can.limits:
        raise PolicyError(
            f"{whose} asks for {limited[0]}=, but backend {backend.name!r} can't limit that",
            fix="use backend='process', or leave it out",
        )
    if policies.limits is not None:
        _check_needs(whose, policies.limits, backend)
    if (wanted == "kill" and not can.kill) or (wanted == "cancel" and not can.cancel):
        able = "'cancel' or 'abandon'" if can.cancel else "'abandon'"
        raise PolicyError(
            f"{whose} asks for on_expiry={wanted!r}, but backend {backend.name!r} "
            f"can't {wanted} a call",
            fix=f"use on_expiry={able}, or leave it out for the strongest that the backend has",
        )


def _check_needs(whose: str, limits: ResourceLimits, backend: Backend) -> None:
    """Refuse what a task needs and nobody here hands out."""
    for name in ("gpus", "resources"):
        if getattr(limits, name):
            raise PolicyError(
                f"{whose} needs {name}={getattr(limits, name)!r}, which backend {backend.name!r} "
                "doesn't hand out",
                fix="use a Bulkhead with a key of its own, or leave it out",
            )
    if limits.cpus != 1 and not backend.capabilities.limits:
        raise PolicyError(
            f"{whose} needs cpus={limits.cpus:g}, but backend {backend.name!r} doesn't count CPUs",
            fix="use backend='process', or leave it out",
        )
    if limits.cpus > backend.slots:
        raise PolicyError(
            f"{whose} needs cpus={limits.cpus:g}, but backend {backend.name!r} has {backend.slots}",
            fix="use one with more workers",
        )


def _check_kills(task: TaskInfo, policies: PolicySet, backend: Backend) -> None:
    """Only a backend that can end calls for certain can do so on purpose."""
    if policies.chaos is None or not policies.chaos.kill:
        return
    if not backend.capabilities.kill:
        raise PolicyError(
            f"task {task.name!r} asks for chaos=Chaos(kill=True), but backend {backend.name!r} "
            "can't kill a call",
            fix="give another fault, such as error=, in its place",
        )
    wanted = None if policies.timeout is None else policies.timeout.on_expiry
    if wanted not in (None, "kill"):
        raise PolicyError(
            f"task {task.name!r} asks for chaos=Chaos(kill=True), but also for "
            f"on_expiry={wanted!r}, so that its calls are never killed",
            fix="leave one of them out",
        )
