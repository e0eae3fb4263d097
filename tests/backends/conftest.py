"""What the tests of backends share."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daglite import Backend
from tests.backends.journal import WAIT, Journal
from tests.backends.kinds import KINDS, WAYS, Kind, backend_of, close_backend_of, run_on
from tests.backends.leftovers import VARIABLE, Leftovers


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and so would our children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=KINDS, scope="module")
def kind_name(request: pytest.FixtureRequest) -> str:
    """Each kind of backend in turn."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def kind(kind_name: str) -> Kind:
    """What may be asked of it."""
    return KINDS[kind_name]


@pytest.fixture(scope="module")
def backend(kind_name: str) -> Iterator[Backend]:
    """A backend for all tests of a module, which must leave it whole."""
    yield backend_of(kind_name)
    close_backend_of(kind_name)


@pytest.fixture(params=[name for name, kind in KINDS.items() if not kind.shared])
def own_backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A backend for one test, which may do with it what it likes."""
    made = KINDS[request.param].make()
    yield made
    made.close()


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """How to run, by name."""
    name: str = request.param
    return name


@pytest.fixture
def run(kind_name: str, backend: Backend, way: str) -> Callable[..., Any]:
    """`evaluate`, on the backend and in the way of this test."""
    assert backend_of(kind_name) is backend
    return partial(run_on, kind_name, way)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A fresh one; what still waits for it is let go at the end of the test."""
    made = Journal(tmp_path)
    yield made
    made.open()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What hanging calls wait for; opened at the end, so that no thread outlives its test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Fails the test after which a thread of daglite stays that wasn't there before."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT)
        assert not thread.is_alive(), thread


@pytest.fixture
def leftovers(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Leftovers]:
    """Fails the test after which more is left than was there before."""
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = Leftovers(temporary)
    monkeypatch.setenv(VARIABLE, before.token)
    yield before
    before.check()
