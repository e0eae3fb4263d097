"""Sources that can't give elements, or don't tell how many."""

from __future__ import annotations

import pytest

from daglite import evaluate, task
from daglite.exceptions import ParameterError


class Scalar:
    """Like an array without dimensions."""

    def __len__(self):
        raise TypeError("unsized")

    def __iter__(self):
        raise TypeError("no dimensions")


@task
def make(kind):
    """Make something that isn't a sequence of elements."""
    return {"scalar": Scalar(), "text": "abc", "number": 5}[kind]


@task
def same(x):
    """Give back what came."""
    return x


@pytest.mark.parametrize("backend", ["sequential", "threading"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [("scalar", "non-iterable Scalar"), ("text", "the str 'abc'"), ("number", "non-iterable int")],
)
def test_a_result_that_has_no_elements(backend, kind, told):
    """The error names the task and the parameter."""
    with pytest.raises(ParameterError, match=f"task 'same': parameter 'x' .*{told}"):
        evaluate(make.bind(kind=kind).map(same), default_backend=backend)


def test_an_array_without_dimensions_is_refused_when_bound():
    """Its length isn't asked for before it is known to be iterable."""
    with pytest.raises(ParameterError, match="non-iterable Scalar"):
        same.zip(x=Scalar())


@pytest.mark.parametrize(("short", "told"), [(1, "1 element and"), (2, "2 elements and")])
def test_lengths_that_differ(short, told):
    """What ends first is named, with the number of its elements, once that is known."""
    pair = task(lambda x, y: (x, y), name="pair")
    with pytest.raises(ParameterError, match=rf"\['y'\] ended after {told} others did not"):
        evaluate(pair.zip(x=iter(range(3)), y=iter(range(short))))
