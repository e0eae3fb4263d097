"""Who ends the threads of a backend."""

from __future__ import annotations

import pytest

from daglite import ThreadBackend, evaluate, find_backend, task
from daglite.exceptions import BackendError

double = task(lambda x: 2 * x, name="double")


def test_a_backend_in_a_with_block() -> None:
    """The end of the block closes it, also when it ends with an error."""
    with ThreadBackend(2) as backend:
        assert evaluate(double.extend(x=[1, 2]), default_backend=backend) == [2, 4]
    with pytest.raises(BackendError, match="closed"):
        evaluate(double.bind(x=1), default_backend=backend)
    with pytest.raises(ZeroDivisionError), ThreadBackend(2) as other:
        evaluate(task(lambda: 1 / 0, name="bad").bind(), default_backend=other)
    with pytest.raises(BackendError, match="closed"):
        evaluate(double.bind(x=1), default_backend=other)


def test_the_shared_pool_is_nobodys() -> None:
    """Whoever closes a backend on it leaves it to the others."""
    shared = find_backend("threading")
    shared.close()
    assert isinstance(shared, ThreadBackend)
    with shared:
        pass
    assert evaluate(double.bind(x=1), default_backend=shared) == 2
