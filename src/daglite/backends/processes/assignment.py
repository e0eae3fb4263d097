"""Which call goes to which worker, how many lie ahead of it, and which come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, final

from daglite.backends.processes.job import Job
from daglite.backends.processes.worker import Worker
from daglite.core.call import Outcome

__all__ = ["Assignment"]

_AHEAD: Final = 0.004
"""Seconds of work that may lie at a worker."""

_MOST_AHEAD: Final = 128
"""Calls that may."""

_FEW: Final = 4
"""Up to so many calls at a worker, each that ends makes room for another at once."""


@final
class Assignment:
    """
    Hands out calls in the order in which they came.

    Short calls are sent ahead, so that a worker never waits for the next; how many depends on how
    long the latest calls of their function ran.

    Args:
        workers: All that there are, by number.
        size: CPUs to be handed out.
        prefetch: Whether calls may be sent ahead at all.
        max_calls: As many as a worker may ever do; None: any number.
        memory: Bytes to be handed out; None: any number.
        await_room: Told of a worker that couldn't take all at once of what it was sent.

    Attributes:
        pending: Calls that no worker has.
    """

    def __init__(
        self,
        workers: Mapping[int, Worker],
        size: int,
        *,
        prefetch: bool,
        max_calls: int | None,
        memory: int | None,
        await_room: Callable[[Worker], None],
    ) -> None:
        self.pending: deque[Job] = deque()
        self._workers = workers
        self._size = size
        self._most_ahead = _MOST_AHEAD if prefetch else 1
        self._max_calls = max_calls
        self._memory = memory
        self._promised = 0
        self._uneven = 0
        self._await_room = await_room

    def hand_out(self) -> None:
        """Give the workers what they can take."""
        pending = self.pending
        takers = [worker for worker in self._workers.values() if worker.takes_calls]
        takers.sort(key=lambda worker: len(worker.jobs))
        for left, worker in zip(range(len(takers), 0, -1), takers, strict=True):
            if worker.room > _FEW and len(worker.jobs) > worker.room // 2:
                # Fewer, larger helpings.
                continue
            share = -(-len(pending) // left)
            while share and self._next_is_wanted() and self._give(worker):
                share -= 1

    def forget(self, worker: Worker, number: int) -> Job | None:
        """*worker* has this job no more."""
        job = worker.jobs.pop(number, None)
        if job is not None:
            self._promised -= job.limits.memory
            self._uneven -= job.limits.cpus != 1
        return job

    def forget_all(self, worker: Worker) -> list[Job]:
        """*worker* has no job any more; return those it had."""
        jobs = [self.forget(worker, number) for number in tuple(worker.jobs)]
        return [job for job in jobs if job is not None]

    def take_back(self, worker: Worker) -> bool:
        """
        Have what *worker* hasn't begun be done by whoever is free.

        Returns:
            Whether it is of no use any more: what belongs to a call is in its other pipe.
        """
        jobs = [self.forget(worker, number) for number in worker.channel.take_back()]
        back = [job for job in jobs if job is not None]
        self.pending.extendleft(reversed(back))
        return any(job.beside for job in back)

    def _next_is_wanted(self) -> bool:
        """Whether there is a next job, without those that nobody waits for any more."""
        pending = self.pending
        while pending and (pending[0].call.cancelled or pending[0].call.run.stopped):
            pending.popleft()
        return bool(pending)

    def _give(self, worker: Worker) -> bool:
        """Be through with the next job: send it to *worker*, if it fits there and may start."""
        job = self.pending[0]
        function, ahead = job.function, self._ahead(job)
        known = function.number in worker.known
        if not worker.jobs:
            worker.room = ahead
        elif job.alone or not known or len(worker.jobs) >= min(worker.room, ahead):
            return False
        if self._max_calls is not None and worker.calls + len(worker.jobs) >= self._max_calls:
            return False
        if not self._affords(job, worker):
            return False
        if job.call.admit is not None and not job.call.may_start():
            self.pending.popleft()
            job.done(job.call, Outcome.turned_away())
            return True
        worker.sent += 1
        packet, beside = job.packet(worker.sent, 0 if known else len(function.data))
        if not worker.channel.push(packet):
            return False
        self.pending.popleft()
        worker.jobs[job.number] = job
        worker.known.add(function.number)
        worker.room = min(worker.room, ahead)
        self._promised += job.limits.memory
        self._uneven += job.limits.cpus != 1
        if beside and not worker.channel.push_bulk(beside):
            self._await_room(worker)
        return True

    def _affords(self, job: Job, worker: Worker) -> bool:
        """Whether there is memory and CPU enough to promise *job* what it is to have."""
        memory, cpus = job.limits.memory, job.limits.cpus
        if self._memory is not None and memory and self._promised + memory > self._memory:
            return False
        if cpus == 1 and not self._uneven:
            return True
        used = 0.0
        for other in self._workers.values():
            if other is not worker and other.jobs:
                used += next(iter(other.jobs.values())).limits.cpus
        return used + cpus <= self._size

    def _ahead(self, job: Job) -> int:
        """How many calls like *job* a worker may have at once."""
        pace = job.function.pace
        if job.alone or pace is None or pace > _AHEAD / 2:
            return 1
        return min(self._most_ahead, int(_AHEAD / pace)) if pace else self._most_ahead
