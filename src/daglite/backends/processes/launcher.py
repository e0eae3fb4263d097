"""The driver's end of the launcher: asks it for workers, and hears of them."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, final

from daglite.backends.processes.channel import anonymous_file
from daglite.worker.launcher import ENDED, FORKED, NEWS, REFUSED, interpreter_flags
from daglite.worker.main import Ends, Options

__all__ = ["Launcher", "News"]

_PROGRAM = "from daglite.worker.launcher import main; main()"

_FINDS_US = {"PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONSAFEPATH": "1"}
"""What the launcher needs of its environment until it is told what it shall be."""

_FULL = 10.0
"""Seconds after which a launcher that takes nothing more is gone."""


class News(NamedTuple):
    """
    What became of a worker.

    Attributes:
        process: Its number.
        worker: The number that it was asked for with; None: it has ended.
        handle: A pidfd of it, to be closed by whoever hears this; -1: there is none.
        code: How it ended: exit code, or minus a signal's number; None: it has just begun.
        error: Why it couldn't be made; None: it was.
    """

    process: int
    worker: int | None
    handle: int
    code: int | None
    error: OSError | None = None


@final
class Launcher:
    """
    A process that makes workers for this one; see `daglite.worker.launcher`.

    Args:
        method: "launcher" to fork them, "spawn" to have fresh interpreters.
        preload: Modules that are imported before; those that fail are left out.
        options: Those of the workers.
        environment: Variables that they have besides this process's.

    Raises:
        OSError: It can't be started.
    """

    def __init__(
        self,
        method: str,
        preload: Sequence[str],
        options: Options,
        environment: Mapping[str, str],
    ) -> None:
        hello = {
            "start_method": method,
            "path": sys.path,
            "preload": list(preload),
            "options": tuple(options),
            "driver": os.getpid(),
            "environ": {**os.environ, **environment},
        }
        told = anonymous_file("daglite-hello", pickle.dumps(hello))
        try:
            self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                try:
                    self._process = _started(theirs.fileno())
                except BaseException:
                    self._link.close()
                    raise
            try:
                socket.send_fds(self._link, [b"h"], [told])
            except BaseException:
                self.close(0.0)
                raise
        finally:
            os.close(told)
        self._link.setblocking(False)

    def fileno(self) -> int:
        """Readable when there is news."""
        return self._link.fileno()

    def request(self, worker: int, ends: Ends) -> None:
        """
        Ask for a worker, which will be told as number *worker*.

        Raises:
            OSError: The launcher is gone.
        """
        select.select((), (self._link,), (), _FULL)
        socket.send_fds(self._link, [worker.to_bytes(8, "little")], list(ends))

    def news(self) -> list[News] | None:
        """What there is to hear; None: the launcher is gone."""
        heard: list[News] = []
        while True:
            try:
                data, handles, _, _ = socket.recv_fds(self._link, NEWS.size, 1)
            except BlockingIOError:
                return heard
            except OSError:
                return None
            if not data:
                return None
            kind, process, number = NEWS.unpack(data)
            if kind == FORKED:
                # There is no handle where this process has as many files as it may.
                handle = handles[0] if handles else -1
                heard.append(News(process, number, handle, None))
            elif kind == REFUSED:
                error = OSError(process, os.strerror(process))
                heard.append(News(0, number, -1, None, error))
            elif kind == ENDED:
                heard.append(News(process, None, -1, number))

    def close(self, wait: float = 10.0) -> int | None:
        """
        Have it kill all that descends from it, and end.

        Args:
            wait: Seconds that it has for that.

        Returns:
            How it ended: exit code, or minus a signal's number; None: it had to be killed.
        """
        self._link.close()
        try:
            return self._process.wait(wait)
        except subprocess.TimeoutExpired:
            self._kill()
            return None

    def _kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def forget(self) -> None:
        """In a fork of this process: it is the parent's."""
        with contextlib.suppress(OSError):
            self._link.close()
        # Else it would be waited for, and is nobody's child here.
        self._process.returncode = 0


def _started(end: int) -> subprocess.Popen[bytes]:
    flags = interpreter_flags()
    return subprocess.Popen(
        [sys.executable, *flags, "-c", _PROGRAM, str(end)],
        stdin=subprocess.DEVNULL,
        pass_fds=[end],
        env={**os.environ, **_FINDS_US},
        # A Ctrl-C at the terminal isn't meant for it, and may come at any moment.
        start_new_session=True,
    )
