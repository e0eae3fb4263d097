"""Code in a policy: functions, classes and import strings."""

from __future__ import annotations

from typing import Any

import pytest

from daglite import RetryPolicy, task
from daglite.exceptions import PolicyError
from daglite.policies.code import shown


@pytest.mark.parametrize("field", ["retry_on", "retry_on_result"])
def test_a_task_is_no_function(field: str) -> None:
    """It can be called only to hear that it can't; its function is meant."""
    options: dict[str, Any] = {field: task(lambda error: True, name="check")}
    with pytest.raises(PolicyError, match="is a task; give its plain function"):
        RetryPolicy(**options)


def test_what_is_shown() -> None:
    """No more than so many characters, of which the last three say that there are more."""
    assert shown("x" * 8, 10) == repr("x" * 8)
    assert shown("x" * 9, 10) == "'xxxxxx..."
