"""
What happens to code that computes: it leaks memory, hangs where nobody can interrupt it, or dies.

Three of the groups of flights are struck, each once: by the time that its call is tried again, the
trouble is over.  Delete the calls of `strike` in `pipeline.py`, and the result is the same.
"""

from __future__ import annotations

import os
import signal

from daglite import current_call

__all__ = ["strike"]

# Which task, month and carrier -> what happens.
MISHAPS = {
    ("clean", 2, "UA"): "leak",
    ("join_weather", 2, "DL"): "hang",
    ("count_routes", 2, "AA"): "die",
}


def strike(month: int, carrier: str) -> None:
    """Strike this call, if it is one of those, at its first attempt."""
    call = current_call()
    mishap = MISHAPS.get((call.node_name, month, carrier))
    if mishap is None or call.attempt > 1:
        return
    if mishap == "leak":
        leaked = []
        while True:
            leaked.append(bytearray(10_000_000))
    if mishap == "hang":
        # One call of C code, which hears no signal and lets no other thread run, for minutes.
        str(7**10_000_000).count("7")
    if mishap == "die":
        os.kill(os.getpid(), signal.SIGKILL)
