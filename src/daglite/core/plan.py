"""How a graph will be run: for each task its policies, its backend and its compiled chain."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Protocol, final

from daglite.core.body import body_of
from daglite.core.call import Call, Target
from daglite.core.graph import TaskInfo
from daglite.core.protocols import Backend, Next
from daglite.core.run import Run
from daglite.policies import MapPolicy, PolicySet

__all__ = ["Skip", "Step"]


class Skip(Protocol):
    """
    Makes the function that a run calls in place of a task's body, to go past the chain.

    Args:
        body: The body.
        run: Whose states it looks at.
        made: Makes the call of these arguments (positional, by name).
        chained: Takes over where the chain has to be entered.
    """

    def __call__(
        self,
        body: Callable[..., Any],
        run: Run,
        made: Callable[..., Call],
        chained: Callable[..., Any],
    ) -> Callable[..., Any]: ...


@final
class Step(Target):
    """
    What a plan says of a task; compiled once, however many nodes the task has.

    Attributes:
        policies: Resolved; `PolicySet.origins` tells where each came from.
        backend: Runs the calls.
        enter: The compiled chain, or the bare dispatch where there are no policies.
        bare: There is no chain.
        ahead: Elsewhere, and the chain has nothing to do for calls that succeed in time.
        straight: In place, and nothing to wait for unless a call fails.
        skip: Makes the function that runs in place of the body, where states or the time must be
            looked at; None: the body itself runs, or the chain must be entered.
        stateful: The chain needs `Run.states`.
        moved_for: What the run's backend can't keep, where the task named none.
        tolerance: What a map does with failed elements; None: the first one fails it.
    """

    __slots__ = (
        "ahead",
        "backend",
        "bare",
        "enter",
        "moved_for",
        "policies",
        "skip",
        "stateful",
        "straight",
        "tolerance",
    )

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
        ahead: bool = False,
        skip: Skip | None = None,
        prompt: bool = False,
        moved_for: tuple[str, ...] = (),
    ) -> None:
        timeout = policies.timeout
        body: Callable[..., Any] = body_of(task.func)
        super().__init__(
            task.name,
            body,
            task.tags,
            timed=timeout is not None,
            limits=policies.limits,
            prompt=prompt,
        )
        if timeout is not None:
            self.on_expiry = timeout.on_expiry
            self.grace = timeout.grace
        self.policies = policies
        self.backend = backend
        self.enter = enter
        self.moved_for = moved_for
        self.bare = bare
        self.stateful = stateful
        of_maps = policies.map_policy
        tolerant = of_maps is not None and of_maps.on_error != "raise"
        self.tolerance: MapPolicy | None = of_maps if tolerant else None
        quick = bare or passive or skip is not None
        # What runs without an engine stops at the first failed element.
        self.ahead = (bare or ahead) and not backend.capabilities.in_place
        self.straight = quick and backend.capabilities.in_place and not tolerant
        self.skip = skip

    def taking(self, body: Callable[..., Any]) -> Step:
        """This step with *body* in the place of its own, for one run."""
        step = copy(self)
        step.body = body
        return step

    @property
    def drops_failed(self) -> bool:
        """Whether maps leave failed elements out."""
        return self.tolerance is not None and self.tolerance.on_error == "skip"
