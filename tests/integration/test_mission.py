"""The spellings that daglite promises work as written."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import threading
import warnings
from typing import Any, get_args
from uuid import UUID

import pytest

from daglite import (
    DagliteSettings,
    RetryPolicy,
    TimeoutPolicy,
    build_graph,
    evaluate,
    find_backend,
    get_global_settings,
    set_global_settings,
    task,
)
from daglite.callbacks import Logger, ProgressBar
from daglite.core.graph import MapTaskNode, ParamInput, ParamKind, TaskNode
from daglite.exceptions import (
    BackendError,
    DagliteError,
    ExecutionError,
    GraphConstructionError,
    ParameterError,
    SettingsError,
    TaskConfigurationError,
)


@task
def add(x: int, y: int) -> int:
    return x + y


def test_binding_and_fan_out() -> None:
    """`bind`, `extend` and `zip` work as written."""
    result = evaluate(add.bind(x=1, y=2))
    assert result == 3
    results = evaluate(add.extend(x=[1, 2, 3], y=[4, 5, 6]))  # Cartesian product
    assert results == [5, 6, 7, 6, 7, 8, 7, 8, 9]
    results = evaluate(add.zip(x=[1, 2, 3], y=[4, 5, 6]))  # Parallel iteration
    assert results == [5, 7, 9]


def test_map_reduce() -> None:
    """Lambdas can be mapped and joined."""
    numbers = task(lambda: [1, 2, 3, 4, 5]).bind()
    squared = numbers.map(task(lambda x: x**2))
    total = squared.join(task(lambda xs: sum(xs)))
    assert evaluate(total) == 55


def test_partial_application() -> None:
    """What is fixed needn't be bound."""
    base = add.fix(y=10)
    result = base.bind(x=5)
    assert evaluate(result) == 15


def test_nested_fan_out() -> None:
    """A fan-out is an argument of another."""
    inner = task(lambda x: x * 2, name="inner")
    outer = task(lambda y, z: y + z, name="outer")
    sum_list = task(lambda xs: sum(xs), name="sum_list")
    inner_results = inner.extend(x=[1, 2, 3])
    outer_results = outer.extend(y=inner_results, z=[10, 20])
    total = sum_list.bind(xs=outer_results)
    assert evaluate(total) == 2 * 12 + 3 * 30


def test_backends() -> None:
    """A backend is chosen for a run, for a task, or for one use of it."""
    assert evaluate(add.bind(x=1, y=2), default_backend="threading") == 3

    @task(backend="threading")
    def cpu_intensive() -> int:
        return 1

    slow_task = cpu_intensive.with_options(backend="sequential")
    fast_version = slow_task.with_options(backend="threading")
    assert evaluate([cpu_intensive.bind(), fast_version.bind()]) == [1, 1]
    assert find_backend("sequential").name == find_backend("synchronous").name


def test_message_of_a_parameter_bound_twice() -> None:
    """The message names what was given and what was fixed."""
    with pytest.raises(ParameterError) as caught:
        add.fix(x=1, y=2).extend(x=[1])
    text = str(caught.value)
    assert "Cannot use .extend() with already-bound parameters: ['x']." in text
    assert "These parameters were bound in .fix(): ['x', 'y']" in text


def test_callbacks() -> None:
    """The two callbacks of daglite go into one list."""
    expr = add.bind(x=1, y=2)
    result = evaluate(expr, callbacks=[ProgressBar(), Logger(level="INFO")])
    assert result == 3


class ProgressBarCallback:
    def __init__(self): ...
    def on_node_start(self, node_id: UUID, node_name: str) -> None:
        print(f"[→] {node_name}")

    def on_node_complete(self, node_id: UUID, result: Any) -> None:
        print(f"[✓] Complete")  # noqa: F541

    def on_node_error(self, node_id: UUID, error: Exception) -> None:
        print(f"[✗] Error: {error}")


def test_callback_of_three_methods(capsys: pytest.CaptureFixture[str]) -> None:
    """A class with the three methods is a callback, in a list or alone."""

    @task
    def fails(x: int) -> int:
        raise ValueError(x)

    expr = fails.bind(x=add.bind(x=1, y=2))
    for callbacks in ([ProgressBarCallback()], ProgressBarCallback()):
        with pytest.raises(ValueError):
            evaluate(expr, callbacks=callbacks)
        lines = capsys.readouterr().out.splitlines()
        assert lines[:3] == ["[→] add", "[✓] Complete", "[→] fails"]
        assert lines[3] == "[✗] Error: task 'fails' failed: ValueError: 3"


def test_retry_and_timeout() -> None:
    """The short spellings are the long ones."""

    @task(retry=3, backoff="exponential")
    def flaky_api_call(url: str) -> dict[str, str]:
        return {"url": url}

    @task(timeout=30.0)  # seconds
    def slow_operation() -> int:
        return 1

    @task(retry=RetryPolicy(3, "exponential"), timeout=30)
    def both() -> int:
        return 2

    assert flaky_api_call.policies.retry == both.policies.retry == RetryPolicy(3, "exponential")
    assert slow_operation.policies.timeout == both.policies.timeout == TimeoutPolicy(30)
    futures = [flaky_api_call.bind(url="a"), slow_operation.bind(), both.bind()]
    assert evaluate(futures) == [{"url": "a"}, 1, 2]


def test_decorator_with_and_without_parentheses() -> None:
    """All three forms make the same kind of task."""

    @task
    def bare() -> int:
        return 1

    @task()
    def called() -> int:
        return 2

    @task(name="named")
    def optioned() -> int:
        return 3

    assert evaluate([bare.bind(), called.bind(), optioned.bind()]) == [1, 2, 3]
    assert (called.name, optioned.name) == ("called", "named")


def test_use_async() -> None:
    """Siblings overlap."""
    both = threading.Barrier(2)
    meet = task(lambda: both.wait(10) >= 0, name="meet")
    assert evaluate([meet.bind(), meet.bind()], use_async=True) == [True, True]
    assert evaluate(add.bind(x=1, y=2), use_async=False) == 3


def test_inputs_of_four_kinds() -> None:
    """A parameter is a value, a reference, one of a sequence, or one of a referenced sequence."""
    assert get_args(ParamKind) == ("value", "ref", "sequence", "sequence_ref")
    assert ParamInput(kind="value", value=1) == ParamInput("value", 1, None)
    one = add.bind(x=1, y=2)
    many = add.fix(y=one).extend(x=[1, 2])
    nodes = build_graph(add.extend(x=many, y=[10]))
    single, mapped, over = nodes.values()
    assert isinstance(single, TaskNode)
    assert isinstance(mapped, MapTaskNode)
    assert isinstance(over, MapTaskNode)
    assert (single.func, single.kwargs["x"]) == (add.func, ParamInput(kind="value", value=1))
    assert (mapped.func, mapped.mode) == (add.func, "extend")
    assert mapped.fixed_kwargs == {"y": ParamInput(kind="ref", ref=one.id)}
    assert mapped.mapped_kwargs == {"x": ParamInput(kind="sequence", value=[1, 2])}
    assert over.mapped_kwargs["x"] == ParamInput(kind="sequence_ref", ref=many.id)


def test_circular_dependency() -> None:
    """A cycle is found when the graph is built."""

    class Loop(TaskNode):
        __setattr__ = object.__setattr__

    loop: Any = Loop((), (), add, ())
    loop.args, loop.refs = (loop,), (0,)
    with pytest.raises(GraphConstructionError, match="Circular dependency detected"):
        build_graph(loop)


def test_context() -> None:
    """A context evaluates several expressions."""
    expr1, expr2 = add.bind(x=1, y=2), add.bind(x=3, y=4)
    with evaluate.context(default_backend="threading") as ctx:
        result1 = ctx.evaluate(expr1)
        result2 = ctx.evaluate(expr2)
    assert (result1, result2) == (3, 7)


def test_errors_form_a_tree() -> None:
    """All errors are `DagliteError`s, and a wrong parameter is a wrong configuration."""
    kinds = [TaskConfigurationError, GraphConstructionError, BackendError, ExecutionError]
    assert all(issubclass(kind, DagliteError) for kind in kinds)
    assert issubclass(ParameterError, TaskConfigurationError)


def test_fields_of_an_execution_error() -> None:
    """Each has the name that it should have, alone and in the text of the error."""
    original = OSError("disk full")
    error = ExecutionError(
        "it failed",
        node_id=4,
        node_name="save",
        execution_path=["load", "save"],
        original_exception=original,
    )
    assert (error.message, error.node_id, error.node_name) == ("it failed", 4, "save")
    # A tuple, as errors are immutable; it iterates, indexes and joins as a list does.
    assert list(error.execution_path) == ["load", "save"]
    assert error.original_exception is original
    text = str(error)
    assert text.startswith(error.message)
    assert " → ".join(map(str, error.execution_path)) in text
    assert str(original) in text
    empty = ExecutionError("it failed")
    assert (empty.node_id, empty.node_name, empty.original_exception) == (None, None, None)
    assert (len(empty.execution_path), str(empty)) == (0, "it failed")


def test_execution_error_of_a_run() -> None:
    """It names the failed task, the way there, and the cause."""
    bad = task(lambda x: 1 / (x - 3), name="bad")
    with pytest.raises(ExecutionError) as caught:
        evaluate(bad.bind(x=add.bind(x=1, y=2)))
    error = caught.value
    assert (error.node_name, list(error.execution_path)) == ("bad", ["add", "bad"])
    assert isinstance(error.original_exception, ZeroDivisionError)
    assert error.__cause__ is error.original_exception
    assert "bad" in error.message
    assert "add → bad" in str(error)
    assert "division by zero" in str(error)


def test_global_settings() -> None:
    """They are there from the start, and the same for everybody."""
    settings = get_global_settings()
    assert isinstance(settings, DagliteSettings)
    assert settings is get_global_settings()
    assert (settings.max_backend_threads, settings.default_backend) == (None, "sequential")
    assert (settings.task_timeout, settings.max_retries) == (None, 0)


def test_settings_are_checked_and_warn() -> None:
    """Threads are counted from 1; other settings than those of the pool warn."""
    with pytest.raises(SettingsError, match="max_backend_threads"):
        DagliteSettings(max_backend_threads=0)
    evaluate(add.bind(x=1, y=2), default_backend="threading")
    try:
        with pytest.warns(UserWarning, match="pool already exists"):
            set_global_settings(DagliteSettings(max_backend_threads=97))
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            set_global_settings(DagliteSettings())
