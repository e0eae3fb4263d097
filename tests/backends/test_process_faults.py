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
from daglite.exceptions import ExecutionError, TaskTimeoutError, WorkerDiedError
from tests.backends import faults, faults_of_answers, faults_of_traces, faults_of_use
from tests.backends.fault_table import (
    CALLS,
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

IN_BOTH = {
    faults.crashes,
    faults.loops_in_c,
    faults_of_traces.dies_with_its_pipes_held,
    faults_of_use.grows_in_pieces,
    faults_of_use.burns_in_threads,
    faults_of_answers.raises_what_is_particular,
    faults_of_traces.moves_house,
}
"""Faults that are tried with each start method every time, and not only at night."""

StartMethod = Literal["launcher", "spawn"]


def _cases() -> list[Any]:
    cases: list[Any] = []
    for fault in FAULTS:
        name = fault.body.__name__
        cases.append(pytest.param("launcher", fault, id=f"launcher-{name}"))
        marks = [] if fault.body in IN_BOTH else [pytest.mark.nightly]
        cases.append(pytest.param("spawn", fault, id=f"spawn-{name}", marks=marks))
    return cases


@pytest.mark.parametrize(("start_method", "fault"), _cases())
def test_a_fault(
    start_method: StartMethod,
    fault: Fault,
    leftovers: Leftovers,
    tmp_path: Path,
) -> None:
    """Its call ends as the table says, the 20 others are kept, and so is the pool."""
    with ProcessBackend(2, start_method=start_method) as backend:
        for form in get_args(Form):
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
        assert evaluate(task(faults.same).zip(x=range(CALLS)), default_backend=backend) == [
            *range(CALLS)
        ]
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
