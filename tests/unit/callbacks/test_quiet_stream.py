"""
QuietStream: a text stream that never fails.
"""

import io
import os

import pytest

from daglite.callbacks.quiet_stream import QuietStream


class Broken(io.StringIO):
    """A stream whose reader is gone."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def write(self, text):
        self.asked += 1
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


def test_what_is_written_arrives():
    """A stream that works is written to."""
    target = io.StringIO()
    stream = QuietStream(target)
    assert stream.write("hello") == 5
    stream.flush()
    assert target.getvalue() == "hello"


def test_a_stream_without_a_reader_is_left_alone():
    """After the first failure nothing is tried again."""
    broken = Broken()
    stream = QuietStream(broken)
    assert stream.write("a") == 1
    assert stream.write("b") == 1
    stream.flush()
    assert broken.asked == 1


def test_a_failing_flush_is_no_failure():
    """A reader may be gone before what was buffered is passed on."""
    stream = QuietStream(Broken())
    stream.flush()
    assert not stream.isatty()


def test_a_real_pipe_without_a_reader():
    """A pipe whose other end is closed costs nothing but its lines."""
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w")
    stream = QuietStream(pipe)
    stream.write("a\n")
    stream.flush()
    with pytest.raises(BrokenPipeError):
        pipe.close()


def test_a_closed_stream_is_silent():
    """Writing to a closed stream does nothing."""
    target = io.StringIO()
    target.close()
    stream = QuietStream(target)
    assert not stream.isatty()
    stream.write("a")
    stream.flush()


def test_no_stream_at_all():
    """A program without a console has no standard error."""
    stream = QuietStream(None)
    assert stream.write("a") == 1
    stream.flush()
    assert not stream.isatty()
    assert stream.encoding == "utf-8"


def test_what_the_encoding_cannot_hold_is_escaped():
    """A name in another script doesn't end the display."""
    raw = io.BytesIO()
    stream = QuietStream(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("données\n")
    stream.write("more\n")
    stream.flush()
    assert raw.getvalue() == b"donn\\xe9es\nmore\n".replace(b"\n", os.linesep.encode())
    assert stream.encoding == "ascii"
