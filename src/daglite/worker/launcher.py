"""
One small process, with one thread, that makes the workers of a pool and outlives none of them.

    driver ── a packet for each worker, with its ends ──► launcher ── fork ──► worker
           ◄── its number and a handle; later its exit ──    │
                                                             └─ reaps and, at the end, kills

A fork here costs some milliseconds, inherits no lock that another thread holds, and needs no
guard in the user's main module.  Orphans of the workers come to this process (it is a
"subreaper"); when the driver is gone, however it went, everything here is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Final, NoReturn

from daglite._clock import SystemClock
from daglite.worker.main import Ends, Options, die_with, preload, take_over, work

__all__ = ["ENDED", "FORKED", "NEWS", "REFUSED", "interpreter_flags", "main"]

NEWS: Final = Struct("<Bxxxiq")
"""
Kind, and two numbers.

`FORKED`: the process, and the driver's number of the worker; `ENDED`: the process, and how it
ended; `REFUSED`: the system's error, and the driver's number.
"""

FORKED: Final = 1
ENDED: Final = 2
REFUSED: Final = 3

_SUBREAPER: Final = 36
"""``PR_SET_CHILD_SUBREAPER``"""


def interpreter_flags() -> list[str]:
    """What another interpreter is started with to be like this one, as multiprocessing does it."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    return flags


def main() -> NoReturn:
    """Serve the driver at the socket that this process was started with."""
    link = socket.socket(fileno=int(sys.argv[1]))
    # Whoever started it may have signals blocked, and all that comes of it would have them so.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    _, (told,), _, _ = socket.recv_fds(link, 1, 1)
    hello = take_over(told)
    spawns = hello["start_method"] == "spawn"
    if not spawns:
        preload(hello)
    gc.collect()
    # What is there now is never looked at by a worker's collections, and so never copied.
    gc.freeze()
    start = partial(_spawn, told) if spawns else partial(work, options=Options(*hello["options"]))
    _serve(link, start, os.pidfd_open(hello["driver"]))


def _spawn(told: int, ends: Ends) -> NoReturn:
    """Become a fresh interpreter that is a worker."""
    for end in (told, *ends):
        os.set_inheritable(end, True)
    flags = interpreter_flags()
    program = "from daglite.worker.main import main; main()"
    numbers = [str(end) for end in (told, *ends)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    os.execve(sys.executable, [sys.executable, *flags, "-c", program, *numbers], environ)


def _serve(link: socket.socket, start: Callable[[Ends], NoReturn], driver: int) -> NoReturn:
    heard, told = os.pipe()
    for end in (heard, told):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    poll = select.poll()
    for end in (link.fileno(), heard, driver):
        poll.register(end, select.POLLIN)
    workers: set[int] = set()
    while True:
        ready = {end for end, _ in poll.poll()}
        if driver in ready:
            _end_all()
        if heard in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(heard, 4096)
            _reap(link, workers)
        if link.fileno() in ready:
            try:
                data, ends, _, _ = socket.recv_fds(link, 8, len(Ends._fields))
            except OSError:
                data, ends = b"", []
            if not data:
                _end_all()
            worker = int.from_bytes(data, "little")
            try:
                process, handle = _forked(ends, [link.fileno(), heard, told, driver], start)
            except OSError as error:
                news, handles = NEWS.pack(REFUSED, error.errno, worker), []
            else:
                workers.add(process)
                news, handles = NEWS.pack(FORKED, process, worker), [handle]
            for end in ends:
                os.close(end)
            with contextlib.suppress(OSError):
                socket.send_fds(link, [news], handles)
            for handle in handles:
                os.close(handle)


def _forked(ends: list[int], own: list[int], start: Callable[[Ends], NoReturn]) -> tuple[int, int]:
    """
    Make a worker.

    Returns:
        Its process number, and a handle of it.

    Raises:
        OSError: The system has no room for it.
    """
    if len(ends) < len(Ends._fields):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    parent = os.getpid()
    process = os.fork()
    if not process:
        try:
            die_with(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in own:
                os.close(end)
            start(Ends(*ends))
        except BaseException:
            traceback.print_exc()
        finally:
            # Whatever happens, this is no second launcher.
            os._exit(1)
    try:
        return process, os.pidfd_open(process)
    except OSError:
        os.kill(process, signal.SIGKILL)
        raise


def _reap(link: socket.socket, workers: set[int]) -> None:
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        if ended.si_pid in workers:
            workers.remove(ended.si_pid)
            # While it isn't reaped its number is nobody else's.
            with contextlib.suppress(OSError):
                os.killpg(ended.si_pid, signal.SIGKILL)
        process, status = os.waitpid(ended.si_pid, 0)
        # Of adopted orphans too: the driver knows its own.
        with contextlib.suppress(OSError):
            link.send(NEWS.pack(ENDED, process, os.waitstatus_to_exitcode(status)))


def _end_all() -> NoReturn:
    """Kill whatever descends from here, until nothing does."""
    give_up = SystemClock.now() + 5.0
    while SystemClock.now() < give_up:
        for process in _children():
            for kill in (os.kill, os.killpg):
                with contextlib.suppress(OSError):
                    kill(process, signal.SIGKILL)
        try:
            # The children of the dead come here, and are the next to go.
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            break
        select.select((), (), (), 0.001)
    os._exit(0)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(process) for process in file.read().split()]


if __name__ == "__main__":
    main()
