"""Backends by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from daglite import (
    DagliteSettings,
    SequentialBackend,
    ThreadBackend,
    evaluate,
    find_backend,
    get_global_settings,
    task,
)
from daglite.backends import registry
from daglite.backends.registry import available_backends
from daglite.core.protocols import Backend
from daglite.exceptions import BackendError

PLUGIN = """
from daglite import SequentialBackend, find_backend
made = []

def good():
    made.append(SequentialBackend())
    return made[-1]

def broken():
    raise RuntimeError("no cluster")

def nothing():
    return object()

def asks():
    return find_backend("threading", threads=1)

closed = []

class Closes(SequentialBackend):
    def close(self):
        closed.append(self)

again = []

def twice():
    own = Closes()
    again.append(own)
    if len(again) < 2:
        find_backend("twice")
    return own
"""

POINTS = """
[daglite.backends]
good = daglite_plugin:good
broken = daglite_plugin:broken
nothing = daglite_plugin:nothing
asks = daglite_plugin:asks
twice = daglite_plugin:twice
gone = daglite_plugin_that_is_gone:make
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers backends."""
    (tmp_path / "daglite_plugin.py").write_text(PLUGIN)
    info = tmp_path / "daglite_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: daglite-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_shared", registry._Shared())


@pytest.mark.parametrize("name", ["sequential", "synchronous"])
def test_sequential(name: str) -> None:
    """It has an alias, and there is one of it."""
    found = find_backend(name)
    assert isinstance(found, SequentialBackend)
    assert found is find_backend("sequential") is find_backend(None)


def test_a_cap_of_its_own() -> None:
    """Another cap is another backend."""
    assert find_backend("sequential", max_abandoned=7) is not find_backend("sequential")


def test_threading() -> None:
    """Its size is what is asked for."""
    found = find_backend("threading", threads=3)
    assert isinstance(found, ThreadBackend)
    assert (found.slots, repr(found)) == (3, "ThreadBackend(max_workers=3)")


def test_threading_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a size it is the pool that runs use, as the global settings size it."""
    monkeypatch.setattr(registry, "_shared", registry._Shared())
    assert find_backend("threading") is find_backend("threading", threads=DagliteSettings().threads)
    registry.size_shared_pool(3, 9)
    found = find_backend("threading")
    assert isinstance(found, ThreadBackend)
    assert (found.slots, found.max_abandoned) == (3, 9)
    assert found is find_backend("threading", threads=3, max_abandoned=9)
    sequential = find_backend("sequential")
    assert isinstance(sequential, SequentialBackend)
    assert sequential.max_abandoned == 9


def test_nobody_closes_the_pool_of_the_others() -> None:
    """Closing a backend that others have too leaves it as it is."""
    find_backend("threading").close()
    find_backend("threading", threads=get_global_settings().threads).close()
    assert evaluate(task(lambda: 1, name="one").bind(), default_backend="threading") == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_threading_of_no_size(threads: int) -> None:
    """A pool without threads would run nothing."""
    with pytest.raises(BackendError, match="max_workers is a number from 1 up"):
        find_backend("threading", threads=threads)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_while_the_lock_is_held() -> None:
    """The child doesn't wait for a thread that it doesn't have."""
    with registry._shared.lock:
        child = os.fork()
        if not child:
            os._exit(find_backend(None).name != "sequential")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_backend_is_returned_as_it_is() -> None:
    """An instance needs no name."""
    own = ThreadBackend(1)
    assert find_backend(own) is own
    assert isinstance(own, Backend)


@pytest.mark.parametrize("name", ["asyncio", "dask", "ray"])
def test_names_of_later_versions(name: str) -> None:
    """They are known not to be there yet, and what there is is named."""
    with pytest.raises(BackendError, match=f"{name}.*isn't available.*sequential, threading"):
        find_backend(name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("treading", "'threading'"), ("sequental", "'sequential'"), ("synchronos", "'synchronous'")],
)
def test_a_name_that_is_nearly_right(name: str, hint: str) -> None:
    """It is guessed."""
    with pytest.raises(BackendError, match=f"no backend '{name}'; did you mean {hint}"):
        find_backend(name)


@pytest.mark.parametrize("name", ["", "xyz", "THREADING!"])
def test_an_unknown_name(name: str) -> None:
    """All known ones are listed."""
    with pytest.raises(BackendError, match="known are sequential, threading"):
        find_backend(name)


@pytest.mark.parametrize("wrong", [3, object(), ThreadBackend, SequentialBackend, ["threading"]])
def test_what_is_no_backend(wrong: Any) -> None:
    """Also a class, which somebody forgot to call."""
    with pytest.raises(BackendError, match="is no backend; give a name"):
        find_backend(wrong)


def test_an_unknown_name_in_a_run() -> None:
    """`evaluate` and the task say the same."""
    nothing = task(lambda: None, name="nothing")
    with pytest.raises(BackendError, match="no backend 'xyz'"):
        evaluate(nothing.bind(), default_backend="xyz")
    with pytest.raises(BackendError, match="no backend 'xyz'"):
        evaluate(nothing.with_options(backend="xyz").bind())


@pytest.mark.usefixtures("plugins")
def test_a_plugin() -> None:
    """It is listed after ours, made once, and runs tasks by its name."""
    assert available_backends()[:2] == ("sequential", "threading")
    assert {"broken", "good", "gone", "nothing"} <= set(available_backends())
    assert find_backend("good") is find_backend("good")
    assert evaluate(task(lambda: 1, name="one").bind(), default_backend="good") == 1


@pytest.mark.usefixtures("plugins")
def test_a_plugin_that_asks_for_another_backend() -> None:
    """It gets that while it is made."""
    assert find_backend("asks") is find_backend("threading", threads=1)


@pytest.mark.usefixtures("plugins")
def test_a_plugin_that_is_made_twice() -> None:
    """The first to be ready is the backend for all; the other is closed."""
    found = find_backend("twice")
    outer, inner = sys.modules["daglite_plugin"].again
    assert found is find_backend("twice") is inner
    assert sys.modules["daglite_plugin"].closed == [outer]


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken", "can't be loaded: no cluster"),
        ("gone", "can't be loaded: No module named"),
        ("nothing", "is no backend"),
    ],
)
def test_a_plugin_that_does_not_work(name: str, why: str) -> None:
    """The error names it and where it comes from."""
    with pytest.raises(BackendError, match=f"{name}.*daglite_plugin.*{why}"):
        find_backend(name)


def test_only_documented_names() -> None:
    """A name that is nearly right is told the right one, and isn't taken for it."""
    with pytest.raises(BackendError, match="did you mean 'threading'"):
        find_backend("threads")
