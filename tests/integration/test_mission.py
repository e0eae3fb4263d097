"""The spellings that daglite promises work as written."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"

from __future__ import annotations

import warnings
from typing import Any

import pytest

from daglite import (
    DagliteSettings,
    RetryPolicy,
    TimeoutPolicy,
    evaluate,
    find_backend,
    set_global_settings,
    task,
)
from daglite.callbacks import Logger, ProgressBar
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


def test_callback_of_three_methods() -> None:
    """A class with the three methods is a callback."""
    lines: list[str] = []

    class ProgressBarCallback:
        def __init__(self): ...
        def on_node_start(self, node_id: int, node_name: str) -> None:
            lines.append(f"[→] {node_name}")

        def on_node_complete(self, node_id: int, result: Any) -> None:
            lines.append("[✓] Complete")

        def on_node_error(self, node_id: int, error: Exception) -> None:
            lines.append(f"[✗] Error: {type(error.__cause__ or error).__name__}")

    @task
    def fails(x: int) -> int:
        raise ValueError(x)

    with pytest.raises(ValueError):
        evaluate(fails.bind(x=add.bind(x=1, y=2)), callbacks=[ProgressBarCallback()])
    assert lines[:3] == ["[→] add", "[✓] Complete", "[→] fails"]
    assert lines[3].startswith("[✗] Error:")


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
