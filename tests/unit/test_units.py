"""Durations and sizes: what is read, what is refused, what is written."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daglite._units import format_duration, parse_duration, parse_size


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (30, 30.0),
        (0, 0.0),
        (0.5, 0.5),
        (-0.0, 0.0),
        ("30", 30.0),
        ("0.25", 0.25),
        ("30s", 30.0),
        ("200ms", 0.2),
        ("5m", 300.0),
        ("1.5h", 5400.0),
        (".5h", 1800.0),
        ("1d", 86400.0),
        ("2m30s", 150.0),
        ("2m 30 s", 150.0),
        (" 1 s ", 1.0),
        ("1d2h3m4s5ms", 93784.005),
        ("1m5ms", 60.005),
        ("0.1s", 0.1),
        (timedelta(minutes=2), 120.0),
        (timedelta(milliseconds=5), 0.005),
    ],
)
def test_durations(value, seconds):
    """A duration is read as seconds."""
    read = parse_duration(value)
    assert read == seconds
    assert type(read) is float
    assert math.copysign(1, read) == 1


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        None,
        math.nan,
        math.inf,
        -1,
        -0.5,
        timedelta(seconds=-1),
        10**400,
        "9" * 400,
        "9" * 400 + "s",
        "",
        " ",
        "s",
        "ms",
        "-5s",
        "+5s",
        "5 parsecs",
        "5S",
        "30s2m",
        "2m2m",
        "1e3",
        "1_000",
        "nan",
        "inf",
        "1.2.3s",
        "٣s",
        [],
        b"3s",
        object(),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_no_durations(value):
    """What is no duration is refused, and the message tells what is one."""
    with pytest.raises(ValueError, match=r"is not a duration from 0; write seconds.*'2m30s'"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("512B", 512),
        ("1kB", 1000),
        ("1GB", 10**9),
        ("1gb", 10**9),
        ("1GiB", 2**30),
        ("1.5 GiB", 3 * 2**29),
        ("0.3GB", 300_000_000),
        ("2TB", 2 * 10**12),
        ("1PiB", 2**50),
        (" 1 MiB ", 2**20),
    ],
)
def test_sizes(value, size):
    """A size is read as whole bytes, exactly."""
    read = parse_size(value)
    assert read == size
    assert type(read) is int


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        -1,
        1.5,
        1e9,
        math.nan,
        math.inf,
        "",
        "GB",
        "-1GB",
        "1G",
        "1 GB/s",
        "0.5B",
        "1.5",
        "1e9",
        "ten MB",
        [],
    ],
    ids=repr,
)
def test_no_sizes(value):
    """What is no size is refused, and the message tells what is one."""
    with pytest.raises(ValueError, match=r"is not a size from 0; write whole bytes.*'1GiB'"):
        parse_size(value)


def test_message_survives_a_bad_repr():
    """The message is made even where the value's own repr fails."""

    class Rude:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(ValueError, match="a Rude is not a duration"):
        parse_duration(Rude())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-9, "0s"),
        (0.0004, "0.4ms"),
        (0.2, "200ms"),
        (0.9999999, "1s"),
        (1.5, "1.5s"),
        (30, "30s"),
        (59.9999, "1m"),
        (90.25, "1m30.25s"),
        (150, "2m30s"),
        (3600, "1h"),
        (3601.2, "1h1s"),
        (93600, "1d2h"),
        (-5, "-5s"),
        (math.inf, "forever"),
        (1e300, "1e+300s"),
    ],
)
def test_formatting(seconds, text):
    """Durations are written for people."""
    assert format_duration(seconds) == text


@given(st.floats(0, 3599))
def test_formatting_can_be_read(seconds):
    """What is written is read again, within a millisecond."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.0006)
