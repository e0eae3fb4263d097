"""RetryPolicy: how long it waits, what it retries, what it hears."""

import asyncio
import datetime
import math
import pickle
import random

import pytest
import tenacity
from hypothesis import example, given
from hypothesis import strategies as st

from daglite.exceptions import (
    DagliteError,
    ExecutionError,
    ParameterError,
    PolicyError,
    RunCancelledError,
    SerializationError,
    TaskConfigurationError,
    TaskTimeoutError,
    WorkerDiedError,
    as_execution_error,
)
from daglite.policies import RetryBudget, RetryPolicy
from daglite.policies.backoff import FibonacciWait

HUGE = 10**400


def test_defaults():
    """The defaults are those of the documentation."""
    policy = RetryPolicy()
    assert policy.model_dump(exclude_unset=False) == {
        "max_retries": 3,
        "backoff": "exponential",
        "delay": 1.0,
        "factor": 2.0,
        "max_delay": 60.0,
        "jitter": "full",
        "retry_on": (Exception,),
        "never": (),
        "retry_on_result": None,
        "infrastructure_retries": 3,
        "max_elapsed": None,
        "hint": "retry_after",
        "max_hint": 300.0,
        "budget": None,
        "seed": None,
    }
    assert policy.max_attempts == 4
    assert RetryPolicy(0).max_attempts == 1


def test_the_public_class_says_what_it_is():
    """The signature can be looked at: the first two fields go by position."""
    policy = RetryPolicy(5, "linear")
    assert (policy.max_retries, policy.backoff) == (5, "linear")


def test_budget():
    """A budget is a policy in the policy, given as such or as a mapping; the stronger one wins."""
    budget = RetryBudget(0.1, key="api")
    policy = RetryPolicy.model_validate({"budget": {"ratio": 0.1, "key": "api"}})
    assert policy == RetryPolicy(budget=budget)
    assert policy.merged_over(RetryPolicy(5, budget=RetryBudget())) == RetryPolicy(5, budget=budget)
    assert RetryPolicy(budget=None).merged_over(policy).budget is None


# --- waits ---


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (RetryPolicy(backoff="none", jitter="none"), [0, 0, 0]),
        (RetryPolicy(backoff="constant", jitter="none", delay=2), [2, 2, 2, 2]),
        (RetryPolicy(backoff="linear", jitter="none", delay=2, max_delay=7), [2, 4, 6, 7, 7]),
        (RetryPolicy(jitter="none"), [1, 2, 4, 8, 16, 32, 60, 60]),
        (RetryPolicy(jitter="none", factor=3, delay=0.5), [0.5, 1.5, 4.5, 13.5, 40.5, 60]),
        (RetryPolicy(jitter="none", factor=1, delay=3), [3, 3, 3]),
        (RetryPolicy(backoff="fibonacci", jitter="none"), [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 60]),
        (RetryPolicy(backoff="fibonacci", jitter="none", delay=2, max_delay=7), [2, 2, 4, 6, 7]),
        (RetryPolicy(backoff=[1, "2s", 5], jitter="none"), [1, 2, 5, 5, 5]),
        (RetryPolicy(backoff=(3,), jitter="none"), [3, 3]),
        (RetryPolicy(backoff=tenacity.wait_fixed(2)), [2, 2]),
        (RetryPolicy(backoff=tenacity.wait_fixed(100), max_delay=7), [7, 7]),
        (RetryPolicy(backoff=tenacity.wait_incrementing(1, 2)), [1, 3, 5]),
        (RetryPolicy(backoff=tenacity.wait_fixed(1) + tenacity.wait_fixed(2)), [3, 3]),
    ],
    ids=repr,
)
def test_waits(policy, waits):
    """Each backoff grows as it says, up to max_delay."""
    numbers = range(1, len(waits) + 1)
    assert [policy.delay_before(n, draw=0.5) for n in numbers] == waits
    if not isinstance(policy.backoff, tenacity.wait.wait_base):
        assert [policy.ceiling(n) for n in numbers] == waits
        assert [policy.floor(n) for n in numbers] == waits


@pytest.mark.parametrize("backoff", ["constant", "linear", "exponential", "fibonacci", [4]])
@pytest.mark.parametrize(
    ("jitter", "waits"), [("none", [4, 4, 4]), ("equal", [2, 3, 3.5]), ("full", [0, 2, 3])]
)
def test_jitter(backoff, jitter, waits):
    """Jitter takes away none, up to half, or up to all of a wait."""
    fields = {} if isinstance(backoff, list) else {"delay": 4}
    policy = RetryPolicy(backoff=backoff, jitter=jitter, **fields)
    assert [policy.delay_before(1, draw=draw) for draw in (0.0, 0.5, 0.75)] == waits
    assert (policy.ceiling(1), policy.floor(1)) == (4, waits[0])


def test_none_at_all():
    """Neither the task's own failures nor losses have to be tried again."""
    policy = RetryPolicy(0, infrastructure_retries=0)
    assert (policy.max_attempts, policy.infrastructure_retries) == (1, 0)


def test_delays_up_to_max_delay():
    """One that is as long as that may be listed, or be the delay."""
    assert RetryPolicy(backoff=[1, 60], max_delay=60).ceiling(2) == 60
    assert RetryPolicy(delay=60, max_delay=60).ceiling(1) == 60


def test_half_of_an_odd_wait():
    """Nothing is rounded."""
    policy = RetryPolicy(delay=3, jitter="equal")
    assert [policy.delay_before(1, draw=draw) for draw in (0.0, 0.5)] == [1.5, 2.25]


@pytest.mark.parametrize("backoff", ["constant", "linear", "exponential", "fibonacci"])
def test_no_delay(backoff):
    """It doesn't grow, however many retries there are."""
    policy = RetryPolicy(9_999, backoff, delay=0)
    assert [policy.ceiling(retry) for retry in (1, 9_999)] == [0, 0]


def test_jitter_comes_after_the_cap():
    """The capped wait is what is spread, so waits at the cap are spread too."""
    policy = RetryPolicy(delay=1, max_delay=10)
    assert policy.delay_before(50, draw=0.5) == 5


def test_jitter_of_objects():
    """A tenacity object is taken as it is, unless a jitter is asked for."""
    wait = tenacity.wait_fixed(4)
    assert RetryPolicy(backoff=wait).delay_before(1, draw=0.5) == 4
    assert RetryPolicy(backoff=wait).jitter == "none"
    assert RetryPolicy(backoff=wait).model_fields_set == {"backoff"}
    assert RetryPolicy(backoff=wait, jitter="full").delay_before(1, draw=0.5) == 2
    assert RetryPolicy(backoff=wait) != RetryPolicy(backoff=wait, jitter="full")
    over_named = RetryPolicy(backoff="linear").merged_over(RetryPolicy(backoff=wait))
    assert over_named.jitter == "full"
    assert RetryPolicy(backoff=wait, max_delay=0.5).delay_before(1, draw=0.5) == 0.5


def test_decorrelated():
    """It lies between delay and three times the wait before, or max_delay if that is less."""
    policy = RetryPolicy(backoff="decorrelated", delay=2, max_delay=30)
    assert policy.delay_before(1, draw=0.0) == 2
    assert policy.delay_before(1, draw=0.5) == 4
    assert policy.delay_before(2, draw=0.5, previous=4) == 7
    assert policy.delay_before(2, draw=0.5, previous=0.1) == 4
    assert policy.delay_before(9, draw=0.5, previous=30) == 16
    assert [policy.ceiling(n) for n in (1, 2, 3)] == [6, 18, 30]
    assert policy.floor(5) == 2


def test_decorrelated_after_a_hint():
    """A wait that a hint made long doesn't stretch the next ones beyond their ceiling."""
    policy = RetryPolicy(backoff="decorrelated", delay=1)
    assert policy.delay_before(1, draw=0.5, previous=200) == 2
    assert policy.delay_before(2, draw=0.0, previous=200) == 1
    assert policy.delay_before(2, draw=0.5, previous=200) == 5
    assert policy.delay_before(3, draw=0.5, previous=200) == 14
    assert policy.delay_before(3, draw=0.5, previous=4) == 6.5


delays = st.floats(0, 1e300)
backoffs = st.one_of(
    st.sampled_from(["none", "constant", "linear", "exponential", "fibonacci", "decorrelated"]),
    st.lists(delays, min_size=1, max_size=5),
    st.builds(tenacity.wait_fixed, delays),
    st.builds(tenacity.wait_random, st.just(0), st.floats(0, 1e6)),
)


@given(
    backoff=backoffs,
    bounds=st.tuples(delays, delays),
    factor=st.floats(1, 1e300),
    jitter=st.sampled_from([None, "none", "equal", "full"]),
    retry=st.integers(1, 50) | st.integers(1, 10_000) | st.just(HUGE),
    draw=st.floats(0, 1, exclude_max=True),
    previous=delays,
)
@example("decorrelated", (1e300, 1e300), 1.0, None, HUGE, 0.0, 1e300)
@example("exponential", (0.0, 60.0), 1000.0, "none", HUGE, 0.5, 0.0)
@example("linear", (5e-324, 5e-324), 2.0, "equal", 1, 0.9999999999999999, 0.0)
def test_no_wait_passes_its_ceiling(backoff, bounds, factor, jitter, retry, draw, previous):
    """Whatever the backoff, a wait lies between floor and ceiling, and never above max_delay."""
    delay, max_delay = sorted(bounds)
    fields = {"delay": delay, "max_delay": max_delay, "factor": factor}
    if jitter is not None:
        fields["jitter"] = jitter
    own = {"max_delay": max(max_delay, *backoff)} if isinstance(backoff, list) else {}
    # What has no part in the backoff is left out of a merge.
    policy = RetryPolicy(backoff=backoff, **own).merged_over(RetryPolicy(**fields))
    max_delay = policy.max_delay
    wait = policy.delay_before(retry, draw=draw, previous=previous, error=ValueError())
    assert 0 <= policy.floor(retry) <= wait <= policy.ceiling(retry) <= max_delay


@pytest.mark.parametrize("backoff", ["linear", "exponential", "fibonacci", "decorrelated"])
def test_ceilings_never_fall(backoff):
    """Later waits aren't shorter."""
    policy = RetryPolicy(backoff=backoff, delay=0.1, max_delay=1e6)
    ceilings = [policy.ceiling(n) for n in range(1, 60)]
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] <= policy.ceiling(HUGE) == 1e6


@pytest.mark.parametrize("retry", [0, -1])
@pytest.mark.parametrize("backoff", ["none", "decorrelated", [1], tenacity.wait_fixed(1)], ids=repr)
def test_retries_are_counted_from_one(backoff, retry):
    """There is no retry number 0."""
    with pytest.raises(ValueError, match="counted from 1"):
        RetryPolicy(backoff=backoff).delay_before(retry, draw=0.5)


class TestObjects:
    """A user's wait object."""

    def test_sees_the_state(self):
        """It is told the attempt, the exception, the time, and the last wait."""
        seen = []

        class Curious(tenacity.wait.wait_base):
            def __call__(self, retry_state):
                seen.append(retry_state)
                return 1

        policy = RetryPolicy(backoff=Curious())
        error = ValueError("x")
        policy.delay_before(3, draw=0.5, previous=2.0, error=error, elapsed=12.5)
        (state,) = seen
        assert state.attempt_number == 3
        assert state.outcome.failed
        assert state.outcome.exception() is error
        assert state.outcome.attempt_number == 3
        assert state.seconds_since_start == pytest.approx(12.5)
        assert state.upcoming_sleep == 2.0
        assert isinstance(state.retry_object, tenacity.Retrying)
        assert "ValueError" in repr(state)

    @pytest.mark.parametrize("nonsense", [-1, math.nan, None, "x", object()], ids=repr)
    def test_gives_nonsense(self, nonsense):
        """A wait that is none is an error that says who gave it."""

        class Broken(tenacity.wait.wait_base):
            def __call__(self, retry_state):
                return nonsense

        with pytest.raises(PolicyError, match=r"RetryPolicy.backoff: .*Brok.* before retry 2"):
            RetryPolicy(backoff=Broken()).delay_before(2, draw=0.5)

    def test_infinity_is_capped(self):
        """An endless wait is as long as max_delay."""
        assert RetryPolicy(backoff=tenacity.wait_fixed(math.inf)).delay_before(1, draw=0.5) == 60

    def test_ceiling(self):
        """Nothing is known of its waits but the cap."""
        policy = RetryPolicy(backoff=tenacity.wait_fixed(2), max_delay=9)
        assert (policy.ceiling(1), policy.floor(1)) == (9, 0)


def test_fibonacci_object():
    """The Fibonacci wait can be used with tenacity, and added to others."""
    policy = RetryPolicy(backoff=FibonacciWait(1, 100) + tenacity.wait_fixed(1))
    assert [policy.delay_before(n, draw=0.5) for n in range(1, 7)] == [2, 2, 3, 4, 6, 9]
    assert pickle.loads(pickle.dumps(FibonacciWait(1, 100))).longest == 100


# --- what is retried ---


class Permanent(Exception):
    permanent = True


class Curable(Permanent):
    permanent = False


class OddlyPermanent(Exception):
    @property
    def permanent(self):
        return True


TIMED_OUT = TaskTimeoutError("late", limit=1.0, elapsed=1.1)


@pytest.mark.parametrize(
    ("fields", "error", "expected"),
    [
        ({}, ValueError(), True),
        ({}, TIMED_OUT, True),
        ({}, WorkerDiedError("gone"), True),
        ({}, DagliteError(), True),
        ({"retry_on": OSError}, ConnectionError(), True),
        ({"retry_on": OSError}, ValueError(), False),
        ({"retry_on": (OSError, ValueError)}, ValueError(), True),
        ({"retry_on": "builtins:OSError"}, ConnectionError(), True),
        ({"retry_on": ["builtins:OSError", KeyError]}, KeyError(), True),
        ({"retry_on": TimeoutError}, TIMED_OUT, True),
        ({"retry_on": TaskTimeoutError}, TimeoutError(), False),
        # a loss of the infrastructure isn't what retry_on is about
        ({"retry_on": ValueError}, WorkerDiedError("gone"), True),
        ({"retry_on": lambda error: False}, WorkerDiedError("gone"), True),
        ({"retry_on": tenacity.retry_never}, WorkerDiedError("gone"), True),
        ({"never": WorkerDiedError}, WorkerDiedError("gone"), False),
        # never beats retry_on
        ({"never": ValueError}, ValueError(), False),
        ({"never": (ValueError, KeyError)}, IndexError(), True),
        ({"retry_on": ConnectionError, "never": OSError}, ConnectionError(), False),
        ({"retry_on": lambda error: True, "never": OSError}, ConnectionError(), False),
        ({"retry_on": tenacity.retry_always, "never": OSError}, ConnectionError(), False),
        ({"never": BaseException}, ValueError(), False),
        # predicates
        ({"retry_on": lambda error: "503" in str(error)}, ValueError("503"), True),
        ({"retry_on": lambda error: "503" in str(error)}, ValueError("404"), False),
        ({"retry_on": "operator:truth"}, ValueError(), True),
        ({"retry_on": lambda error: []}, ValueError(), False),
        # tenacity's objects
        ({"retry_on": tenacity.retry_if_exception_type(OSError)}, ConnectionError(), True),
        ({"retry_on": tenacity.retry_if_exception_type(OSError)}, ValueError(), False),
        ({"retry_on": tenacity.retry_if_exception_message(match="a+")}, ValueError("aa"), True),
        ({"retry_on": tenacity.retry_if_not_exception_type(OSError)}, ConnectionError(), False),
        ({"retry_on": tenacity.retry_if_result(bool)}, ValueError(), False),
        # never retried
        ({}, KeyboardInterrupt(), False),
        ({}, SystemExit(), False),
        ({}, GeneratorExit(), False),
        ({}, asyncio.CancelledError(), False),
        ({}, BaseException(), False),
        ({}, RunCancelledError("stopped"), False),
        ({"retry_on": RunCancelledError}, RunCancelledError("stopped"), False),
        ({"retry_on": lambda error: True}, KeyboardInterrupt(), False),
        ({"retry_on": tenacity.retry_always}, SystemExit(), False),
        # permanent errors are retried only if named
        ({}, PolicyError("bad"), False),
        ({}, SerializationError("bad"), False),
        ({}, Permanent(), False),
        ({"retry_on": (Exception, DagliteError)}, PolicyError("bad"), False),
        ({"retry_on": TaskConfigurationError}, PolicyError("bad"), False),
        ({"retry_on": ExecutionError}, PolicyError("bad"), False),
        ({"retry_on": PolicyError}, PolicyError("bad"), True),
        ({"retry_on": (Exception, PolicyError)}, PolicyError("bad"), True),
        ({"retry_on": PolicyError}, ParameterError("bad"), False),
        ({"retry_on": Permanent}, Permanent(), True),
        ({"retry_on": Permanent, "never": Permanent}, Permanent(), False),
        ({"retry_on": lambda error: True}, Permanent(), False),
        ({"retry_on": tenacity.retry_always}, Permanent(), False),
        ({}, Curable(), True),
        ({}, OddlyPermanent(), True),
        ({}, as_execution_error("x", original=PolicyError("bad")), False),
        ({}, as_execution_error("x", original=ValueError("bad")), True),
        ({"retry_on": ValueError}, as_execution_error("x", original=ValueError("bad")), True),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_retried(fields, error, expected):
    """An error is retried if retry_on says so, never doesn't, and it can get better."""
    assert RetryPolicy(**fields).retries(error) is expected


@pytest.mark.parametrize(
    ("fields", "result", "expected", "sees"),
    [
        ({}, None, False, False),
        ({"retry_on_result": lambda result: result is None}, None, True, True),
        ({"retry_on_result": lambda result: result is None}, 0, False, True),
        ({"retry_on_result": "operator:not_"}, 0, True, True),
        ({"retry_on_result": "operator:not_"}, 1, False, True),
        ({"retry_on": lambda error: True}, 1, False, False),
        ({"retry_on": tenacity.retry_if_result(lambda result: result < 0)}, -1, True, True),
        ({"retry_on": tenacity.retry_if_result(lambda result: result < 0)}, 1, False, True),
        ({"retry_on": tenacity.retry_if_exception_type(OSError)}, 1, False, True),
        (
            {"retry_on": tenacity.retry_if_result(bool), "retry_on_result": lambda result: True},
            0,
            True,
            True,
        ),
    ],
)
def test_results(fields, result, expected, sees):
    """A result is a failure if retry_on_result, or a tenacity object, says so."""
    policy = RetryPolicy(**fields)
    assert policy.rejects(result) is expected
    assert policy.sees_results is sees


# --- hints ---


class Hinting(Exception):
    def __init__(self, value):
        self.retry_after = value
        self.wait = value


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5.0),
        (0, 0.0),
        (2.5, 2.5),
        ("7", 7.0),
        (" 1.5 ", 1.5),
        (datetime.timedelta(minutes=1), 60.0),
        (1e9, 1e9),
        (None, None),
        (True, None),
        (-1, None),
        ("-1", None),
        (math.nan, None),
        (math.inf, None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (datetime.timedelta(seconds=-1), None),
        (10**400, None),
        ([], None),
        (b"5", None),
        (object(), None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_hints(value, seconds):
    """A hint is seconds from 0 as a number, text or timedelta; anything else is none."""
    assert RetryPolicy().hinted(Hinting(value)) == seconds
    assert RetryPolicy(hint="wait").hinted(Hinting(value)) == seconds
    assert RetryPolicy(hint="other").hinted(Hinting(value)) is None
    assert RetryPolicy(hint=None).hinted(Hinting(value)) is None


def test_hint_that_raises():
    """An attribute that can't be read is no hint."""

    class Rude(Exception):
        @property
        def retry_after(self):
            raise RuntimeError

    assert RetryPolicy().hinted(Rude()) is None


# --- tenacity ---


def scripted(*outcomes):
    """A function that raises or returns one outcome after the other, and its calls."""
    left = list(outcomes)

    def function():
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return function, left


def run(policy, *outcomes):
    """What tenacity's loop makes of the outcomes: result or error, waits, outcomes left."""
    function, left = scripted(*outcomes)
    waits = []
    retrying = policy.to_tenacity()
    retrying.sleep = waits.append
    try:
        result = retrying(function)
    except BaseException as error:
        result = error
    return result, [float(wait) for wait in waits], len(left)


class TestTenacity:
    """The controller that a policy makes for tenacity."""

    def test_success(self):
        """It returns the result, and waits between."""
        policy = RetryPolicy(3, "linear", jitter="none")
        assert run(policy, ValueError(), OSError(), "fine", "more") == ("fine", [1, 2], 1)

    def test_exhaustion(self):
        """It raises the last error itself."""
        last = ValueError("last")
        assert run(RetryPolicy(1, "none"), OSError(), last, "more") == (last, [0], 1)

    def test_no_retry(self):
        """It doesn't retry what the policy doesn't."""
        error, permanent, stop = ValueError(), Permanent(), KeyboardInterrupt()
        assert run(RetryPolicy(3, never=ValueError), error, "more") == (error, [], 1)
        assert run(RetryPolicy(3), permanent, "more") == (permanent, [], 1)
        assert run(RetryPolicy(3), stop, "more") == (stop, [], 1)

    def test_results(self):
        """It retries rejected results."""
        policy = RetryPolicy(3, "none", retry_on_result="operator:not_")
        assert run(policy, 0, None, 5) == (5, [0, 0], 0)
        policy = RetryPolicy(3, "none", retry_on=tenacity.retry_if_result(lambda r: r < 0))
        assert run(policy, -1, 5) == (5, [0], 0)

    def test_hints(self):
        """It follows hints, and stops at those that are too long."""
        policy = RetryPolicy(3, "linear", jitter="none", max_hint=10)
        assert run(policy, Hinting(7), ValueError(), 1) == (1, [7, 2], 0)
        too_long = Hinting(11)
        assert run(policy, too_long, 1) == (too_long, [], 1)
        assert run(policy, Hinting(10), 1) == (1, [10], 0)

    def test_max_elapsed(self):
        """It starts no attempt after max_elapsed."""
        policy = RetryPolicy(3, [1, 50], jitter="none", max_elapsed=20)
        error = ValueError()
        assert run(policy, OSError(), error, 1) == (error, [1], 1)

    def test_seed(self):
        """With a seed the waits repeat; they are those of the policy."""
        policy = RetryPolicy(4, "decorrelated", seed=7)
        failures = [ValueError()] * 4
        _, waits, _ = run(policy, *failures, 1)
        assert run(policy, *failures, 1)[1] == waits
        draws, previous = random.Random(7), 0.0
        for number, wait in enumerate(waits, 1):
            assert wait == policy.delay_before(number, draw=draws.random(), previous=previous)
            previous = wait

    def test_what_a_wait_object_is_told(self, monkeypatch):
        """The error, and the seconds since the first attempt began."""
        told, now = [], [100.0]
        monkeypatch.setattr("time.monotonic", lambda: now[0])

        class Curious(tenacity.wait.wait_base):
            def __call__(self, retry_state):
                told.append((retry_state.outcome.exception(), retry_state.seconds_since_start))
                return 1

        error = ValueError("x")

        def fails_once():
            now[0] += 5
            if not told:
                raise error

        retrying = RetryPolicy(1, Curious()).to_tenacity()
        retrying.sleep = lambda seconds: None
        retrying(fails_once)
        assert told == [(error, 5)]

    def test_user_objects(self):
        """A user's own objects keep working in it."""
        policy = RetryPolicy(
            2, tenacity.wait_fixed(3), retry_on=tenacity.retry_if_exception_type(OSError)
        )
        assert run(policy, OSError(), 1) == (1, [3], 0)
        error = ValueError()
        assert run(policy, error, 1) == (error, [], 1)

    def test_type(self):
        """It is tenacity's class, made of tenacity's kinds of objects."""
        retrying = RetryPolicy(max_elapsed=3).to_tenacity()
        assert type(retrying) is tenacity.Retrying
        assert isinstance(retrying.wait, tenacity.wait.wait_base)
        assert isinstance(retrying.stop, tenacity.stop.stop_base)
        assert isinstance(retrying.retry, tenacity.retry_base)
        assert retrying.reraise
