"""
The last word on a call, spoken on its worker in the moment when it would start.

    kernel: waits ─► submit ────────────────────────► tells what came of it
                        │ queue                         ▲
    worker:             └─► Start ─► function ─► ended ─┘
                              │ no
                              └─► turned away, and waits once more

So what a policy says of starts holds for starts, however long workers were busy, and over all
runs that share a state.  How a call ended is recorded on its worker too, before that takes the
next one: else others would start on a circuit whose last failure isn't counted yet.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import Any, Literal, final

from daglite.core.call import Call, Outcome
from daglite.state.answers import Permit, Transition
from daglite.state.shared import AnyBreaker, AnyBucket

__all__ = ["Start", "wake"]


def wake(tokens: Iterable[Hashable | None]) -> None:
    """Tell those who wait that it may be their turn; a token is a function of no arguments."""
    for token in tokens:
        if token is not None:
            call: Any = token
            call()


@final
class Start:
    """
    Whether one call may start, and what the breaker is told of its end: once, whoever comes first.

    Args:
        call: The call.
        bucket: Where its token is taken from, if it needs one.
        breaker: Which let it go, if there is one.
        permit: With what.
        ignored: Errors that the breaker isn't told of.
        early: Whether the worker's outcome is what counts; else what comes of it further out.

    Attributes:
        admitted: It may start, or has.
        bucket: Where its token is taken from; None: it needs none.
        held_by: What it was turned away by last.
        is_probe: Whether the breaker let it go as a probe.
        opened_by: What the breaker went through when the call asked, on its worker.
        transition: What its end did to the breaker.
    """

    __slots__ = (
        "_breaker",
        "_call",
        "_early",
        "_failed",
        "_ignored",
        "_lock",
        "_over",
        "_permit",
        "admitted",
        "bucket",
        "held_by",
        "opened_by",
        "transition",
    )

    def __init__(
        self,
        call: Call,
        bucket: AnyBucket | None = None,
        breaker: AnyBreaker | None = None,
        permit: Permit | None = None,
        *,
        ignored: tuple[type[BaseException], ...] = (),
        early: bool = False,
    ) -> None:
        self._call = call
        self.bucket = bucket
        self._breaker = breaker
        self._ignored = ignored
        self._early = early and breaker is not None
        # Cancelled on the kernel's thread, while the worker may be about to ask.
        self._lock = threading.Lock()
        self._over = False
        self._failed = False
        self.admitted = False
        self.held_by: Literal["circuit breaker", "rate limit", "max_elapsed"] | None = None
        self._permit = permit
        self.opened_by: Transition | None = None
        self.transition: Transition | None = None

    def __call__(self) -> bool:
        with self._lock:
            if not (self.admitted or self._over):
                self.held_by = self._hindrance(self._call.run.kernel.now())
                self.admitted = self.held_by is None
            return self.admitted and not self._over

    def _hindrance(
        self, now: float
    ) -> Literal["circuit breaker", "rate limit", "max_elapsed"] | None:
        by, breaker, permit = self._call.start_by, self._breaker, self._permit
        if by is not None and now > by:
            return "max_elapsed"
        if breaker is not None and permit is not None:
            confirmed = breaker.confirm(permit, now)
            if confirmed is None:
                return "circuit breaker"
            if confirmed is not permit:
                self._permit, self.opened_by = confirmed, confirmed.transition
        # Last, as it needn't be given back then.
        if self.bucket is not None and self.bucket.take(now):
            return "rate limit"
        return None

    @property
    def is_probe(self) -> bool:
        return self._permit is not None and self._permit.is_probe

    def ended(self, outcome: Outcome) -> None:
        if self._early and self.admitted:
            self.record(outcome, outcome.ran)

    def record(self, outcome: Outcome, took: float) -> bool:
        """Tell the breaker, unless it was told, how the call ended; return whether it failed."""
        breaker, permit, error = self._breaker, self._permit, outcome.known_error
        with self._lock:
            if self._over or breaker is None or permit is None:
                return self._failed
            self._over = True
            if error is not None and isinstance(error, self._ignored):
                woken = breaker.give_back(permit)
            else:
                self._failed = error is not None
                now = self._call.run.kernel.now()
                woken = ()
                self.transition = breaker.record(permit, now, failed=self._failed, took=took)
        wake(woken)
        return self._failed

    def give_up(self) -> None:
        """There is nothing to record, and won't be: the permit is given back."""
        with self._lock:
            if self._over:
                return
            self._over = True
            breaker, permit = self._breaker, self._permit
            woken = () if breaker is None or permit is None else breaker.give_back(permit)
        wake(woken)
