"""What one thread listens to: files that become ready, and a bell that other threads ring."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable
from typing import final

__all__ = ["Ears"]


@final
class Ears:
    """
    Waits for many things at once, and calls whoever wants to hear of each.

    All methods but `ring` are for the thread that listens.

    Raises:
        OSError: This process can't open one more file.
    """

    def __init__(self) -> None:
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # A number that is closed soon belongs to another file, which mustn't be rung.  Reentrant,
        # for a collection of garbage may close a pool anywhere.
        self._lock = threading.RLock()
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self._heard: dict[int, Callable[[], None]] = {self._bell: self._answer_bell}

    def ring(self) -> None:
        """Have `listen` return; from any thread, and in vain after `close`."""
        with self._lock:
            if self._bell >= 0:
                # It rings already.
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_write(self._bell, 1)

    def hear(self, end: int, hear: Callable[[], None], events: int = select.POLLIN) -> None:
        """Call *hear* whenever *end* is ready for *events*, or broken."""
        self._heard[end] = hear
        self._poll.register(end, events)

    def unhear(self, end: int) -> None:
        """Listen to *end* no more, if anybody did."""
        if self._heard.pop(end, None) is not None:
            self._poll.unregister(end)

    def listen(self, milliseconds: float | None) -> None:
        """Wait for anything, for so long; None: for ever."""
        for end, _ in self._poll.poll(milliseconds):
            hear = self._heard.get(end)
            # Another event of this round may have closed it.
            if hear is not None:
                hear()

    def close(self) -> None:
        """Listen to nothing any more."""
        with self._lock:
            self._shut()

    def forget(self) -> None:
        """The same in a fork of this process, where whoever held the lock doesn't exist."""
        self._lock = threading.RLock()
        self._shut()

    def _shut(self) -> None:
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def _answer_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
