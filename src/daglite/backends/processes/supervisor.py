"""
One thread that keeps the workers of a pool: it gives them calls, hears how they end, ends what
must be ended, and replaces what died.

    submit ─► incoming ─► pending ─► a worker's packets ─► running ─► frame ─► done
                             ▲            │ taken back: a long call runs, or the worker died
                             └────────────┘

Short calls are sent ahead, so that a worker never waits for the next; behind a long one nothing
stays.  Whoever reads a packet has its call, and each worker tells in its slot which one runs, so
at any death it is known what was lost: the call that ran, and no other.

Races, and who closes them.  A call that ends while it is to be killed: its packets are taken back
first, and the worker is killed only if its slot still names that call; if it ends in this very
moment, the worker is idle, and all that is lost is a worker.  A call that was read from the pipe
and isn't announced yet: it is looked at again a moment later.
"""

from __future__ import annotations

import select
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, final

from daglite._clock import SystemClock
from daglite.backends.processes.assignment import Assignment
from daglite.backends.processes.channel import Frame
from daglite.backends.processes.deaths import Death, Kills, error_of_death, not_ready
from daglite.backends.processes.ears import Ears
from daglite.backends.processes.hiring import Hiring
from daglite.backends.processes.job import Job
from daglite.backends.processes.launcher import Launcher
from daglite.backends.processes.watch import Watch
from daglite.backends.processes.worker import Running, Worker
from daglite.core.call import Outcome
from daglite.core.run import Run
from daglite.exceptions import BackendError
from daglite.worker import wire

__all__ = ["Supervisor"]

_now = SystemClock.now

_SHORT: Final = 0.010
"""Seconds: behind a call that runs longer nothing stays."""

_SOON: Final = 0.001
"""Seconds after which a call is looked at that was just about to run."""

_FUNCTIONS: Final = 1_000
"""A worker that has had so many is replaced: it keeps them all."""

_PATIENCE: Final = 1.0
"""Seconds in which a worker that was told to stop must be gone."""


@final
class Supervisor:
    """
    Keeps up to *size* workers.

    Args:
        size: Calls that may run at the same time.
        launch: Starts the launcher.
        settle: Told of each call that ended by itself, on the supervisor's thread.
        max_calls: A worker is replaced after so many; None: never.
        prefetch: Whether calls may be sent ahead.
        memory: Bytes that all running calls together may have been promised; None: any number.
    """

    def __init__(
        self,
        size: int,
        launch: Callable[[], Launcher],
        settle: Callable[[Job, Frame, str], None],
        *,
        max_calls: int | None = None,
        prefetch: bool = True,
        memory: int | None = None,
    ) -> None:
        self._settle = settle
        self._max_calls = max_calls
        self._incoming: deque[Job] = deque()
        self._orders: deque[Job | Run] = deque()
        self._doomed: list[Job] = []
        self._workers: dict[int, Worker] = {}
        self._calls = Assignment(
            self._workers,
            size,
            prefetch=prefetch,
            max_calls=max_calls,
            memory=memory,
            await_room=self._await_room,
        )
        self._ears = Ears()
        self._hiring = Hiring(
            size,
            launch,
            self._workers,
            self._ears,
            receive=self._receive,
            bury=self._bury,
            fail=self._fail,
            give_up=self._break,
        )
        self._broken: BackendError | None = None
        self._asleep = False
        self._closing = False
        self._ended = False
        self._watch = Watch()
        self._kills = Kills()
        self._thread = threading.Thread(target=self._main, name="daglite-supervisor", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._ears.close()
            raise

    def submit(self, job: Job) -> None:
        """Have *job* run."""
        self._incoming.append(job)
        if self._asleep:
            self._ring()
        if self._ended:
            # Nobody else will.
            self._take_in()

    def cancel(self, what: Job | Run) -> None:
        """Drop or end a job that isn't wanted any more, or all jobs of a run."""
        self._orders.append(what)
        self._ring()

    def close(self) -> None:
        """Kill whatever runs, and give everything back; idempotent."""
        self._closing = True
        self._ring()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def forget(self) -> None:
        """In a fork of this process: all this is the parent's."""
        for worker in self._workers.values():
            worker.abandon()
        self._hiring.forget()
        self._ears.forget()

    @property
    def processes(self) -> list[int]:
        """Process numbers of the workers that there are."""
        return [worker.process for worker in tuple(self._workers.values()) if worker.process]

    def worker_of(self, job: Job) -> Running | None:
        """Where *job* runs; None: nowhere just now."""
        for worker in tuple(self._workers.values()):
            if worker.jobs.get(job.number) is job:
                number, since = worker.channel.running
                if number == job.number:
                    return Running(worker, since)
        return None

    def _ring(self) -> None:
        self._asleep = False
        self._ears.ring()

    def _main(self) -> None:
        # Where the driver wants to be ended by it, a worker that dies while it is written to would.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
        try:
            self._loop()
            error = BackendError("the process pool is closed")
        except BaseException as failure:
            error = BackendError(f"the supervisor of the process pool failed: {failure!r}")
            error.__cause__ = failure
        self._broken = error
        self._end(error)

    def _loop(self) -> None:
        while not self._closing:
            self._take_in()
            if self._calls.pending:
                self._calls.hand_out()
                self._hiring.hire(len(self._calls.pending))
            patience = self._patience()
            self._asleep = True
            if self._incoming or self._orders or self._closing:
                patience = 0
            self._ears.listen(patience)
            self._asleep = False
            self._look()

    def _take_in(self) -> None:
        while self._incoming:
            try:
                job = self._incoming.popleft()
            except IndexError:
                # After the end any thread does this.
                break
            if self._broken is None:
                self._calls.pending.append(job)
            else:
                job.done(job.call, Outcome(error=self._broken))
        while self._orders:
            order = self._orders.popleft()
            for job in self._jobs_of(order):
                self._drop(job)

    def _jobs_of(self, order: Job | Run) -> Iterator[Job]:
        if isinstance(order, Job):
            yield order
            return
        for worker in tuple(self._workers.values()):
            yield from [job for job in worker.jobs.values() if job.call.run is order]

    def _patience(self) -> float | None:
        """Milliseconds until something has to be looked at, though nothing has happened."""
        if self._doomed:
            return _SOON * 1_000
        seconds = self._hiring.pause if self._calls.pending else None
        for worker in self._workers.values():
            if worker.leaving is not None:
                seconds = min(seconds or _PATIENCE, _PATIENCE)
            elif len(worker.jobs) > 1:
                # Time enough to look at whatever comes after the one that runs.
                seconds = min(seconds or _SHORT, _SHORT)
            for job in worker.jobs.values():
                # The one that runs, or that is the next.
                if job.limits.watched:
                    seconds = min(seconds or job.limits.interval, job.limits.interval)
                break
        return None if seconds is None else seconds * 1_000

    def _await_room(self, worker: Worker) -> None:
        def flush() -> None:
            if worker.channel.flush():
                self._ears.unhear(worker.channel.bulk)

        self._ears.hear(worker.channel.bulk, flush, select.POLLOUT)

    def _receive(self, worker: Worker, *, all_there_is: bool = False) -> None:
        frames, ended = worker.channel.receive(all_there_is=all_there_is)
        if ended:
            self._ears.unhear(worker.channel.results)
        for frame in frames:
            self._accept(worker, frame)
        if worker.channel.garbled and worker.fate is None:
            sender = worker.jobs.get(worker.channel.running[0] or worker.channel.ended)
            worker.kill(sender and (sender, Death("answer", 0, 0)))
        if worker.tired and not worker.jobs and worker.leaving is None:
            worker.leaving = _now()
            worker.channel.push(wire.REQUEST.pack(wire.STOP, *[0] * 7, 0.0))

    def _accept(self, worker: Worker, frame: Frame) -> None:
        if frame.kind == wire.READY:
            self._hiring.is_ready(worker)
            return
        if frame.kind == wire.NOT_READY:
            self._break(not_ready(frame))
            return
        job = self._calls.forget(worker, frame.number)
        if job is None:
            return
        worker.calls += 1
        job.function.took(frame.ran)
        if frame.tired or worker.calls == self._max_calls or len(worker.known) >= _FUNCTIONS:
            worker.tired = True
            self._take_back(worker)
        if not (job.call.cancelled or job.call.run.stopped):
            self._settle(job, frame, worker.name)

    def _take_back(self, worker: Worker) -> None:
        """Have what *worker* hasn't begun be done by whoever is free."""
        if self._calls.take_back(worker):
            worker.kill()

    def _drop(self, job: Job) -> None:
        """*job*'s outcome isn't wanted any more."""
        worker = next((w for w in self._workers.values() if w.jobs.get(job.number) is job), None)
        if worker is None or worker.fate is not None:
            return
        self._take_back(worker)
        if worker.jobs.get(job.number) is not job or job.call.target.on_expiry == "abandon":
            return
        if worker.channel.running[0] == job.number:
            worker.kill()
        elif worker.channel.ended < job.number:
            self._doomed.append(job)

    def _look(self) -> None:
        """See to what doesn't announce itself."""
        doomed, self._doomed = self._doomed, []
        for gone in doomed:
            self._drop(gone)
        now = _now()
        for worker in tuple(self._workers.values()):
            if worker.leaving is not None:
                if now - worker.leaving > _PATIENCE:
                    worker.kill(worker.fate)
                continue
            number, since = worker.channel.running
            job = worker.jobs.get(number)
            if job is None or not since:
                continue
            if len(worker.jobs) > 1 and now - since > _SHORT:
                worker.room = 1
                self._take_back(worker)
            if job.limits.watched:
                death = self._watch.look(job, worker.process, worker.channel, now)
                if death is not None:
                    self._take_back(worker)
                    if worker.channel.running[0] == number and worker.leaving is None:
                        worker.kill((job, death))

    def _bury(self, worker: Worker, code: int | None) -> None:
        """*worker* is dead: say so to the call that ran, and give the others to somebody else."""
        self._receive(worker, all_there_is=True)
        self._calls.take_back(worker)
        del self._workers[worker.number]
        self._ears.unhear(worker.channel.results)
        self._ears.unhear(worker.channel.bulk)
        running, ended = worker.channel.running[0], worker.channel.ended
        back: list[Job] = []
        for job in self._calls.forget_all(worker):
            if worker.fate is not None and job is worker.fate[0]:
                self._tell_death(worker, job, code, worker.fate[1])
            elif job.number == running or job.number <= ended:
                self._tell_death(worker, job, code, None)
            else:
                back.append(job)
        self._calls.pending.extendleft(reversed(back))
        self._hiring.is_dead(worker, code)
        worker.close()

    def _tell_death(self, worker: Worker, job: Job, code: int | None, death: Death | None) -> None:
        if job.call.cancelled or job.call.run.stopped:
            return
        number, since = worker.channel.running
        ran = _now() - since if number == job.number and since else 0.0
        faults = worker.channel.faults()
        oom = code == -signal.SIGKILL and worker.leaving is None and self._kills.more()
        error = error_of_death(job, worker.process, code, death, faults, oom)
        kernel = job.call.run.kernel
        outcome = Outcome(None, error, kernel.now() - ran, ran, worker.name)
        outcome.peak_memory = job.peak or None
        job.done(job.call, outcome)

    def _fail(self, error: BackendError) -> None:
        """The calls that are there can't be run: say why to each."""
        pending = self._calls.pending
        while pending:
            job = pending.popleft()
            job.done(job.call, Outcome(error=error))

    def _break(self, error: BackendError) -> None:
        """No call can be run any more: say why to all."""
        self._broken = error
        for worker in self._workers.values():
            self._calls.pending.extend(self._calls.forget_all(worker))
        self._fail(error)

    def _end(self, error: BackendError) -> None:
        for worker in self._workers.values():
            worker.leaving = _now()
            worker.signal(signal.SIGKILL)
        try:
            self._hiring.close()
        finally:
            self._ended = True
            self._break(error)
            for worker in self._workers.values():
                worker.close()
            self._workers.clear()
            self._take_in()
            self._ears.close()
