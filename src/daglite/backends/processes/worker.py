"""A worker, as the driver's side sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import NamedTuple, final

import psutil

from daglite._clock import SystemClock
from daglite.backends.processes.channel import Channel
from daglite.backends.processes.deaths import Death
from daglite.backends.processes.job import Job

__all__ = ["Running", "Worker"]


@final
class Worker:
    """
    One worker, as the supervisor sees it.

    Attributes:
        number: What the launcher tells of it by.
        channel: To talk to it.
        name: For records.
        process: Its process number; 0: it isn't there yet.
        handle: A pidfd of it.
        jobs: What it was sent and hasn't answered, by number.
        room: How many jobs it may have at the moment.
        known: Numbers of the functions that it has.
        sent: How many calls it was ever sent.
        calls: How many it has answered.
        ready: It takes calls.
        tired: It takes no more, and is replaced.
        leaving: When it was told to stop, or was killed; None: it wasn't.
        lock: Held by whoever uses its handle.
        fate: The call that it was killed for, and why; None: nobody wants to know.
        gone: It is dead, and its number may be somebody else's by now.
    """

    __slots__ = (
        "calls",
        "channel",
        "fate",
        "gone",
        "handle",
        "jobs",
        "known",
        "leaving",
        "lock",
        "name",
        "number",
        "process",
        "ready",
        "room",
        "sent",
        "tired",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.channel = Channel()
        self.name = "daglite"
        self.process = 0
        self.handle = -1
        self.jobs: dict[int, Job] = {}
        self.known: set[int] = set()
        self.sent = 0
        self.calls = 0
        self.room = 1
        self.ready = False
        self.tired = False
        self.leaving: float | None = None
        self.fate: tuple[Job, Death] | None = None
        self.gone = False
        self.lock = threading.RLock()

    @property
    def takes_calls(self) -> bool:
        """Whether it may be sent another call."""
        return self.ready and not self.tired and self.leaving is None

    def signal(self, which: signal.Signals) -> None:
        """Send it a signal, if it is there; from any thread."""
        with self.lock, contextlib.suppress(ProcessLookupError):
            if self.handle >= 0:
                signal.pidfd_send_signal(self.handle, which)
            elif self.process and not self.gone:
                os.kill(self.process, which)

    def kill(self, fate: tuple[Job, Death] | None = None) -> None:
        """
        End it and all that descends from it.

        Args:
            fate: The call that it is ended for, and why; None: nobody wants to know.
        """
        self.leaving, self.fate = SystemClock.now(), fate or self.fate
        if not self.process or self.gone:
            return
        descendants: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            descendants = psutil.Process(self.process).children(recursive=True)
        self.signal(signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.killpg(self.process, signal.SIGKILL)
        for descendant in descendants:
            with contextlib.suppress(psutil.Error):
                descendant.kill()

    def close(self) -> None:
        """Give back what leads to it."""
        self.channel.close()
        with self.lock:
            self._let_go_of_handle()

    def abandon(self) -> None:
        """The same in a fork of this process, where nobody lets go of a lock."""
        self.channel.abandon()
        self._let_go_of_handle()

    def _let_go_of_handle(self) -> None:
        handle, self.handle, self.gone = self.handle, -1, True
        if handle >= 0:
            os.close(handle)


class Running(NamedTuple):
    """
    Where a call runs.

    Attributes:
        worker: On it.
        since: Since when, on the monotonic clock; 0.0: it is still being loaded.
    """

    worker: Worker
    since: float
