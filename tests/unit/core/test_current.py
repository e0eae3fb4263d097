"""The current call is known to async tasks too, wherever they run."""

from __future__ import annotations

import asyncio

import pytest

from daglite import current_call, evaluate, task


@task
async def who():
    """Tell the name of the running call."""
    return current_call().node_name


def test_inside_a_running_loop():
    """A helper thread takes over the call of the thread that it works for."""

    async def main():
        return evaluate(who.bind())

    assert asyncio.run(main()) == "who"


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_inside_another_async_task(backend):
    """A nested run has its own current call."""

    @task
    async def outer():
        return evaluate(who.bind()), current_call().node_name

    assert evaluate(outer.bind(), default_backend=backend) == ("who", "outer")


def test_outside_of_a_call():
    """There is none."""
    with pytest.raises(RuntimeError, match="no such call is running"):
        current_call()
