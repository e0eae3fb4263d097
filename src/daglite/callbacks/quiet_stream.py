"""
A text stream that never fails.
"""

from __future__ import annotations

from typing import TextIO

__all__ = ["QuietStream"]


class QuietStream:
    """
    Write to *stream*, and fall silent for good once it is closed or its reader is gone.

    What *stream*'s encoding can't hold is written as escapes. None: nothing is written
    (`sys.stderr` is None in a program without a console).
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether the stream is an open terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def write(self, text: str) -> int:
        """Write *text* as far as possible; return its length."""
        if self._stream is None:
            return len(text)
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        except (OSError, ValueError):
            self._stream = None
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered, as far as possible."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None
