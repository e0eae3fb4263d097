"""From a worker's death to the error of the call that it was running."""

from __future__ import annotations

import pickle
import signal
from pathlib import Path
from typing import Literal, NamedTuple

from daglite._units import format_size
from daglite.backends.processes.channel import Frame
from daglite.backends.processes.job import Job
from daglite.exceptions import (
    BackendError,
    CpuTimeLimitError,
    ExecutionError,
    MemoryLimitError,
    ProcessLimitError,
    WorkerDiedError,
)

__all__ = [
    "Death",
    "Kills",
    "error_of_death",
    "memory_error",
    "not_ready",
    "refused",
    "stack_in",
    "stillborn",
]


class Death(NamedTuple):
    """What a call was ended for: a limit, and what was seen."""

    what: Literal["memory", "cpu", "processes", "answer"]
    limit: float
    seen: float


def error_of_death(
    job: Job, process: int, code: int | None, death: Death | None, faults: str, oom: bool = False
) -> ExecutionError:
    """
    The error of *job*, under which its worker died.

    Args:
        job: The call.
        process: The worker.
        code: How it ended: exit code, or minus a signal's number; None: nobody knows.
        death: What it was ended for; None: it wasn't.
        faults: Where Python said it was, if it crashed.
        oom: Whether the kernel has ended processes for want of memory meanwhile.
    """
    limits = job.limits
    if death is not None and death.what == "memory":
        return memory_error(int(death.limit), int(death.seen))
    if death is not None and death.what == "answer":
        return WorkerDiedError(
            f"what worker process {process} sent can't be read",
            signal=_name(-signal.SIGKILL),
            hint="there is no memory for it here, or the call has written into the worker's pipes",
        )
    if death is not None and death.what == "processes":
        return ProcessLimitError(
            f"had {death.seen:g} child processes, more than max_processes={death.limit:g} allows",
            limit=int(death.limit),
            seen=int(death.seen),
        )
    if death is not None or (limits.cpu and code == -signal.SIGXCPU):
        seen = limits.cpu if death is None else death.seen
        return CpuTimeLimitError(
            f"used {seen:.2f} s of CPU time, more than max_cpu_time={limits.cpu:g} s allows",
            limit=limits.cpu,
            used=seen,
        )
    return WorkerDiedError(
        f"worker process {process} died under the call: {_ending(code)}",
        exit_code=code if code is not None and code >= 0 else None,
        signal=_name(code) if code is not None and code < 0 else None,
        hint=_hint(job, code, oom),
        stack=stack_in(faults),
    )


def memory_error(limit: int, peak: int) -> MemoryLimitError:
    """The error of a call that wanted more than *limit* bytes, and had *peak*."""
    return MemoryLimitError(
        f"needed more memory than max_memory={format_size(limit)} allows, "
        f"with {format_size(peak)} in use",
        limit=limit,
        peak=peak,
    )


def not_ready(frame: Frame) -> BackendError:
    """The error of a pool whose initializer failed."""
    _, name, message, trace = pickle.loads(frame.told)
    return BackendError(f"the process pool's initializer failed: {name}: {message}\n{trace}")


def stillborn(
    code: int | None, faults: str, what: str = "workers die before they are ready"
) -> BackendError:
    """The error of a pool whose workers, or whose launcher, die before they can take calls."""
    where = stack_in(faults)
    told = f"\n{where}" if where else ""
    return BackendError(f"{what}: {_ending(code)}{told}")


def refused(error: Exception) -> BackendError:
    """The error of calls for which the system had no room to make a worker, or a thread."""
    made = BackendError(f"the process pool can't start a worker: {error}")
    made.__cause__ = error
    return made


def stack_in(faults: str) -> str | None:
    """The stack of the main thread, the innermost call last, out of what Python wrote."""
    lines = faults.splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("Current thread")] or [
        n for n, line in enumerate(lines) if line.startswith("Thread")
    ]
    if not starts:
        return None
    stack: list[str] = []
    for line in lines[starts[-1] + 1 :]:
        if not line.startswith("  File ") or "daglite/worker/main.py" in line:
            break
        stack.append(line)
    return "\n".join(reversed(stack)) or None


class Kills:
    """How many processes the kernel has ended for want of memory, since it was asked before."""

    def __init__(self) -> None:
        self._before = _oom_kills()

    def more(self) -> bool:
        """Whether there are more than before."""
        now, before = _oom_kills(), self._before
        self._before = now
        return now > before


def _oom_kills() -> int:
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def _ending(code: int | None) -> str:
    if code is None:
        return "nobody knows how, as the launcher died too"
    return f"exit code {code}" if code >= 0 else f"signal {_name(code)}"


def _name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return str(-code)


def _hint(job: Job, code: int | None, oom: bool) -> str | None:
    if code == -signal.SIGKILL and oom:
        return (
            "probably the kernel's OOM killer: the machine, or the container, ran out of memory; "
            "limit it by max_memory=, or run fewer workers"
        )
    if code in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS) and job.limits.memory:
        return (
            f"max_memory={format_size(job.limits.memory)} was in force: C code may have ignored "
            "that it got no memory"
        )
    return None
