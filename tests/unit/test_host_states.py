"""Policies with ``scope="host"`` in runs, in protected functions, and seen from outside."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daglite import (
    CircuitBreaker,
    DagliteSettings,
    MapPolicy,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    breakers,
    evaluate,
    force_open,
    host_states,
    protect,
    reset,
    session,
    task,
)
from daglite.exceptions import CircuitOpenError, PolicyError, SettingsError
from daglite.host_states import HostStates, state_directory
from daglite.state.shared import LOOK_EVERY, SharedBreaker, SharedBucket
from daglite.stores.host import HostFile
from daglite.testing import VirtualClock
from tests.unit.lab import Lab
from tests.unit.state.cells import Machine

FAILS_ONCE = CircuitBreaker(
    "db", consecutive=1, on_open="fail", scope="host", ignore=ZeroDivisionError
)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test is on a machine of its own."""
    monkeypatch.setenv("DAGLITE_STATE_DIR", str(tmp_path))
    hosts: dict[Path, Any] = {}
    monkeypatch.setattr(host_states, "_hosts", hosts)
    yield
    for host in hosts.values():
        host._file.close()


def fails() -> None:
    raise OSError("down")


def other_process(tmp_path: Path) -> list[Any]:
    """What the file says to a process that has used nothing yet."""
    file = HostFile(tmp_path)
    rows = file.rows()
    file.close()
    return rows


def test_two_runs_share_a_circuit(tmp_path: Path) -> None:
    """What one has opened is open for the other, and in the file."""
    failing = task(fails, circuit_breaker=FAILS_ONCE)
    with pytest.raises(OSError, match="down"):
        evaluate(failing.bind())
    with pytest.raises(CircuitOpenError, match="a probe may go in"):
        evaluate(failing.bind())
    (row,) = other_process(tmp_path)
    assert (row.kind, row.key) == ("circuit breaker", "db")


def test_all_three_policies_at_once(tmp_path: Path) -> None:
    """Each has its row."""
    calls: list[int] = []

    @task(
        circuit_breaker=CircuitBreaker("db", scope="host"),
        rate_limit=RateLimit(1000, key="db", scope="host"),
        retry=RetryPolicy(2, "none", budget=RetryBudget(key="db", scope="host")),
    )
    def works() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("once")
        return 7

    assert evaluate(works.bind()) == 7
    assert [row.kind for row in other_process(tmp_path)] == [
        "circuit breaker",
        "rate limit",
        "retry budget",
    ]


def test_a_key_has_one_policy_in_a_process() -> None:
    """In another one it may be newer, or older."""
    evaluate(task(lambda: 1, name="one", rate_limit=RateLimit(9, key="a", scope="host")).bind())
    other = task(lambda: 1, name="two", rate_limit=RateLimit(8, key="a", scope="host"))
    with pytest.raises(PolicyError, match="share the rate limit 'a', but not its policy"):
        evaluate(other.bind())


def test_protected_functions_share_it_with_runs() -> None:
    """With a key or by their name, plain or async."""
    failing = protect(fails, circuit_breaker=FAILS_ONCE)
    with pytest.raises(OSError, match="down"):
        failing()

    @protect(circuit_breaker=FAILS_ONCE)
    async def never() -> None:
        raise AssertionError

    with pytest.raises(CircuitOpenError):
        failing()
    with pytest.raises(CircuitOpenError):
        asyncio.run(never())
    with pytest.raises(CircuitOpenError):
        evaluate(task(fails, circuit_breaker=FAILS_ONCE).bind())
    reset("db")
    with pytest.raises(OSError, match="down"):
        failing()


def test_a_protected_function_with_all_of_it() -> None:
    """On its ready path, and through its chain."""
    limited = protect(
        lambda: 1,
        name="limited",
        circuit_breaker=CircuitBreaker("limited", scope="host"),
        rate_limit=RateLimit(1000, burst=2, key="limited", scope="host"),
        retry=RetryPolicy(1, budget=RetryBudget(key="limited", scope="host")),
    )
    turns = protect(lambda: 2, name="turns", rate_limit=RateLimit(1000, key="turns", scope="host"))
    assert [limited(), limited(), limited(), turns(), turns()] == [1, 1, 1, 2, 2]


def test_a_clock_of_its_own_leaves_the_machine_alone(lab: Lab, tmp_path: Path) -> None:
    """What happens in virtual time is shared by those on that clock, and stays there."""
    failing = task(fails, circuit_breaker=FAILS_ONCE)
    with pytest.raises(OSError, match="down"):
        lab(failing.bind())
    with pytest.raises(CircuitOpenError):
        lab(failing.bind())
    with pytest.raises(CircuitOpenError):
        protect(fails, circuit_breaker=FAILS_ONCE, clock=lab.clock)()
    with pytest.raises(OSError, match="down"):
        protect(fails, circuit_breaker=FAILS_ONCE, clock=VirtualClock())()
    assert other_process(tmp_path) == []
    with pytest.raises(OSError, match="down"):
        evaluate(failing.bind())


def test_a_clock_that_can_be_no_key() -> None:
    """It has states of its own all the same."""

    class Clock(VirtualClock):
        __hash__ = None  # type: ignore[assignment]

    states = HostStates(Clock(), None)
    wanted = CircuitBreaker("db", scope="host")
    first = states.obtain("circuit breaker", "db", wanted, "a")
    assert states.obtain("circuit breaker", "db", wanted, "b") is first
    assert not isinstance(first, SharedBreaker)


# -- those who wait ---------------------------------------------------------------


def times_of(lab: Lab) -> tuple[float, float]:
    return lab.clock.now(), 1.7e9 + lab.clock.now()


def runs_get(state: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in virtual time share *state* with other processes."""

    class Source:
        def obtain(self, *_: Any) -> object:
            return state

    monkeypatch.setattr(session, "HostStates", lambda *_: Source())


@pytest.mark.parametrize(("max_wait", "done"), [(None, 100), (20, 41)])
def test_turns_of_calls_that_come_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, max_wait: float | None, done: int
) -> None:
    """They start when they would if all turns were taken at once, and wait no longer than that."""
    wanted = RateLimit(2, max_wait=max_wait, scope="host")
    runs_get(SharedBucket(wanted, Machine(1).cells[0], partial(times_of, lab)), monkeypatch)
    works = task(
        lambda x: x, name="works", rate_limit=wanted, map_policy=MapPolicy("skip", max_failures=99)
    )
    assert lab(works.extend(x=range(100)), slots=200) == list(range(done))
    assert lab.starts == [number / 2 for number in range(done)]


def test_parked_calls_hear_of_other_processes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds of it, and a thousand of them cost little more than one."""
    machine = Machine(2)
    wanted = CircuitBreaker("db", consecutive=1, break_for=500, scope="host")
    mine, other = (
        SharedBreaker(wanted, "db", cell, partial(times_of, lab)) for cell in machine.cells
    )
    other.force_open()
    runs_get(mine, monkeypatch)
    looks: list[float] = []
    peek = machine.cells[0].peek

    def counted(take: Any) -> Any:
        looks.append(lab.clock.now())
        return peek(take)

    monkeypatch.setattr(machine.cells[0], "peek", counted)
    lab.clock.call_at(100.5, other.reset)
    works = task(lambda x: x, name="works", circuit_breaker=wanted)
    assert lab(works.extend(x=range(1000))) == list(range(1000))
    assert lab.clock.now() <= 100.5 + 1.5 * LOOK_EVERY
    assert 50 <= len([look for look in looks if 0 < look < 100.5]) <= 201


# -- from outside -----------------------------------------------------------------


def written_by_another_process(tmp_path: Path, wanted: CircuitBreaker, key: str) -> None:
    machine = Machine(1)
    breaker = SharedBreaker(wanted, key, machine.cells[0], lambda: (0.0, 1.7e9))
    answer = breaker.permit(0)
    breaker.record(answer, 0, failed=True)  # type: ignore[arg-type]
    file = HostFile(tmp_path)
    policy = wanted.model_dump_json(exclude={"key", "ignore"}, exclude_unset=True)
    text = machine.store.text
    file.cell("circuit breaker", key, policy).change(lambda news: (None, text))
    file.close()


def test_circuits_that_only_other_processes_have_used(tmp_path: Path) -> None:
    """They are listed, and can be worked by hand."""
    written_by_another_process(tmp_path, CircuitBreaker(consecutive=3), "far")
    (seen,) = [each for each in breakers() if each.key == "far"]
    assert (seen.state, seen.calls, seen.failure_rate) == ("closed", 1, 1.0)
    force_open("far")
    with pytest.raises(CircuitOpenError, match="until somebody resets it"):
        protect(fails, circuit_breaker=CircuitBreaker("far", on_open="fail", scope="host"))()
    assert [each.state for each in breakers() if each.key == "far"] == ["forced_open"]
    reset("far")
    assert [each.state for each in breakers() if each.key == "far"] == ["closed"]


def test_a_circuit_of_a_version_that_nobody_knows(tmp_path: Path) -> None:
    """It isn't listed."""
    file = HostFile(tmp_path)
    file.cell("circuit breaker", "new", '{"mood": "good"}').change(lambda news: (None, "{}"))
    file.cell("circuit breaker", "odd", "{").change(lambda news: (None, "{}"))
    file.close()
    assert not {"new", "odd"} & {each.key for each in breakers()}


def test_one_that_only_watches(tmp_path: Path) -> None:
    """It doesn't share what it counts with one that opens."""
    watched = protect(fails, circuit_breaker=FAILS_ONCE.model_copy(update={"mode": "metrics_only"}))
    for _ in range(3):
        with pytest.raises(OSError, match="down"):
            watched()
    assert [row.kind for row in other_process(tmp_path)] == ["circuit breaker, metrics_only"]
    assert [each.calls for each in breakers() if each.key == "db"] == [3]


def test_by_hand_while_the_file_can_not_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds for this process, which is said each time."""
    (tmp_path / "states-1.sqlite3").mkdir()
    works = protect(lambda: 1, name="works", circuit_breaker=FAILS_ONCE)
    caplog.set_level(logging.WARNING, "daglite")
    assert [works(), works()] == [1, 1]
    force_open("db")
    with pytest.raises(CircuitOpenError):
        works()
    reset("db")
    assert works() == 1
    first, *others = [record.message for record in caplog.records]
    assert "can't be used" in first
    assert [other.partition(" in this process alone")[0] for other in others] == [
        "the circuit 'db' is opened",
        "the circuit 'db' is reset",
    ]


# -- where it is ------------------------------------------------------------------


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings say, else the environment, else what the system is used to."""
    home = Path(os.path.expanduser("~"))
    assert state_directory(tmp_path, {"DAGLITE_STATE_DIR": "/var/x"}) == tmp_path
    assert state_directory(None, {"DAGLITE_STATE_DIR": "/var/x"}) == Path("/var/x")
    monkeypatch.setattr("sys.platform", "linux")
    assert state_directory(None, {}) == home / ".local/state/daglite"
    assert state_directory(None, {"XDG_STATE_HOME": "/var/y"}) == Path("/var/y/daglite")
    assert state_directory(None, {"XDG_STATE_HOME": "y"}) == home / ".local/state/daglite"
    monkeypatch.setattr("sys.platform", "darwin")
    assert state_directory(None, {}) == home / "Library/Application Support/daglite"
    monkeypatch.setattr("sys.platform", "win32")
    assert state_directory(None, {}) == home / "AppData/Local/daglite"
    assert state_directory(None, {"LOCALAPPDATA": "/c/local"}) == Path("/c/local/daglite")


def test_a_relative_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is where it was when it was first looked for, also when the process moves."""
    monkeypatch.chdir(tmp_path)
    assert state_directory(Path("here")) == tmp_path / "here"


def test_the_setting(tmp_path: Path) -> None:
    """A run's own settings have the file elsewhere."""
    settings = DagliteSettings(state_dir=tmp_path / "elsewhere")
    failing = task(fails, circuit_breaker=FAILS_ONCE)
    with pytest.raises(OSError, match="down"):
        evaluate(failing.bind(), settings=settings)
    assert len(other_process(tmp_path / "elsewhere")) == 1
    assert other_process(tmp_path) == []
    assert DagliteSettings(state_dir="~/states").state_dir == Path("~/states").expanduser()


@pytest.mark.parametrize("value", ["", 3, "a\0b"])
def test_a_setting_that_is_no_path(value: Any) -> None:
    with pytest.raises(SettingsError, match="'state_dir' must be the path of a directory, or None"):
        DagliteSettings(state_dir=value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_goes_on_with_the_file(tmp_path: Path) -> None:
    """A function that was protected before the fork, and a run after it, see the same."""
    works = protect(lambda: 1, name="works", circuit_breaker=FAILS_ONCE)
    assert works() == 1
    child = os.fork()
    if not child:
        code = 1
        try:
            assert works() == 1
            force_open("db")
            assert evaluate(task(lambda: 1, name="free").bind()) == 1
            try:
                works()
            except CircuitOpenError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(CircuitOpenError, match="until somebody resets it"):
        works()
