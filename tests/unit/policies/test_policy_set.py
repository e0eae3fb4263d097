"""PolicySet: short spellings, merging over layers, contradictions."""

import itertools
import pickle
from datetime import timedelta

import pytest
import tenacity
from hypothesis import given, reject
from hypothesis import strategies as st

from daglite.exceptions import PolicyError
from daglite.policies import (
    Bulkhead,
    CachePolicy,
    Chaos,
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    MapPolicy,
    PolicySet,
    RateLimit,
    ResourceLimits,
    RetryPolicy,
    TimeoutPolicy,
    resolve_policies,
)


def outer(call, call_next):
    return call_next(call)


def inner(call, call_next):
    return call_next(call)


def last(call, call_next):
    return call_next(call)


def resolved(*layers):
    """The layers merged; they are called a, b, c, from the weakest."""
    return resolve_policies(list(zip("abcdef", layers, strict=False)))


class TestSpellings:
    @pytest.mark.parametrize(
        ("short", "long"),
        [
            ({"retry": 3}, {"retry": RetryPolicy(3)}),
            ({"retry": 0}, {"retry": RetryPolicy(0)}),
            ({"retry": {"max_retries": 3, "delay": "1m"}}, {"retry": RetryPolicy(3, delay=60)}),
            ({"timeout": 30}, {"timeout": TimeoutPolicy(30)}),
            ({"timeout": 0.5}, {"timeout": TimeoutPolicy(0.5)}),
            ({"timeout": "30s"}, {"timeout": TimeoutPolicy(30)}),
            ({"timeout": timedelta(minutes=1)}, {"timeout": TimeoutPolicy(60)}),
            ({"timeout": {"total": "1m"}}, {"timeout": TimeoutPolicy(total=60)}),
            ({"circuit_breaker": {"key": "api"}}, {"circuit_breaker": CircuitBreaker("api")}),
            ({"rate_limit": 100}, {"rate_limit": RateLimit(100)}),
            ({"rate_limit": 0.5}, {"rate_limit": RateLimit(0.5)}),
            ({"rate_limit": {"rate": 5, "per": "1m"}}, {"rate_limit": RateLimit(5, 60)}),
            ({"bulkhead": 4}, {"bulkhead": Bulkhead(4)}),
            ({"bulkhead": {"max_concurrent": 4}}, {"bulkhead": Bulkhead(4)}),
            ({"fallback": {"value": None}}, {"fallback": FallbackPolicy(None)}),
            ({"cache": True}, {"cache": CachePolicy()}),
            ({"cache": 1}, {"cache": CachePolicy(1)}),
            ({"cache": "1h"}, {"cache": CachePolicy(3600)}),
            ({"cache": timedelta(hours=1)}, {"cache": CachePolicy(3600)}),
            ({"cache": {"ttl": 5}}, {"cache": CachePolicy(5)}),
            ({"max_memory": "1GB"}, {"limits": ResourceLimits("1GB")}),
            ({"max_cpu_time": 60}, {"limits": ResourceLimits(max_cpu_time=60)}),
            (
                {"max_memory": None, "max_cpu_time": "1m"},
                {"limits": ResourceLimits(None, "1m")},
            ),
            ({"around_call": outer}, {"around_call": (outer,)}),
            ({"around_call": [outer, inner]}, {"around_call": (outer, inner)}),
            ({"around_attempt": "operator:add"}, {"around_attempt": "operator:add"}),
            ({"around_attempt": ()}, {}),
            ({"around_call": []}, {}),
        ],
        ids=repr,
    )
    def test_short_is_long(self, short, long):
        """A short spelling means the same as the long one."""
        assert PolicySet(**short) == PolicySet(**long)
        assert PolicySet(**short).model_fields_set == set(long)
        assert PolicySet.model_validate(short) == PolicySet(**long)

    def test_other_slots_have_no_short_form(self):
        """A mapping is read, and None and True are what they are."""
        fields = {"hedge": {"delay": 1}, "map_policy": {"on_error": "skip"}, "idempotent": True}
        policies = PolicySet.model_validate({**fields, "chaos": {"kill": True}, "limits": {}})
        assert (policies.hedge, policies.map_policy) == (Hedge(1), MapPolicy("skip"))
        assert (policies.chaos, policies.limits) == (Chaos(kill=True), ResourceLimits())
        assert policies.idempotent is True

    def test_a_short_limit_takes_a_limit_away(self):
        """None for it is a field of the limits, not the slot."""
        merged = resolved(PolicySet(max_memory="1GB", max_cpu_time=9), PolicySet(max_memory=None))
        assert merged.limits == ResourceLimits(None, 9)

    def test_none_is_something(self):
        """None is not the same as nothing."""
        assert PolicySet(retry=None) != PolicySet()
        assert PolicySet(around_call=None) != PolicySet()
        assert PolicySet(around_call=None) == PolicySet(around_call=None)
        assert PolicySet(around_call=None).around_call == ()
        assert PolicySet(around_call=None).given == {"around_call": None}
        assert PolicySet() != "nothing"

    def test_equal_sets_merge_alike(self):
        """Sets differ if their policies were given different fields, for they merge differently."""
        assert PolicySet(retry=RetryPolicy(3)) != PolicySet(retry=RetryPolicy())
        assert len({PolicySet(retry=3), PolicySet(retry=RetryPolicy(3)), PolicySet(retry=2)}) == 2
        plain = PolicySet(retry=RetryPolicy(backoff="none"))
        merged = plain.merged_over(PolicySet(retry=RetryPolicy(delay=5)))
        assert merged.retry == plain.retry
        assert merged != plain
        assert merged == pickle.loads(pickle.dumps(merged))


class TestResolving:
    def test_nothing(self):
        """No layers, or empty ones, say nothing."""
        for result in (resolved(), resolved(PolicySet(), PolicySet())):
            assert result == PolicySet()
            assert result.retry is None
            assert result.around_call == ()
            assert dict(result.origins) == {}

    def test_slots_of_different_layers(self):
        """Each slot comes from the layers that have it, and its origin is known."""
        result = resolved(PolicySet(retry=3), PolicySet(timeout=30), PolicySet(around_call=outer))
        assert result == PolicySet(retry=3, timeout=30, around_call=outer)
        assert dict(result.origins) == {"retry": "a", "timeout": "b", "around_call": "c"}

    def test_field_by_field(self):
        """A policy is merged field by field; its origin is the strongest layer with a part."""
        result = resolved(
            PolicySet(retry=RetryPolicy(2, "linear", delay=2)),
            PolicySet(retry=RetryPolicy(jitter="none", delay=3)),
            PolicySet(retry=5),
            PolicySet(timeout=1),
        )
        assert result.retry == RetryPolicy(5, "linear", delay=3, jitter="none")
        assert result.origins["retry"] == "c"

    def test_timeouts(self):
        """A default for attempts and a task's total go together."""
        result = resolved(PolicySet(timeout=30), PolicySet(timeout=TimeoutPolicy(total="5m")))
        assert result.timeout == TimeoutPolicy(30, total=300)

    def test_none_takes_away(self):
        """None of a stronger layer takes a policy away."""
        result = resolved(
            PolicySet(retry=3, timeout=3, around_call=outer),
            PolicySet(retry=None, around_call=None),
        )
        assert result == PolicySet(timeout=3)
        assert dict(result.origins) == {"timeout": "a"}

    def test_afresh_after_none(self):
        """What comes after None isn't merged with what was taken away."""
        result = resolved(
            PolicySet(retry=RetryPolicy(9, "linear"), around_call=outer),
            PolicySet(retry=None, around_call=None),
            PolicySet(retry=RetryPolicy(delay=2), around_call=inner),
        )
        assert result == PolicySet(retry=RetryPolicy(delay=2), around_call=inner)
        assert dict(result.origins) == {"retry": "c", "around_call": "c"}

    def test_what_is_said_of_a_task_is_replaced(self):
        """Whether it may be carried out twice is for the strongest layer to say."""
        result = resolved(PolicySet(idempotent=True), PolicySet(idempotent=False))
        assert result.idempotent is False
        assert result.origins["idempotent"] == "b"
        assert resolved(PolicySet(idempotent=True), PolicySet(idempotent=None)).idempotent is None
        assert PolicySet(idempotent=True).merged_over(PolicySet(idempotent=False)).idempotent

    def test_middlewares_add_up(self):
        """Middlewares of weaker layers are further out."""
        result = resolved(
            PolicySet(around_call=outer, around_attempt=[last]),
            PolicySet(around_call=[inner, last], around_attempt=()),
        )
        assert result.around_call == (outer, inner, last)
        assert result.around_attempt == (last,)
        assert result.origins["around_attempt"] == "a"

    def test_origins_survive_pickle(self):
        """A resolved set keeps its origins, which can't be changed."""
        result = resolved(PolicySet(retry=3))
        assert pickle.loads(pickle.dumps(result)).origins == {"retry": "a"}
        with pytest.raises(TypeError):
            result.origins["retry"] = "b"


def totals(seconds):
    return TimeoutPolicy(total=seconds)


layers = st.builds(
    lambda fields: PolicySet(**fields),
    st.fixed_dictionaries(
        {},
        optional={
            "retry": st.none()
            | st.builds(
                lambda fields: RetryPolicy(**fields),
                st.fixed_dictionaries({}, optional={"max_retries": st.integers(0, 3)})
                | st.fixed_dictionaries({"backoff": st.sampled_from(["none", "linear"])})
                | st.fixed_dictionaries({"delay": st.integers(0, 3)}),
            ),
            "timeout": st.sampled_from([None, 3, 6, *map(totals, (4, 5, 9))]),
            "around_call": st.sampled_from([None, (), outer, (inner, last)]),
            "fallback": st.sampled_from(
                [None, FallbackPolicy(0), FallbackPolicy(func=repr), FallbackPolicy(1, on=OSError)]
            ),
            "idempotent": st.sampled_from([None, True, False]),
            "max_memory": st.sampled_from([None, 1, 2]),
        },
    ),
)


class TestMergedOver:
    """One layer made of two."""

    def test_keeps_none(self):
        """None stays, so that it takes away what still weaker layers say."""
        merged = PolicySet(retry=None).merged_over(PolicySet(retry=3, timeout=3))
        assert merged == PolicySet(retry=None, timeout=3)

    def test_afresh_stays_afresh(self):
        """What was given after None never merges with what is weaker than the None."""
        weakest = PolicySet(retry=RetryPolicy(9, "linear"))
        afresh = PolicySet(retry=RetryPolicy(delay=5)).merged_over(
            PolicySet(retry=None).merged_over(PolicySet(retry=3))
        )
        over = afresh.merged_over(weakest)
        with_more = PolicySet(retry=RetryPolicy(jitter="none")).merged_over(afresh)
        for merged, fields in (
            (afresh, {"delay": 5}),
            (over, {"delay": 5}),
            (with_more, {"delay": 5, "jitter": "none"}),
        ):
            result = resolved(weakest, merged)
            assert result.retry.given == fields
            assert dict(result.origins) == {"retry": "b"}
        assert over.retry.given == {"delay": 5}
        taken = PolicySet(retry=None).merged_over(afresh)
        assert taken == PolicySet(retry=None)
        assert resolved(weakest, taken).retry is None

    def test_contradiction(self):
        """A merge that makes no sense is refused."""
        with pytest.raises(
            PolicyError, match=r"timeout=TimeoutPolicy\(attempt=3.0\) over timeout="
        ):
            PolicySet(timeout=3).merged_over(PolicySet(timeout=TimeoutPolicy(total=1)))

    @given(st.lists(layers, min_size=2, max_size=5), st.data())
    def test_merging_first_changes_nothing(self, sets, data):
        """Layers merged two by two resolve like the layers themselves."""
        try:
            whole = resolved(*sets)
        except PolicyError:
            reject()
        where = data.draw(st.integers(0, len(sets) - 2))
        weaker, stronger = sets[where : where + 2]
        merged = stronger.merged_over(weaker)
        assert resolved(*sets[:where], merged, *sets[where + 2 :]) == whole
        assert pickle.loads(pickle.dumps(merged)) == merged
        assert hash(pickle.loads(pickle.dumps(merged))) == hash(merged)


class TestContradictions:
    def test_of_a_merge(self):
        """A policy that makes no sense once merged is refused: fields, layers and the way out."""
        with pytest.raises(PolicyError) as caught:
            resolve_policies(
                [
                    ("evaluate(policies=)", PolicySet(timeout=TimeoutPolicy(total=10))),
                    ("@task", PolicySet(timeout=30)),
                ]
            )
        message = str(caught.value)
        for part in ("'evaluate(policies=)' and '@task'", "attempt (30s) is above total (10s)"):
            assert part in message
        assert "timeout=None" in message

    @pytest.mark.parametrize(
        "retry",
        [
            RetryPolicy(3, "constant", jitter="none", delay=10),
            RetryPolicy(3, "exponential", jitter="none", delay=11),
            RetryPolicy(3, "linear", jitter="equal", delay=20),
            RetryPolicy(3, [10, 1], jitter="none"),
            RetryPolicy(3, "decorrelated", delay=10),
        ],
        ids=repr,
    )
    def test_retries_that_never_start(self, retry):
        """Retries whose shortest first wait fills the total can't start: refused."""
        with pytest.raises(PolicyError, match=r"retry.delay .*timeout.total \(10s\).*'b' and 'a'"):
            resolved(PolicySet(timeout=TimeoutPolicy(total=10)), PolicySet(retry=retry))

    @pytest.mark.parametrize(
        "retry",
        [
            RetryPolicy(3, "constant", delay=50),
            RetryPolicy(3, "constant", jitter="none", delay=9.9),
            RetryPolicy(3, "exponential", jitter="equal", delay=19),
            RetryPolicy(3, [1, 50], jitter="none"),
            RetryPolicy(0, "constant", jitter="none", delay=50),
            RetryPolicy(3, tenacity.wait_fixed(50)),
            RetryPolicy(3, "none"),
        ],
        ids=repr,
    )
    def test_no_false_alarms(self, retry):
        """Retries that may start are accepted."""
        for timeout in (TimeoutPolicy(total=10), TimeoutPolicy(1, total=10)):
            assert resolved(PolicySet(retry=retry, timeout=timeout)).retry == retry
        assert resolved(PolicySet(retry=retry, timeout=1)).retry == retry

    def test_max_elapsed(self):
        """Retries whose shortest first wait passes max_elapsed can't start either."""
        fields = {"backoff": "constant", "jitter": "none", "delay": 5}
        assert resolved(PolicySet(retry=RetryPolicy(max_elapsed=5, **fields)))
        with pytest.raises(PolicyError, match=r"retry.max_elapsed \(4s\).*\(from 'a'\)"):
            resolved(PolicySet(retry=RetryPolicy(max_elapsed=4, **fields)))

    @pytest.mark.parametrize(
        ("retry", "refused"),
        [
            (RetryPolicy(max_hint="2m"), True),
            (RetryPolicy(max_hint="1m"), False),
            (RetryPolicy(), False),
            (RetryPolicy(hint=None), False),
        ],
        ids=repr,
    )
    def test_hints_longer_than_the_deadline(self, retry, refused):
        """A max_hint that was given can't be above the total; the default may be."""
        layers = PolicySet(retry=retry), PolicySet(timeout=TimeoutPolicy(total="1m"))
        if not refused:
            assert resolved(*layers).retry == retry
        else:
            with pytest.raises(
                PolicyError, match=r"retry.max_hint \(2m\) is above timeout.total \(1m\).*'a' and"
            ):
                resolved(*layers)
        assert resolved(layers[0], PolicySet(timeout=5))

    @pytest.mark.parametrize(
        ("breaker", "refused"),
        [
            (CircuitBreaker(window_type="time", window="59s"), True),
            (CircuitBreaker(window_type="time", window="1m"), False),
            (CircuitBreaker(window_type="time", window="5m"), False),
            (CircuitBreaker(window=10), False),
            (CircuitBreaker(consecutive=5), False),
            (CircuitBreaker(window_type="time", window=3, slow_call=1, failure_rate=None), True),
        ],
        ids=repr,
    )
    def test_windows_shorter_than_calls(self, breaker, refused):
        """A window of time holds at least two attempts that time out."""
        layers = PolicySet(circuit_breaker=breaker), PolicySet(timeout=30)
        if not refused:
            assert resolved(*layers).circuit_breaker == breaker
        else:
            with pytest.raises(
                PolicyError, match=r"circuit_breaker.window .* is below twice timeout.attempt \(30s"
            ):
                resolved(*layers)
        assert resolved(layers[0])
        assert resolved(layers[0], PolicySet(timeout=TimeoutPolicy(total=30)))

    @pytest.mark.parametrize("idempotent", [False, None])
    def test_hedging_needs_a_word(self, idempotent):
        """Only what says that it may be carried out twice is hedged."""
        hedged = PolicySet(hedge=Hedge(1))
        with pytest.raises(
            PolicyError, match=r"hedge=Hedge\(delay=1.0\) may .*idempotent=True .*'a'"
        ):
            resolved(hedged, PolicySet(idempotent=idempotent))
        assert resolved(hedged, PolicySet(idempotent=True)).hedge == Hedge(1)
        assert resolved(hedged, PolicySet(hedge=None)).hedge is None

    def test_hedges_that_never_start(self):
        """Neither after the total, nor beside a first call that keeps them out."""
        hedged = PolicySet(hedge=Hedge(5), idempotent=True)
        with pytest.raises(
            PolicyError,
            match=r"no hedge can ever start: .*\(5s\) .*timeout.total \(5s\).*'a' and 'b'",
        ):
            resolved(hedged, PolicySet(timeout=TimeoutPolicy(total=5)))
        assert resolved(hedged, PolicySet(timeout=TimeoutPolicy(total=6))).hedge == Hedge(5)
        assert resolved(hedged, PolicySet(timeout=5)).hedge == Hedge(5)
        with pytest.raises(PolicyError, match=r"max_concurrent is 1; raise it.*'a' and 'b'"):
            resolved(hedged, PolicySet(bulkhead=1))
        assert resolved(hedged, PolicySet(bulkhead=2)).hedge == Hedge(5)
        by_share = PolicySet(hedge=Hedge(quantile=0.9), timeout=TimeoutPolicy(total=5))
        assert resolved(by_share, PolicySet(idempotent=True)).hedge == Hedge(quantile=0.9)

    def test_a_layer_may_be_contradictory(self):
        """Only what comes out is checked: a stronger layer may put a weaker one right."""
        bad = PolicySet(
            retry=RetryPolicy(3, "constant", jitter="none", delay=9),
            timeout=TimeoutPolicy(total=5),
        )
        assert resolved(bad, PolicySet(timeout=TimeoutPolicy(total=20)))
        assert resolved(bad, PolicySet(retry=None))


def test_every_order_of_three_layers():
    """The strongest layer that gives a field decides it, whatever the order."""
    sets = [PolicySet(retry=n) for n in (1, 2, 3)]
    for order in itertools.permutations(sets):
        assert resolved(*order).retry == order[-1].retry
