"""Calls in processes of their own, which can be killed and limited."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias, final, get_args
from weakref import WeakSet, WeakValueDictionary

from typing_extensions import Self

from daglite import _codec
from daglite._clock import SystemClock
from daglite._units import format_size
from daglite.backends.processes.channel import Frame
from daglite.backends.processes.deaths import memory_error, refused, stack_in
from daglite.backends.processes.job import Function, Job, Limits
from daglite.backends.processes.launcher import Launcher
from daglite.backends.processes.supervisor import Supervisor
from daglite.backends.processes.worker import Running
from daglite.core.call import Call, Outcome
from daglite.core.events import CallMeasured
from daglite.core.protocols import Capabilities, Done
from daglite.core.run import Run
from daglite.exceptions import BackendError, RemoteError, SerializationError
from daglite.worker import wire
from daglite.worker.main import Options

__all__ = ["ProcessBackend"]

StartMethod: TypeAlias = Literal["launcher", "spawn"]

_now = SystemClock.now

_STACK: Final = 0.05
"""Seconds in which a process must tell where it is."""

_GLANCE: Final = 0.002

_MOST: Final = 1 << 31
"""Seconds, or files, that are as good as no limit; what the system takes as a number."""

_MOST_BYTES: Final = 1 << 62

_RARELY: Final = 3600.0
"""Seconds between two looks, at most."""


class RemoteTraceback(Exception):  # noqa: N818
    """Where an exception was raised, in another process: shown as its cause."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


@final
class ProcessBackend:
    """
    Runs calls in worker processes.

    Good for what computes in Python, and for what must be stopped for certain: a call that runs
    out of time, memory or CPU time is killed with its child processes, and no other call with it.
    Arguments and results are pickled; functions of ``__main__``, lambdas and closures go along as
    they are when a run first uses them.

    Args:
        max_workers: Calls that may run at the same time, 1 or more; None: one for each CPU that
            this process may use.
        preload: Modules that are imported once, before workers are made.
        initializer: Called without arguments in each worker before its first call.
        max_calls_per_worker: A worker is replaced after so many calls; None: never.
        prefetch: Whether short calls may be sent to a worker before it is free.
        environment: Variables that workers have besides this process's.
        start_method: How workers are made: "launcher" forks them from a small process that has
            one thread, in some milliseconds; "spawn" starts a fresh interpreter for each.
        poll_interval: Seconds between two looks at what a call uses, above 0, where its
            `ResourceLimits` don't say.
        memory: Bytes that the calls which run at the same time may have as their ``max_memory``
            all together: others wait, and one that wants more by itself fails.  None: any number.

    Raises:
        BackendError: An argument makes no sense, or this system has no such processes.
    """

    name: str = "process"
    capabilities: Capabilities = Capabilities(kill=True, limits=True)

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        preload: Sequence[str] = (),
        initializer: Callable[[], object] | None = None,
        max_calls_per_worker: int | None = None,
        prefetch: bool = True,
        environment: Mapping[str, str] | None = None,
        start_method: StartMethod = "launcher",
        poll_interval: float = 0.05,
        memory: int | None = None,
    ) -> None:
        if sys.platform != "linux":
            raise BackendError(
                f"backend 'process' needs Linux, and this is {sys.platform}; use 'threading'"
            )
        _check_options(
            max_workers=max_workers, max_calls_per_worker=max_calls_per_worker, memory=memory
        )
        if start_method not in get_args(StartMethod):
            raise BackendError(
                f"ProcessBackend: start_method is 'launcher' or 'spawn', not {start_method!r}"
            )
        given: object = poll_interval
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
            raise BackendError(
                f"ProcessBackend: poll_interval is seconds above 0, not {poll_interval!r}"
            )
        _check_given(preload, initializer, environment)
        self.slots = len(os.sched_getaffinity(0)) if max_workers is None else max_workers
        self._start_method: StartMethod = start_method
        self._preload = tuple(preload)
        self._initializer = initializer
        self._max_calls = max_calls_per_worker
        self._prefetch = prefetch
        self._environment = dict(environment or {})
        self._poll_interval = poll_interval
        self._memory = memory
        self._supervisor: Supervisor | None = None
        self._by_content: WeakValueDictionary[bytes, Function] = WeakValueDictionary()
        self._closed = False
        self._renew_lock()
        _backends.add(self)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ProcessBackend(max_workers={self.slots})"

    def __reduce__(self) -> tuple[partial[ProcessBackend], tuple[int]]:
        options = partial(
            ProcessBackend,
            preload=self._preload,
            initializer=self._initializer,
            max_calls_per_worker=self._max_calls,
            prefetch=self._prefetch,
            environment=self._environment,
            start_method=self._start_method,
            poll_interval=self._poll_interval,
            memory=self._memory,
        )
        return options, (self.slots,)

    def submit(self, call: Call, done: Done) -> None:
        """Send *call* to a worker."""
        try:
            job = Job(call, done, self._function_of(call), self._limits_of(call))
        except (BackendError, SerializationError) as error:
            done(call, Outcome(error=error))
            return
        call.place = job
        call.look = self._look
        try:
            supervisor = self._started()
        except BackendError as error:
            done(call, Outcome(error=error))
            return
        supervisor.submit(job)

    def cancel(self, call: Call) -> None:
        """Drop *call*, or kill its worker, and no other call with it."""
        call.cancelled = True
        if self._supervisor is not None and isinstance(call.place, Job):
            self._supervisor.cancel(call.place)

    def cancel_run(self, run: Run) -> None:
        """The same for all calls of *run*."""
        run.stopped = True
        if self._supervisor is not None:
            self._supervisor.cancel(run)

    def is_running(self, call: Call) -> bool:
        """Whether the cancelled *call* still runs."""
        return self._running(call) is not None

    def stack_of(self, call: Call) -> str | None:
        """Where *call* stands now, as text."""
        running = self._running(call)
        if running is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            running.worker.channel.clear_faults()
            running.worker.signal(signal.SIGUSR1)
            until, told = _now() + _STACK, ""
            while _now() < until:
                select.select((), (), (), _GLANCE)
                # It is written in pieces.
                before, told = told, running.worker.channel.faults()
                if told and told == before:
                    break
            return stack_in(told)
        return None

    def close(self) -> None:
        """Kill whatever still runs, and leave nothing behind; idempotent."""
        with self._lock:
            self._closed = True
            supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.close()

    @property
    def processes(self) -> list[int]:
        """Process numbers of the workers that there are now."""
        return [] if self._supervisor is None else self._supervisor.processes

    def _started(self) -> Supervisor:
        supervisor = self._supervisor
        if supervisor is None:
            with self._lock:
                if self._closed:
                    raise BackendError("the process pool is closed")
                supervisor = self._supervisor
                if supervisor is None:
                    try:
                        supervisor = self._supervisor = self._start()
                    except (OSError, RuntimeError) as error:
                        raise refused(error) from error
        return supervisor

    def _start(self) -> Supervisor:
        initializer = b""
        if self._initializer is not None:
            initializer = _codec.dumps_function(self._initializer)
        options = Options(initializer)
        supervisor = Supervisor(
            self.slots,
            partial(Launcher, self._start_method, self._preload, options, self._environment),
            _settle,
            max_calls=self._max_calls,
            prefetch=self._prefetch,
            memory=self._memory,
        )
        weakref.finalize(self, supervisor.close)
        return supervisor

    def _function_of(self, call: Call) -> Function:
        """*call*'s function for workers: as it was when its run first asked."""
        kept = call.run.kept.get(self)
        if kept is None:
            kept = call.run.kept[self] = {}
        body = call.target.body
        # The body is kept, too: its id could be another one's.
        known: tuple[Any, Function] | None = kept.get(id(body))
        if known is None:
            function = Function(body)
            digest = blake2b(function.data, digest_size=16).digest()
            known = kept[id(body)] = body, self._by_content.setdefault(digest, function)
        return known[1]

    def _limits_of(self, call: Call) -> Limits:
        wanted = call.target.limits
        if wanted is None:
            return _UNLIMITED
        growth, cpu = call.growth
        own = "poll_interval" in wanted.model_fields_set
        memory = int(min((wanted.max_memory or 0) * growth, _MOST_BYTES))
        if self._memory is not None and memory > self._memory:
            raise BackendError(
                f"max_memory={format_size(memory)} is more than all calls of the process pool may "
                f"have together, memory={format_size(self._memory)}; lower it, or raise that"
            )
        return Limits(
            memory,
            min((wanted.max_cpu_time or 0.0) * cpu, _MOST),
            min(wanted.max_open_files or 0, _MOST),
            wanted.max_processes,
            min(wanted.poll_interval if own else self._poll_interval, _RARELY),
            wanted.cpus,
        )

    def _running(self, call: Call) -> Running | None:
        job, supervisor = call.place, self._supervisor
        return None if job is None or supervisor is None else supervisor.worker_of(job)

    def _look(self, call: Call) -> None:
        running = self._running(call)
        if running is not None and running.since:
            call.started = call.run.kernel.now() - (_now() - running.since)
            call.worker = running.worker.name


def _check_options(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
            raise BackendError(f"ProcessBackend: {name} is a whole number, not {number!r}")
        if number is not None and number < 1:
            raise BackendError(f"ProcessBackend: {name} is a number from 1 up, not {number!r}")


def _check_given(preload: object, initializer: object, environment: object) -> None:
    """Refuse what a worker couldn't be made with, while it is known who has asked for it."""
    if isinstance(preload, str) or not isinstance(preload, Sequence):
        raise BackendError(
            f"ProcessBackend: preload is a list of names of modules, not {preload!r:.60}",
            fix=f"write [{preload!r}]" if isinstance(preload, str) else None,
        )
    for name in preload:
        if not isinstance(name, str):
            raise BackendError(f"ProcessBackend: preload has {name!r:.60}, which names no module")
    if initializer is not None and not callable(initializer):
        raise BackendError(f"ProcessBackend: initializer is a function, not {initializer!r:.60}")
    if environment is None:
        return
    if not isinstance(environment, Mapping):
        raise BackendError(
            f"ProcessBackend: environment is a dict of variables, not {environment!r:.60}"
        )
    for name, value in environment.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise BackendError(f"ProcessBackend: environment has {name!r:.60}, which names none")
        if not isinstance(value, str) or "\0" in value:
            raise BackendError(
                f"ProcessBackend: environment has {name}={value!r:.60}; its value is text"
            )


_UNLIMITED: Final = Limits()


def _settle(job: Job, frame: Frame, worker: str) -> None:
    """On the supervisor's thread: what came back is loaded by whoever asks for it."""
    call = job.call
    started = call.run.kernel.now() - (_now() - frame.started)
    call.started, call.worker = started, worker
    # The job leads back to the call: what is let go at once is no work for the collector.
    call.place = None
    outcome = Outcome.to_be_loaded(partial(_load, job, frame), failed=frame.kind != wire.RETURNED)
    outcome.started, outcome.ran, outcome.worker = started, frame.ran, worker
    outcome.cpu_time = frame.cpu
    outcome.peak_memory = max(frame.peak, job.peak)
    if call.run.listeners.on_event is not None:
        used = frame.ran, frame.cpu, outcome.peak_memory
        facts = call.node_id, call.node_name, call.element, call.attempt, *used
        call.run.kernel.post(call.run.emit, CallMeasured, *facts)
    if call.admit is not None and frame.kind != wire.RETURNED:
        # Asked for on two threads, by the circuit and by the run, and loaded once.
        _load(job, frame, outcome)
    job.done(call, outcome)


def _load(job: Job, frame: Frame, outcome: Outcome) -> None:
    outcome.value = outcome.error = None
    peak = max(frame.peak, job.peak)
    try:
        if frame.kind == wire.RETURNED:
            outcome.value = pickle.loads(frame.told, buffers=frame.apart)
        else:
            outcome.error = _error_in(job, frame, peak)
    except BaseException as trouble:
        if _is_the_users(trouble):
            raise
        outcome.error = SerializationError(f"the result can't be loaded here: {trouble!r}")
        outcome.error.__cause__ = trouble


def _error_in(job: Job, frame: Frame, peak: int) -> BaseException:
    data, type_name, message, trace = pickle.loads(frame.told)
    error: BaseException | None = None
    if data is not None:
        try:
            error = pickle.loads(data)
        except BaseException as trouble:
            if _is_the_users(trouble):
                raise
            error = None
    if error is None:
        error = RemoteError._from_texts(type_name, message, trace)
    if isinstance(error, MemoryError) and job.limits.memory:
        limited = memory_error(job.limits.memory, peak)
        limited.__cause__ = RemoteTraceback(trace)
        return limited
    if frame.kind == wire.FAILED:
        error.__cause__ = RemoteTraceback(trace)
    return error


def _is_the_users(error: BaseException) -> bool:
    """Whether it is a Ctrl-C, which comes on the main thread alone."""
    main = threading.current_thread() is threading.main_thread()
    return main and isinstance(error, KeyboardInterrupt)


_backends: WeakSet[ProcessBackend] = WeakSet()


def _after_fork() -> None:
    """The child has none of the parent's threads, and the workers are the parent's."""
    for backend in tuple(_backends):
        backend._renew_lock()
        supervisor, backend._supervisor = backend._supervisor, None
        if supervisor is not None:
            supervisor.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
