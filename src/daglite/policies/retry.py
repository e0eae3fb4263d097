"""Try a failed call again: when, how often, after which wait."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any

from pydantic import (
    Field,
    FieldSerializationInfo,
    PlainValidator,
    WithJsonSchema,
    field_serializer,
    model_validator,
)
from tenacity import Future, RetryCallState, Retrying, stop_after_attempt, stop_before_delay
from tenacity.retry import retry_base, retry_if_exception, retry_if_result
from tenacity.stop import stop_base
from tenacity.wait import wait_base
from typing_extensions import Self

from daglite._units import format_duration
from daglite.exceptions import DagliteError, PolicyError, RunCancelledError
from daglite.policies.backoff import (
    BACKOFF_SCHEMA,
    Backoff,
    BackoffName,
    Delays,
    Jitter,
    decorrelated,
    jittered,
    read_backoff,
    wait_object,
    write_backoff,
)
from daglite.policies.base import (
    NOT_GIVEN,
    Duration,
    Policy,
    PositiveDuration,
    Seconds,
    typed_init,
)
from daglite.policies.budget import RetryBudget
from daglite.policies.code import import_path, shown
from daglite.policies.conditions import (
    AnyErrorTypes,
    ErrorTypes,
    Predicate,
    names,
    read_never,
    read_predicate,
    read_retry_on,
)
from daglite.policies.fields import CODE_SCHEMA, TYPES_SCHEMA, Count
from daglite.policies.messages import MisfitError

__all__ = ["RetryPolicy"]

_LAST_NUMBER = 1_000_000_000

# Fields that a backoff has no use for; "delays" is a list of them, or tenacity's object.
_WITHOUT_PART = {
    "none": ("delay", "factor", "max_delay"),
    "constant": ("factor",),
    "linear": ("factor",),
    "exponential": (),
    "fibonacci": ("factor",),
    "decorrelated": ("factor",),
    "delays": ("delay", "factor"),
}
# No wait has no jitter, and a wait that is random by itself has no other.
_OWN_JITTER = {"none": "none", "decorrelated": "full"}


class RetryPolicy(Policy):
    """
    Try a failed call again, after a growing wait.

    ``RetryPolicy(3, "exponential")`` calls a task at most four times. Durations are seconds, or
    text such as "200ms", "5m", or a `timedelta`.

    Attributes:
        max_retries: Retries after the first call, from 0.
        backoff: How waits grow: "none" (retry at once), "constant" (always ``delay``), "linear"
            (1, 2, 3, ... times ``delay``), "exponential" (``delay`` times powers of ``factor``),
            "fibonacci" (1, 1, 2, 3, 5, ... times ``delay``), "decorrelated" (random, from
            ``delay`` to three times the wait before, or to ``max_delay``), a list of delays (the
            last one repeats), or a wait object of tenacity.
        delay: The first wait, from 0; of the backoffs that have a name, but for "none".
        factor: Base of the exponential backoff, from 1; no other backoff has one.
        max_delay: The longest wait, not below ``delay``; any wait is cut to it.
        jitter: Which part of a wait is random: "none", the upper half ("equal"), or all of it
            ("full"). A tenacity object has its own randomness: with one, "none" is the default.
        retry_on: Which errors of the function are retried: exception classes, or a function of
            the exception, or a retry object of tenacity (which sees results too).
        never: Exception classes that are not retried, whatever ``retry_on`` says.
        retry_on_result: A function of the result; true means the call failed. None: any result
            is a success.
        infrastructure_retries: Retries after losses that aren't the task's fault (a worker that
            died), from 0, whatever ``retry_on`` says; counted apart from ``max_retries``.
        max_elapsed: Seconds from the start of the first attempt beyond which no back-off leads,
            above 0; None: no limit. What an attempt then waits for a circuit, a rate limit, a
            bulkhead or a worker isn't counted: that is what a `TimeoutPolicy`'s total is for.
        hint: Name of the exception's attribute that says how long to wait, in seconds; None:
            no hints.
        max_hint: The longest hint that is followed; after a longer one the call fails at once.
        budget: Bounds the retries of all calls together; None: each call has its own retries.
        seed: Makes the random part of waits repeatable; None: seeded by the run.

    Raises:
        PolicyError: A field is unknown or makes no sense.
    """

    max_retries: Count = Field(default=3, description="a whole number from 0 to 10^9")
    backoff: Annotated[
        Backoff,
        PlainValidator(read_backoff),
        WithJsonSchema(BACKOFF_SCHEMA),
    ] = Field(default="exponential")
    delay: Duration = Field(default=1.0)
    factor: float = Field(
        default=2.0, ge=1, strict=True, allow_inf_nan=False, description="a number from 1"
    )
    max_delay: Duration = Field(default=60.0)
    jitter: Jitter = Field(default="full", description="'none', 'equal' or 'full'")
    retry_on: Annotated[
        tuple[type[Exception], ...] | Predicate | retry_base,
        PlainValidator(read_retry_on),
        WithJsonSchema(TYPES_SCHEMA),
    ] = Field(default=(Exception,))
    never: Annotated[
        tuple[type[BaseException], ...],
        PlainValidator(read_never),
        WithJsonSchema(TYPES_SCHEMA),
    ] = Field(default=())
    retry_on_result: Annotated[
        Predicate | None,
        PlainValidator(read_predicate),
        WithJsonSchema({"anyOf": [CODE_SCHEMA, {"type": "null"}]}),
    ] = Field(default=None)
    infrastructure_retries: Count = Field(default=3, description="a whole number from 0 to 10^9")
    max_elapsed: PositiveDuration | None = Field(
        default=None, description="seconds above 0 such as 90 or '90s', or None for no limit"
    )
    hint: str | None = Field(
        default="retry_after",
        strict=True,
        pattern=r"^[^\W\d]\w*$",
        description="the name of an attribute such as 'retry_after', or None for no hints",
    )
    max_hint: Duration = Field(default=300.0)
    budget: RetryBudget | None = Field(
        default=None, description="a RetryBudget, or None for no budget"
    )
    seed: int | None = Field(default=None, strict=True, description="a whole number, or None")

    @typed_init
    def __init__(
        self,
        max_retries: int = NOT_GIVEN,
        backoff: BackoffName | Delays | wait_base = NOT_GIVEN,
        *,
        delay: Seconds = NOT_GIVEN,
        factor: float = NOT_GIVEN,
        max_delay: Seconds = NOT_GIVEN,
        jitter: Jitter = NOT_GIVEN,
        retry_on: ErrorTypes | Predicate | retry_base = NOT_GIVEN,
        never: AnyErrorTypes = NOT_GIVEN,
        retry_on_result: Predicate | str | None = NOT_GIVEN,
        infrastructure_retries: int = NOT_GIVEN,
        max_elapsed: Seconds | None = NOT_GIVEN,
        hint: str | None = NOT_GIVEN,
        max_hint: Seconds = NOT_GIVEN,
        budget: RetryBudget | None = NOT_GIVEN,
        seed: int | None = NOT_GIVEN,
    ) -> None: ...

    @classmethod
    def _without_part(cls, given: Mapping[str, Any]) -> dict[str, tuple[str, object]]:
        backoff = given.get("backoff", "exponential")
        kind = backoff if isinstance(backoff, str) else "delays"
        idle = [name for name in _WITHOUT_PART[kind] if name in given]
        jitter = _OWN_JITTER.get(kind)
        if jitter is not None and given.get("jitter", jitter) != jitter:
            idle.append("jitter")
        found: dict[str, tuple[str, object]] = dict.fromkeys(idle, ("backoff", backoff))
        if "max_hint" in given and given.get("hint", "") is None:
            found["max_hint"] = ("hint", None)
        return found

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        waits = isinstance(self.backoff, str) and self.backoff != "none"
        if waits and self.max_delay < self.delay:
            raise MisfitError(
                f"max_delay ({format_duration(self.max_delay)}) is below delay "
                f"({format_duration(self.delay)})",
                fix="raise max_delay or lower delay",
            )
        if isinstance(self.backoff, tuple) and max(self.backoff) > self.max_delay:
            raise MisfitError(
                f"backoff has a delay of {format_duration(max(self.backoff))}, above max_delay "
                f"({format_duration(self.max_delay)})",
                fix="raise max_delay or shorten that delay",
            )
        if isinstance(self.backoff, wait_base) and "jitter" not in self.model_fields_set:
            # As data, so that equal policies wait alike.
            object.__setattr__(self, "jitter", "none")
        return self

    @field_serializer("backoff", when_used="json")
    def _write_backoff(self, value: Backoff) -> str | list[float]:
        return write_backoff(value)

    @field_serializer("retry_on", "never", "retry_on_result", when_used="json")
    def _write_code(self, value: Any, info: FieldSerializationInfo) -> Any:
        return import_path(value, info.field_name)

    @property
    def max_attempts(self) -> int:
        """Calls at most, the first one among them."""
        return self.max_retries + 1

    @property
    def sees_results(self) -> bool:
        """Whether `rejects` may be true."""
        return self.retry_on_result is not None or isinstance(self.retry_on, retry_base)

    def ceiling(self, retry: int) -> float:
        """Longest wait before retry number *retry* (from 1), in seconds; a hint may be longer."""
        if isinstance(self.backoff, wait_base):
            return self.max_delay
        return min(self._waits(self._state(retry)), self.max_delay)

    def floor(self, retry: int) -> float:
        """Shortest wait before retry number *retry* (from 1), in seconds, without a hint."""
        if isinstance(self.backoff, wait_base):
            return 0.0
        if self.backoff == "decorrelated":
            return self.delay
        return jittered(self.ceiling(retry), self.jitter, 0.0)

    def delay_before(
        self,
        retry: int,
        *,
        draw: float,
        previous: float = 0.0,
        error: BaseException | None = None,
        elapsed: float = 0.0,
    ) -> float:
        """
        Seconds to wait before retry number *retry* (from 1), hints aside.

        Args:
            draw: A random number from 0, below 1.
            previous: The wait before the last retry, in seconds; 0 for the first.
            error: What the last attempt raised; for tenacity's objects.
            elapsed: Seconds since the first attempt started; for tenacity's objects.

        Raises:
            PolicyError: A user's wait object gave something that is no wait.
        """
        if isinstance(self.backoff, wait_base):
            state = self._state(retry, error, previous, elapsed)
            return jittered(self._wait_of_object(state), self.jitter, draw)
        ceiling = self.ceiling(retry)
        if self.backoff == "decorrelated":
            # A hint may have made the previous wait longer than the backoff would have.
            before = self.ceiling(retry - 1) if retry > 1 else self.delay
            last = min(max(previous, self.delay), before)
            return decorrelated(self.delay, last, ceiling, draw)
        return jittered(ceiling, self.jitter, draw)

    def retries(self, error: BaseException) -> bool:
        """
        Whether a call that failed with *error* may be tried again.

        Never after cancellation or what isn't an `Exception` (``KeyboardInterrupt``, ...), and
        after a ``permanent`` error only if `retry_on` names its class, or one that is more
        special than ``Exception`` and daglite's roots. A loss of the infrastructure isn't the
        function's error, so that `retry_on` says nothing about it.
        """
        if not isinstance(error, Exception) or isinstance(error, (RunCancelledError, *self.never)):
            return False
        if isinstance(error, DagliteError) and error.infrastructure:
            return True
        permanent = getattr(type(error), "permanent", False) is True
        wanted = self.retry_on
        if isinstance(wanted, tuple):
            if not permanent:
                return isinstance(error, wanted)
            return names(wanted, error)
        if permanent:
            return False
        if isinstance(wanted, retry_base):
            return bool(wanted(self._state(1, error)))
        return bool(wanted(error))

    def rejects(self, result: object) -> bool:
        """Whether a call that returned *result* counts as failed."""
        if self.retry_on_result is not None and self.retry_on_result(result):
            return True
        # On every success's way: the usual case first.
        if type(self.retry_on) is tuple or not isinstance(self.retry_on, retry_base):
            return False
        state = self._state(1)
        state.set_result(result)
        return bool(self.retry_on(state))

    def hinted(self, error: BaseException) -> float | None:
        """Seconds that *error* itself asks to wait, from 0; None if it doesn't say."""
        if self.hint is None:
            return None
        try:
            value = getattr(error, self.hint, None)
            if isinstance(value, timedelta):
                value = value.total_seconds()
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                return None
            seconds = float(value)
        except Exception:
            # Text that is no number, a property that raises: no hint.
            return None
        return seconds if 0 <= seconds < math.inf else None

    def to_tenacity(self) -> Retrying:
        """
        Make a tenacity controller that retries like this policy.

        Limits: tenacity doesn't tell losses of the infrastructure from the task's own failures,
        so ``infrastructure_retries`` has no part in it, and has no budget that calls share.
        Without a ``seed`` its waits differ from run to run.
        """
        stop: stop_base = stop_after_attempt(self.max_attempts) | _StopAfterHint(self)
        if self.max_elapsed is not None:
            stop = stop | stop_before_delay(self.max_elapsed)
        retry: retry_base = retry_if_exception(self.retries)
        if self.sees_results:
            retry = retry | retry_if_result(self.rejects)
        return Retrying(wait=_PolicyWait(self), stop=stop, retry=retry, reraise=True)

    @cached_property
    def _waits(self) -> wait_base:
        return wait_object(self.backoff, self.delay, self.factor, self.max_delay)

    @cached_property
    def _retrying(self) -> Retrying:
        return self.to_tenacity()

    def _state(
        self,
        retry: int,
        error: BaseException | None = None,
        previous: float = 0.0,
        elapsed: float = 0.0,
    ) -> RetryCallState:
        """What tenacity's objects are asked with."""
        if retry < 1:
            raise ValueError(f"retries are counted from 1, not {retry}")
        state = RetryCallState(self._retrying, None, (), {})
        # Beyond, numbers get too large for floats.
        state.attempt_number = min(retry, _LAST_NUMBER)
        state.upcoming_sleep = previous
        if error is not None:
            state.outcome = Future(retry)
            state.outcome.set_exception(error)
        state.outcome_timestamp = state.start_time + elapsed
        return state

    def _wait_of_object(self, state: RetryCallState) -> float:
        wait = self._waits(state)
        try:
            seconds = float(wait)
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
        if not seconds >= 0:
            raise PolicyError(
                f"RetryPolicy.backoff: {shown(self.backoff)} gave a wait of {shown(wait)} before "
                f"retry {state.attempt_number}; it must give seconds from 0"
            )
        return min(seconds, self.max_delay)


def _hint_of(policy: RetryPolicy, state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return None if error is None else policy.hinted(error)


class _PolicyWait(wait_base):
    """The waits of a policy, for tenacity's own loop."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.random = random.Random(policy.seed)

    def __call__(self, retry_state: RetryCallState) -> float:
        hint = _hint_of(self.policy, retry_state)
        if hint is not None:
            return hint
        outcome = retry_state.outcome
        return self.policy.delay_before(
            retry_state.attempt_number,
            draw=self.random.random(),
            previous=retry_state.upcoming_sleep,
            error=outcome.exception() if outcome is not None else None,
            elapsed=retry_state.seconds_since_start or 0.0,
        )


class _StopAfterHint(stop_base):
    """Stop when the error asks for a longer wait than the policy follows."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy

    def __call__(self, retry_state: RetryCallState) -> bool:
        hint = _hint_of(self.policy, retry_state)
        return hint is not None and hint > self.policy.max_hint
