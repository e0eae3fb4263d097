"""What policies of one task must agree on with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daglite._units import format_duration
from daglite.exceptions import PolicyError
from daglite.policies.breaker import CircuitBreaker
from daglite.policies.bulkhead import Bulkhead
from daglite.policies.hedge import Hedge
from daglite.policies.retry import RetryPolicy
from daglite.policies.timeout import TimeoutPolicy

__all__ = ["check_together", "listed"]


def check_together(slots: Mapping[str, Any], sources: Mapping[str, list[str]]) -> None:
    """
    Refuse policies that contradict each other.

    Args:
        slots: Slot -> what is in it, of all that are filled.
        sources: Slot -> names of the layers that had a part in it.

    Raises:
        PolicyError: Two of them contradict each other; the message names the layers.
    """
    retry, timeout = slots.get("retry"), slots.get("timeout")
    _check_retries_start(retry, timeout, sources)
    _check_hints_fit(retry, timeout, sources)
    _check_window_holds_calls(slots.get("circuit_breaker"), timeout, sources)
    _check_hedging_is_safe(slots.get("hedge"), slots.get("idempotent"), sources)
    _check_hedges_start(slots.get("hedge"), timeout, slots.get("bulkhead"), sources)


def _check_retries_start(
    retry: RetryPolicy | None, timeout: TimeoutPolicy | None, sources: Mapping[str, list[str]]
) -> None:
    """Refuse retries whose first wait, at its shortest, passes a limit on all of them."""
    if retry is None or retry.max_retries == 0:
        return
    slots: tuple[str, ...]
    wait = retry.floor(1)
    if timeout is not None and timeout.total is not None and wait >= timeout.total:
        limit, slots = f"timeout.total ({format_duration(timeout.total)})", ("retry", "timeout")
    elif retry.max_elapsed is not None and wait > retry.max_elapsed:
        limit, slots = f"retry.max_elapsed ({format_duration(retry.max_elapsed)})", ("retry",)
    else:
        return
    raise PolicyError(
        f"no retry can ever start: the first wait, from retry.delay or retry.backoff "
        f"({format_duration(wait)}), doesn't fit into {limit}",
        fix="shorten the wait, raise the limit, or write retry=0 "
        f"(from {_layers(sources, *slots)})",
    )


def _check_hints_fit(
    retry: RetryPolicy | None, timeout: TimeoutPolicy | None, sources: Mapping[str, list[str]]
) -> None:
    """Refuse hints that are said to be followed, but would pass the limit on the whole call."""
    if retry is None or timeout is None or timeout.total is None or retry.hint is None:
        return
    if "max_hint" in retry.model_fields_set and retry.max_hint > timeout.total:
        raise PolicyError(
            f"retry.max_hint ({format_duration(retry.max_hint)}) is above timeout.total "
            f"({format_duration(timeout.total)}), so that no hint that long can be followed",
            fix=f"lower max_hint or raise total (from {_layers(sources, 'retry', 'timeout')})",
        )


def _check_window_holds_calls(
    breaker: CircuitBreaker | None, timeout: TimeoutPolicy | None, sources: Mapping[str, list[str]]
) -> None:
    """Refuse a window of time that calls that hang would have left before they have counted."""
    if breaker is None or breaker.window_type != "time" or not breaker.needs_window:
        return
    if timeout is None or timeout.attempt is None or breaker.window >= 2 * timeout.attempt:
        return
    raise PolicyError(
        f"circuit_breaker.window ({format_duration(breaker.window)}) is below twice "
        f"timeout.attempt ({format_duration(timeout.attempt)}), so that it holds too few of the "
        f"calls that time out",
        fix="raise window or lower attempt "
        f"(from {_layers(sources, 'circuit_breaker', 'timeout')})",
    )


def _check_hedging_is_safe(
    hedge: Hedge | None, idempotent: bool | None, sources: Mapping[str, list[str]]
) -> None:
    if hedge is not None and not idempotent:
        raise PolicyError(
            f"hedge={hedge} may carry a call out twice",
            fix="say idempotent=True if that does no harm, or take it away with hedge=None "
            f"(from {_layers(sources, 'hedge')})",
        )


def _check_hedges_start(
    hedge: Hedge | None,
    timeout: TimeoutPolicy | None,
    bulkhead: Bulkhead | None,
    sources: Mapping[str, list[str]],
) -> None:
    """Refuse hedges that come when all is over, or that their own first call keeps out."""
    if hedge is None:
        return
    total = None if timeout is None else timeout.total
    if hedge.delay is not None and total is not None and hedge.delay >= total:
        raise PolicyError(
            f"no hedge can ever start: hedge.delay ({format_duration(hedge.delay)}) doesn't fit "
            f"into timeout.total ({format_duration(total)})",
            fix="lower delay, raise total, or leave the hedge out "
            f"(from {_layers(sources, 'hedge', 'timeout')})",
        )
    if bulkhead is not None and bulkhead.max_concurrent == 1:
        raise PolicyError(
            "no hedge can ever run beside its first call: bulkhead.max_concurrent is 1",
            fix="raise it, or leave one of them out "
            f"(from {_layers(sources, 'hedge', 'bulkhead')})",
        )


def _layers(sources: Mapping[str, list[str]], *slots: str) -> str:
    return listed(list(dict.fromkeys(name for slot in slots for name in sources[slot])))


def listed(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)
