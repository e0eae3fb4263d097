"""How a graph will be run: for each task its policies, its backend and its compiled chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from daglite.core.body import body_of
from daglite.core.call import Target
from daglite.core.graph import TaskInfo
from daglite.core.protocols import Backend, Next
from daglite.policies import MapPolicy, PolicySet

__all__ = ["Step"]


@final
class Step(Target):
    """
    What a plan says of a task; compiled once, however many nodes the task has.

    Attributes:
        policies: Resolved; `PolicySet.origins` tells where each came from.
        backend: Runs the calls.
        enter: The compiled chain, or the bare dispatch where there are no policies.
        bare: There is no chain.
        straight: Untimed, in place, and nothing to do unless a call fails.
        stateful: The chain needs `Run.states`.
        tolerance: What a map does with failed elements; None: the first one fails it.
    """

    __slots__ = ("backend", "bare", "enter", "policies", "stateful", "straight", "tolerance")

    def __init__(
        self,
        task: TaskInfo,
        policies: PolicySet,
        backend: Backend,
        enter: Next,
        *,
        bare: bool,
        passive: bool,
        stateful: bool = False,
    ) -> None:
        timeout = policies.timeout
        body: Callable[..., Any] = body_of(task.func)
        super().__init__(task.name, body, task.tags, timed=timeout is not None)
        if timeout is not None:
            self.on_expiry = timeout.on_expiry
            self.grace = timeout.grace
        self.policies = policies
        self.backend = backend
        self.enter = enter
        self.bare = bare
        self.stateful = stateful
        of_maps = policies.map_policy
        tolerant = of_maps is not None and of_maps.on_error != "raise"
        self.tolerance: MapPolicy | None = of_maps if tolerant else None
        here = not self.timed and backend.capabilities.in_place
        # What runs without an engine stops at the first failed element.
        self.straight = (bare or passive) and here and not tolerant
