"""CircuitBreaker: which rules it has, what its window is, how breakers merge."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daglite.exceptions import PolicyError
from daglite.policies import CircuitBreaker


def test_defaults():
    """The defaults are those of the documentation."""
    assert CircuitBreaker().model_dump(exclude_unset=False) == {
        "key": None,
        "failure_rate": 0.5,
        "consecutive": None,
        "min_calls": 10,
        "window_type": "count",
        "window": 100,
        "slow_call": None,
        "slow_rate": 1.0,
        "break_for": 30.0,
        "break_factor": 1.0,
        "max_break": 600.0,
        "probes": 1,
        "probe_lease": None,
        "on_open": "park",
        "max_park": 600.0,
        "ignore": (),
        "counts": "attempt",
        "scope": "run",
        "mode": "on",
    }


def test_the_key_goes_by_position():
    """And nothing else does."""
    assert CircuitBreaker("api").key == "api"
    with pytest.raises(PolicyError, match="CircuitBreaker takes only key by position"):
        CircuitBreaker("api", 0.5)


@pytest.mark.parametrize(
    ("fields", "rate", "needs_window"),
    [
        ({}, 0.5, True),
        ({"consecutive": 5}, None, False),
        ({"consecutive": 5, "failure_rate": 0.5}, 0.5, True),
        ({"consecutive": None}, 0.5, True),
        ({"consecutive": 5, "slow_call": 2}, None, True),
        ({"slow_call": 2}, 0.5, True),
        ({"slow_call": 2, "failure_rate": None}, None, True),
        ({"consecutive": 5, "failure_rate": None}, None, False),
    ],
    ids=repr,
)
def test_rules(fields, rate, needs_window):
    """Failures in a row alone switch the failure rate off, unless it is given too."""
    breaker = CircuitBreaker(**fields)
    assert (breaker.failure_rate, breaker.needs_window) == (rate, needs_window)
    assert breaker.model_fields_set == set(fields)
    assert CircuitBreaker.model_validate(breaker.model_dump()) == breaker


def test_equal_by_what_they_do():
    """A rate that is off by itself is a rate that is off."""
    assert CircuitBreaker(consecutive=5) == CircuitBreaker(consecutive=5, failure_rate=None)
    assert CircuitBreaker(consecutive=5) != CircuitBreaker(consecutive=5, failure_rate=0.5)


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"window": 50}, 50),
        ({"window_type": "count", "window": 10}, 10),
        ({"window_type": "time"}, 100.0),
        ({"window_type": "time", "window": 9}, 9.0),
        ({"window_type": "time", "window": "5m"}, 300.0),
        ({"consecutive": 5, "slow_call": 1, "window": 20}, 20),
    ],
    ids=repr,
)
def test_windows(fields, window):
    """A number of calls or a duration, as the type says."""
    found = CircuitBreaker(**fields).window
    assert (found, type(found)) == (window, type(window))


def test_a_window_of_time_may_be_short():
    """How many calls it holds isn't known."""
    assert CircuitBreaker(window_type="time", window=1, min_calls=1000).window == 1


class TestMerging:
    def test_a_window_goes_with_its_type(self):
        """A window of the weaker layer is left out once the type is another, and comes back."""
        calls = CircuitBreaker(window=50)
        timed = CircuitBreaker(window_type="time").merged_over(calls)
        assert (timed.window_type, timed.window) == ("time", 100.0)
        assert "window" not in timed.given
        again = CircuitBreaker(window_type="count").merged_over(timed)
        assert again.window == 50
        minutes = CircuitBreaker(window_type="time", window="5m")
        assert CircuitBreaker(window_type="count").merged_over(minutes).window == 100
        assert CircuitBreaker("api").merged_over(minutes).window == 300.0

    def test_calls_over_a_window_of_time(self):
        """What a layer says itself isn't left out: it is refused, or says the type too."""
        minutes = CircuitBreaker(window_type="time", window="5m")
        with pytest.raises(
            PolicyError, match=r"window: 50 calls can't be the window of .*give win"
        ):
            CircuitBreaker(window=50).merged_over(minutes)
        assert CircuitBreaker(window=50, window_type="count").merged_over(minutes).window == 50

    def test_rules_add_up(self):
        """A rate of one layer and failures in a row of another make two rules."""
        merged = CircuitBreaker(consecutive=5).merged_over(CircuitBreaker(failure_rate=0.3))
        assert (merged.consecutive, merged.failure_rate) == (5, 0.3)

    @pytest.mark.parametrize(
        ("weaker", "stronger", "merged"),
        [
            ({"window": 50, "min_calls": 5}, {"consecutive": 5}, {"consecutive": 5}),
            ({"slow_call": 1, "slow_rate": 0.5}, {"slow_call": None}, {"slow_call": None}),
            ({"max_park": 5}, {"on_open": "fail"}, {"on_open": "fail"}),
        ],
        ids=repr,
    )
    def test_what_has_no_part_in_a_merge(self, weaker, stronger, merged):
        """It is left out without a word."""
        result = CircuitBreaker(**stronger).merged_over(CircuitBreaker(**weaker))
        assert result == CircuitBreaker(**merged)
        assert result.given == CircuitBreaker(**merged).given

    def test_who_says_how_long_to_wait_lets_wait(self):
        """A weaker layer whose calls fail at once takes nothing of that away."""
        weakest, middle = CircuitBreaker("api", on_open="fail"), CircuitBreaker(max_park=5)
        assert middle.merged_over(weakest).given == {"key": "api", "max_park": 5.0}
        assert middle.merged_over(weakest).on_open == "park"
        for strongest, expected in [
            (CircuitBreaker(probes=2), CircuitBreaker("api", probes=2, max_park=5)),
            (CircuitBreaker(on_open="fail"), CircuitBreaker("api", on_open="fail")),
            (
                CircuitBreaker(on_open="park"),
                CircuitBreaker("api", on_open="park", max_park=5),
            ),
            (CircuitBreaker(max_park=9), CircuitBreaker("api", max_park=9)),
        ]:
            assert strongest.merged_over(middle.merged_over(weakest)) == expected
            assert strongest.merged_over(middle).merged_over(weakest) == expected

    @given(
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "failure_rate": st.sampled_from([None, 0.2]),
                    "consecutive": st.sampled_from([None, 3]),
                    "window_type": st.sampled_from(["count", "time"]),
                    "window": st.sampled_from([20, 50]),
                    "slow_call": st.sampled_from([None, 2]),
                    "slow_rate": st.just(0.5),
                    "on_open": st.sampled_from(["park", "fail"]),
                    "max_park": st.just(9),
                },
            ),
            min_size=3,
            max_size=3,
        )
    )
    def test_the_order_of_merging(self, layers):
        """Three layers merge to the same whichever two come first."""
        try:
            weak, middle, strong = (CircuitBreaker(**fields) for fields in layers)
            one = strong.merged_over(middle.merged_over(weak))
            other = strong.merged_over(middle).merged_over(weak)
        except PolicyError:
            return
        assert one == other
        assert one.given == other.given


def test_ignored_errors_and_slow_calls():
    """With slow calls, a breaker that ignores all errors can trip."""
    assert CircuitBreaker(ignore=Exception, slow_call=2).ignore == (Exception,)
    assert CircuitBreaker(ignore=["builtins:KeyError", OSError]).ignore == (KeyError, OSError)


@pytest.mark.parametrize(
    ("on_open", "mode"),
    list(itertools.product(["park", "fail"], ["on", "metrics_only", "disabled", "forced_open"])),
)
def test_modes(on_open, mode):
    """Every mode goes with every way to refuse a call."""
    assert CircuitBreaker(on_open=on_open, mode=mode).mode == mode
