"""Forks: each looks at one mutant and says which test has noticed it."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from mutations import Mutation

SURVIVED = "survived"
TIMEOUT = "timeout"

LONGEST = 240.0
"""Seconds after which a mutant counts as noticed: its tests hang, or run in circles."""

MOST_MEMORY = 4 * 2**30
"""Bytes of address space for one mutant."""

Look = Callable[[Mutation], str]
"""Asks the tests: the name of the one that noticed, or `SURVIVED`."""


class FirstFailure:
    """A plug-in of pytest that keeps the name of the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid


class Child:
    """A fork that looks at *mutation*."""

    def __init__(self, look: Look, mutation: Mutation) -> None:
        self.until = time.monotonic() + LONGEST
        self.input, output = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
                nowhere = os.open(os.devnull, os.O_RDWR)
                for stream in range(3):
                    os.dup2(nowhere, stream)

                def late(*_: object) -> None:
                    os.write(output, TIMEOUT.encode())
                    os._exit(0)

                signal.signal(signal.SIGPROF, late)
                signal.signal(signal.SIGALRM, late)
                os.write(output, look(mutation).encode())
            finally:
                os._exit(0)
        os.close(output)

    def is_done(self) -> bool:
        """Whether it has ended. One that takes too long is killed here."""
        if time.monotonic() > self.until:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return True
        return os.waitpid(self.pid, os.WNOHANG) != (0, 0)

    def answer(self) -> str:
        """What it found; a child that died has noticed too."""
        with open(self.input, encoding="utf-8", errors="replace") as found:
            return found.read() or (TIMEOUT if time.monotonic() > self.until else "died")


def look_at_all(
    mutations: Iterable[Mutation], look: Look, jobs: int
) -> Iterator[tuple[Mutation, str]]:
    """Each mutation with what became of it, *jobs* of them at a time."""
    running: dict[Mutation, Child] = {}
    waiting = iter(mutations)
    more = True
    while more or running:
        while more and len(running) < jobs:
            mutation = next(waiting, None)
            if mutation is None:
                more = False
            else:
                running[mutation] = Child(look, mutation)
        for mutation, child in list(running.items()):
            if child.is_done():
                del running[mutation]
                yield mutation, child.answer()
        time.sleep(0.005)
