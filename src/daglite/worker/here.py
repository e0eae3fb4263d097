"""The call that runs in this worker process, as its function may see it."""

from __future__ import annotations

import threading
from typing import NamedTuple, final

__all__ = ["Facts", "here"]


class Facts(NamedTuple):
    """
    What a call takes along about itself.

    Attributes:
        run_id: The run.
        node_id: The node, as the driver numbers it.
        node_name: The task's name.
        ordinal: The node's place in the graph, from 0.
        element: Which element of a map, from 0; None outside of maps.
        attempt: From 1.
        expires: When the whole call must be done, on the monotonic clock; None: never.
    """

    run_id: str
    node_id: int
    node_name: str
    ordinal: int
    element: int | None
    attempt: int
    expires: float | None


@final
class _Here(threading.local):
    """
    What runs on this thread.

    Attributes:
        facts: Those of the call; None: this is no worker's thread, or an idle one.
    """

    facts: Facts | None = None


here = _Here()
