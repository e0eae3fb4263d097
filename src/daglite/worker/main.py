"""
The far side of a process boundary: takes calls, one at a time, and sends back how they ended.

    packet ─► announce in the slot ─► load ─► limits ─► function ─► limits off ─► frame

The slot tells the driver at any moment which call runs, so that a death costs this call alone.
Nothing of a call that can go wrong ends the worker: its arguments, its function, what it raises,
and its result are loaded, run and dumped where every exception is caught.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import mmap
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, Final, NamedTuple, NoReturn, cast, final

from daglite import _codec
from daglite._clock import SystemClock
from daglite.exceptions import RemoteError
from daglite.worker import wire
from daglite.worker.here import Facts, here
from daglite.worker.meter import Meter
from daglite.worker.surroundings import Surroundings, tell_stack

__all__ = ["Ends", "Options", "die_with", "main", "preload", "take_over", "work"]

_now = SystemClock.now
_PLAIN: Final = frozenset({bool, bytes, float, int, str, type(None)})
"""What plain pickle can do for certain, and has no buffers."""

_PIECE: Final = 1 << 16
"""Bytes that are thrown away at a time."""

_PARENT_DEATH = 1
"""``PR_SET_PDEATHSIG``"""


class Ends(NamedTuple):
    """A worker's file descriptors; see `daglite.worker.wire`."""

    requests: int
    bulk: int
    results: int
    slot: int
    faults: int
    """Where Python writes its stack when it crashes, or is asked for it by ``SIGUSR1``."""


class Options(NamedTuple):
    """
    What all workers of a pool have in common.

    Attributes:
        initializer: Pickled: a function of no arguments; empty: none.
        max_resting: A worker ends after a call that leaves it with so many bytes more than it
            began with.
    """

    initializer: bytes = b""
    max_resting: int = 150_000_000


def take_over(told: int) -> dict[str, Any]:
    """What the driver said in the file *told*; search path and environment are ours from now on."""
    hello: dict[str, Any] = pickle.loads(os.pread(told, os.fstat(told).st_size, 0))
    sys.path[:] = hello["path"]
    os.environ.clear()
    os.environ.update(hello["environ"])
    return hello


def preload(hello: dict[str, Any]) -> None:
    """Import what all workers shall have."""
    for name in hello["preload"]:
        # Who needs it will say what is wrong with it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def die_with(parent: int) -> None:
    """Have the kernel end this process when *parent*, which has one thread, is gone."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
    if os.getppid() != parent:
        # It was gone before that.
        os._exit(1)


def main() -> NoReturn:
    """Be a worker in an interpreter of its own; its ends are numbers on the command line."""
    told, *ends = map(int, sys.argv[1:])
    for end in ends:
        # It had to be: what calls start mustn't have them.
        os.set_inheritable(end, False)
    hello = take_over(told)
    os.close(told)
    preload(hello)
    work(Ends(*ends), Options(*hello["options"]))


def work(ends: Ends, options: Options) -> NoReturn:
    """Be a worker until the driver says stop, or is gone."""
    code = 1
    try:
        _settle_in(ends)
        code = _Worker(ends, options).serve()
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        # Threads that were left running don't keep the process.
        os._exit(code)


def _settle_in(ends: Ends) -> None:
    """A group of its own, deaf to the terminal's Ctrl-C."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    faulthandler.enable(ends.faults, all_threads=True)
    tell_stack(ends.faults)
    for stream in (sys.stdout, sys.stderr):
        # Else what a call has printed is lost when it is killed.
        with contextlib.suppress(Exception):
            cast(TextIOWrapper, stream).reconfigure(line_buffering=True)


@final
class _Worker:
    def __init__(self, ends: Ends, options: Options) -> None:
        self._ends = ends
        self._options = options
        self._slot = memoryview(mmap.mmap(ends.slot, wire.SLOT_BYTES)).cast("d")
        self._pid = os.getpid()
        # Bytes, as long as they can't be loaded.
        self._functions: dict[int, Callable[..., Any] | bytearray] = {}
        self._poll = select.poll()
        self._poll.register(ends.requests, select.POLLIN)
        self._meter = Meter()
        self._most_resting = 0
        self._tired = False
        os.register_at_fork(after_in_child=self._forked)

    def serve(self) -> int:
        """Take calls until there are no more; return the exit code."""
        if not self._initialise():
            return 1
        self._surroundings = Surroundings(self._ends.faults)
        gc.collect()
        self._most_resting = self._meter.resting() + self._options.max_resting
        self._send(wire.READY, 0, b"")
        size = wire.REQUEST.size
        while True:
            packet = self._packet()
            if not packet:
                return 0
            request = wire.REQUEST.unpack_from(packet)
            if request[0] == wire.STOP:
                return 0
            self._take(request, packet[size:])

    def _initialise(self) -> bool:
        if not self._options.initializer:
            return True
        try:
            _codec.loads(self._options.initializer, label="initializer")()
        except BaseException as error:
            self._send(wire.NOT_READY, 0, _dumped_error(error))
            return False
        return True

    def _packet(self) -> bytes:
        """The next packet; empty when the driver is gone."""
        while True:
            try:
                return os.read(self._ends.requests, wire.PACKET)
            except BlockingIOError:
                # The driver reads here too, and would be held up by a pipe that blocks.
                self._poll.poll()

    def _take(self, request: tuple[Any, ...], rest: bytes) -> None:
        _, function, number, function_bytes, bulk, buffers, files, memory, cpu = request
        slot, meter = self._slot, self._meter
        # It is loaded, and its modules are imported, before its time begins.
        slot[wire.SINCE] = 0.0
        slot[wire.RUNNING] = number
        try:
            # All of it comes out of the pipe, whatever can't be loaded.
            try:
                if function_bytes:
                    self._functions[function] = self._bulk(function_bytes)
            finally:
                body, own = self._arguments(rest, bulk, buffers)
            loaded = self._function(function)
            args, kwnames, facts = pickle.loads(body, buffers=own)
            here.facts = Facts(*facts)
        except BaseException as error:
            self._answer(wire.BAD_ARGUMENTS, number, _dumped_error(error))
            return
        slot[wire.CPU_BEFORE] = meter.begin(bool(cpu))
        slot[wire.SINCE] = started = _now()
        kind, told, apart = self._run(loaded, args, kwnames, files, memory, cpu)
        ran = _now() - started
        used, peak = meter.end()
        self._answer(kind, number, told, apart, started, ran, used, peak)

    def _answer(
        self,
        kind: int,
        number: int,
        told: bytes,
        apart: Sequence[pickle.PickleBuffer] = (),
        started: float = 0.0,
        ran: float = 0.0,
        used: float = 0.0,
        peak: int = 0,
    ) -> None:
        """Send how the call ended, and be ready for the next."""
        if os.getpid() != self._pid:
            # A copy of this process that came back out of the call, which isn't its own.
            os._exit(1)
        self._rest(peak)
        self._slot[wire.DONE] = number
        self._slot[wire.RUNNING] = 0
        self._send(kind, number, told, apart, started, ran, used, peak)

    def _function(self, number: int) -> Callable[..., Any]:
        """What is called; loaded by the first call for which that works."""
        known = self._functions[number]
        if isinstance(known, bytearray):
            known = self._functions[number] = pickle.loads(known)
        function: Callable[..., Any] = known
        return function

    def _arguments(
        self, rest: bytes, bulk: int, buffers: int
    ) -> tuple[bytes | bytearray, list[bytearray]]:
        """What is to be loaded, and its buffers."""
        if not bulk:
            return rest, []
        lengths = [wire.LENGTH.unpack_from(rest, 8 * index)[0] for index in range(buffers)]
        parts: list[bytearray] = []
        try:
            for length in (bulk, *lengths):
                parts.append(self._bulk(length))
        except MemoryError:
            for length in lengths[len(parts) :]:
                self._skip(length)
            raise
        return parts[0], parts[1:]

    def _bulk(self, size: int) -> bytearray:
        """
        The next *size* bytes beside the packets.

        Raises:
            MemoryError: There is no room for them; they are gone.
        """
        try:
            data = bytearray(size)
        except MemoryError:
            self._skip(size)
            raise
        view, done = memoryview(data), 0
        while done < size:
            number = os.readv(self._ends.bulk, [view[done:]])
            if not number:
                os._exit(0)
            done += number
        return data

    def _skip(self, size: int) -> None:
        while size:
            number = len(os.read(self._ends.bulk, min(size, _PIECE)))
            if not number:
                os._exit(0)
            size -= number

    def _run(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwnames: tuple[str, ...],
        files: int,
        memory: int,
        cpu: float,
    ) -> tuple[int, bytes, Sequence[pickle.PickleBuffer]]:
        """What became of the call: kind of frame, bytes, and buffers beside them."""
        limited = files or memory or cpu
        try:
            try:
                if limited:
                    self._meter.limit(files, memory, cpu)
                if kwnames:
                    named = len(kwnames)
                    keywords = dict(zip(kwnames, args[-named:], strict=True))
                    result = function(*args[:-named], **keywords)
                else:
                    result = function(*args)
            finally:
                here.facts = None
                if limited and not self._meter.lift():
                    self._tired = True
        except BaseException as error:
            if memory and isinstance(error, MemoryError):
                self._tired = True
            return wire.FAILED, _dumped_error(error), ()
        apart: list[pickle.PickleBuffer] = []
        try:
            if type(result) in _PLAIN:
                return wire.RETURNED, pickle.dumps(result, 5), ()
            return wire.RETURNED, _codec.dumps_apart(result, apart, label="result"), apart
        except BaseException as error:
            return wire.BAD_RESULT, _dumped_error(error), ()

    def _rest(self, peak: int) -> None:
        """
        Be as before the call; what can't be undone ends this worker.

        Args:
            peak: The most bytes that were held meanwhile; 0: nobody knows.
        """
        try:
            self._surroundings.restore()
        except BaseException:
            self._tired = True
        if threading.active_count() > 1 and _left_running():
            self._tired = True
        most = self._most_resting
        if (not peak or peak > most) and self._meter.resting() > most:
            self._tired = True

    def _send(
        self,
        kind: int,
        number: int,
        told: bytes,
        apart: Sequence[pickle.PickleBuffer] = (),
        started: float = 0.0,
        ran: float = 0.0,
        used: float = 0.0,
        peak: int = 0,
    ) -> None:
        raws = [buffer.raw() for buffer in apart]
        head = wire.RESULT.pack(
            kind, self._tired, len(raws), number, len(told), started, ran, used, peak
        )
        if raws:
            head += b"".join([wire.LENGTH.pack(raw.nbytes) for raw in raws])
        whole = head + told if len(told) < wire.PACKET else None
        if whole is not None and not raws and len(whole) <= wire.PACKET:
            os.write(self._ends.results, whole)
        else:
            _write_all(self._ends.results, [head, told, *raws])

    def _forked(self) -> None:
        """In a child that a call makes: it must not be able to speak for this worker."""
        for end in (self._ends.requests, self._ends.bulk, self._ends.results):
            with contextlib.suppress(OSError):
                os.close(end)


def _left_running() -> bool:
    """Whether threads go on that would keep an interpreter from ending."""
    return any(
        thread is not threading.main_thread() and thread.is_alive() and not thread.daemon
        for thread in threading.enumerate()
    )


def _dumped_error(error: BaseException) -> bytes:
    """*error* and its traceback, as bytes that can be loaded again for certain."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    told = RemoteError.of(error)
    try:
        data: bytes | None = _codec.dumps(error, label="error")
        again = pickle.loads(data or b"")
        if type(again).__qualname__ != type(error).__qualname__:
            data = None
    except BaseException:
        data = None
    return pickle.dumps((data, told.type_name, told.remote_message, told.traceback_text), 5)


def _write_all(end: int, parts: Sequence[bytes | memoryview]) -> None:
    left = [memoryview(part) for part in parts if len(part)]
    while left:
        number = os.writev(end, left[:64])
        while number:
            if number >= len(left[0]):
                number -= len(left.pop(0))
            else:
                left[0] = left[0][number:]
                number = 0


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
