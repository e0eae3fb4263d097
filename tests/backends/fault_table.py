"""
Every fault that a call can have: what must become of it, and how soon.

``python -m tests.backends.fault_table`` lets all of them happen, and prints a table.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from daglite import Backend, MapPolicy, ProcessBackend, ResourceLimits, evaluate, task
from daglite.callbacks import ElementFailed, NodeFailed
from daglite.exceptions import (
    CpuTimeLimitError,
    ExecutionError,
    MemoryLimitError,
    ProcessLimitError,
    RemoteError,
    SerializationError,
    TaskTimeoutError,
    WorkerDiedError,
)
from tests.backends import faults, faults_of_answers, faults_of_traces, faults_of_use
from tests.backends.faults import GUILTY, MEMORY, Mark

CALLS = 21
"""The guilty one and 20 others."""

OTHERS = [x for x in range(CALLS) if x != GUILTY]
TIMEOUT = 0.3
CPU = 0.5


@dataclass(frozen=True)
class Fault:
    """
    A fault, and what its call must end with.

    Attributes:
        name: In words.
        body: Has the fault.
        error: What the call fails with; None: it returns.
        says: A pattern of the error's text, or the value.
        options: Those of the task.
    """

    name: str
    body: Callable[[Mark], object]
    error: type[BaseException] | None
    says: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def _died(name: str, body: Callable[[Mark], object], says: str) -> Fault:
    return Fault(name, body, WorkerDiedError, says)


def _hung(name: str, body: Callable[[Mark], object]) -> Fault:
    return Fault(name, body, TaskTimeoutError, "longer than", {"timeout": TIMEOUT})


def _grew(name: str, body: Callable[[Mark], object]) -> Fault:
    limits = ResourceLimits(MEMORY)
    return Fault(name, body, MemoryLimitError, "max_memory=150", {"limits": limits})


def _burned(name: str, body: Callable[[Mark], object]) -> Fault:
    limits = ResourceLimits(max_cpu_time=CPU)
    return Fault(name, body, CpuTimeLimitError, "max_cpu_time=0.5", {"limits": limits})


FAULTS = [
    _died("`os._exit(3)`", faults.exits, "exit code 3"),
    _died("killed by `SIGKILL`", faults.is_killed, "SIGKILL"),
    _died("crash in C (`SIGSEGV`)", faults.crashes, "SIGSEGV"),
    _died("`os.abort()`", faults.aborts, "SIGABRT"),
    _died("stack overflow in C", faults.overflows_its_stack, "SIGSEGV"),
    Fault("endless recursion in Python", faults.recurses, RecursionError),
    _died("closes every file of its process", faults.closes_all_files, "exit code 1"),
    _died(
        "dies while its answer is being sent", faults_of_answers.dies_while_it_answers, "SIGKILL"
    ),
    _died(
        "dies, and a child holds its pipes",
        faults_of_traces.dies_with_its_pipes_held,
        "exit code 5",
    ),
    _hung("loop in Python", faults.loops_in_python),
    _hung("loop in C that holds the GIL", faults.loops_in_c),
    _hung("system call that never returns", faults.waits_for_ever),
    _hung("stopped by `SIGSTOP`", faults.stops_itself),
    _hung("ignores every signal", faults.ignores_signals),
    _hung("blocks every signal", faults.blocks_signals),
    _hung("hangs with children and grandchildren", faults.hangs_with_children),
    _grew("memory, in pieces", faults_of_use.grows_in_pieces),
    _grew("memory, at once", faults_of_use.grows_at_once),
    _grew("memory, in a child process", faults_of_use.grows_in_a_child),
    _grew("memory, shared", faults_of_use.grows_in_shared_memory),
    _grew("memory, `MemoryError` swallowed", faults_of_use.swallows_memory_errors),
    _burned("CPU time, in C", faults_of_use.burns_in_c),
    _burned("CPU time, in threads", faults_of_use.burns_in_threads),
    _burned("CPU time, in child processes", faults_of_use.burns_in_children),
    Fault(
        "too many open files",
        faults_of_use.opens_files,
        OSError,
        "Too many open files",
        {"limits": ResourceLimits(max_open_files=20)},
    ),
    Fault(
        "too many child processes",
        faults_of_use.makes_children,
        ProcessLimitError,
        "max_processes=2",
        {"limits": ResourceLimits(max_processes=2)},
    ),
    Fault("`sys.exit(4)`", faults_of_answers.exits_politely, SystemExit, "4"),
    Fault("raises `KeyboardInterrupt`", faults_of_answers.interrupts, KeyboardInterrupt),
    Fault(
        "raises a `BaseException`",
        faults_of_answers.raises_what_is_no_exception,
        faults_of_answers.Unhappy,
    ),
    Fault(
        "exception with an `__init__` of its own",
        faults_of_answers.raises_what_is_particular,
        RemoteError,
        r"Particular: peculiar \(7\)",
    ),
    Fault(
        "exception that can't be pickled",
        faults_of_answers.raises_what_cannot_be_pickled,
        RemoteError,
        "Held",
    ),
    Fault(
        "exception that can't be loaded here",
        faults_of_answers.raises_what_cannot_be_loaded,
        RemoteError,
        "LateTrap: trap",
    ),
    Fault(
        "exception whose `__str__` raises",
        faults_of_answers.raises_what_cannot_speak,
        faults_of_answers.Mute,
    ),
    Fault(
        "result that can't be pickled",
        faults_of_answers.returns_what_cannot_be_pickled,
        SerializationError,
        "lock",
    ),
    Fault(
        "result whose loading raises",
        faults_of_answers.returns_what_raises,
        SerializationError,
        "ValueError",
    ),
    Fault(
        "result whose loading exits",
        faults_of_answers.returns_what_exits,
        SerializationError,
        "SystemExit",
    ),
    Fault("leaves a child process", faults_of_traces.leaves_a_child, None, "left"),
    Fault("leaves a double-forked daemon", faults_of_traces.leaves_a_daemon, None, "left"),
    Fault("leaves a thread", faults_of_traces.leaves_a_thread, None, "left"),
    Fault("forks, and the child returns too", faults_of_traces.returns_twice, None, "parent"),
    Fault("forks, and the child raises", faults_of_traces.raises_in_a_child, None, "parent"),
    Fault("closes stdout and stderr", faults_of_traces.closes_its_output, None, "closed"),
    Fault("2 MB on stdout", faults_of_traces.floods, None, "flooded"),
    Fault("changes folder, environment, signals", faults_of_traces.moves_house, None, "moved"),
    Fault(
        "lives with `MemoryError`",
        faults_of_use.lives_with_memory_errors,
        None,
        "lived",
        {"limits": ResourceLimits(MEMORY)},
    ),
]

Form = Literal["function", "closure"]


@dataclass(frozen=True)
class Report:
    """
    What became of a map with a fault in it.

    Attributes:
        fate: Error or value of the guilty call.
        others: Values of the others.
        arrived: When the fate was known, on the monotonic clock.
    """

    fate: Any
    others: list[Any]
    arrived: float


class _Listener:
    """Hears when a call fails, and what others return."""

    def __init__(self) -> None:
        self.moment = 0.0
        self.values: list[Any] = []

    def on_event(self, event: object) -> None:
        """Of a map's element, or of a call of its own."""
        if isinstance(event, (ElementFailed, NodeFailed)):
            self.moment = time.monotonic()

    def on_node_complete(self, node_id: int, result: Any) -> None:
        """The value of a call of its own."""
        self.values.append(result)


def suffer(backend: Backend, fault: Fault, mark: Mark, form: Form = "function") -> Report:
    """Run 21 calls, of which number `GUILTY` has *fault*."""
    made = _task(fault, mark, form)
    listener = _Listener()
    run = partial(evaluate, default_backend=backend, callbacks=[listener])
    if fault.error is None or issubclass(fault.error, Exception):
        collects = made.with_options(map_policy=MapPolicy("collect"))
        values = run(collects.zip(x=range(CALLS)))
        return Report(values.pop(GUILTY), values, listener.moment)
    # It would fail its map, whatever the policy.
    calls = [made.bind(x=x) for x in range(CALLS)]
    try:
        run(calls, on_failure="continue")
    except ExecutionError as error:
        return Report(error, sorted(listener.values), listener.moment)
    raise AssertionError("it has returned")


def _task(fault: Fault, mark: Mark, form: Form) -> Any:
    if form == "function":
        given = task(faults.struck, name="struck", **fault.options)
        return given.fix(fault=fault.body, mark=mark)
    body = fault.body

    def closure(x: int) -> object:
        return body(mark) if x == GUILTY else x

    return task(closure, name="struck", **fault.options)


def time_to_detect(fault: Fault, report: Report, mark: Mark) -> float | None:
    """Seconds from the fault, or from when its limit was reached; None: nothing to detect."""
    if fault.error is None or mark.moment is None:
        return None
    if isinstance(report.fate, CpuTimeLimitError):
        return report.fate.used - report.fate.limit
    return report.arrived - mark.moment - (fault.options.get("timeout") or 0.0)


def table(rounds: int = 3) -> str:
    """As Markdown, with the median of so many rounds."""
    lines = [
        "| Fault | What its call ends with | Time to detect |",
        "| --- | --- | ---: |",
    ]
    for fault in FAULTS:
        seconds: list[float | None] = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder, ProcessBackend(2) as backend:
                mark = Mark(Path(folder, "mark"))
                report = suffer(backend, fault, mark)
                assert report.others == OTHERS
                seconds.append(time_to_detect(fault, report, mark))
        lines.append(f"| {fault.name} | {_outcome(fault, report)} | {_median(seconds)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and nothing of what the faults print."""
    ours, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(nothing, output)
    with open(ours, "w") as file:
        file.write(f"{table()}\n")


def _outcome(fault: Fault, report: Report) -> str:
    if fault.error is None:
        return "its value"
    error = report.fate
    told = type(error.original_exception or error).__name__
    died = getattr(error, "signal", None) or getattr(error, "exit_code", None)
    return f"`{told}` ({died})" if died is not None else f"`{told}`"


def _median(seconds: list[float | None]) -> str:
    known = [each for each in seconds if each is not None]
    return f"{1_000 * statistics.median(known):.0f} ms" if known else ""


if __name__ == "__main__":
    main()
