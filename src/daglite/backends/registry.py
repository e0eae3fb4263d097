"""Backends by name: our own, and those that other packages offer as entry points."""

from __future__ import annotations

import threading
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from daglite.backends.pool import shared_pool
from daglite.backends.sequential import SequentialBackend
from daglite.backends.threads import ThreadBackend
from daglite.core.protocols import Backend
from daglite.exceptions import BackendError

__all__ = ["GROUP", "available_backends", "find_backend"]

GROUP: Final = "daglite.backends"
"""Entry points of this group name something that makes a `Backend` when called."""

_ALIASES: Final = {"synchronous": "sequential"}
_LATER: Final = ("process", "multiprocessing", "asyncio", "dask", "ray")

_lock = threading.Lock()
_plugins: dict[str, Backend] = {}
_sequential: dict[int, SequentialBackend] = {}
_threading: dict[tuple[int, int], ThreadBackend] = {}


def find_backend(
    wanted: str | Backend | None, *, threads: int = 4, max_abandoned: int = 128
) -> Backend:
    """
    The backend of that name.

    Args:
        wanted: A name, a backend (returned as it is), or None for ``"sequential"``.
        threads: Size of the process's shared thread pool.
        max_abandoned: See `ThreadBackend`.

    Raises:
        BackendError: No backend has that name, or one can't be loaded.
    """
    if wanted is None:
        wanted = "sequential"
    if not isinstance(wanted, str):
        return _checked(wanted, repr(wanted))
    name = _ALIASES.get(wanted, wanted)
    if name == "sequential":
        with _lock:
            if max_abandoned not in _sequential:
                _sequential[max_abandoned] = SequentialBackend(max_abandoned=max_abandoned)
            return _sequential[max_abandoned]
    if name == "threading":
        key = (threads, max_abandoned)
        with _lock:
            if key not in _threading:
                _threading[key] = ThreadBackend.on(shared_pool(*key))
            return _threading[key]
    return _plugin(name)


def available_backends() -> tuple[str, ...]:
    """Names that `find_backend` knows, aliases left out."""
    offered = (point.name for point in entry_points(group=GROUP))
    return tuple(dict.fromkeys(("sequential", "threading", *sorted(offered))))


def _plugin(name: str) -> Backend:
    with _lock:
        backend = _plugins.get(name)
        if backend is None:
            points = entry_points(group=GROUP, name=name)
            if not points:
                raise BackendError(_unknown(name))
            backend = _plugins[name] = _loaded(next(iter(points)))
        return backend


def _loaded(point: EntryPoint) -> Backend:
    try:
        make: Callable[[], Any] = point.load()
        made = make()
    except Exception as error:
        raise BackendError(
            f"backend {point.name!r} ({point.value}) can't be loaded: {error}"
        ) from error
    return _checked(made, f"{point.name!r} ({point.value})")


def _checked(backend: Any, what: str) -> Backend:
    if isinstance(backend, type) or not isinstance(backend, Backend):
        raise BackendError(
            f"{what} is no backend: give a name ({', '.join(available_backends())}) "
            "or an object with the methods of daglite.Backend"
        )
    return backend


def _unknown(name: str) -> str:
    known = available_backends()
    if name in _LATER:
        return f"backend {name!r} isn't available in this version; there are {', '.join(known)}"
    close = get_close_matches(name, [*known, *_ALIASES], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no backend {name!r}; {hint}known are {', '.join(known)}"
