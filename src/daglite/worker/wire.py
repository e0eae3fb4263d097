"""
What a driver and its worker say to each other.

    driver ── requests ─► worker     one packet for each call: whoever reads it has the call
           ── bulk ─────►            functions, and arguments that fit in no packet
           ◄─ results ───            one frame for each call
           ◄─ slot ──────            shared memory: which call runs, and since when

Requests are a pipe of packets (``O_DIRECT``), and the driver can read from it as well: it takes
calls back that the worker hasn't taken, and nobody else can have them then.  A packet whose
arguments are in `bulk` is sent only to a worker that has nothing else to do, so it is never taken
back.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

__all__ = [
    "BAD_ARGUMENTS",
    "BAD_RESULT",
    "CALL",
    "CPU_BEFORE",
    "DONE",
    "FAILED",
    "LENGTH",
    "MOST_BUFFERS",
    "NOT_READY",
    "NO_LIMIT",
    "PACKET",
    "READY",
    "REQUEST",
    "RESULT",
    "RESULTS",
    "RETURNED",
    "RUNNING",
    "SINCE",
    "SLOT_BYTES",
    "STOP",
]

PACKET: Final = 4096
"""The most bytes that a pipe passes on in one piece (``PIPE_BUF``)."""

LENGTH: Final = Struct("<Q")
"""Of a buffer that follows."""

MOST_BUFFERS: Final = 256
"""Buffers whose lengths fit into a packet with all else."""

REQUEST: Final = Struct("<BxxxIQQQIIQd")
"""
Kind, function's number, call's number, then in bulk: bytes of the function, bytes of the
arguments (0: they follow in the packet), number of buffers; limits: open files, memory, CPU time.
"""

CALL: Final = 1
STOP: Final = 2

NO_LIMIT: Final = 0
"""In the place of a limit."""

RESULT: Final = Struct("<BBxxIQQdddQ")
"""
Kind, whether the worker has had its day, number of buffers, call's number, bytes of what follows
before the buffers; started (on the monotonic clock), ran, CPU time (seconds), peak memory (bytes).
"""

READY: Final = 1
NOT_READY: Final = 2
RETURNED: Final = 3
FAILED: Final = 4
BAD_ARGUMENTS: Final = 5
BAD_RESULT: Final = 6

RESULTS: Final = range(READY, BAD_RESULT + 1)
"""All kinds."""

SLOT_BYTES: Final = 4096
"""Of the shared memory, a row of doubles."""

RUNNING: Final = 0
"""The number of the call that runs; 0: none."""

SINCE: Final = 1
"""When it began, on the monotonic clock; 0: it is still being loaded."""

DONE: Final = 2
"""The number of the last call that ended, sent or not."""

CPU_BEFORE: Final = 3
"""CPU time in seconds that the process had used when the call began."""
