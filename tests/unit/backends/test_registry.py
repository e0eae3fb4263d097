"""Backends by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daglite import SequentialBackend, ThreadBackend, evaluate, find_backend, task
from daglite.backends import registry
from daglite.backends.registry import available_backends
from daglite.core.protocols import Backend
from daglite.exceptions import BackendError

PLUGIN = """
from daglite import SequentialBackend
made = []

def good():
    made.append(SequentialBackend())
    return made[-1]

def broken():
    raise RuntimeError("no cluster")

def nothing():
    return object()
"""

POINTS = """
[daglite.backends]
good = daglite_plugin:good
broken = daglite_plugin:broken
nothing = daglite_plugin:nothing
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
    monkeypatch.setattr(registry, "_plugins", {})


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


def test_a_backend_is_returned_as_it_is() -> None:
    """An instance needs no name."""
    own = ThreadBackend(1)
    assert find_backend(own) is own
    assert isinstance(own, Backend)


@pytest.mark.parametrize("name", ["process", "multiprocessing", "asyncio", "dask", "ray"])
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
    with pytest.raises(BackendError, match="is no backend: give a name"):
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
