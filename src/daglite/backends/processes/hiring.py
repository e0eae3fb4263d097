"""Makes workers, through the launcher, and hears what becomes of them and of it."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Final, final

from daglite._clock import SystemClock
from daglite.backends.processes.deaths import refused, stillborn
from daglite.backends.processes.ears import Ears
from daglite.backends.processes.launcher import Launcher, News
from daglite.backends.processes.worker import Worker
from daglite.exceptions import BackendError

__all__ = ["Hiring"]

_now = SystemClock.now

_STILLBORN: Final = 3
"""Workers in a row that die before they are ready, after which no more are made."""

_STILLBORN_LATER: Final = 30
"""The same, where some were ready before: then somebody else may have killed these."""

_PAUSE: Final = 0.1
"""Seconds until another is asked for, where the system had no room for one."""

_PATIENCE: Final = 1.0
"""Seconds for a worker to die whose launcher did."""


@final
class Hiring:
    """
    Keeps *workers* filled, with up to *size*.

    Args:
        size: How many there may be.
        launch: Starts a launcher.
        workers: All that there are, by number.
        ears: Those of the supervisor.
        receive: Told of a worker that has sent something.
        bury: Told of one that is dead, with its exit code; None: nobody knows it.
        fail: Told why calls can't be run now.
        give_up: Told why none ever will be.
    """

    def __init__(
        self,
        size: int,
        launch: Callable[[], Launcher],
        workers: dict[int, Worker],
        ears: Ears,
        *,
        receive: Callable[[Worker], None],
        bury: Callable[[Worker, int | None], None],
        fail: Callable[[BackendError], None],
        give_up: Callable[[BackendError], None],
    ) -> None:
        self._size = size
        self._launch = launch
        self._workers = workers
        self._ears = ears
        self._receive = receive
        self._bury = bury
        self._fail = fail
        self._give_up = give_up
        self._numbers = 0
        self._launcher: Launcher | None = None
        self._stillborn = 0
        self._most = _STILLBORN
        self._not_before = 0.0

    @property
    def pause(self) -> float | None:
        """Seconds until it may ask again; None: it may."""
        left = self._not_before - _now()
        return left if left > 0 else None

    def hire(self, calls: int) -> None:
        """Ask for as many workers as *calls* that nobody has yet need."""
        staying = [worker for worker in self._workers.values() if worker.leaving is None]
        idle = sum(not worker.jobs for worker in staying)
        if self.pause is None:
            for _ in range(min(self._size - len(staying), calls - idle)):
                if not self._ask_for_one():
                    return

    def is_ready(self, worker: Worker) -> None:
        """*worker* takes calls."""
        worker.ready = True
        self._stillborn = 0
        self._most = _STILLBORN_LATER

    def is_dead(self, worker: Worker, code: int | None) -> None:
        """*worker* is; it may have been at fault, or what it was made with."""
        if code is not None and not worker.ready and worker.leaving is None:
            self._count(stillborn(code, worker.channel.faults()))

    def close(self) -> None:
        """Have the launcher end, with all that descends from it."""
        if self._launcher is not None:
            self._launcher.close()

    def forget(self) -> None:
        """In a fork of this process: it is the parent's."""
        if self._launcher is not None:
            self._launcher.forget()

    def _ask_for_one(self) -> bool:
        self._numbers += 1
        worker: Worker | None = None
        try:
            launcher = self._launcher
            if launcher is None:
                launcher = self._launch()
                self._launcher = launcher
                self._ears.hear(launcher.fileno(), self._hear_news)
            worker = Worker(self._numbers)
            launcher.request(worker.number, worker.channel.ends)
        except OSError as error:
            if worker is not None:
                worker.close()
            self._wait(error)
            return False
        self._workers[worker.number] = worker
        worker.channel.let_go()
        self._ears.hear(worker.channel.results, lambda: self._receive(worker))
        return True

    def _wait(self, error: OSError) -> None:
        """There is no room for another worker: those that there are must do, if there are any."""
        self._not_before = _now() + _PAUSE
        if not any(worker.leaving is None for worker in self._workers.values()):
            self._fail(refused(error))

    def _hear_news(self) -> None:
        assert self._launcher is not None
        heard = self._launcher.news()
        if heard is None:
            self._lose_launcher()
            return
        for news in heard:
            self._learn(news)

    def _learn(self, news: News) -> None:
        if news.worker is None:
            for worker in tuple(self._workers.values()):
                if worker.process == news.process:
                    self._bury(worker, news.code)
            return
        wanted = self._workers.get(news.worker)
        if wanted is None:
            if news.handle >= 0:
                os.close(news.handle)
        elif news.error is not None:
            wanted.leaving = _now()
            self._bury(wanted, None)
            self._wait(news.error)
        else:
            wanted.process, wanted.handle = news.process, news.handle
            wanted.name = f"daglite-{news.process}"
            if wanted.leaving is not None:
                wanted.kill()

    def _lose_launcher(self) -> None:
        """Its workers die with it; another one makes others."""
        assert self._launcher is not None
        self._ears.unhear(self._launcher.fileno())
        code = self._launcher.close()
        self._launcher = None
        workers = tuple(self._workers.values())
        for worker in workers:
            # The system ends it, but nothing else that descends from it.
            worker.kill(worker.fate)
            if worker.handle >= 0:
                select.select([worker.handle], (), (), _PATIENCE)
            self._bury(worker, None)
        if not any(worker.ready for worker in workers):
            self._count(stillborn(code, "", "the launcher of the process pool dies"))

    def _count(self, error: BackendError) -> None:
        self._stillborn += 1
        if self._stillborn >= self._most:
            self._give_up(error)
