"""
Whatever a call does to its process, it gets its own error, and nobody else has any harm.

The faults are listed in `fault_table.py`: each happens in a map of 21 calls, in a function of a
module and in a closure, in one pool; then the pool must work as before, and leave nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from daglite import ProcessBackend, evaluate, task
from daglite.exceptions import CpuTimeLimitError, ExecutionError, TaskTimeoutError, WorkerDiedError
from tests.backends import faults, faults_of_answers, faults_of_traces, faults_of_use
from tests.backends.fault_table import (
    FAULTS,
    OTHERS,
    TIMEOUT,
    Fault,
    Form,
    suffer,
    time_to_detect,
)
from tests.backends.faults import Mark
from tests.backends.journal import eventually
from tests.backends.leftovers import Leftovers, is_alive

SOON = 5.0
"""Seconds in which each fault is seen, many times what it takes: the machine may be busy."""

SPAWNED = {
    faults.crashes,
    faults.loops_in_c,
    faults_of_use.grows_in_pieces,
    faults_of_answers.raises_what_is_particular,
    faults_of_traces.dies_with_its_pipes_held,
    faults_of_traces.moves_house,
}
"""Faults that are tried with fresh interpreters, too; the others at night."""

BOTH = get_args(Form)


def _cases() -> list[Any]:
    cases: list[Any] = []
    for fault in FAULTS:
        name = fault.body.__name__
        slow = fault.error is CpuTimeLimitError
        launched = ("closure",) if slow else BOTH
        cases.append(pytest.param(fault, "launcher", launched, id=f"{name}-launcher"))
        if fault.body in SPAWNED:
            cases.append(pytest.param(fault, "spawn", ("closure",), id=f"{name}-spawn"))
        night = pytest.mark.nightly
        for method in ("launcher", "spawn"):
            cases.append(
                pytest.param(fault, method, BOTH, id=f"{name}-{method}-night", marks=night)
            )
    return cases


@pytest.mark.parametrize(("fault", "start_method", "forms"), _cases())
def test_a_fault(
    fault: Fault,
    start_method: Literal["launcher", "spawn"],
    forms: tuple[Form, ...],
    leftovers: Leftovers,
    tmp_path: Path,
) -> None:
    """Its call ends as the table says, the 20 others are kept, and so is the pool."""
    with ProcessBackend(2, start_method=start_method) as backend:
        for form in forms:
            mark = Mark(tmp_path / form)
            report = suffer(backend, fault, mark, form)
            assert report.others == OTHERS
            assert mark.moment is not None
            check_fate(fault, report.fate)
            seconds = time_to_detect(fault, report, mark)
            assert seconds is None or seconds < SOON
            if fault.error in (TaskTimeoutError, WorkerDiedError):
                # By then its worker is gone, with what descends from it.
                assert eventually(lambda m=mark: not any(map(is_alive, m.processes)), 1)
        assert evaluate(task(faults.same).zip(x=OTHERS), default_backend=backend) == OTHERS
    assert leftovers.processes == []


def check_fate(fault: Fault, fate: Any) -> None:
    """It is what *fault* must end with."""
    if fault.error is None:
        assert fate == fault.says
        return
    assert isinstance(fate, ExecutionError)
    told = fate.original_exception or fate
    assert type(told) is fault.error
    assert re.search(fault.says, str(fate))
    if isinstance(fate, TaskTimeoutError):
        assert TIMEOUT <= fate.elapsed < TIMEOUT + SOON


def test_the_docs_tell_every_fault() -> None:
    """With what it ends with; `python -m tests.backends.fault_table` prints the rows."""
    page = Path(__file__).parents[2] / "docs" / "user-guide" / "processes.md"
    rows = [line.split(" | ") for line in page.read_text().splitlines() if " | " in line]
    told = {row[0].removeprefix("| "): row[1] for row in rows}
    for fault in FAULTS:
        expected = "its value" if fault.error is None else f"`{fault.error.__name__}`"
        assert told[fault.name].startswith(expected)
