"""
What holds for a whole process, unless a run says otherwise.

Settings are read once, when a run starts, and handed down; nothing below this floor asks for
them.
"""

from __future__ import annotations

import difflib
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from typing_extensions import Self, Unpack

from daglite._units import parse_duration, parse_size
from daglite.backends.registry import ProcessOptions, shape_shared_processes, size_shared_pool
from daglite.backends.threads import usual_threads
from daglite.exceptions import SettingsError

__all__ = ["DagliteSettings", "get_global_settings", "set_global_settings"]

# Named in daglite's plans, and carried out by later versions only.
_LATER = frozenset({"cache_backend", "enable_caching", "enable_profiling", "log_level"})

_WANTED = {
    "max_backend_threads": "a whole number from 1, or None for min(32, CPUs + 4)",
    "default_backend": "the name of a backend, such as 'sequential' or 'threading'",
    "task_timeout": "seconds above 0 such as 30 or '30s', or None for no limit",
    "max_retries": "a whole number from 0",
    "max_abandoned": "a whole number from 1",
    "state_dir": "the path of a directory, or None for the customary place",
    "max_parallel_processes": "a whole number from 1, or None for one for each CPU",
    "process_start_method": "'launcher' or 'spawn'",
    "max_calls_per_process": "a whole number from 1, or None for no limit",
    "process_poll_interval": "seconds above 0 such as 0.05 or '50ms'",
    "process_memory": "bytes above 0 such as '8GB', or None for no limit",
}


StartMethod: TypeAlias = Literal["launcher", "spawn"]


class _Given(TypedDict, total=False):
    """What the constructor takes."""

    max_backend_threads: int | None
    default_backend: str
    task_timeout: float | str | timedelta | None
    max_retries: int
    max_abandoned: int
    state_dir: str | Path | None
    max_parallel_processes: int | None
    process_start_method: StartMethod
    max_calls_per_process: int | None
    process_poll_interval: float | str | timedelta
    process_memory: int | str | None


class DagliteSettings(BaseModel):
    """
    Settings of a process or of a run: `set_global_settings(s)`, `evaluate(..., settings=s)`.

    Attributes:
        max_backend_threads: Threads of the shared pool of backend "threading", from 1;
            None: as many as `threads` says.
        default_backend: Name of the backend of tasks that name none.
        task_timeout: Limit of each attempt of tasks that have no timeout policy, neither of
            their own nor from the run, in seconds, above 0; read from 30, "30s", "5m" or a
            `timedelta`. None: no limit.
        max_retries: Retries, after the first call, of tasks that have no retry policy, neither
            of their own nor from the run, from 0.
        max_abandoned: How many calls may run on after their timeout, on threads, from 1. Above
            it, new calls with a timeout fail with `BackendError` until some of them end.
        state_dir: Directory of the file by which the processes of this machine share what policies
            with ``scope="host"`` remember; made when it is needed.  None: what the environment
            variable ``DAGLITE_STATE_DIR`` says, else the place that is customary for the system.
        max_parallel_processes: Workers of the shared pool of backend "process", from 1; None:
            one for each CPU that this process may use.
        process_start_method: How they are made: "launcher" or "spawn".
        max_calls_per_process: A worker is replaced after so many calls, from 1; None: never.
        process_poll_interval: Seconds between two looks at what a call with limits uses, above 0,
            where its `ResourceLimits` don't say.
        process_memory: Bytes that the calls which run at the same time may have as their
            ``max_memory`` all together: others wait. None: no limit.

    Raises:
        SettingsError: An unknown setting, or a value that can't be; all of them are named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    max_backend_threads: int | None = Field(default=None, ge=1, strict=True)
    default_backend: str = Field(default="sequential", min_length=1, strict=True)
    task_timeout: float | None = None
    max_retries: int = Field(default=0, ge=0, strict=True)
    max_abandoned: int = Field(default=128, ge=1, strict=True)
    state_dir: Path | None = None
    max_parallel_processes: int | None = Field(default=None, ge=1, strict=True)
    process_start_method: StartMethod = "launcher"
    max_calls_per_process: int | None = Field(default=None, ge=1, strict=True)
    process_poll_interval: float = 0.05
    process_memory: int | None = None

    def __init__(self, **values: Unpack[_Given]) -> None:
        with _refusals():
            super().__init__(**values)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """
        Read a mapping of settings.

        Raises:
            SettingsError: It makes no sense.
        """
        if isinstance(obj, Mapping):
            # Not every mapping is a dict, and a key that isn't text is an unknown setting.
            obj = {key if isinstance(key, str) else _shown(key): obj[key] for key in obj}
        with _refusals():
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """
        Read what `model_dump_json` wrote.

        Raises:
            SettingsError: It isn't JSON, or makes no sense.
        """
        with _refusals():
            return super().model_validate_json(json_data, **options)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; unlike pydantic's, an *update* is checked."""
        if update is None:
            return super().model_copy(deep=deep)
        given = {name: value for name, value in self if name in self.model_fields_set}
        return self.model_validate({**given, **update})

    # Pydantic's own, a class method, has been retired.
    def validate(self) -> None:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        """
        Check the settings once more, whichever way they were made.

        Raises:
            SettingsError: A value that can't be.
        """
        self.model_validate(dict(self))

    def __setattr__(self, name: str, value: Any) -> None:
        raise SettingsError(
            f"settings can't be changed; settings.model_copy(update={{{name!r}: {_shown(value)}}}) "
            "makes others"
        )

    def __delattr__(self, name: str) -> None:
        raise SettingsError("settings can't be changed")

    @field_validator("process_memory", mode="before")
    @classmethod
    def _read_size(cls, value: Any) -> Any:
        size = None if value is None else parse_size(value)
        if size == 0:
            raise ValueError("a limit of 0 bytes")
        return size

    @field_validator("task_timeout", "process_poll_interval", mode="before")
    @classmethod
    def _read_duration(cls, value: Any) -> Any:
        if value is None:
            # Which field may be None is looked at later.
            return None
        seconds = parse_duration(value)
        # Checked here, where an error still shows the value as it was given.
        if seconds == 0:
            raise ValueError("a limit of 0 seconds")
        return seconds

    @field_validator("state_dir", mode="before")
    @classmethod
    def _read_directory(cls, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, (str, Path)) or not str(value) or "\0" in str(value):
            raise ValueError("no path")
        # A path that begins with ~ is known now or never.
        return os.path.expanduser(value)

    @property
    def threads(self) -> int:
        """
        Number of threads of the shared pool, from 1.

        Without `max_backend_threads` it is min(32, CPUs that this process may use + 4).
        """
        return usual_threads() if self.max_backend_threads is None else self.max_backend_threads

    @property
    def processes(self) -> ProcessOptions:
        """How the shared pool of "process" is."""
        return ProcessOptions(
            self.max_parallel_processes,
            self.process_start_method,
            self.max_calls_per_process,
            self.process_poll_interval,
            self.process_memory,
        )


_lock = threading.Lock()
_current: DagliteSettings | None = None


def get_global_settings() -> DagliteSettings:
    """Return the settings of the process: those that were set, or the defaults."""
    global _current
    with _lock:
        if _current is None:
            _current = DagliteSettings()
        return _current


def set_global_settings(settings: DagliteSettings) -> None:
    """
    Make *settings* those of the process, for every run that starts from now on.

    Where the shared thread pool exists in another size, a `UserWarning` says so: runs that start
    from now on get a new pool, and the old one ends with the last run that uses it.

    Raises:
        SettingsError: *settings* is no `DagliteSettings`, or has a value that can't be.
    """
    global _current
    if not isinstance(settings, DagliteSettings):
        raise SettingsError(
            f"set_global_settings takes a DagliteSettings; given: {_shown(settings)}. "
            f"Write set_global_settings(DagliteSettings(max_backend_threads=8))"
        )
    settings.validate()
    with _lock:
        _current = settings
        old = size_shared_pool(settings.max_backend_threads, settings.max_abandoned)
        other_processes = shape_shared_processes(settings.processes)
    if old is not None:
        warnings.warn(
            f"the shared thread pool already exists, with {old.slots} threads and "
            f"max_abandoned={old.max_abandoned}; runs that have begun keep it, and runs that "
            f"start from now on share a new one, with {settings.threads} threads and "
            f"max_abandoned={settings.max_abandoned}; set this before the first run",
            UserWarning,
            stacklevel=2,
        )
    if other_processes:
        warnings.warn(
            "the shared process pool already exists, made by other settings; runs that have begun "
            "keep it, and runs that start from now on share a new one; set this before the first "
            "run",
            UserWarning,
            stacklevel=2,
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """Pydantic's errors as `SettingsError`."""
    try:
        yield
    except ValidationError as error:
        complaints = [_complaint(details) for details in error.errors(include_url=False)]
        raise SettingsError("; ".join(complaints)) from error


def _complaint(details: Mapping[str, Any]) -> str:
    if details["type"] == "value_error" and not details["loc"]:
        # What the constructor has said already.
        return str(details["ctx"]["error"])
    if details["type"] == "json_invalid":
        return f"the settings can't be read: {details['msg']}"
    if not details["loc"]:
        return f"settings are made from a mapping of their names; given: {_shown(details['input'])}"
    name = str(details["loc"][0])
    if name not in DagliteSettings.model_fields:
        return _unknown(name)
    return f"setting '{name}' must be {_WANTED[name]}; given: {_shown(details['input'])}"


def _unknown(name: str) -> str:
    if name in _LATER:
        return f"setting '{name}' isn't available in this version; leave it out"
    known = list(DagliteSettings.model_fields)
    near = difflib.get_close_matches(name, [*known, *_LATER], n=1)
    if near and near[0] in known:
        return f"there is no setting '{name}'; did you mean '{near[0]}'?"
    return f"there is no setting '{name}'; the settings are {', '.join(known)}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _after_fork() -> None:
    """Another thread may hold the lock at the moment of the fork, and isn't in the child."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
