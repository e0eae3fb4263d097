"""Tasks, the futures that binding makes, and the graph behind them."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest

from daglite import Task, ThreadBackend, build_graph, evaluate, task
from daglite.core.graph import MapTaskNode, TaskNode
from daglite.exceptions import (
    GraphConstructionError,
    ParameterError,
    PolicyError,
    TaskConfigurationError,
)


@task
def add(x: int, y: int) -> int:
    """
    Add two numbers.

    And no more.
    """
    return x + y


@task
def inc(x: int) -> int:
    return x + 1


@task(name="Total", tags=("sum",), description="All of them")
def total(xs: list[int]) -> int:
    return sum(xs)


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Frozen:
    value: Any
    rest: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Slotted:
    value: Any


# -- tasks ------------------------------------------------------------------------


def test_what_a_task_knows() -> None:
    """Name and description come from the function, unless they are given."""
    assert (add.name, add.description, add.tags, add.backend) == (
        "add",
        "Add two numbers.",
        (),
        None,
    )
    assert (total.name, total.description, total.tags) == ("Total", "All of them", ("sum",))
    assert repr(add) == "<Task add(x, y)>"
    assert add.func(1, 2) == 3


def test_a_task_cannot_be_changed() -> None:
    """Assignment says what to do instead."""
    with pytest.raises(AttributeError, match="with_options"):
        add.name = "other"
    with pytest.raises(AttributeError, match="can't be changed"):
        del add.name


def test_a_task_is_not_called() -> None:
    """Calling one says what to do instead, also where functions are taken."""
    called: Any = add
    for arguments in ((), (1, 2)):
        with pytest.raises(TypeError, match=r"evaluate\(add\.bind\(.*add\.func\("):
            called(*arguments)
    with pytest.raises(TypeError, match=r"task 'add' isn't called"):
        list(map(called, [1], [2]))
    with pytest.raises(TypeError, match="a task already"):
        task(name="other")(called)
    assert evaluate(inc.bind(x=1).then(inc)) == 3


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (int, "not <class 'int'>; for a class, decorate a function that makes"),
        (None.__class__, "for a class"),
        ("fetch", r"not 'fetch'; a name is given as @task\(name='fetch'\)$"),
        (3, r"not 3; options are given by name, as in @task\(retry=3\)$"),
        ([1], "options are given by name"),
    ],
)
def test_what_is_no_function(wrong: Any, told: str) -> None:
    """Classes and non-callables are refused, with what was probably meant."""
    with pytest.raises(TypeError, match=f"^@task needs a function, .*{told}"):
        task(wrong)
    with pytest.raises(TypeError, match="a task already"):
        task(add)


def test_functions_that_cannot_be_bound() -> None:
    """``*args``, and signatures that can't be read, are refused with a way out."""
    with pytest.raises(TaskConfigurationError, match="takes \\*xs"):
        task(lambda *xs: xs)
    with pytest.raises(TaskConfigurationError, match="wrap it in a function"):
        task(max)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": ""}, "non-empty string"),
        ({"tags": "http"}, r'\("http",\)'),
        ({"tags": [1]}, "tuple of words"),
        ({"backend": 3}, "a name such as 'threading', or an object with .*, not 3$"),
        ({"backend": ThreadBackend}, r"make one: ThreadBackend\(...\)$"),
        ({"sandbox": True}, "isn't available"),
        ({"retries": 3}, "retr"),
        ({"retry": True}, "retry"),
        ({"backoff": "exponential"}, "backoff"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], told: str) -> None:
    """Nothing is swallowed, neither by `task` nor by `with_options`."""
    with pytest.raises((TaskConfigurationError, PolicyError), match=told):
        task(**options)(lambda x: x)
    with pytest.raises((TaskConfigurationError, PolicyError), match=told):
        inc.with_options(**options)


def test_with_options() -> None:
    """Another task; what isn't given stays, and None takes away."""
    changed = add.with_options(name="plus", backend="threading", retry=2, tags=["a"])
    assert (changed.name, changed.backend, changed.tags) == ("plus", "threading", ("a",))
    assert changed.policies.retry is not None
    assert changed.with_options(retry=None).policies.retry is None
    assert changed.with_options(backend=None).backend is None
    assert changed.with_options(description="d").description == "d"
    assert add.backend is None


# -- binding ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bind", "told"),
    [
        (lambda: add.fix(x=1).bind(x=2, y=3), r"already-bound parameters: \['x'\].*\['x'\]"),
        (lambda: add.fix(x=1).fix(x=1), r"\.fix\(\).*already-bound"),
        (lambda: add.fix(x=1).extend(x="no", z=1), "already-bound"),
        (lambda: add.bind(x=1, z=2), r"unknown parameters: \['z'\]"),
        (lambda: add.fix(z=2), r"unknown parameters: \['z'\]"),
        (lambda: add.bind(x=1), r"missing parameters: \['y'\]"),
        (lambda: add.extend(x=[1]), r"missing parameters: \['y'\]"),
        (lambda: add.extend(x=3, q=1), "non-iterable int"),
        (lambda: add.extend(x=[1], q=[1]), r"unknown parameters: \['q'\]"),
        (lambda: add.zip(x="12", y=[1, 2]), "put it in a list"),
        (lambda: add.zip(x=[1], y=[1, 2]), "x has 1, y has 2"),
        (lambda: add.extend(), "at least one iterable"),
        (lambda: add.bind(1, 2, 3), "3 arguments by position, but takes 2"),
        (lambda: task(lambda: 0).bind(1), r"1 argument by position, but takes 0: \[\]"),
        (lambda: add.bind(1, x=2), r"\['x'\] by position and by name"),
        (lambda: inc.bind(x=1).then(add), "exactly one unbound parameter"),
        (lambda: inc.extend(x=[1]).map(add), "exactly one unbound parameter"),
        (lambda: inc.extend(x=[1]).join(sum), "wrap it"),
        (lambda: inc.bind(x=1).map(3), "needs a task, not 3"),
    ],
)
def test_errors_name_the_task(bind: Callable[[], Any], told: str) -> None:
    """Which task, which method, which parameters; overlap first, then unknown, then missing."""
    with pytest.raises(ParameterError, match=told):
        bind()


def test_ways_to_bind() -> None:
    """By name in any order, by position, with defaults, and in two steps."""

    @task
    def many(a: int, /, b: int = 2, *, c: int = 3, **rest: int) -> tuple[Any, ...]:
        return a, b, c, rest

    assert evaluate(many.bind(1)) == (1, 2, 3, {})
    assert evaluate(many.bind(a=1, c=5)) == (1, 2, 5, {})
    assert evaluate(many.bind(d=9, b=7, a=1)) == (1, 7, 3, {"d": 9})
    assert evaluate(many.fix(a=4).bind(b=inc.bind(x=1), e=inc.bind(x=2))) == (4, 2, 3, {"e": 3})
    assert evaluate(add.bind(y=1, x=10)) == 11
    assert evaluate(add.bind(1, y=inc.bind(x=1))) == 3


def test_fan_out() -> None:
    """Combinations with the first keyword slowest; positions; maps and joins."""
    pair = task(lambda a, b: (a, b), name="pair")
    assert evaluate(pair.extend(a=[1, 2], b=[3, 4])) == [(1, 3), (1, 4), (2, 3), (2, 4)]
    assert evaluate(pair.extend(b=[3, 4], a=[1, 2])) == [(1, 3), (2, 3), (1, 4), (2, 4)]
    assert evaluate(pair.zip(a=range(2), b=iter("xy"))) == [(0, "x"), (1, "y")]
    numbers = task(lambda: [1, 2, 3], name="numbers").bind()
    assert evaluate(numbers.map(inc).map(inc).join(total)) == 12
    assert evaluate(numbers.join(total).then(inc)) == 7
    assert evaluate(inc.extend(x=[1, 2]).then(total)) == 5
    nested = add.extend(x=inc.extend(x=[1, 2]), y=[10, inc.bind(x=19)])
    assert evaluate(total.bind(xs=nested)) == 12 + 22 + 13 + 23
    assert evaluate(inc.extend(x=[])) == []


def test_an_iterator_is_used_up() -> None:
    """A second run over a generator says so, and what to give instead."""
    future = inc.extend(x=(i for i in range(3)))
    assert evaluate(future) == [1, 2, 3]
    with pytest.raises(ParameterError, match="used up"):
        evaluate(future)


@pytest.mark.parametrize(
    "use",
    [bool, len, iter, lambda f: f == 3, lambda f: f != 3, lambda f: f < f, lambda f: 1 in f],
)
def test_a_future_is_no_value(use: Callable[[Any], Any]) -> None:
    """Whatever would silently do the wrong thing says to call evaluate."""
    with pytest.raises(TypeError, match="evaluate"):
        use(inc.bind(x=1))


def test_futures_as_keys() -> None:
    """Futures compare by identity, and hash."""
    one, other = inc.bind(x=1), inc.bind(x=1)
    assert one == one
    assert one != other
    assert {one: 1, other: 2}[one] == 1


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda f: [f, 1, [f]], [2, 1, [2]]),
        (lambda f: (f, (f,)), (2, (2,))),
        (lambda f: {"a": f, "b": {"c": [f]}}, {"a": 2, "b": {"c": [2]}}),
        (lambda f: {f, 5}, {2, 5}),
        (lambda f: frozenset({f}), frozenset({2})),
        (lambda f: Point(f, 1), Point(2, 1)),
        (lambda f: Frozen(f, [f]), Frozen(2, [2])),
        (lambda f: Slotted(f), Slotted(2)),
        (lambda f: defaultdict(list, a=f), defaultdict(list, a=2)),
        (lambda f: [1, "text", None], [1, "text", None]),
    ],
)
def test_futures_inside_values(make: Callable[[Any], Any], value: Any) -> None:
    """They are found in containers of every kind, and replaced in a copy."""
    given = make(inc.bind(x=1))
    same = task(lambda v: v, name="same")
    result = evaluate(same.bind(v=given))
    assert result == value
    assert type(result) is type(given)
    again = pickle.loads(pickle.dumps(same.bind(v=given)))
    assert evaluate(again) == value


def test_containers_that_cannot_be_searched() -> None:
    """A future as a key, and nesting without end, are refused."""
    with pytest.raises(ParameterError, match="not its keys"):
        total.bind(xs={inc.bind(x=1): 1})
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ParameterError, match="nested too deeply"):
        total.bind(xs=deep)
    while deep:
        deep = deep[0]


# -- what runs --------------------------------------------------------------------


def test_bodies_of_every_kind() -> None:
    """Generators become lists, and coroutines their results."""

    @task
    def generated(n: int) -> Iterator[int]:
        yield from range(n)

    @task
    async def awaited(n: int) -> int:
        return n

    @task
    async def streamed(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    for backend in ("sequential", "threading"):
        assert evaluate(generated.bind(n=3), default_backend=backend) == [0, 1, 2]
        assert evaluate(awaited.bind(n=3), default_backend=backend) == 3
        assert evaluate(streamed.bind(n=3), default_backend=backend) == [0, 1, 2]


# -- the graph --------------------------------------------------------------------


def test_nodes_and_inputs() -> None:
    """The graph lists inputs first, and says where each parameter comes from."""
    one = inc.bind(x=1)
    mapped = add.fix(y=one).extend(x=[1, 2])
    joined = total.bind(xs=[mapped, one])
    nodes = build_graph(joined)
    assert [n.kind for n in nodes.values()] == ["task", "map", "gather", "task"]
    first, fan, gathered, last = nodes.values()
    assert isinstance(first, TaskNode)
    assert isinstance(fan, MapTaskNode)
    assert (first.kwargs["x"].kind, first.kwargs["x"].value) == ("value", 1)
    assert (fan.fixed_kwargs["y"].kind, fan.fixed_kwargs["y"].ref) == ("ref", first.id)
    assert (fan.mapped_kwargs["x"].kind, fan.mapped_kwargs["x"].value) == ("sequence", [1, 2])
    assert gathered.dependencies == (fan.id, first.id)
    assert last.dependencies == (gathered.id,)
    over = build_graph(inc.zip(x=mapped))[inc.zip(x=mapped).id - 1]
    assert isinstance(over, MapTaskNode)
    assert over.mapped_kwargs["x"].kind == "sequence_ref"
    assert (first.name, first.func, fan.name, fan.func) == ("inc", inc.func, "add", add.func)
    assert first == first
    assert gathered.name == "(gather)"


@task
def shout(text: str) -> str:
    return text.upper()


@pytest.mark.parametrize(
    "wire",
    [
        lambda: shout.bind(text=inc.bind(x=1)),
        lambda: shout.extend(text=inc.extend(x=[1])),
        lambda: inc.bind(x=inc.extend(x=[1])),
        lambda: total.bind(xs=inc.bind(x=1)),
    ],
)
def test_edges_that_cannot_fit(wire: Callable[[], Any]) -> None:
    """Both tasks are named, before anything runs."""
    with pytest.raises(GraphConstructionError, match=r"task 'inc' returns .*of task '"):
        evaluate(wire())


# -- pickling ---------------------------------------------------------------------


def test_tasks_pickle() -> None:
    """By name where they have one, by value otherwise."""
    again = pickle.loads(pickle.dumps(add))
    assert isinstance(again, Task)
    assert (again.name, again.func) == ("add", add.func)
    local = task(lambda x: x * 3, name="triple").fix(x=inc.bind(x=1))
    assert evaluate(pickle.loads(pickle.dumps(local)).bind()) == 6


def test_futures_pickled_together_share_their_inputs() -> None:
    """What both need is one node again, and another one with each load."""
    shared = inc.bind(x=1)
    text = pickle.dumps([inc.bind(x=shared), (inc.extend(x=[shared, 2]), shared)])
    one, (two, three) = pickle.loads(text)
    assert one.args[0] is three
    assert two.inputs[0].inputs[0] is three
    assert evaluate([one, two, three]) == [3, [3, 3], 2]
    assert pickle.loads(text)[1][1] is not three


def test_futures_pickle() -> None:
    """With all that they need, under ids of their own."""
    future = total.bind(xs=add.extend(x=[1, 2], y=inc.extend(x=[3])))
    again = pickle.loads(pickle.dumps(future))
    assert again.id != future.id
    assert evaluate(again) == evaluate(future) == 11
    assert repr(again) == f"<TaskFuture Total #{again.id}>"


def test_a_very_long_chain() -> None:
    """Nothing recurses over futures."""
    future = inc.bind(x=0)
    for _ in range(99_999):
        future = inc.bind(x=future)
    assert evaluate(future) == 100_000
    again = pickle.loads(pickle.dumps(future))
    assert evaluate(again, default_backend="threading") == 100_000
    assert hash(again)
    assert str(again).startswith("<TaskFuture inc #")
