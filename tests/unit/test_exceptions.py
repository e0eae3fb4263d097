"""Errors: their tree, their text, the class made on the fly, pickle and copy."""

import abc
import asyncio
import copy
import dataclasses
import gc
import io
import pickle
import sys
import traceback
import urllib.error
import weakref
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any, ClassVar

import pydantic
import pytest
from typing_extensions import Self

from daglite import exceptions
from daglite.exceptions import (
    AttemptRecord,
    BackendError,
    DagliteError,
    ExecutionError,
    PolicyError,
    RemoteError,
    RunCancelledError,
    SerializationError,
    TaskConfigurationError,
    TaskTimeoutError,
    WorkerDiedError,
    as_execution_error,
    describe,
    filled,
)

SPECIAL_FACTS: dict[str, dict[str, Any]] = {
    "TaskTimeoutError": {"limit": 5.0, "elapsed": 5.1, "kind": "total", "stack": "File x, line 1"},
    "WorkerDiedError": {"exit_code": 3, "signal": "SIGKILL", "hint": "out of memory", "stack": "x"},
    "MemoryLimitError": {"limit": 10**9, "peak": 2 * 10**9},
    "CpuTimeLimitError": {"limit": 1.0, "used": 1.25},
    "ProcessLimitError": {"limit": 3, "seen": 4},
    "CircuitOpenError": {"retry_in": 12.5, "key": "api"},
    "RateLimitedError": {"retry_in": None, "key": "api"},
    "BulkheadFullError": {"key": "api"},
    "RemoteError": {"type_name": "a.B", "remote_message": "bad", "traceback_text": "Traceback"},
}
COMMON_FACTS = (
    "node_id",
    "node_name",
    "execution_path",
    "path_ids",
    "attempts",
)


def attempt(number: int, error: str = "ValueError: bad") -> AttemptRecord:
    return AttemptRecord(
        number=number, started=0.5, ran=0.25, waited=1.0, error=error, worker="thread-1"
    )


def family(root: type[DagliteError]) -> Iterator[type[DagliteError]]:
    """All classes of the tree; without those of the tests and those made on the fly."""
    yield root
    for child in root.__subclasses__():
        if child.__module__ == exceptions.__name__ and "_made_from" not in child.__dict__:
            yield from family(child)


ALL = sorted(set(family(DagliteError)), key=lambda cls: cls.__name__)


def sample(cls: type[DagliteError]) -> DagliteError:
    if not issubclass(cls, ExecutionError):
        if issubclass(cls, (TaskConfigurationError, BackendError)):
            return cls("what happened", fix="what to do")
        return cls("what happened; what to do")
    return cls(
        "what happened",
        node_id=7,
        node_name="train",
        execution_path=["load", "train"],
        path_ids=[3, 7],
        attempts=[attempt(1), attempt(2)],
        original_exception=ValueError("bad"),
        failures=[ExecutionError("another one")],
        **SPECIAL_FACTS.get(cls.__name__, {}),
    )


def again(error: Any) -> Any:
    return pickle.loads(pickle.dumps(error))


class CustomInitError(ValueError):
    """Pickles, but doesn't load."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class FamilyRoot(Exception):
    registry: ClassVar[list[type]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        FamilyRoot.registry.append(cls)


class FamilyMember(FamilyRoot):
    pass


class TestTree:
    def test_face(self) -> None:
        """The public names are the tree and AttemptRecord, nothing else."""
        assert set(exceptions.__all__) == {cls.__name__ for cls in ALL} | {"AttemptRecord"}

    def test_flags(self) -> None:
        """What can't get better by itself is permanent; lost workers are infrastructure."""
        assert {cls for cls in ALL if cls.permanent} == {
            SerializationError,
            TaskConfigurationError,
            PolicyError,
            exceptions.ParameterError,
            exceptions.CircuitOpenError,
            exceptions.RateLimitedError,
            exceptions.BulkheadFullError,
            exceptions.MemoryLimitError,
            exceptions.CpuTimeLimitError,
            exceptions.ProcessLimitError,
        }
        assert {cls for cls in ALL if cls.infrastructure} == {WorkerDiedError}

    def test_timeout_is_timeout(self) -> None:
        """A task's timeout is caught by `except TimeoutError`."""
        assert issubclass(TaskTimeoutError, TimeoutError)

    @pytest.mark.parametrize("cls", ALL)
    @pytest.mark.parametrize("way", [again, copy.copy, copy.deepcopy])
    def test_all_survive(self, cls: type[DagliteError], way: Any) -> None:
        """Every error survives pickle and copy with its text and all its facts."""
        before = sample(cls)
        after: DagliteError = way(before)
        assert type(after) is cls
        assert after is not before
        assert str(after) == str(before)
        assert after.args == before.args
        if isinstance(before, ExecutionError) and isinstance(after, ExecutionError):
            for fact in (*COMMON_FACTS, *SPECIAL_FACTS.get(cls.__name__, {})):
                assert getattr(after, fact) == getattr(before, fact), fact
            assert str(after.original_exception) == "bad"
            assert after.__cause__ is after.original_exception
            assert after.failures[0] is after
            assert [str(each) for each in after.failures[1:]] == ["another one"]

    @pytest.mark.parametrize("cls", [TaskConfigurationError, PolicyError, BackendError])
    @pytest.mark.parametrize("way", [lambda same: same, again, copy.copy, copy.deepcopy])
    def test_a_fix(self, cls: Any, way: Any) -> None:
        """What to do is a fact of its own; the sentence ends with it."""
        error = way(cls("x is 3", fix="write 4; or 5"))
        assert (error.problem, error.fix) == ("x is 3", "write 4; or 5")
        assert str(error) == "x is 3; write 4; or 5"
        alone = way(cls("x is 3; that is all"))
        assert (alone.problem, alone.fix, str(alone)) == (str(alone), None, "x is 3; that is all")

    def test_a_fix_of_a_run_inside(self) -> None:
        """What a task raises of a graph of its own keeps it, and says it."""
        error: Any = as_execution_error("task failed", original=PolicyError("bad", fix="mend it"))
        assert (error.problem, error.fix) == ("bad", "mend it")
        assert "bad; mend it" in str(error)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_all_protocols(self, protocol: int) -> None:
        """The protocol of pickle doesn't matter."""
        error = pickle.loads(pickle.dumps(sample(TaskTimeoutError), protocol))
        assert error.limit == 5.0

    def test_added_attributes_travel(self) -> None:
        """What somebody hung on an error is there after pickle and copy."""
        error: Any = sample(ExecutionError)
        error.ticket = "T-1"
        assert again(error).ticket == copy.copy(error).ticket == "T-1"

    def test_unpicklable_attribute_stays(self) -> None:
        """An attribute that can't be pickled is left behind; the others travel."""
        error: Any = sample(ExecutionError)
        error.lock, error.ticket = (lambda: None), "T-1"
        after = again(error)
        assert after.ticket == "T-1"
        assert not hasattr(after, "lock")

    def test_attempt_record_is_a_value(self) -> None:
        """Attempt records are frozen, equal by value and picklable."""
        assert again(attempt(1)) == attempt(1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            attempt(1).number = 2  # type: ignore[misc]


class UserError(ExecutionError):
    """A user's own, with an __init__ that never calls ours."""

    def __init__(self, code: int) -> None:
        self.code = code


class HidesFacts(ExecutionError):
    """Reads as settled, whatever is written to it."""

    _facts = property(lambda self: ExecutionError._facts.__class__(settled=True))


class TestUserSubclass:
    def test_hidden_facts(self) -> None:
        """A subclass that hides the facts isn't used for an error that has some."""
        original = HidesFacts.__new__(HidesFacts)
        error = as_execution_error("m", original=original, node_id=3)
        assert (type(error), error.node_id) == (ExecutionError, 3)

    def test_without_our_init(self) -> None:
        """A subclass that forgets our __init__ has a text, empty facts, and pickles."""
        error = again(UserError(4))
        assert (str(error), error.code, error.attempts) == ("4", 4, ())

    def test_mixed_by_hand(self) -> None:
        """A user may mix ExecutionError and a class of theirs; its hook is called."""

        class Mixed(ExecutionError, FamilyRoot):
            pass

        assert Mixed in FamilyRoot.registry
        assert str(Mixed("m", node_name="x")) == "m"


class TestText:
    def test_message_alone(self) -> None:
        """Without facts the message is all."""
        assert str(ExecutionError("no luck")) == "no luck"

    def test_full(self) -> None:
        """Message, path, attempts, cause and other failures have their lines."""
        error = ExecutionError(
            "task 'train' failed after 2 attempts",
            execution_path=["load", "clean[3]", "train"],
            attempts=[attempt(1), AttemptRecord(2, None, 0.0004, 0.0, "KeyError: 'k'", None)],
            original_exception=KeyError("k"),
            failures=[ExecutionError("task 'b' failed: no"), ExecutionError("task 'c' failed")],
        )
        assert str(error).splitlines() == [
            "task 'train' failed after 2 attempts",
            "path: load → clean[3] → train",
            "attempts: 2",
            "  1: ValueError: bad (started at 0.50 s, ran 0.25 s, after a wait of 1.00 s,"
            " on thread-1)",
            "  2: KeyError: 'k' (ran 0.4 ms)",
            "caused by: KeyError: 'k'",
            "other failures: 2",
            "  task 'b' failed: no",
            "  task 'c' failed",
        ]

    def test_long_path(self) -> None:
        """Of a very long path, three names at each end are shown."""
        error = ExecutionError("m", execution_path=[f"n{i}" for i in range(100_000)])
        assert str(error) == "m\npath: n0 → n1 → n2 → … 99,994 more … → n99997 → n99998 → n99999"

    def test_many_attempts(self) -> None:
        """Of more than eight attempts, three at each end are shown."""
        error = ExecutionError("m", attempts=[attempt(i) for i in range(1, 21)])
        lines = str(error).splitlines()[2:]
        assert [line.strip().split(":")[0] for line in lines] == [
            "1",
            "2",
            "3",
            "… 14 more …",
            "18",
            "19",
            "20",
        ]
        assert (
            len(str(ExecutionError("m", attempts=[attempt(i) for i in range(8)])).split("\n")) == 10
        )

    def test_one_attempt(self) -> None:
        """A single attempt needs no list if its error is the message."""
        assert str(ExecutionError("failed: ValueError: bad", attempts=[attempt(1)])) == (
            "failed: ValueError: bad"
        )
        late = str(ExecutionError("too late", attempts=[attempt(1)])).splitlines()
        assert late[0] == "too late"
        assert late[1] == "attempts: 1"
        assert "ValueError: bad" in late[2]

    def test_many_others(self) -> None:
        """Of many other failures three are shown."""
        error = ExecutionError("m", failures=[ExecutionError(f"e{i}") for i in range(1_000)])
        assert str(error).splitlines()[1:] == [
            "other failures: 1,000",
            "  e0",
            "  e1",
            "  e2",
            "  … 997 more …",
        ]

    def test_cause_not_twice(self) -> None:
        """A cause that stands in the message isn't repeated."""
        error = as_execution_error("task 'a' failed: ValueError: bad", original=ValueError("bad"))
        assert str(error) == "task 'a' failed: ValueError: bad"

    def test_special_facts(self) -> None:
        """Stack, hint and remote traceback are shown."""
        assert str(TaskTimeoutError("m", limit=1, elapsed=2, stack="File x\n")).endswith(
            "the call was here:\nFile x"
        )
        assert str(WorkerDiedError("m", hint="buy memory")) == "m\nhint: buy memory"
        assert str(WorkerDiedError("m")) == str(TaskTimeoutError("m", limit=1, elapsed=2)) == "m"
        assert str(
            RemoteError("m", type_name="x", remote_message="", traceback_text="Traceback\n")
        ) == ("m\nTraceback")

    def test_repr(self) -> None:
        """The repr is one line with the message."""
        error = as_execution_error("task failed", original=ValueError("bad"))
        assert repr(error) == "ExecutionError[ValueError]('task failed')"


class Unprintable(ValueError):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class TestDescribe:
    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (ValueError("bad"), "ValueError: bad"),
            (ValueError(), "ValueError"),
            (KeyError("k"), "KeyError: 'k'"),
            (ValueError("first\nsecond"), "ValueError: first …"),
            (ValueError("x" * 600), f"ValueError: {'x' * 500} …"),
            (Unprintable("a"), "Unprintable: <unprintable Unprintable>"),
            (ExecutionError("m", execution_path=["a"]), "m"),
            (ExecutionError(""), "ExecutionError"),
            (SystemExit(3), "SystemExit: 3"),
        ],
    )
    def test_one_line(self, error: BaseException, text: str) -> None:
        """An error is described by type and message in one line; daglite's own by its message."""
        assert describe(error) == text


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code: int) -> None:
        self.code = code


class NeedsArguments(Exception):
    def __new__(cls, a: int, b: int) -> Self:
        return super().__new__(cls, a, b)

    def __init__(self, a: int, b: int) -> None:
        raise_if_called.append((a, b))


raise_if_called: list[Any] = []


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int


@dataclasses.dataclass
class UnhashableError(Exception):
    code: int


class Guarded(Exception):
    """A class whose attribute access refuses everything."""

    def __setattr__(self, name: str, value: object) -> None:
        raise RuntimeError("read-only")

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("write-only")


class Delegating(Exception):
    """The classic: recursion without end as long as `inner` isn't there."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class WeirdProperties(Exception):
    @property
    def node_name(self) -> str:
        raise RuntimeError("no node_name")

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no args")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class Clashing(Exception):
    node_id = "mine"
    permanent = "mine"

    def __init__(self) -> None:
        super().__init__()
        self.attempts = "mine"
        self._facts = "mine"
        self.message = "mine"


class MessageOfTheClass(Exception):
    @property
    def message(self) -> str:
        return "of the class"


class Sized(Exception):
    def __len__(self) -> int:
        return 0


class OwnPickle(Exception):
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("no pickle")

    def __copy__(self) -> Any:
        raise RuntimeError("no copy")

    __deepcopy__ = __copy__


class BecomesNumber(Exception):
    def __reduce__(self) -> Any:
        return int, ()


class AbstractError(abc.ABC, Exception):
    pass


class MetaWithEquality(type):
    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("no")

    def __hash__(cls) -> int:
        raise RuntimeError("no")


class OddMetaclassError(Exception, metaclass=MetaWithEquality):
    pass


class MetaThatWantsMore(type):
    def __new__(mcls, name: str, bases: Any, ns: Any, *, code: int) -> Any:
        return super().__new__(mcls, name, bases, ns)

    def __init__(cls, name: str, bases: Any, ns: Any, *, code: int) -> None:
        super().__init__(name, bases, ns)


class WantsMoreError(Exception, metaclass=MetaThatWantsMore, code=3):
    pass


def validation_error() -> Exception:
    try:
        pydantic.TypeAdapter(int).validate_python("x")
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


# Made when needed: pytest itself stumbles over some of them.
ORDINARY: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("bad"),
    "KeyError": lambda: KeyError("k"),
    "FileNotFoundError": lambda: FileNotFoundError(2, "no such file", "f.txt"),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "ImportError": lambda: ImportError("no module", name="m", path="p"),
    "MemoryError": lambda: MemoryError("much"),
    "RecursionError": lambda: RecursionError("deep"),
    "SyntaxError": lambda: SyntaxError("bad", ("f.py", 1, 2, "x y")),
    "AttributeError": lambda: AttributeError("no"),
    "TimeoutError": lambda: TimeoutError("late"),
    "asyncio.TimeoutError": lambda: asyncio.TimeoutError(),
    "CustomInitError": lambda: CustomInitError(4, "odd"),
    "Slotted": lambda: Slotted(4),
    "NeedsArguments": lambda: NeedsArguments(1, 2),
    "FrozenError": lambda: FrozenError(4),
    "UnhashableError": lambda: UnhashableError(4),
    "Guarded": lambda: Guarded("x"),
    "Delegating": lambda: Delegating("x"),
    "WeirdProperties": lambda: WeirdProperties("x"),
    "Clashing": lambda: Clashing(),
    "Sized": lambda: Sized(),
    "OwnPickle": lambda: OwnPickle("x"),
    "AbstractError": lambda: AbstractError("x"),
    "Unprintable": lambda: Unprintable("x"),
    "PolicyError": lambda: PolicyError("of a nested run"),
}


class TestMadeClass:
    @pytest.mark.parametrize("name", ORDINARY)
    def test_is_both(self, name: str) -> None:
        """The error is an ExecutionError and caught by the type of the original."""
        original = ORDINARY[name]()
        error = as_execution_error(
            "task 'a' failed", original=original, node_name="a", attempts=[attempt(1)]
        )
        ways: list[Callable[[Any], Any]] = [lambda same: same, copy.copy, copy.deepcopy, again]
        for way in ways:
            seen = way(error)
            assert type(seen).__mro__[1] is ExecutionError
            assert type(original) in type(seen).__mro__
            with pytest.raises(type(original)):
                raise seen
            assert (seen.node_name, seen.attempts) == ("a", (attempt(1),))
            assert str(seen).startswith("task 'a' failed")
            assert seen
            assert seen == seen
            assert hash(seen)
            # What a traceback tells of a syntax error is its `msg`; and of an error whose cause
            # guards its own traceback, none can be made.
            if name not in ("SyntaxError", "Guarded", "WeirdProperties"):
                assert "task 'a' failed" in "".join(traceback.format_exception_only(seen))
            if way is not again:
                assert seen.original_exception is seen.__cause__ is original

    def test_name_in_traceback(self) -> None:
        """A traceback shows both types, then the message."""
        error = as_execution_error("task failed", original=ValueError("bad"))
        last = traceback.format_exception_only(type(error), error)
        assert last[0].startswith("daglite.exceptions.ExecutionError[ValueError]: task failed")

    def test_key_error(self) -> None:
        """`except KeyError as e: e.args[0]` keeps working."""
        assert as_execution_error("m", original=KeyError("k")).args == ("k",)

    def test_os_error(self) -> None:
        """`except OSError as e: e.errno` keeps working, after pickle too."""
        error = as_execution_error("m", original=FileNotFoundError(2, "no", "f.txt"))
        for seen in (error, again(error), copy.copy(error)):
            assert isinstance(seen, FileNotFoundError)
            assert (seen.errno, seen.strerror, seen.filename) == (2, "no", "f.txt")

    def test_unicode_error(self) -> None:
        """The fields of a UnicodeDecodeError are carried over."""
        error: Any = as_execution_error("m", original=ORDINARY["UnicodeDecodeError"]())
        assert (error.encoding, error.object, error.start, error.end) == ("utf-8", b"\xff", 0, 1)

    def test_import_error(self) -> None:
        """The fields of an ImportError are carried over."""
        error: Any = as_execution_error("m", original=ORDINARY["ImportError"]())
        assert (error.name, error.path, error.msg) == ("m", "p", "no module")

    def test_slots(self) -> None:
        """Slots are carried over; an unset one stays unset."""
        error: Any = again(as_execution_error("m", original=Slotted(4)))
        assert error.code == 4
        assert not hasattr(error, "unset")

    def test_attributes(self) -> None:
        """Attributes are carried over."""
        error: Any = as_execution_error("m", original=CustomInitError(4, "odd"))
        assert error.code == 4

    def test_init_not_called(self) -> None:
        """Neither __new__ nor __init__ of the original's class is called."""
        original = NeedsArguments(1, 2)
        raise_if_called.clear()
        assert as_execution_error("m", original=original).args == (1, 2)
        assert raise_if_called == []

    def test_ours_win(self) -> None:
        """Facts of daglite win over attributes of the same name, the rest is the original's."""
        error: Any = as_execution_error("m", original=Clashing(), node_id=4)
        assert (error.node_id, error.attempts, error.permanent) == (4, (), False)
        assert error.message == "mine"

    def test_message(self) -> None:
        """It is the first line, unless the original has one of its own, wherever it keeps it."""
        error = again(as_execution_error("task 'x' failed", original=ValueError(1), node_id=4))
        assert error.message == "task 'x' failed"
        assert ExecutionError("m").message == "m"
        own: Any = again(as_execution_error("task 'x' failed", original=MessageOfTheClass()))
        assert own.message == "of the class"
        assert str(own).startswith("task 'x' failed")

    def test_weird_properties(self) -> None:
        """A property of the original's class that raises is never asked."""
        error = as_execution_error("m", original=WeirdProperties("x"), node_name="n")
        assert error.node_name == "n"

    def test_http_error(self) -> None:
        """An exception that is a file as well, with a response inside."""
        original = urllib.error.HTTPError("http://x", 404, "gone", Message(), io.BytesIO(b"body"))
        error: Any = as_execution_error("m", original=original)
        assert isinstance(error, urllib.error.HTTPError)
        assert (error.code, error.read()) == (404, b"body")
        after = again(error)
        assert isinstance(after, urllib.error.HTTPError)
        assert isinstance(after.original_exception, RemoteError)
        original.close()

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with 3.11")
    def test_exception_group(self) -> None:
        """An exception group stays a group."""
        group: Any = vars(__import__("builtins"))["ExceptionGroup"]
        error: Any = again(as_execution_error("m", original=group("several", [ValueError("a")])))
        assert isinstance(error, group)
        assert [str(each) for each in error.exceptions] == ["a"]

    def test_plain_exception(self) -> None:
        """Of an `Exception` there is no special class, but its args are there."""
        error = as_execution_error("m", original=Exception("boom", 3))
        assert type(error) is ExecutionError
        assert error.args == again(error).args == ("boom", 3)
        assert again(error).__cause__.args == ("boom", 3)

    def test_permanent_is_kept(self) -> None:
        """What was permanent in a nested run is permanent in the outer one."""
        assert as_execution_error("m", original=PolicyError("p")).permanent

    def test_hook_of_family_not_called(self) -> None:
        """A class made on the fly doesn't enter the registry of the original's family."""
        before = list(FamilyRoot.registry)
        error = as_execution_error("m", original=FamilyMember("x"))
        assert isinstance(error, FamilyMember)
        assert FamilyRoot.registry == before

    def test_one_class_per_type(self) -> None:
        """Errors of one type share a class."""
        first = as_execution_error("m", original=ValueError("a"))
        assert type(first) is type(as_execution_error("m", original=ValueError("b")))
        assert type(first) is type(again(first))

    def test_types_can_go(self) -> None:
        """A type that nobody uses any more isn't kept alive."""
        cls = type("Gone", (ValueError,), {})
        error = as_execution_error("m", original=cls("x"))
        watch = weakref.ref(cls), weakref.ref(type(error))
        del cls, error
        gc.collect()
        assert [ref() for ref in watch] == [None, None]

    def test_can_be_raised_anew(self) -> None:
        """The common `raise type(e)(...)` works where it does for the original's type."""
        error = as_execution_error("m", original=ValueError("bad"))
        assert str(type(error)("again")) == "again"

    @pytest.mark.parametrize("raising", [NameError, AttributeError])
    def test_no_foreign_suggestions(self, raising: type[Exception]) -> None:
        """A "Did you mean" of Python stands with the original, not behind our last line."""
        local_name = 0

        def run() -> None:
            try:
                if raising is NameError:
                    raise NameError("name 'local_nam' is not defined", name="local_nam")
                [].apend(1)  # type: ignore[attr-defined]
            except Exception as original:
                error = as_execution_error("m", original=original, execution_path=["a"])
            raise error

        with pytest.raises(raising) as caught:
            run()
        text = "".join(traceback.format_exception_only(type(caught.value), caught.value))
        assert "Did you mean" not in text
        assert local_name == 0

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with 3.11")
    def test_notes_shown_once(self) -> None:
        """A note is shown with the original alone."""
        original: Any = ValueError("bad")
        original.add_note("look here")
        error: Any = as_execution_error("m", original=original)
        assert "".join(traceback.format_exception(error)).count("look here") == 1


PLAIN: dict[str, Callable[[], BaseException]] = {
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": lambda: KeyboardInterrupt(),
    "GeneratorExit": lambda: GeneratorExit(),
    "CancelledError": lambda: asyncio.CancelledError(),
    "StopIteration": lambda: StopIteration(3),
    "StopAsyncIteration": lambda: StopAsyncIteration(),
    "validation_error": lambda: validation_error(),
    "OddMetaclassError": lambda: OddMetaclassError("x"),
    "WantsMoreError": lambda: WantsMoreError("x"),
}


class TestPlain:
    @pytest.mark.parametrize("name", PLAIN)
    def test_plain(self, name: str) -> None:
        """Where there can't or mustn't be a class of both, a plain ExecutionError is raised."""
        original = PLAIN[name]()
        error = as_execution_error("task failed", original=original, node_id=4)
        assert type(error) is ExecutionError
        assert error.args == ("task failed",)
        assert error.original_exception is original
        assert (error.node_id, str(error).split("\n")[0]) == (4, "task failed")
        assert type(again(error)) is ExecutionError

    def test_cause_is_shown(self) -> None:
        """An original that has no part in the class is named in the text."""
        error = as_execution_error("m", original=SystemExit(3))
        assert str(error) == "m\ncaused by: SystemExit: 3"


class TestOwnErrors:
    def test_filled_in(self) -> None:
        """An error that daglite itself found gets the facts and is returned itself."""
        timeout = TaskTimeoutError("'a' took more than 1 s", limit=1.0, elapsed=1.5, node_name="a")
        other = ExecutionError("another")
        error = as_execution_error(
            "task 'a' failed: late",
            original=timeout,
            node_id=4,
            execution_path=["load", "a"],
            attempts=[attempt(1)],
            failures=[timeout, other],
        )
        assert error is timeout
        assert str(error).startswith("task 'a' failed: late\npath: load → a")
        assert (error.node_id, error.node_name, error.attempts) == (4, "a", (attempt(1),))
        assert error.failures == (timeout, other)
        assert error.original_exception is error.__cause__ is None

    def test_filled_keeps(self) -> None:
        """Facts left out stay as they are; its own self is no cause."""
        error = ExecutionError("m", node_id=1, path_ids=[1], failures=[ExecutionError("b")])
        same = filled(error, original_exception=error, node_name="n")
        assert same is error
        assert (error.node_id, error.node_name, error.path_ids) == (1, "n", (1,))
        assert len(error.failures) == 2
        assert error.original_exception is None
        filled(error, original_exception=ValueError("bad"))
        assert isinstance(error.__cause__, ValueError)

    def test_nested_run(self) -> None:
        """The settled error of a nested run is wrapped: type kept, both paths visible."""
        inner = as_execution_error("inner", original=KeyError("k"), execution_path=["x", "y"])
        outer = as_execution_error("outer", original=inner, execution_path=["a", "b"])
        for seen in (outer, again(outer)):
            assert type(seen) is type(inner)
            assert (seen.execution_path, seen.args) == (("a", "b"), ("k",))
            nested: Any = seen.original_exception
            assert KeyError in type(nested).__mro__
            assert nested.execution_path == ("x", "y")
            assert str(seen) == ("outer\npath: a → b\ncaused by: ExecutionError[KeyError]: inner")

    def test_nested_timeout(self) -> None:
        """The timeout of a nested run stays a timeout, with its facts."""
        inner = filled(TaskTimeoutError("inner", limit=1.0, elapsed=1.5), node_name="x")
        outer = as_execution_error("outer", original=inner, node_name="a")
        assert isinstance(outer, TaskTimeoutError)
        assert outer is not inner
        assert (outer.limit, outer.node_name, outer.original_exception) == (1.0, "a", inner)
        assert inner.node_name == "x"

    def test_settled_after_pickle(self) -> None:
        """A settled error is still settled when it comes out of a worker."""
        inner = again(filled(RunCancelledError("inner"), node_name="x"))
        assert as_execution_error("outer", original=inner) is not inner

    def test_no_cycle(self) -> None:
        """`failures` starts with the error itself, without a reference cycle."""
        error = filled(ExecutionError("m"))
        filled(error, failures=[error, ExecutionError("b")])
        assert [str(each)[0] for each in error.failures] == ["m", "b"]
        watch = weakref.ref(error)
        gc.disable()
        try:
            del error
            assert watch() is None
        finally:
            gc.enable()


class TestPickle:
    def test_unloadable_original(self) -> None:
        """An original with a custom __init__ travels as text; its type still counts."""
        try:
            raise CustomInitError(4, "odd")
        except CustomInitError as original:
            error: Any = again(as_execution_error("m", original=original))
        assert type(error).__mro__[1:3] == (ExecutionError, DagliteError)
        assert CustomInitError in type(error).__mro__
        assert (error.code, error.args) == (4, ("4: odd",))
        remote = error.original_exception
        assert isinstance(remote, RemoteError)
        assert error.__cause__ is remote
        assert remote.type_name == f"{__name__}.CustomInitError"
        assert remote.remote_message == "4: odd"
        assert "in test_unloadable_original" in remote.traceback_text
        assert "CustomInitError: 4: odd" in str(remote)

    def test_unpicklable_argument(self) -> None:
        """An argument that can't be pickled travels as its repr."""
        error = again(as_execution_error("m", original=ValueError("bad", io.StringIO)))
        assert error.args == ("bad", io.StringIO)
        error = again(as_execution_error("m", original=ValueError("bad", open)))
        assert error.args == ("bad", open)
        error = again(as_execution_error("m", original=ValueError("bad", lambda: None)))
        assert error.args[0] == "bad"
        assert "<lambda>" in error.args[1]
        error = again(as_execution_error("m", original=ValueError("bad", NoRepr())))
        assert error.args[1] == "<unprintable NoRepr>"

    def test_local_type(self) -> None:
        """Where the original's type can't be imported, a plain ExecutionError is loaded."""

        class LocalError(ValueError):
            pass

        error = again(as_execution_error("task failed", original=LocalError("x"), node_id=3))
        assert type(error) is ExecutionError
        assert (str(error).split("\n")[0], error.node_id) == ("task failed", 3)
        assert isinstance(error.original_exception, RemoteError)

    def test_type_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reader without the original's class gets everything else."""
        data = pickle.dumps(as_execution_error("m", original=FamilyMember("x"), node_id=3))
        monkeypatch.delattr(sys.modules[__name__], "FamilyMember")
        error: Any = pickle.loads(data)
        remote: Any = error.original_exception
        assert error.__class__ is ExecutionError
        assert (error.node_id, remote.remote_message) == (3, "x")

    def test_turned_into_something_else(self) -> None:
        """An original whose pickle is no exception travels as text."""
        error: Any = again(as_execution_error("m", original=BecomesNumber("x")))
        assert BecomesNumber in type(error).__mro__
        assert isinstance(error.original_exception, RemoteError)

    def test_type_is_no_exception(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A name that means something else by now isn't taken for the type."""
        data = pickle.dumps(as_execution_error("m", original=FamilyMember("x")))
        monkeypatch.setattr(sys.modules[__name__], "FamilyMember", str)
        error: Any = pickle.loads(data)
        assert error.__class__ is ExecutionError
        assert isinstance(error.original_exception, RemoteError)

    def test_failures_travel(self) -> None:
        """Other failures travel along, each with its type."""
        other = as_execution_error("b", original=KeyError("k"))
        error = again(as_execution_error("m", original=ValueError("bad"), failures=[other]))
        assert isinstance(error.failures[1], KeyError)

    def test_remote_error_of(self) -> None:
        """Any exception can be put as text, even one that can't be printed."""
        remote = RemoteError.of(Unprintable("x"))
        assert remote.remote_message == "<unprintable Unprintable>"
        assert RemoteError.of(ValueError()).type_name == "ValueError"
        assert as_execution_error("m", original=again(remote)).__class__ is RemoteError


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __reduce__(self) -> Any:
        raise RuntimeError("no")
