"""Rate limits and bulkheads that don't fit the calls that share them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from daglite._units import format_duration
from daglite.core.maps import MOST_PARKED, window_of
from daglite.lint_rules.subject import Advice, Found, Rules, Subject, by_key

__all__ = ["rules"]

rules = Rules()


@rules.of_task("DGL015", "warning")
def _too_slow_for_the_map(of: Subject) -> Found:
    rate, timeout, elements = of.policies.rate_limit, of.policies.timeout, of.largest_map
    if rate is None or not elements:
        return None
    total = None if timeout is None else timeout.total
    # The others are started as these have had their turns; with a total, one after the other.
    waiting = min(elements, MOST_PARKED if total is None else rate.burst + 1)
    who = f"its {elements} elements"
    if waiting < elements:
        who = f"the {waiting} elements of its map that wait at a time"
    last = (waiting - rate.burst) * rate.per / rate.rate
    limits = {"max_wait": rate.max_wait, "total": total}
    for name, limit in limits.items():
        if limit is not None and last > limit:
            return (
                f"the last of {who} has its turn under the rate limit after "
                f"{format_duration(last)}, later than {name}={format_duration(limit)}",
                f"raise {name} or the rate" + ("" if total else ", or make smaller maps"),
            )
    return None


@rules.of_graph("DGL018", "info")
def _bulkhead_that_holds_nobody(subjects: Sequence[Subject]) -> Iterator[Advice]:
    for key, users in by_key(subjects, "bulkhead").items():
        bulkhead = users[0].policies.bulkhead
        assert bulkhead is not None
        backends = {id(user.step.backend): user.step.backend for user in users}
        workers = sum(backend.slots for backend in backends.values())
        if bulkhead.max_concurrent >= workers:
            yield Advice(
                users[0].name,
                f"its bulkhead {key!r} holds nobody up: there are {workers} workers, and "
                f"{bulkhead.max_concurrent} may run",
                "lower max_concurrent, or leave the bulkhead out",
            )


@rules.of_task("DGL019", "warning")
def _queue_too_short(of: Subject) -> Found:
    bulkhead, elements = of.policies.bulkhead, of.largest_map
    if bulkhead is None or bulkhead.max_queue is None or not elements:
        return None
    if bulkhead.max_concurrent >= window_of(of.step.backend):
        # No more are started than have places, until they are over in next to no time.
        return None
    timeout = of.policies.timeout
    if bulkhead.max_queue and timeout is not None and timeout.total is not None:
        # With a total, none is started while another one queues.
        return None
    room = bulkhead.max_concurrent + bulkhead.max_queue
    if elements <= room:
        return None
    return (
        f"its map has {elements} elements, but its bulkhead has room for {room}: the others "
        "fail with BulkheadFullError while those take their time",
        "raise max_queue, or leave it out",
    )
