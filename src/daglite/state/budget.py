"""How many retries there may be for so many first calls: the state of a retry budget."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, final

from daglite.state.needs import BudgetPolicy
from daglite.state.plain import read_list, read_number
from daglite.state.waits import until
from daglite.state.windows import TimeWindow

__all__ = ["Budget"]

_SLOTS = 10
_ROUNDING = 1e-9


@final
class Budget:
    """
    Retries, in proportion to first calls.

    A retry is reserved before its back-off, and counts from then on for as long as it is held;
    when it starts (`spend`), it counts for another ``window`` seconds.  One more may be reserved
    while the retries that count are fewer than ``ratio`` times the first calls of the last
    ``window`` seconds, plus ``min_per_second * window``.

    Where that minimum is less than one retry in a window, the window is as long as one retry
    takes: ``1 / min_per_second`` seconds.
    Calls are counted in tenths of the window.

    Source: the retry budgets of Finagle and of tower (linkerd), whose withdrawals expire with
    the window as their deposits do.

    Args:
        policy: How many retries it allows.
        lease: Seconds after which a retry that is held counts no more, until it starts: whoever
            holds it may be gone.
    """

    def __init__(self, policy: BudgetPolicy, lease: float = math.inf) -> None:
        minimum = policy.min_per_second
        window = max(policy.window, 1 / minimum) if minimum else policy.window
        self._ratio = policy.ratio
        self._minimum = max(minimum * window, 1.0) if minimum else 0.0
        self._fails = policy.on_exhausted == "fail"
        self._lock = threading.Lock()
        self._window = window
        self._firsts = TimeWindow(window, _SLOTS)
        self._retries = TimeWindow(window, _SLOTS)
        self._lease = lease
        # When each retry that is held stops to count, in order.
        self._held: list[float] = []

    def first_call(self, now: float) -> None:
        """Count a first call."""
        with self._lock:
            self._firsts.add(now)

    def reserve(self, now: float) -> float | None:
        """
        Ask for one retry.

        Returns:
            0.0: it is reserved, and owes a `spend` or a `give_back`.  More: nothing is reserved,
            and it makes sense to ask again after so many seconds; ``inf`` if nothing but new
            first calls can help.  None: the budget is exhausted, and its policy says to fail.
        """
        with self._lock:
            self._firsts.trim(now)
            self._retries.trim(now)
            if self._held and self._held[0] <= now:
                self._held = [end for end in self._held if end > now]
            counting = len(self._held) + self._retries.calls
            if self._allows(counting + 1, self._firsts.calls):
                self._held.append(now + self._lease)
                return 0.0
            return None if self._fails else self._seconds(now)

    def spend(self, now: float) -> None:
        """The retry that was reserved starts."""
        with self._lock:
            self._let_go()
            self._retries.add(now)

    def give_back(self) -> None:
        """The retry that was reserved won't be made."""
        with self._lock:
            self._let_go()

    def dump(self, now: float) -> dict[str, Any]:
        """What it remembers, as plain data; times are seconds from *now*."""
        with self._lock:
            return {
                "firsts": self._firsts.dump(now),
                "retries": self._retries.dump(now),
                "held": [end - now for end in self._held if end != math.inf],
            }

    def load(self, data: Mapping[str, Any], now: float) -> None:
        """
        Remember what `dump` said at *now*, in place of all else.

        Raises:
            ValueError: *data* makes no sense; nothing has changed.
        """
        firsts, retries = (TimeWindow(self._window, _SLOTS) for _ in range(2))
        firsts.load(data.get("firsts"), now)
        retries.load(data.get("retries"), now)
        held = [min(read_number(left), self._lease) for left in read_list(data.get("held"))]
        with self._lock:
            self._firsts, self._retries = firsts, retries
            self._held = [now + left for left in sorted(held)]

    def _let_go(self) -> None:
        if self._held:
            # The newest: what is left over by one who is gone shall end soon.
            self._held.pop()
        elif self._lease == math.inf:
            raise RuntimeError("a retry was given back that nobody had reserved")

    def _allows(self, retries: int, firsts: int) -> bool:
        # 0.29 * 100 is 28.999999999999996.
        return retries <= self._ratio * firsts + self._minimum + _ROUNDING

    def _seconds(self, now: float) -> float:
        """Seconds until time alone allows one more."""
        counting = len(self._held) + self._retries.calls
        for moment, retries in self._retries.leaving():
            counting -= retries
            gone = sum(firsts for leaves, firsts in self._firsts.leaving() if leaves <= moment)
            if self._allows(counting + 1, self._firsts.calls - gone):
                return until(now, moment)
        # Nobody knows when those that are held will start: look again soon.
        return self._retries.width if self._held else math.inf
