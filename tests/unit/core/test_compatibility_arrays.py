import collections.abc as cabc
import datetime
import numbers
from typing import Any, Protocol, SupportsIndex

import pytest

from daglite.core.annotations import element_type
from daglite.core.compatibility import is_compatible

np = pytest.importorskip("numpy")
pd = pytest.importorskip("pandas")
npt = pytest.importorskip("numpy.typing")


class HasShape(Protocol):
    shape: tuple[int, ...]


class HasMean(Protocol):
    def mean(self) -> Any: ...


WRONG = [
    (int, np.ndarray),
    (str, np.ndarray),
    (str, npt.NDArray[np.float64]),
    (np.ndarray, str),
    (np.ndarray, int),
    (np.ndarray, dict),
    (np.ndarray, pd.DataFrame),
    (np.int64, str),
    (np.str_, int),
    (np.str_, np.float64),
    (str, np.int64),
    (int, pd.DataFrame),
    (str, pd.Series),
    (pd.DataFrame, str),
    (pd.DataFrame, int),
    (pd.DataFrame, pd.Series),
    (pd.DataFrame, dict),
    (list[pd.DataFrame], list[int]),
    (list[pd.DataFrame], dict[str, pd.DataFrame]),
    (int, HasShape),
    (str, HasMean),
]

RIGHT = [
    (np.ndarray, np.ndarray),
    (npt.NDArray[np.float64], np.ndarray),
    (np.ndarray, npt.NDArray[np.int64]),
    (npt.NDArray[np.float64], npt.NDArray[np.int64]),
    (npt.NDArray[np.float64], npt.NDArray[Any]),
    (np.ndarray[tuple[int, int], np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float32]]),
    (npt.NDArray[np.float64], cabc.Sequence[float]),
    (npt.NDArray[np.float64], cabc.Iterable[float]),
    (np.ndarray, cabc.Sized),
    (np.ndarray, npt.ArrayLike),
    (npt.NDArray[np.float64], npt.ArrayLike),
    (list[int], npt.ArrayLike),
    (list[list[float]], npt.ArrayLike),
    (tuple[float, ...], npt.ArrayLike),
    (int, npt.ArrayLike),
    (memoryview, npt.ArrayLike),
    (bytearray, npt.ArrayLike),
    (range, npt.ArrayLike),
    (pd.Series, npt.ArrayLike),
    (pd.DataFrame, npt.ArrayLike),
    (npt.ArrayLike, np.ndarray),
    (type[np.float64], npt.DTypeLike),
    (str, npt.DTypeLike),
    (np.float64, float),
    (np.float32, float),
    (float, np.float64),
    (float, np.float32),
    (np.int64, int),
    (int, np.int32),
    (np.int64, float),
    (np.float64, np.float32),
    (np.bool_, bool),
    (bool, np.bool_),
    (np.str_, str),
    (np.int64, numbers.Integral),
    (np.floating, float),
    (np.number, int | float),
    (np.generic, np.float64),
    (np.generic, cabc.Hashable),
    (np.integer, SupportsIndex),
    (np.random.Generator, np.random.Generator),
    (pd.DataFrame, pd.DataFrame),
    (pd.Series, pd.Series),
    (pd.DataFrame, cabc.Iterable),
    (pd.DataFrame, cabc.Iterable[str]),
    (pd.Series, cabc.Iterable[float]),
    (pd.Series, cabc.Sequence[float]),
    (pd.DataFrame, cabc.Mapping),
    (pd.DataFrame | pd.Series, pd.DataFrame),
    (pd.DataFrame | None, pd.DataFrame),
    (dict[str, pd.DataFrame], cabc.Mapping[str, pd.DataFrame]),
    (list[pd.DataFrame], cabc.Iterable[pd.DataFrame]),
    (pd.Timestamp, datetime.datetime),
    (datetime.datetime, pd.Timestamp),
    (pd.RangeIndex, pd.Index),
    (pd.Index, pd.DatetimeIndex),
    (np.ndarray, HasShape),
    (pd.DataFrame, HasShape),
    (np.ndarray, HasMean),
    (pd.DataFrame, HasMean),
]


def edge(pair: tuple[object, object]) -> str:
    return f"{pair[0]!r}->{pair[1]!r}"


@pytest.mark.parametrize("pair", WRONG, ids=edge)
def test_an_edge_that_cannot_be_right_is_refused(pair):
    """An array or a table is not a number, a text, or each other."""
    assert not is_compatible(*pair)


@pytest.mark.parametrize("pair", RIGHT, ids=edge)
def test_an_edge_that_may_be_right_is_accepted(pair):
    """Numbers of numpy and Python, arrays of any shape, and tables pass for what they are."""
    assert is_compatible(*pair)


def test_items_of_arrays_and_tables_are_not_known():
    """Iterating an array or a table gives anything."""
    for annotation in (np.ndarray, npt.NDArray[np.float64], pd.DataFrame, pd.Series):
        assert element_type(annotation) is Any
