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


class Frame:
    """Like a DataFrame of pandas, as far as iterating goes."""

    columns = ("a", "b")

    def __iter__(self):
        return iter(self.columns)

    def iterrows(self):
        """Its rows."""
        yield from ()


@task
def make(kind):
    """Make something that isn't a sequence of elements."""
    return {"scalar": Scalar(), "text": "abc", "number": 5, "frame": Frame()}[kind]


@task
def same(x):
    """Give back what came."""
    return x


@pytest.mark.parametrize("backend", ["sequential", "threading"])
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("scalar", "non-iterable Scalar"),
        ("text", "the str 'abc'"),
        ("number", "non-iterable int"),
        ("frame", r'a Frame, .*; return its rows: df\.to_dict\("records"\)'),
    ],
)
def test_a_result_that_has_no_elements(backend, kind, told):
    """The error names the task and the parameter."""
    with pytest.raises(ParameterError, match=f"task 'same': parameter 'x' .*{told}"):
        evaluate(make.bind(kind=kind).map(same), default_backend=backend)


@pytest.mark.parametrize("bind", [same.extend, same.zip])
def test_a_table_is_refused_when_bound(bind):
    """It would give the names of its columns, where its rows are meant."""
    with pytest.raises(ParameterError, match=r"given a Frame, .* rows: .* list\(df\.itertuples"):
        bind(x=Frame())


def test_a_dict_gives_its_keys():
    """As it does anywhere in Python."""
    assert evaluate(same.extend(x={"a": 1, "b": 2})) == ["a", "b"]


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
