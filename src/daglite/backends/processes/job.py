"""A call on its way to a worker: as bytes, with what it may use."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple, final

from daglite import _codec
from daglite._clock import SystemClock
from daglite.core.call import Call
from daglite.core.protocols import Done
from daglite.worker import wire

__all__ = ["Function", "Job", "Limits"]

_numbers = count(1)

_SMOOTHING = 0.2
"""How much the latest call counts in a function's pace."""


class Limits(NamedTuple):
    """
    What one call may use; 0 is no limit.

    Attributes:
        memory: Bytes, of the worker with its child processes.
        cpu: Seconds of CPU time.
        files: Open files.
        processes: Child processes; None: no limit.
        interval: Seconds between two looks.
        cpus: CPUs that it is to have, of as many as there are workers.
    """

    memory: int = 0
    cpu: float = 0.0
    files: int = 0
    processes: int | None = None
    interval: float = 0.05
    cpus: float = 1.0

    @property
    def watched(self) -> bool:
        """Whether somebody has to look."""
        return bool(self.memory or self.cpu or self.processes is not None)


@final
class Function:
    """
    A function as workers get it: once each.

    Attributes:
        number: What it is called on both sides.
        data: Its pickle.
        pace: About how many seconds its calls run; None: not known yet.
    """

    __slots__ = ("__weakref__", "data", "number", "pace")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.number = next(_numbers)
        self.data = _codec.dumps_function(function)
        self.pace: float | None = None

    def took(self, seconds: float) -> None:
        """A call has run for so long."""
        pace = self.pace
        self.pace = seconds if pace is None else pace + _SMOOTHING * (seconds - pace)


@final
class Job:
    """
    One call, for the supervisor.

    Attributes:
        call: The call.
        done: Takes its outcome.
        function: What it runs.
        body: Its arguments and facts, pickled.
        apart: Large buffers of them.
        limits: What it may use.
        is_large: Its arguments fit in no packet.
        alone: It is sent only to a worker that has nothing else to do.
        number: What the worker knows it by; a new one each time that it is sent.
        beside: Some of it was sent beside the packet.
        peak: The most bytes that were seen in use.
    """

    __slots__ = (
        "alone",
        "apart",
        "beside",
        "body",
        "call",
        "done",
        "function",
        "is_large",
        "limits",
        "number",
        "peak",
    )

    def __init__(self, call: Call, done: Done, function: Function, limits: Limits) -> None:
        self.call = call
        self.done = done
        self.function = function
        self.limits = limits
        self.apart: list[pickle.PickleBuffer] = []
        left = call.remaining()
        facts = call.plain_facts(None if left is None else SystemClock.now() + left)
        told = call.args, call.kwnames, facts
        self.body = _codec.dumps_apart(told, self.apart, label="arguments")
        if len(self.apart) > wire.MOST_BUFFERS:
            self.apart = []
            self.body = _codec.dumps(told, label="arguments")
        self.is_large = bool(self.apart) or wire.REQUEST.size + len(self.body) > wire.PACKET
        self.alone = self.is_large or call.target.prompt or limits.cpus != 1
        self.number = 0
        self.beside = False
        self.peak = 0

    def packet(self, number: int, function_bytes: int) -> tuple[bytes, list[Any]]:
        """What a worker is sent that shall know it as *number*: a packet, and what goes beside."""
        limits, large = self.limits, self.is_large
        self.number, self.beside = number, large or bool(function_bytes)
        raws = [buffer.raw() for buffer in self.apart] if large else []
        head = wire.REQUEST.pack(
            wire.CALL,
            self.function.number,
            number,
            function_bytes,
            len(self.body) if large else 0,
            len(raws),
            limits.files,
            limits.memory,
            limits.cpu,
        )
        beside: list[Any] = [self.function.data] if function_bytes else []
        if not large:
            return head + self.body, beside
        lengths = b"".join([wire.LENGTH.pack(raw.nbytes) for raw in raws])
        return head + lengths, [*beside, self.body, *raws]
