"""
The driver's end of one worker: what is sent, taken back and received, as bytes.

See `daglite.worker.wire` for what goes where.  Nothing here waits: what a pipe doesn't take now
is kept, and sent when it does.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, final

from daglite.worker import wire
from daglite.worker.main import Ends

__all__ = ["Channel", "Frame", "anonymous_file"]

_PIPE_BYTES: Final = 1 << 20
_READ: Final = 1 << 18
_LARGE: Final = 1 << 17
"""Bytes of a frame from which it is read straight into its place."""

_HUGE: Final = 1 << 24
"""Bytes of a frame from which its place isn't filled with zeros first."""

_TURN: Final = 1 << 25
"""Bytes after which other workers are listened to."""


class Frame(NamedTuple):
    """How a call ended, as its worker tells it."""

    kind: int
    tired: int
    number: int
    told: memoryview
    apart: list[memoryview]
    started: float
    ran: float
    cpu: float
    peak: int


def anonymous_file(name: str, content: bytes = b"") -> int:
    """A file in memory that nobody else finds, with *content*, at its beginning."""
    made = os.memfd_create(name, os.MFD_CLOEXEC)
    if content:
        with open(made, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(made, 0, os.SEEK_SET)
    return made


@final
class _Incoming:
    """A large frame, of which some has come."""

    __slots__ = ("data", "done", "head", "lengths")

    def __init__(self, size: int, head: tuple[int, ...], lengths: list[int]) -> None:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        place = bytearray(size) if size < _HUGE else mmap.mmap(-1, size, private)
        self.data = memoryview(place)
        self.done = 0
        self.head = head
        self.lengths = lengths


@final
class Channel:
    """
    Pipes to and from one worker, and the memory that it shares with it.

    Attributes:
        ends: Those of the worker; see `let_go`.
        results: Readable when there are frames.
        bulk: Writable when there is room for what `flush` left.
        garbled: What came is no frame, or one for which there is no memory here.
    """

    def __init__(self) -> None:
        self._open: set[int] = set()
        # For what other threads ask: a number that is closed soon belongs to another file.
        self._lock = threading.RLock()
        self.garbled = False
        try:
            self._make()
        except BaseException:
            for end in self._open:
                os.close(end)
            raise
        self._outgoing: deque[memoryview] = deque()
        self._received = bytearray()
        self._incoming: _Incoming | None = None

    def _make(self) -> None:
        kept = self._open
        self._requests, self._push = os.pipe2(os.O_CLOEXEC | os.O_DIRECT | os.O_NONBLOCK)
        kept.update((self._requests, self._push))
        bulk, self.bulk = os.pipe()
        kept.update((bulk, self.bulk))
        self.results, results = os.pipe()
        kept.update((self.results, results))
        os.set_blocking(self.bulk, False)
        os.set_blocking(self.results, False)
        for end in (self._push, self.bulk, self.results):
            # As much as an ordinary user may have; less works as well.
            with contextlib.suppress(OSError):
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        slot = anonymous_file("daglite-slot")
        kept.add(slot)
        os.ftruncate(slot, wire.SLOT_BYTES)
        self._faults = anonymous_file("daglite-faults")
        kept.add(self._faults)
        self.ends = Ends(self._requests, bulk, results, slot, self._faults)
        # Last, for it opens one more file, of its own.
        self._memory = mmap.mmap(slot, wire.SLOT_BYTES)
        self._slot = memoryview(self._memory).cast("d")

    def let_go(self) -> None:
        """Close the ends that the worker has now, and that only it shall have."""
        for end in (self.ends.bulk, self.ends.results, self.ends.slot):
            os.close(end)
            self._open.remove(end)

    def close(self) -> None:
        """Give everything back; idempotent."""
        with self._lock:
            self.abandon()

    def abandon(self) -> None:
        """The same in a fork of this process, where nobody lets go of a lock."""
        for end in self._open:
            os.close(end)
        self._open.clear()
        self._slot.release()
        self._memory.close()

    def push(self, packet: bytes) -> bool:
        """Send one packet; return whether there was room for it."""
        try:
            os.write(self._push, packet)
        except BlockingIOError:
            return False
        return True

    def push_bulk(self, parts: Sequence[bytes | memoryview]) -> bool:
        """Send *parts* beside the packets; return whether all is on its way."""
        self._outgoing.extend(memoryview(part) for part in parts if len(part))
        return self.flush()

    def flush(self) -> bool:
        """Send what is left; return whether nothing is."""
        outgoing = self._outgoing
        try:
            while outgoing:
                done = os.write(self.bulk, outgoing[0])
                if done == len(outgoing[0]):
                    outgoing.popleft()
                else:
                    outgoing[0] = outgoing[0][done:]
        except BlockingIOError:
            return False
        except BrokenPipeError:
            # It is dead, which is told elsewhere.
            outgoing.clear()
        return True

    def take_back(self) -> list[int]:
        """The numbers of calls that the worker hasn't taken, and now never will."""
        numbers: list[int] = []
        while True:
            try:
                packet = os.read(self._requests, wire.PACKET)
            except BlockingIOError:
                return numbers
            numbers.append(wire.REQUEST.unpack_from(packet)[2])

    def receive(self, *, all_there_is: bool = False) -> tuple[list[Frame], bool]:
        """
        Frames that have come in full, and whether nothing more will.

        That is when the worker has closed its end, or is `garbled`.

        Args:
            all_there_is: However much; else it leaves off when it is others' turn.
        """
        frames: list[Frame] = []
        left = _TURN
        while not self.garbled:
            if left <= 0 and not all_there_is:
                return frames, False
            incoming = self._incoming
            try:
                if incoming is not None:
                    done = os.readv(self.results, [incoming.data[incoming.done :]])
                    if not done:
                        return frames, True
                    incoming.done += done
                    left -= done
                    if incoming.done == len(incoming.data):
                        self._incoming = None
                        frames.append(_frame(incoming.head, incoming.lengths, incoming.data))
                    continue
                data = os.read(self.results, _READ)
            except BlockingIOError:
                return frames, False
            if not data:
                return frames, True
            left -= len(data)
            self._received += data
            self._parse(frames)
            if len(data) < _READ and self._incoming is None and not self.garbled:
                return frames, False
        return frames, True

    def _parse(self, frames: list[Frame]) -> None:
        # Frames keep parts of a copy, for the next bytes come into the same place.
        data = memoryview(bytes(self._received))
        start, end = 0, len(data)
        while end - start >= wire.RESULT.size:
            head = wire.RESULT.unpack_from(data, start)
            if head[0] not in wire.RESULTS:
                self.garbled = True
                break
            first = start + wire.RESULT.size
            content = first + 8 * head[2]
            if end < content:
                break
            lengths, size = [head[4]], head[4]
            if head[2]:
                lengths += [wire.LENGTH.unpack_from(data, first + 8 * n)[0] for n in range(head[2])]
                size = sum(lengths)
            if end - content >= size:
                start = content + size
                own = data[content:start]
                if head[2]:
                    # What is made from it stays, alone, and may be written to.
                    own = memoryview(bytearray(own))
                frames.append(_frame(head, lengths, own))
            elif size >= _LARGE:
                try:
                    incoming = _Incoming(size, head, lengths)
                except (MemoryError, OverflowError, OSError):
                    self.garbled = True
                    break
                self._incoming = incoming
                incoming.done = end - content
                incoming.data[: incoming.done] = data[content:end]
                start = end
            else:
                break
        del self._received[:start]

    @property
    def running(self) -> tuple[int, float]:
        """
        Number of the call that runs (0: none), and since when, on the monotonic clock.

        0.0: it is still being loaded.
        """
        slot = self._slot
        try:
            while True:
                number, since = slot[wire.RUNNING], slot[wire.SINCE]
                if slot[wire.RUNNING] == number:
                    return int(number), since
        except ValueError:
            # It was closed meanwhile.
            return 0, 0.0

    @property
    def ended(self) -> int:
        """Number of the last call whose function has ended; its frame may be on its way."""
        return int(self._slot[wire.DONE])

    @property
    def cpu_before(self) -> float:
        """Seconds of CPU time that the worker had used when its present call began."""
        return self._slot[wire.CPU_BEFORE]

    def faults(self) -> str:
        """What Python has told about where the worker was, since `clear_faults`."""
        with self._lock:
            if self._faults not in self._open:
                return ""
            size = os.fstat(self._faults).st_size
            return os.pread(self._faults, size, 0).decode(errors="replace")

    def clear_faults(self) -> None:
        """Forget that."""
        with self._lock:
            if self._faults in self._open:
                os.ftruncate(self._faults, 0)
                os.lseek(self._faults, 0, os.SEEK_SET)


def _frame(head: tuple[int, ...], lengths: list[int], data: memoryview) -> Frame:
    kind, tired, buffers, number, told, started, ran, cpu, peak = head
    if not buffers:
        return Frame(kind, tired, number, data, [], started, ran, cpu, peak)
    apart, start = [], told
    for length in lengths[1:]:
        apart.append(data[start : start + length])
        start += length
    return Frame(kind, tired, number, data[:told], apart, started, ran, cpu, peak)
