"""
The file by which the processes of a machine share states: SQLite, one row for each.

    Cell of a state ─► HostFile ─► BEGIN IMMEDIATE · SELECT · (INSERT) · COMMIT ─► file, -wal, -shm
                          │ it is locked, full, damaged, can't be made …
                          └─► Said.AWAY, one report, and another try after some seconds

Nothing is synced to the disk: who loses power loses states, which are news of seconds or minutes.
A file that such a loss, or anything else, has damaged is put aside, under another name, and a new
one begun.

No connection lives on over a fork: it is closed before, and each side opens its own when it needs
one.

Source: https://www.sqlite.org/howtocorrupt.html
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, final
from weakref import ref

from daglite._clock import SystemClock, nap, now_and_wall_time
from daglite.state.shared import News, Said
from daglite.stores.schema import READ, READ_ALL, SCHEMA, WRITE, is_damage, is_sound, prepare

__all__ = ["HostCell", "HostFile", "Row"]

R = TypeVar("R")

_log = logging.getLogger("daglite")

_PATIENCE = 0.5
"""Seconds that a call waits for other processes, which need microseconds each."""

_PAUSE = 5.0
"""Seconds until a file that couldn't be used is tried again."""

_LOOK = 1.0
"""Seconds after which it is looked at whether the file is still the one that was opened."""

_KEPT = 30 * 86400.0
"""Seconds after which a row that nobody has written is dropped, when a process opens the file."""

_TROUBLE = (sqlite3.Error, OSError, ValueError, OverflowError)
"""What may go wrong with a file, its path, or what is written there."""


class Row(NamedTuple):
    """What is in the file besides data."""

    kind: str
    key: str
    policy: str
    """Whatever `HostFile.cell` was given."""


@final
class HostFile:
    """
    One file of states, opened when it is first needed.

    Args:
        directory: Where it lies; made if it isn't there, for this user alone.
        patience: Seconds to wait for other processes.
        pause: Seconds until it is tried again after a failure.

    Attributes:
        path: Where it is.
        lock: Held by the one thread that uses it.
    """

    def __init__(
        self, directory: Path, *, patience: float = _PATIENCE, pause: float = _PAUSE
    ) -> None:
        self.path = directory / f"states-{SCHEMA}.sqlite3"
        self.lock = threading.RLock()
        self._patience = patience
        self._pause = pause
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._looked = 0.0
        self._try_again = 0.0
        self._reported = False
        self._unsaid: tuple[str, str] | None = None
        _files.append(ref(self))

    def cell(self, kind: str, key: str, policy: str = "") -> HostCell:
        """
        The place of one state.

        Args:
            kind, key: What it is of.
            policy: A text that is written beside the state, for `rows`.
        """
        return HostCell(self, kind, key, policy)

    def rows(self) -> list[Row]:
        """All that is there, by kind and key; nothing if it can't be read, or isn't there yet."""
        with self.lock:
            found = (self.run(READ_ALL) or []) if self.path.exists() else []
        self.tell()
        return [Row(*(_text(value) for value in row)) for row in found]

    def close(self) -> None:
        """Close it; whoever uses it opens it again."""
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    connection.close()
                except sqlite3.Error:
                    pass

    def tell(self) -> None:
        """Say what was reported; not under the lock, as who listens may be anybody."""
        if self._unsaid is None:
            return
        with self.lock:
            unsaid, self._unsaid = self._unsaid, None
        if unsaid is not None:
            _log.warning(
                "scope='host': the file of shared states, %s, %s; %s. This is said once",
                self.path,
                *unsaid,
            )

    # Everything below runs under the lock.

    def run(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any] | None:
        """What *statement* finds; None if the file can't be used at the moment."""
        now = SystemClock.now()
        if now < self._try_again:
            return None
        try:
            return self._patiently(
                lambda: self._connected(now).execute(statement, values).fetchall()
            )
        except _TROUBLE as error:
            self._fail(error)
            return None

    def roll_back(self) -> None:
        """Leave the file as it was."""
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._fail(error)

    def report(self, reason: str, then: str) -> None:
        """Have what is wrong said, once in a process."""
        if not self._reported:
            self._reported = True
            self._unsaid = reason, then

    def _connected(self, now: float) -> sqlite3.Connection:
        connection = self._connection
        if connection is None or connection.in_transaction or now - self._looked < _LOOK:
            same = connection is not None
        else:
            self._looked = now
            same = self._identity() == self._opened
        if not same:
            self.close()
            self._connection = self._open()
            self._opened, self._looked = self._identity(), now
        assert self._connection is not None
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            pass
        connection = sqlite3.connect(
            self.path, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            prepare(connection, now_and_wall_time()[1] - _KEPT)
        except BaseException:
            connection.close()
            raise
        return connection

    def _identity(self) -> tuple[int, int] | None:
        """Which file it is: somebody may have put another one in its place."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _patiently(self, act: Callable[[], list[Any]]) -> list[Any]:
        """Do *act*, and again for as long as others hold the file and there is patience."""
        end = SystemClock.now() + self._patience
        longest = 0.0002
        while True:
            try:
                return act()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or SystemClock.now() >= end:
                    raise
            # SQLite's own waits grow to a tenth of a second, and who waits long is outrun.
            nap(random.uniform(0, longest))
            longest = min(longest * 1.5, 0.002)

    def _fail(self, error: Exception) -> None:
        """Report *error*, and leave the file alone for a while."""
        then = f"each process goes on alone, and tries it again after {self._pause:g} s"
        if is_damage(error):
            aside = self._put_aside()
            if aside is not None:
                then = f"it is put aside as {aside.name}, and a new one begun"
        self.close()
        self._try_again = SystemClock.now() + self._pause
        self.report(f"can't be used ({type(error).__name__}: {error})", then)

    def _put_aside(self) -> Path | None:
        """Rename the file, if it is still damaged when it is opened again."""
        before = self._identity()
        self.close()
        if not self._is_damaged():
            return None
        aside = self.path.with_name(f"{self.path.name}.damaged-{int(now_and_wall_time()[1])}")
        try:
            # Another process may have been faster.
            if self._identity() != before or aside.exists():
                return None
            # The log first: if it stayed behind, it would be read into the new file.
            for tail in ("-wal", "-shm", ""):
                own = Path(f"{self.path}{tail}")
                if own.exists():
                    own.rename(f"{aside}{tail}")
        except OSError:
            return None
        return aside

    def _is_damaged(self) -> bool:
        try:
            connection = self._open()
            try:
                return not is_sound(connection)
            finally:
                connection.close()
        except _TROUBLE as error:
            return is_damage(error)


@final
class HostCell:
    """The place of one state in a `HostFile`: a `Cell`."""

    def __init__(self, file: HostFile, kind: str, key: str, policy: str) -> None:
        self._file = file
        self._name = (kind, key)
        self._policy = policy
        # What this process has read or written last; None: it doesn't know.
        self._version: int | None = None

    def peek(self, take: Callable[[News], R]) -> R:
        """Give *take* the news."""
        with self._file.lock:
            known: int | None = None
            try:
                news = self._news()
                known, self._version = self._version, None
                answer = take(news)
            finally:
                self._version = known
        self._file.tell()
        return answer

    def change(self, work: Callable[[News], tuple[R, str | None]]) -> R:
        """Give *work* the news and write what it returns, as one step for all processes."""
        file = self._file
        with file.lock:
            try:
                begun = file.run("BEGIN IMMEDIATE") is not None
                news: News = self._news() if begun else Said.AWAY
                # Whatever stops this in the middle, it doesn't know any more.
                known, self._version = self._version, None
                answer, text = work(news)
                if news is not Said.AWAY:
                    self._version = known if text is None else self._write(known, text)
            finally:
                file.roll_back()
        file.tell()
        return answer

    def alone(self, act: Callable[[], R]) -> R:
        """Do *act* while no thread of this process is in `peek` or `change`."""
        with self._file.lock:
            return act()

    def complain(self, reason: str) -> None:
        """Report that what was read makes no sense: *reason*."""
        kind, key = self._name
        self._file.report(f"has nonsense for the {kind} {key!r} ({reason})", "it begins anew")

    # Everything below runs under the file's lock.

    def _news(self) -> News:
        known, self._version = self._version, None
        found = self._file.run(READ, (-1 if known is None else known, *self._name))
        if found is None:
            return Said.AWAY
        if not found:
            return Said.NOTHING
        version, data = found[0]
        if not isinstance(version, int) or not 0 <= version < 2**62:
            return f"version {version!r:.60}"
        self._version = version
        return Said.SAME if data is None else _text(data)

    def _write(self, known: int | None, text: str) -> int | None:
        """Write and commit; return the new version, or None if that can't be done."""
        # A row that is made anew has no version that a former one had.
        version = random.getrandbits(40) if known is None else known + 1
        row = (*self._name, version, self._policy, text, now_and_wall_time()[1])
        if self._file.run(WRITE, row) is None or self._file.run("COMMIT") is None:
            return None
        return version


def _text(data: object) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else ""


_files: list[ref[HostFile]] = []
_held: dict[int, list[HostFile]] = {}
"""Files whose locks are held by a thread that forks: its id -> files."""


def _all_files() -> list[HostFile]:
    return [file for file in (each() for each in tuple(_files)) if file is not None]


def _before_fork() -> None:
    """No thread is within a file, and no connection is open, while the process is copied."""
    held = []
    for file in _all_files():
        file.lock.acquire()
        held.append(file)
        file.close()
    _held[threading.get_ident()] = held


def _after_fork() -> None:
    for file in _held.pop(threading.get_ident(), ()):
        file.lock.release()


def _close_all() -> None:
    for file in _all_files():
        file.close()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
