"""Names and bytes of objects, and of functions that a decorator hides."""

import concurrent.futures
import functools
import importlib
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import pytest

from daglite._codec import (
    dumps,
    function_from_state,
    function_state,
    import_string,
    loads,
    to_import_string,
)
from daglite.exceptions import SerializationError, TaskTimeoutError

# A stand-in for Task and @task: it takes the function's place, and pickles by the codec.
FAKE_TASK = """
    from daglite._codec import function_from_state, function_state

    class FakeTask:
        def __init__(self, func):
            self.func = func

        def __reduce__(self):
            return load, (function_state(self.func),)

    def load(state):
        return FakeTask(function_from_state(state))
"""

SAMPLE = """
    import functools
    from fake_task import FakeTask

    @FakeTask
    def add(a, b):
        return a + b

    def plain(x):
        return x + 1

    again = FakeTask(plain)

    @FakeTask
    @functools.lru_cache
    def cached(x):
        return x * 10

    def replaced(x):
        return "old"

    old = replaced

    def replaced(x):
        return "new"

    class Tool:
        factor = 3

        @FakeTask
        def scale(x):
            return x * 3

        @classmethod
        def make(cls):
            return cls()

        def __call__(self, x):
            return x * self.factor

        def method(self, x):
            return x + self.factor
"""


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module with functions, tasks and classes, imported from a file."""
    (tmp_path / "fake_task.py").write_text(textwrap.dedent(FAKE_TASK))
    (tmp_path / "sample_of_codec.py").write_text(textwrap.dedent(SAMPLE))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("sample_of_codec")
    for name in ("sample_of_codec", "fake_task"):
        sys.modules.pop(name, None)


def run(folder: Path, code: str, *args: str) -> str:
    """What another process prints that runs *code* as ``__main__``."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    source = Path(sys.modules["daglite._codec"].__file__ or "").parents[1]
    done = subprocess.run(
        [sys.executable, str(script), *args],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(folder)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def through_state(func: Any) -> Any:
    """*func* to its state, through plain pickle, and back."""
    return function_from_state(pickle.loads(pickle.dumps(function_state(func))))


class TestNames:
    @pytest.mark.parametrize(
        "path", ["builtins:ConnectionError", "os:path.join", "collections.abc:Mapping.get"]
    )
    def test_found(self, path: str) -> None:
        """A path names what lies there, in classes too."""
        assert callable(import_string(path))

    @pytest.mark.parametrize("obj", [ConnectionError, len, textwrap.dedent, Mapping.get, dumps])
    def test_round_trip(self, obj: object) -> None:
        """An object is found again by its own path."""
        assert import_string(to_import_string(obj)) is obj

    def test_class_method(self, sample: Any) -> None:
        """A class method is found, though it is a new object each time."""
        path = to_import_string(sample.Tool.make)
        assert path == "sample_of_codec:Tool.make"
        assert import_string(path) == sample.Tool.make

    @pytest.mark.parametrize(
        "path", ["", "os", "os.path", "os:", ":join", "a b:c", "os:x:y", "os:a-b"]
    )
    def test_no_path(self, path: str) -> None:
        """What is no path is refused with an example of one."""
        with pytest.raises(SerializationError, match=r"write 'package\.module:name'"):
            import_string(path)

    def test_no_module(self) -> None:
        """A module that is missing is named."""
        with pytest.raises(
            SerializationError, match=r"importing 'not_there\.at_all' failed"
        ) as info:
            import_string("not_there.at_all:x")
        assert isinstance(info.value.__cause__, ModuleNotFoundError)

    def test_broken_module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A module that fails while it is imported says why."""
        (tmp_path / "broken_of_codec.py").write_text("1 / 0")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(SerializationError, match="ZeroDivisionError: division by zero"):
            import_string("broken_of_codec:x")

    def test_no_attribute(self) -> None:
        """The step at which a path leads nowhere is named."""
        with pytest.raises(SerializationError, match=r"'os\.path' has no 'jion'"):
            import_string("os:path.jion")

    def test_refused(self, sample: Any) -> None:
        """What has no name of its own is refused, each with its reason."""

        def local() -> None: ...

        for obj, reason in [
            (lambda: None, "a lambda of module"),
            (local, "is defined inside a function"),
            (3, "3 has no name to import it by"),
            (sample.Tool(), r"type sample_of_codec\.Tool has no name"),
            (functools.partial(len), r"type functools\.partial has no name"),
            (sample.add.func, "names an object of type fake_task.FakeTask and not the function"),
            (sample.old, "it has been replaced or decorated there"),
            (sample.Tool().method, "names the function 'Tool.method' and not the method"),
        ]:
            with pytest.raises(SerializationError, match=reason):
                to_import_string(obj)

    def test_main_refused(self, tmp_path: Path) -> None:
        """What is defined in __main__ is refused with the reason."""
        told = run(
            tmp_path,
            """
            from daglite._codec import to_import_string
            from daglite.exceptions import SerializationError

            def add(): ...

            try:
                to_import_string(add)
            except SerializationError as error:
                print(error)
            """,
        )
        assert told.startswith("'add' is defined in __main__, which is another module")


class Conn:
    """Something that can't be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("a connection stays here")


class Holder:
    __slots__ = ("__dict__", "slot", "unset")


class Unlookable(Mapping[str, int]):
    """Can be neither pickled nor looked into."""

    def __reduce__(self) -> Any:
        raise TypeError("no")

    def __getitem__(self, key: str) -> int:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")


class TestBytes:
    def test_plain_first(self) -> None:
        """What pickle can do is left to pickle."""
        value = {"a": [1, (2.0, None)], "f": textwrap.dedent}
        assert dumps(value) == pickle.dumps(value, 5)
        assert loads(dumps(value)) == value

    def test_by_value(self) -> None:
        """Lambdas, closures and local classes go by value."""
        factor = 3

        class Local:
            number = 4

        double, local = loads(dumps((lambda x: x * factor, Local)))
        assert (double(2), local.number) == (6, 4)

    def test_word_main(self) -> None:
        """Data in which the word __main__ occurs comes back all the same."""
        assert loads(dumps(["__main__"])) == ["__main__"]

    @pytest.mark.parametrize("convert", [bytes, bytearray, memoryview])
    def test_any_bytes(self, convert: Any) -> None:
        """Anything that holds bytes can be loaded."""
        assert loads(convert(dumps(3))) == 3

    def test_main_by_value(self, tmp_path: Path) -> None:
        """Functions and classes of __main__ go along with the bytes."""
        file = tmp_path / "data"
        run(
            tmp_path,
            """
            import sys
            from daglite._codec import dumps

            FACTOR = 3

            class Point:
                x = 5

            def scaled(x):
                return x * FACTOR

            open(sys.argv[1], "wb").write(dumps([scaled, Point()]))
            """,
            str(file),
        )
        scaled, point = loads(file.read_bytes())
        assert (scaled(2), point.x) == (6, 5)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "EOFError"),
            (b"garbage", "can't be loaded from its pickle"),
            (b"cnot_there\nx\n.", "ModuleNotFoundError"),
        ],
    )
    def test_damaged(self, data: bytes, reason: str) -> None:
        """Damaged or foreign bytes are refused by name."""
        with pytest.raises(SerializationError, match=reason) as info:
            loads(data, label="the result")
        assert str(info.value).startswith("the result can't be loaded")
        assert info.value.__cause__ is not None

    def test_own_error_passes(self) -> None:
        """A refusal from inside isn't wrapped once more."""
        data = pickle.dumps(_Loads("not_there:x"))
        with pytest.raises(SerializationError, match=r"^'not_there:x' can't be loaded"):
            loads(data)

    def test_errors_travel(self) -> None:
        """daglite's own errors go through the codec."""
        assert loads(dumps(TaskTimeoutError("m", limit=1.0, elapsed=2.0))).limit == 1.0


class _Loads:
    """Loads as what a path names."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return import_string, (self.path,)


class TestBlame:
    @staticmethod
    def message(value: object, label: str = "args") -> str:
        with pytest.raises(SerializationError) as info:
            dumps(value, label=label)
        assert info.value.__cause__ is not None
        return str(info.value)

    def test_itself(self) -> None:
        """Something unpicklable is named with its type, the reason and a way out."""
        assert self.message(Conn()) == (
            f"args, an object of type {__name__}.Conn, can't be pickled "
            f"(TypeError: a connection stays here); "
            f"make it inside the task, or pass what it is made from"
        )

    def test_where(self) -> None:
        """The way to it leads through containers, attributes and slots."""
        holder: Any = Holder()
        holder.conn = Conn()
        assert "args[1].conn is an object of type" in self.message((1, holder))
        del holder.conn
        holder.slot = Conn()
        assert "args[1].slot is" in self.message((1, holder))
        assert "args['a'][0] is" in self.message({"b": 1, "a": [Conn()]})
        assert f"args['{'k' * 56}...] is" in self.message({"k" * 100: Conn()})

    def test_where_in_functions(self) -> None:
        """It leads through captured variables, partials and methods."""
        lock = threading.Lock()
        assert "args<lock> is an object of type _thread.lock" in self.message(lambda: lock)
        assert "args.args[0] is" in self.message(functools.partial(print, lock))
        assert "args.keywords['x'] is" in self.message(functools.partial(dict, x=lock))
        assert "args.func<lock> is" in self.message(functools.partial(lambda: lock))
        assert "args.__self__ is" in self.message(Conn().__reduce__)
        if lock.locked():
            later = 1

        def forward() -> int:
            return later, lock  # type: ignore[return-value]

        assert "args<lock> is" in self.message(forward)

    def test_global(self) -> None:
        """It leads through variables of the module to which a function by value refers."""
        namespace: dict[str, Any] = {"CONN": Conn()}
        exec("def use(): return CONN", namespace)
        assert "args<CONN> is" in self.message(namespace["use"])

    def test_cycle(self) -> None:
        """A structure that holds itself is no trap."""
        value: list[Any] = []
        value += [value, Conn()]
        assert "can't be pickled" in self.message(value)

    def test_not_to_be_looked_at(self) -> None:
        """An object that refuses every look is named by its type."""
        assert "Unlookable, can't be pickled (TypeError: no)" in self.message(Unlookable())

    def test_too_deep(self) -> None:
        """A structure too deep for pickle is refused, not a crash."""
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        assert "can't be pickled" in self.message(value)
        while value:
            value = value.pop()

    def test_next_one_works(self) -> None:
        """A refusal leaves nothing behind."""
        self.message(Conn())
        assert loads(dumps(lambda: 3))() == 3
        assert function_state(lambda: 3)[0] == "pickle"


class TestFunctionState:
    def test_hidden_by_task(self, sample: Any) -> None:
        """A function whose place its task has taken is the very same after a round trip."""
        assert function_state(sample.add.func) == ("func of", "sample_of_codec:add")
        assert through_state(sample.add.func) is sample.add.func

    def test_other_places(self, sample: Any) -> None:
        """The same holds in a class, and for what another decorator made."""
        assert through_state(sample.Tool.scale.func) is sample.Tool.scale.func
        assert through_state(sample.cached.func) is sample.cached.func

    def test_plain(self, sample: Any) -> None:
        """A function that is in its place goes by reference."""
        assert function_state(sample.plain) == ("function", sample.plain)
        assert through_state(sample.again.func) is sample.plain
        assert through_state(len) is len

    def test_replaced(self, sample: Any) -> None:
        """A function whose place another has taken goes by value."""
        assert through_state(sample.old)(1) == "old"

    def test_by_value(self) -> None:
        """Lambdas and closures go by value."""
        factor = 3
        assert through_state(lambda x: x * factor)(2) == 6

    def test_without_module(self) -> None:
        """A function of no module goes by value."""
        namespace: dict[str, Any] = {"__name__": "nowhere_at_all"}
        exec("def f(): return 3", namespace)
        assert through_state(namespace["f"])() == 3

    def test_callables(self, sample: Any) -> None:
        """Partials, bound methods and callable instances keep their state."""
        tool = sample.Tool()
        tool.factor = 5
        assert through_state(functools.partial(sample.plain, 4))() == 5
        assert through_state(functools.partial(lambda x, y: x - y, y=1))(4) == 3
        assert through_state(tool.method)(1) == 6
        assert through_state(tool)(2) == 10
        assert through_state(sample.Tool.make)().factor == 3

    @pytest.mark.parametrize("pickler", [pickle.dumps, cloudpickle.dumps, dumps])
    def test_any_pickler(self, sample: Any, pickler: Any) -> None:
        """A task goes through any pickler, whatever its function is."""
        fake_task = sys.modules["fake_task"]
        assert loads(pickler(sample.add)).func is sample.add.func
        assert loads(pickler(fake_task.FakeTask(lambda x: x + 1))).func(1) == 2

    def test_instance_that_knows_its_task(self, sample: Any) -> None:
        """A callable that holds its own task is no endless loop."""
        tool = sample.Tool()
        tool.task = sys.modules["fake_task"].FakeTask(tool)
        assert pickle.loads(pickle.dumps(tool.task)).func(2) == 6

    def test_main(self, tmp_path: Path, sample: Any) -> None:
        """Tasks of __main__ go by value, those that refer to themselves or each other too."""
        file = tmp_path / "data"
        size = run(
            tmp_path,
            """
            import pickle, sys
            from daglite._codec import dumps
            from fake_task import FakeTask

            @FakeTask
            def factorial(n):
                return 1 if n < 2 else n * factorial.func(n - 1)

            def even(n):
                return n == 0 or odd.func(n - 1)

            @FakeTask
            def odd(n):
                return n > 0 and even.func(n - 1)

            even = FakeTask(even)
            # Each refers to all later ones: pickled one inside the other, they would never end.
            for i in range(25):
                later = " + ".join([f"f{j}.func()" for j in range(i + 1, 25)] or ["1"])
                exec(f"@FakeTask\\ndef f{i}(): return {later}")

            data = [pickle.dumps(factorial), dumps([factorial, even, odd, f0]), pickle.dumps(f0)]
            open(sys.argv[1], "wb").write(pickle.dumps(data))
            print(max(map(len, data)))
            """,
            str(file),
        )
        alone, together, deep = pickle.loads(file.read_bytes())
        assert loads(alone).func(5) == 120
        factorial, even, odd, first = loads(together)
        assert (factorial.func(4), even.func(4), odd.func(4)) == (24, True, False)
        assert first.func.__name__ == loads(deep).func.__name__ == "f0"
        assert int(size) < 100_000

    def test_task_gone(self, sample: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A place where no task is any more is refused with the reason."""
        state = function_state(sample.add.func)
        monkeypatch.setattr(sample, "add", sample.add.func)
        with pytest.raises(SerializationError, match="was a task where this was pickled"):
            function_from_state(state)
        monkeypatch.delattr(sample, "add")
        with pytest.raises(SerializationError, match="has no 'add'"):
            function_from_state(state)

    def test_unpicklable(self) -> None:
        """A function that holds what can't be pickled is refused, with the place."""
        conn = Conn()
        with pytest.raises(SerializationError, match="function<conn> is an object of type"):
            function_state(lambda: conn)

    def test_threads(self) -> None:
        """Threads that pickle at the same time don't disturb each other."""
        entered, go = threading.Event(), threading.Event()

        class Slow:
            def __reduce__(self) -> Any:
                entered.set()
                assert go.wait(10)
                return int, ()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            running = pool.submit(dumps, Slow())
            assert entered.wait(10)
            assert function_state(lambda: 3)[0] == "pickle"
            go.set()
            assert loads(running.result()) == 0


def test_no_writing_to_modules(sample: ModuleType) -> None:
    """Nothing is written into the module of a user."""
    before = dict(vars(sample))
    through_state(sample.add.func)
    assert dict(vars(sample)) == before
