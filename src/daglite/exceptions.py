"""
Every error that daglite raises::

    DagliteError
    ├── TaskConfigurationError
    │   ├── ParameterError           names, missing, overlapping, not iterable
    │   └── PolicyError              a policy that makes no sense, or that the backend can't keep
    ├── GraphConstructionError       cycle, unknown node, types of an edge
    ├── SettingsError                also ValueError; file, table, key, line or variable
    ├── BackendError                 unknown, can't start, missing extra
    ├── SerializationError           what can't be pickled, what can't be loaded
    └── ExecutionError               node_id node_name execution_path attempts original_exception
        ├── TaskTimeoutError         also TimeoutError; limit, elapsed, the hung call's stack
        ├── WorkerDiedError          exit code or signal, hint, stack
        ├── MemoryLimitError         limit, peak
        ├── CpuTimeLimitError        limit, used
        ├── ProcessLimitError        limit, seen
        ├── CircuitOpenError         key, retry_in
        ├── RateLimitedError         key, retry_in
        ├── BulkheadFullError        key
        ├── RemoteError              an exception that couldn't travel, as text
        └── RunCancelledError

What `evaluate` raises for a task's own exception is made by `as_execution_error`: an instance of
`ExecutionError` *and* of the exception's type, so that ``except ValueError`` keeps working.

Errors of tasks and backends that are set up wrongly have a `problem` and, where there is one, a
`fix`: their text is both.
"""

import pickle
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, SupportsIndex, TypeVar, cast, overload

from daglite._made_errors import (
    args_of,
    attributes_of,
    blank,
    class_for,
    derives,
    dict_of,
    imported,
    members_of,
    name_of,
    packed_state,
    set_cause,
)
from daglite._units import format_size

__all__ = [
    "AttemptRecord",
    "BackendError",
    "BulkheadFullError",
    "CircuitOpenError",
    "CpuTimeLimitError",
    "DagliteError",
    "ExecutionError",
    "GraphConstructionError",
    "MemoryLimitError",
    "ParameterError",
    "PolicyError",
    "ProcessLimitError",
    "RateLimitedError",
    "RemoteError",
    "RunCancelledError",
    "SerializationError",
    "SettingsError",
    "TaskConfigurationError",
    "TaskTimeoutError",
    "WorkerDiedError",
]


class DagliteError(Exception):
    """The root of all errors that daglite raises."""

    permanent: ClassVar[bool] = False
    """Can't get better by itself: retried only if ``retry_on`` names it."""

    infrastructure: ClassVar[bool] = False
    """A loss of the infrastructure: counted against ``infrastructure_retries``."""


class _FixableError(Exception):
    """
    An error that may say what to do about it.

    Args:
        args: What is wrong, as one sentence.
        fix: What to do; `str` ends with it.
    """

    fix: str | None = None
    """What to do; None where there is no more to say than what is wrong."""

    def __init__(self, *args: object, fix: str | None = None) -> None:
        super().__init__(*args)
        self.fix = fix

    @property
    def problem(self) -> str:
        """What is wrong, without the fix."""
        return super().__str__()

    def __str__(self) -> str:
        return self.problem if self.fix is None else f"{self.problem}; {self.fix}"


class TaskConfigurationError(_FixableError, DagliteError):
    """A task, or a call of one, that is set up wrongly."""

    permanent = True


class ParameterError(TaskConfigurationError):
    """A parameter that is unknown, missing, given twice or not iterable."""


class PolicyError(TaskConfigurationError):
    """A policy that makes no sense, or that the backend can't keep."""


class GraphConstructionError(DagliteError):
    """A graph that can't be built: a cycle, an unknown node, types that don't fit."""


class SettingsError(DagliteError, ValueError):
    """A setting that can't be read or makes no sense."""


class BackendError(_FixableError, DagliteError):
    """A backend that is unknown, can't start or misses its extra."""


class SerializationError(DagliteError):
    """Something that can't be pickled, or can't be loaded again."""

    permanent = True


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a call."""

    number: int
    """Counted from 1."""

    started: float | None
    """Seconds since the run began; None if it never started to run, or nobody looked."""

    ran: float
    """Seconds it ran."""

    waited: float
    """Seconds of back-off before it."""

    error: str
    """What went wrong, as `describe` puts it: ``"ValueError: bad"``; empty if nothing did."""

    worker: str | None
    """Who ran it; None if that isn't known."""

    cpu_time: float | None = None
    """Seconds of CPU time that it used; None if nobody measured."""

    peak_memory: int | None = None
    """The most bytes that its process held meanwhile; None if nobody measured."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What an `ExecutionError` knows; the message first."""

    message: str = ""
    node_id: int | None = None
    node_name: str | None = None
    execution_path: tuple[str, ...] = ()
    path_ids: tuple[int, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()
    original_exception: BaseException | None = None
    others: tuple["ExecutionError", ...] = ()
    settled: bool = False


class _MessageFact:
    """
    The first line of an `ExecutionError`.

    Not a property: without ``__set__`` it gives way to a `message` that the task's own
    exception, or a subclass, keeps in its ``__dict__``.
    """

    @overload
    def __get__(self, error: None, owner: type) -> "_MessageFact": ...
    @overload
    def __get__(self, error: "ExecutionError", owner: type) -> str: ...
    def __get__(self, error: "ExecutionError | None", owner: type) -> "_MessageFact | str":
        return self if error is None else _message(error)


class ExecutionError(DagliteError):
    """
    A task, or a whole run, that failed.

    The facts are read-only attributes, `str` puts them into several lines.
    The error survives pickle and copy; an original exception that doesn't survive pickle
    travels as a `RemoteError`.
    A copy, even a deep one, shares the original exception.
    """

    # All facts stand behind properties: those win over attributes of the same name
    # that a task's own exception brings along. Only `message` is so common that it gives way.
    _facts = _Facts()

    message = _MessageFact()
    """What happened, without the other facts; where the task's exception has a `message`, that."""

    def __init__(
        self,
        message: str,
        *,
        node_id: int | None = None,
        node_name: str | None = None,
        execution_path: Sequence[str] = (),
        path_ids: Sequence[int] = (),
        attempts: Sequence[AttemptRecord] = (),
        original_exception: BaseException | None = None,
        failures: Sequence["ExecutionError"] = (),
    ) -> None:
        super().__init__(message)
        self._facts = _Facts(
            message=message,
            node_id=node_id,
            node_name=node_name,
            execution_path=tuple(execution_path),
            path_ids=tuple(path_ids),
            attempts=tuple(attempts),
            original_exception=original_exception,
            others=tuple(failures),
        )
        set_cause(self, original_exception)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A class made on the fly is no new member of the original's family: it must not
        # end up in a registry that the original's hook keeps.
        if "_made_from" not in cls.__dict__:
            super().__init_subclass__(**kwargs)

    @property
    def node_id(self) -> int | None:
        """Id of the node that failed; None for an error of the whole run."""
        return self._facts.node_id

    @property
    def node_name(self) -> str | None:
        """Name of the node that failed; None for an error of the whole run."""
        return self._facts.node_name

    @property
    def execution_path(self) -> tuple[str, ...]:
        """Names of the nodes from a source of the graph to the one that failed."""
        return self._facts.execution_path

    @property
    def path_ids(self) -> tuple[int, ...]:
        """Ids of the nodes in `execution_path`."""
        return self._facts.path_ids

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        """One record for each attempt of the call, in order."""
        return self._facts.attempts

    @property
    def original_exception(self) -> BaseException | None:
        """What the task raised; None where daglite itself found the failure."""
        return self._facts.original_exception

    @property
    def failures(self) -> tuple["ExecutionError", ...]:
        """This error, then the other failures of the same run."""
        return (self, *(other for other in self._facts.others if other is not self))

    def __str__(self) -> str:
        facts = self._facts
        lines = [_message(self)]
        if facts.execution_path:
            lines.append(f"path: {' → '.join(_shortened(facts.execution_path, 10))}")
        if len(facts.attempts) > 1 or any(a.error not in lines[0] for a in facts.attempts):
            lines.append(f"attempts: {len(facts.attempts):,}")
            lines += _shortened([f"  {_attempt_line(each)}" for each in facts.attempts], 8, "  ")
        if facts.original_exception is not None:
            cause = describe(facts.original_exception)
            if cause not in lines[0]:
                lines.append(f"caused by: {cause}")
        lines += self._details()
        others = self.failures[1:]
        if others:
            lines.append(f"other failures: {len(others):,}")
            shown = [f"  {_one_line(_message(other))}" for other in others[:3]]
            lines += shown + ([f"  … {len(others) - 3:,} more …"] if len(others) > 3 else [])
        return "\n".join(lines)

    def _details(self) -> list[str]:
        """Further lines for `str`, of facts that only a subclass has."""
        return []

    def __repr__(self) -> str:
        return f"{name_of(type(self))}({_message(self)!r})"

    # The original's type may define what follows in its own way (a dataclass has no hash,
    # an exception with a length is false, ...): what handles errors must not stumble over it.

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __copy__(self) -> "ExecutionError":
        return blank(type(self), args_of(self), attributes_of(self), members_of(self), self._facts)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ExecutionError":
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        made_from = type(self).__dict__.get("_made_from")
        facts = self._facts
        original = facts.original_exception
        return _rebuilt, (
            ExecutionError if made_from else type(self),
            _where(made_from) if made_from else None,
            replace(facts, original_exception=None, others=self.failures[1:]),
            None if original is None else _packed(original),
            packed_state(args_of(self), attributes_of(self), members_of(self)),
        )

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return self.__reduce__()


class TaskTimeoutError(ExecutionError, TimeoutError):
    """A call that took longer than its policy allows."""

    def __init__(
        self,
        message: str,
        *,
        limit: float,
        elapsed: float,
        kind: Literal["attempt", "total"] = "attempt",
        stack: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.limit = limit
        """Seconds allowed."""
        self.elapsed = elapsed
        """Seconds taken when the limit was enforced."""
        self.kind = kind
        """Which limit: of one attempt, or of the whole call with its retries and waits."""
        self.stack = stack
        """Where the call hung, as text; None if not known."""

    def _details(self) -> list[str]:
        return ["the call was here:", self.stack.rstrip("\n")] if self.stack else []


class WorkerDiedError(ExecutionError):
    """A worker that died under a call."""

    infrastructure = True

    def __init__(
        self,
        message: str,
        *,
        exit_code: int | None = None,
        signal: str | int | None = None,
        hint: str | None = None,
        stack: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.exit_code = exit_code
        """Exit code of the worker; None if not known, or if a signal ended it."""
        self.signal = signal
        """The signal that ended the worker; None if none did."""
        self.hint = hint
        """What probably happened and what to do; None if daglite can't tell."""
        self.stack = stack
        """Where the call was, as text, if Python could still tell; else None."""

    def _details(self) -> list[str]:
        hint = [f"hint: {self.hint}"] if self.hint else []
        return [*hint, "the call was here:", self.stack.rstrip("\n")] if self.stack else hint


class MemoryLimitError(ExecutionError):
    """A call that wanted more memory than its limit allows."""

    permanent = True

    def __init__(self, message: str, *, limit: int, peak: int, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.limit = limit
        """Bytes allowed."""
        self.peak = peak
        """The most bytes that were seen in use."""


class CpuTimeLimitError(ExecutionError):
    """A call that used more CPU time than its limit allows."""

    permanent = True

    def __init__(self, message: str, *, limit: float, used: float, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.limit = limit
        """Seconds allowed."""
        self.used = used
        """Seconds used when the limit was enforced."""


class ProcessLimitError(ExecutionError):
    """A call that had more child processes than its limit allows."""

    permanent = True

    def __init__(self, message: str, *, limit: int, seen: int, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.limit = limit
        """Child processes allowed."""
        self.seen = seen
        """How many there were when the limit was enforced."""


class CircuitOpenError(ExecutionError):
    """A call that an open circuit breaker didn't let through."""

    permanent = True

    def __init__(
        self, message: str, *, retry_in: float | None, key: str | None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.retry_in = retry_in
        """Seconds until the circuit lets a probe through; None if it doesn't by itself."""
        self.key = key
        """Which circuit."""


class RateLimitedError(ExecutionError):
    """A call that would have waited longer for its turn than its rate limit allows."""

    permanent = True

    def __init__(
        self, message: str, *, retry_in: float | None, key: str | None, **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.retry_in = retry_in
        """Seconds until it would have been its turn; None if that isn't known."""
        self.key = key
        """Which limit."""


class BulkheadFullError(ExecutionError):
    """A call for which a bulkhead had no place, nor one in its queue in time."""

    permanent = True

    def __init__(self, message: str, *, key: str | None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.key = key
        """Which bulkhead."""


class RemoteError(ExecutionError):
    """An exception that couldn't travel, as text."""

    def __init__(
        self,
        message: str,
        *,
        type_name: str,
        remote_message: str,
        traceback_text: str = "",
        **facts: Any,
    ) -> None:
        super().__init__(message, **facts)
        self.type_name = type_name
        """Full name of the exception's type; without its module for a builtin one."""
        self.remote_message = remote_message
        """What `str` made of the exception."""
        self.traceback_text = traceback_text
        """The exception's traceback; empty if there is none."""

    @classmethod
    def of(cls, error: BaseException) -> "RemoteError":
        """*error* as text, whatever state it is in."""
        return cls._from_texts(*_texts(error))

    @classmethod
    def _from_texts(cls, type_name: str, message: str, traceback_text: str) -> "RemoteError":
        described = f"{type_name}: {message}" if message else type_name
        return cls(
            f"{described} (an exception that can't be pickled, here as text)",
            type_name=type_name,
            remote_message=message,
            traceback_text=traceback_text,
        )

    def _details(self) -> list[str]:
        return [self.traceback_text.rstrip("\n")] if self.traceback_text else []


class RunCancelledError(ExecutionError):
    """A run that was cancelled."""


_E = TypeVar("_E", bound=ExecutionError)


def as_execution_error(
    message: str,
    *,
    original: BaseException,
    node_id: int | None = None,
    node_name: str | None = None,
    execution_path: Sequence[str] = (),
    path_ids: Sequence[int] = (),
    attempts: Sequence[AttemptRecord] = (),
    failures: Sequence[ExecutionError] = (),
) -> ExecutionError:
    """
    The error that `evaluate` raises for *original*.

    Its class derives from `ExecutionError` and from the type of *original*, and carries that one's
    ``args``, attributes and C-level fields (``errno``, ``filename``, ...), without a call of its
    ``__init__``.
    A plain `ExecutionError` comes out where Python allows no such class, where *original* isn't
    an `Exception` (``SystemExit``, ``CancelledError``, ...) and for ``StopIteration`` and
    ``StopAsyncIteration``, which would end a caller's loop without a word.

    An `ExecutionError` that daglite made on the way and nobody has settled yet (a
    `TaskTimeoutError`, say) is filled in, *message* too, and returned itself; the settled
    error of a nested run is wrapped like any other.
    ``__cause__`` is set: ``raise error`` shows the original.
    """
    if issubclass(type(original), ExecutionError):
        own = cast(ExecutionError, original)
        if not own._facts.settled:
            return filled(
                own,
                message=message,
                node_id=node_id,
                node_name=node_name,
                execution_path=execution_path,
                path_ids=path_ids,
                attempts=attempts,
                failures=failures,
            )
    facts = _Facts(
        message=message,
        node_id=node_id,
        node_name=node_name,
        execution_path=tuple(execution_path),
        path_ids=tuple(path_ids),
        attempts=tuple(attempts),
        original_exception=original,
        others=tuple(failures),
        settled=True,
    )
    try:
        cls = class_for(type(original), ExecutionError)
        if derives(cls, type(original)):
            args, attributes, members = (
                args_of(original),
                attributes_of(original),
                members_of(original),
            )
            return blank(cls, args, attributes, members, facts)
    except Exception:
        # Somebody else's class may do anything; the failure itself must still be told.
        pass
    return blank(ExecutionError, (message,), {}, {}, facts)


def filled(
    error: _E,
    *,
    node_id: int | None = None,
    node_name: str | None = None,
    execution_path: Sequence[str] = (),
    path_ids: Sequence[int] = (),
    attempts: Sequence[AttemptRecord] = (),
    original_exception: BaseException | None = None,
    failures: Sequence[ExecutionError] = (),
    message: str | None = None,
) -> _E:
    """
    *error* itself, settled: with the given facts in it.

    Facts left out stay as they are.
    """
    old = error._facts
    original = old.original_exception if original_exception is None else original_exception
    facts = replace(
        old,
        message=old.message if message is None else message,
        node_id=old.node_id if node_id is None else node_id,
        node_name=old.node_name if node_name is None else node_name,
        execution_path=tuple(execution_path) or old.execution_path,
        path_ids=tuple(path_ids) or old.path_ids,
        attempts=tuple(attempts) or old.attempts,
        original_exception=None if original is error else original,
        # Without itself: no reference cycle.
        others=tuple(other for other in failures or old.others if other is not error),
        settled=True,
    )
    dict_of(error)["_facts"] = facts
    set_cause(error, facts.original_exception)
    return error


def describe(error: BaseException) -> str:
    """
    *error* in one line: ``"ValueError: bad"``; never fails, whatever the error's `str` does.

    A plain `ExecutionError` is what daglite says itself: its message alone.
    """
    name = name_of(type(error))
    text = _one_line(_message(error))
    if not text:
        return name
    return text if type(error) is ExecutionError else f"{name}: {text}"


# --- text ---


def _where(cls: type) -> tuple[str, str]:
    """Module and qualified name."""
    return type.__dict__["__module__"].__get__(cls), type.__dict__["__qualname__"].__get__(cls)


def _message(error: BaseException) -> str:
    """What `str` says; of an `ExecutionError` only the message."""
    try:
        if issubclass(type(error), ExecutionError):
            facts = cast(ExecutionError, error)._facts
            # Empty only in a subclass of a user, with an __init__ that doesn't call ours.
            return facts.message or BaseException.__str__(error)
        return str(error)
    except Exception:
        return f"<unprintable {name_of(type(error))}>"


def _texts(error: BaseException) -> tuple[str, str, str]:
    """Name of the type, message and traceback of *error*."""
    module, qualname = _where(type(error))
    try:
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        trace = ""
    return qualname if module == "builtins" else f"{module}.{qualname}", _message(error), trace


def _one_line(text: str, longest: int = 500) -> str:
    first, *more = text.strip().splitlines() or [""]
    if len(first) > longest:
        return f"{first[:longest]} …"
    return f"{first} …" if more else first


def _shortened(lines: Sequence[str], longest: int, indent: str = "") -> list[str]:
    """All *lines*, or the first and the last three if there are more than *longest*."""
    if len(lines) <= longest:
        return list(lines)
    return [*lines[:3], f"{indent}… {len(lines) - 6:,} more …", *lines[-3:]]


def _attempt_line(attempt: AttemptRecord) -> str:
    facts = [f"ran {_seconds(attempt.ran)}"]
    if attempt.started is not None:
        facts.insert(0, f"started at {_seconds(attempt.started)}")
    if attempt.waited:
        facts.append(f"after a wait of {_seconds(attempt.waited)}")
    if attempt.worker is not None:
        facts.append(f"on {attempt.worker}")
    if attempt.cpu_time is not None:
        facts.append(f"{_seconds(attempt.cpu_time)} of CPU time")
    if attempt.peak_memory is not None:
        facts.append(f"{format_size(attempt.peak_memory)} at most")
    return f"{attempt.number}: {_one_line(attempt.error) or 'no error'} ({', '.join(facts)})"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 0.095 else f"{seconds * 1000:.1f} ms"


# --- pickle ---

_Packed = tuple[bytes | None, str, str, str]
"""An original exception: its pickle, or None; name of its type, message and traceback."""


def _packed(original: BaseException) -> _Packed:
    try:
        data = pickle.dumps(original)
        if not isinstance(pickle.loads(data), BaseException):
            return (None, *_texts(original))
    except Exception:
        return (None, *_texts(original))
    # The texts go along for a reader that doesn't have the exception's class.
    type_name, message, _ = _texts(original)
    return data, type_name, message, ""


def _unpacked(packed: _Packed) -> BaseException:
    data, *texts = packed
    if data is not None:
        try:
            original = pickle.loads(data)
            if isinstance(original, BaseException):
                return original
        except Exception:
            pass
    return RemoteError._from_texts(*texts)


def _rebuilt(
    base: type[ExecutionError],
    made_from: tuple[str, str] | None,
    facts: _Facts,
    original: _Packed | None,
    state: bytes,
) -> ExecutionError:
    """The error that was pickled; a plain *base* where the original's type can't be imported."""
    if original is not None:
        facts = replace(facts, original_exception=_unpacked(original))
    try:
        cls = base if made_from is None else class_for(imported(*made_from), ExecutionError)
        args, attributes, members = pickle.loads(state)
        return blank(cls, args, attributes, members, facts)
    except Exception:
        return blank(base, (facts.message,), {}, {}, facts)
