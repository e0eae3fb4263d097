"""Backends by name: our own, and those that other packages offer as entry points."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, NamedTuple
from weakref import WeakValueDictionary

from daglite.backends.sequential import SequentialBackend
from daglite.backends.threads import ThreadBackend, usual_threads
from daglite.core.protocols import Backend
from daglite.exceptions import BackendError

__all__ = [
    "GROUP",
    "ProcessOptions",
    "available_backends",
    "find_backend",
    "shape_shared_processes",
    "size_shared_pool",
]

GROUP: Final = "daglite.backends"
"""Entry points of this group name something that makes a `Backend` when called."""

_ALIASES: Final = {"synchronous": "sequential", "multiprocessing": "process"}
_PROCESSES: Final = "daglite.backends.processes.backend"
_LATER: Final = ("asyncio", "dask", "ray")


class ProcessOptions(NamedTuple):
    """
    How the workers of the shared pool of "process" are.

    Attributes:
        max_workers: How many calls run at the same time, from 1; None: one for each CPU that this
            process may use.
        start_method: How they are made; see `ProcessBackend`.
        max_calls_per_worker: A worker is replaced after so many calls, from 1; None: never.
        poll_interval: Seconds between two looks at what a call uses, where its limits don't say.
        memory: Bytes that all running calls together may have as their ``max_memory``; None: any
            number.
    """

    max_workers: int | None = None
    start_method: str = "launcher"
    max_calls_per_worker: int | None = None
    poll_interval: float = 0.05
    memory: int | None = None


class _Shared:
    """
    The backends that this process's runs share.

    The pool of the process's own size is kept.  One of another size, which a run's settings ask
    for, or which was the process's until its size was changed, ends when no run uses it any more.
    """

    def __init__(self) -> None:
        self.renew_lock()
        self.threads: int | None = None
        self.max_abandoned = 128
        self.kept: ThreadBackend | None = None
        self.pools: WeakValueDictionary[tuple[int, int], ThreadBackend] = WeakValueDictionary()
        self.sequential: dict[int, SequentialBackend] = {}
        self.processes: WeakValueDictionary[ProcessOptions, Backend] = WeakValueDictionary()
        self.kept_processes: Backend | None = None
        self.process_options = ProcessOptions()
        self.plugins: dict[str, Backend] = {}

    def renew_lock(self) -> None:
        self.lock = threading.Lock()


_shared = _Shared()


def find_backend(
    wanted: str | Backend | None,
    *,
    threads: int | None = None,
    max_abandoned: int | None = None,
    processes: ProcessOptions | None = None,
) -> Backend:
    """
    The backend of that name.

    Args:
        wanted: A name, a backend (returned as it is), or None for ``"sequential"``.
        threads: Size of the shared pool of ``"threading"``; None: as the global settings say.
        max_abandoned: See `ThreadBackend`; None: as the global settings say.
        processes: How the shared pool of ``"process"`` is; None: as the global settings say.

    Raises:
        BackendError: No backend has that name, or one can't be loaded.
    """
    if wanted is None:
        wanted = "sequential"
    if not isinstance(wanted, str):
        return _checked(wanted, repr(wanted))
    name = _ALIASES.get(wanted, wanted)
    if name == "sequential":
        return _sequential(max_abandoned)
    if name == "threading":
        return _threading(threads, max_abandoned)
    if name == "process":
        return _processes(processes)
    return _plugin(name)


def available_backends() -> tuple[str, ...]:
    """Names that `find_backend` knows, aliases left out."""
    offered = (point.name for point in entry_points(group=GROUP))
    return tuple(dict.fromkeys(("sequential", "threading", "process", *sorted(offered))))


def size_shared_pool(threads: int | None, max_abandoned: int) -> ThreadBackend | None:
    """
    Set the sizes of the process's pool for runs to come; None: as many threads as is usual.

    Return the pool that exists in another size: it ends when no run uses it any more.
    """
    with _shared.lock:
        _shared.threads, _shared.max_abandoned = threads, max_abandoned
        kept = _shared.kept
        wanted = (usual_threads() if threads is None else threads, max_abandoned)
        if kept is None or (kept.slots, kept.max_abandoned) == wanted:
            return None
        _shared.kept = None
        return kept


def shape_shared_processes(options: ProcessOptions) -> bool:
    """
    Set how the process's pool of workers is for runs to come.

    Return whether one exists that is another way: it ends when no run uses it any more.
    """
    with _shared.lock:
        _shared.process_options = options
        if _shared.kept_processes is None or options in _shared.processes:
            return False
        _shared.kept_processes = None
        return True


def _sequential(max_abandoned: int | None) -> SequentialBackend:
    with _shared.lock:
        cap = _shared.max_abandoned if max_abandoned is None else max_abandoned
        if cap not in _shared.sequential:
            _shared.sequential[cap] = SequentialBackend(max_abandoned=cap)
        return _shared.sequential[cap]


def _threading(threads: int | None, max_abandoned: int | None) -> ThreadBackend:
    with _shared.lock:
        own = usual_threads() if _shared.threads is None else _shared.threads, _shared.max_abandoned
        key = (
            own[0] if threads is None else threads,
            own[1] if max_abandoned is None else max_abandoned,
        )
        found = _shared.pools.get(key)
        if found is None:
            found = _shared.pools[key] = ThreadBackend.shared(*key)
        if key == own:
            _shared.kept = found
        return found


def _processes(options: ProcessOptions | None) -> Backend:
    with _shared.lock:
        wanted = _shared.process_options if options is None else options
        found = _shared.processes.get(wanted)
    if found is not None:
        return found
    # Loaded when it is first asked for, and not under the lock: it is the largest of our own.
    made: Backend = import_module(_PROCESSES).ProcessBackend(**wanted._asdict())
    with _shared.lock:
        first = _shared.processes.setdefault(wanted, made)
        if wanted == _shared.process_options:
            _shared.kept_processes = first
    return first


def _plugin(name: str) -> Backend:
    with _shared.lock:
        known = _shared.plugins.get(name)
    if known is not None:
        return known
    points = entry_points(group=GROUP, name=name)
    if not points:
        raise _unknown(name)
    # Not under the lock: what makes a backend may ask for another one.
    made = _loaded(next(iter(points)))
    with _shared.lock:
        first = _shared.plugins.setdefault(name, made)
    if first is not made:
        made.close()
    return first


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
            f"{what} is no backend",
            fix=f"give a name ({', '.join(available_backends())}) "
            "or an object with the methods of daglite.Backend",
        )
    return backend


def _unknown(name: str) -> BackendError:
    known = available_backends()
    if name in _LATER:
        return BackendError(
            f"backend {name!r} isn't available in this version",
            fix=f"use one of {', '.join(known)}",
        )
    close = get_close_matches(name, [*known, *_ALIASES], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return BackendError(f"there is no backend {name!r}", fix=f"{hint}known are {', '.join(known)}")


if hasattr(os, "register_at_fork"):
    # Another thread may hold it at the moment of the fork, and isn't in the child.
    os.register_at_fork(after_in_child=lambda: _shared.renew_lock())
