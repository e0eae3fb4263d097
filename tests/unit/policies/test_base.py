"""What all policies have in common: equal, hashable, picklable, JSON, repr, merging."""

import copy
import json
import math
import operator
import pickle
import types
from datetime import timedelta

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from pydantic.json_schema import GenerateJsonSchema

from daglite.exceptions import PolicyError
from daglite.policies import (
    Bulkhead,
    CachePolicy,
    Chaos,
    CircuitBreaker,
    FallbackPolicy,
    Hedge,
    MapPolicy,
    Policy,
    PolicySet,
    RateLimit,
    ResourceLimits,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
)

KINDS = [
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
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
]
NAMES = {kind.__name__: kind for kind in KINDS}

POLICIES = [
    RetryPolicy(),
    RetryPolicy(3, "exponential", delay="200ms"),
    RetryPolicy(0),
    RetryPolicy(5, [1, "2s", timedelta(seconds=3)], jitter="equal", seed=-1),
    RetryPolicy(backoff="decorrelated", max_delay="5m", hint=None),
    RetryPolicy(backoff="fibonacci", max_hint="1h"),
    RetryPolicy(retry_on=(ConnectionError, pickle.PickleError), never=ConnectionResetError),
    RetryPolicy(retry_on="builtins:TimeoutError", never=["builtins:KeyError"]),
    RetryPolicy(retry_on=operator.truth, retry_on_result="operator:not_"),
    RetryPolicy(infrastructure_retries=9, max_elapsed="10m", factor=3, retry_on_result=None),
    TimeoutPolicy(30),
    TimeoutPolicy("200ms", total=timedelta(minutes=1), grace=0, on_expiry="abandon"),
    TimeoutPolicy(None, total="1h"),
    CircuitBreaker(),
    CircuitBreaker("api", failure_rate=0.25, min_calls=5, window=20, ignore=KeyError),
    CircuitBreaker(window_type="time", window="5m", scope="host", counts="call"),
    CircuitBreaker(consecutive=5, break_for=15, on_open="fail", mode="metrics_only"),
    CircuitBreaker(failure_rate=None, slow_call="2s", slow_rate=0.5, ignore=[Exception]),
    CircuitBreaker(break_factor=2, max_break="1h", probes=3, probe_lease=9, max_park="1m"),
    RetryBudget(),
    RetryBudget(0.1, min_per_second=0, window="1m", on_exhausted="fail", key="api", scope="host"),
    RateLimit(100),
    RateLimit(0.5, "1m", burst=10, max_wait=0, key="api", scope="process"),
    Bulkhead(4),
    Bulkhead(4, 0, key="db"),
    Bulkhead(4, 10, max_wait="30s"),
    FallbackPolicy(None),
    FallbackPolicy(0),
    FallbackPolicy(0.0),
    FallbackPolicy(False),
    FallbackPolicy("none", on=(OSError, pickle.PickleError)),
    FallbackPolicy(func=operator.truth),
    Hedge("200ms"),
    Hedge(0, max_hedges=2),
    Hedge(quantile=0.95),
    MapPolicy(),
    MapPolicy("skip"),
    MapPolicy("collect", min_success_ratio=0.9, max_failures=0),
    Chaos(error=OSError),
    Chaos(0.1, error=(OSError, pickle.PickleError), latency="2s", kill=True, seed=-1),
    Chaos(1, corrupt="operator:not_"),
    ResourceLimits(),
    ResourceLimits("1GB", "1m", max_processes=0, max_open_files=64, grow=1.5, poll_interval="1s"),
    ResourceLimits(cpus=0.5, gpus=1, resources={"licence": 1, "disk": 0.5}),
    CachePolicy(),
    CachePolicy("1h", ignore="verbose", version=2, env=["HOME", "LANG"], single_flight=False),
    CachePolicy(key="operator:add", version="2", cache_errors=OSError, error_ttl=60),
    CachePolicy(60, stale_if_error="1h", refresh_ahead=5, depends_on=(operator.add, Hedge)),
    CachePolicy(max_value_bytes="10MB", cache_none=False, verify="hmac", store="cache/here"),
    CachePolicy(serializer="pickle", on_store_error="raise", on_unhashable="skip"),
    RetryPolicy(5, budget=RetryBudget(0.1, key="api")),
    RetryPolicy(budget=None, max_retries=7),
    PolicySet(circuit_breaker=CircuitBreaker(), rate_limit=5, bulkhead=4, fallback=None),
    PolicySet(hedge=Hedge(1), idempotent=True, map_policy=MapPolicy("skip"), cache=True),
    PolicySet(max_memory="1GB", chaos=Chaos(kill=True), fallback=FallbackPolicy(0)),
    PolicySet(limits=None, cache=None, idempotent=False),
    PolicySet(),
    PolicySet(retry=3, timeout="30s"),
    PolicySet(retry=None, timeout=None, around_call=None, around_attempt=None),
    PolicySet(retry=RetryPolicy(backoff="none"), around_attempt=[math.floor, operator.add]),
]

every_policy = pytest.mark.parametrize("policy", POLICIES, ids=repr)


def same(one, other):
    return (
        one == other
        and hash(one) == hash(other)
        and type(one) is type(other)
        and one.model_fields_set == other.model_fields_set
        and one.given == other.given
    )


@every_policy
def test_json_round_trip(policy):
    """A policy written to JSON is read as the same one, with the same fields given."""
    assert same(type(policy).model_validate_json(policy.model_dump_json()), policy)


@every_policy
def test_dict_round_trip(policy):
    """A policy dumped to a dict is read as the same one."""
    assert same(type(policy).model_validate(policy.model_dump()), policy)
    assert same(type(policy).model_validate(policy.model_dump(mode="json")), policy)
    read_only = types.MappingProxyType(policy.model_dump())
    assert same(type(policy).model_validate(read_only), policy)


@every_policy
def test_pickle_round_trip(policy):
    """A policy survives pickle, also after it has been used."""
    before = pickle.dumps(policy)
    if isinstance(policy, RetryPolicy):
        policy.delay_before(1, draw=0.5)
    assert same(pickle.loads(pickle.dumps(policy)), policy)
    assert pickle.dumps(policy) == before


@every_policy
def test_repr_round_trip(policy):
    """The repr of a policy can be pasted back."""
    assert same(eval(repr(policy), dict(NAMES)), policy)
    assert str(policy) == repr(policy)


@pytest.mark.parametrize("kind", KINDS)
def test_json_schema(kind):
    """The JSON schema has every field, its default as JSON writes it, and no other fields."""
    schema = kind.model_json_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    short = {"max_memory", "max_cpu_time"} if kind is PolicySet else set()
    assert set(schema["properties"]) == set(kind.model_fields) | short
    for name, field in kind.model_fields.items():
        if field.is_required():
            assert name in schema["required"]
            continue
        found = schema["properties"][name]
        assert {"$ref", "type", "anyOf", "enum", "const"} & set(found) or name == "value", found
        written = ["builtins:Exception"] if field.default == (Exception,) else field.default
        assert found["default"] == ([] if written == () else written)


@pytest.mark.parametrize(
    ("kind", "name", "bound"),
    [
        (RetryPolicy, "delay", {"minimum": 0}),
        (RetryPolicy, "factor", {"minimum": 1}),
        (RateLimit, "per", {"exclusiveMinimum": 0}),
        (TimeoutPolicy, "grace", {"minimum": 0}),
        (TimeoutPolicy, "attempt", {"exclusiveMinimum": 0}),
        (ResourceLimits, "max_memory", {"exclusiveMinimum": 0}),
    ],
)
def test_bounds_in_the_json_schema(kind, name, bound):
    """They are those of the field, where it takes a number."""
    found = kind.model_json_schema()["properties"][name]
    number = found["anyOf"][0] if "anyOf" in found else found
    assert {key: value for key, value in number.items() if "inimum" in key} == bound


def test_bounds_in_the_json_schema_of_resources():
    """Amounts are above 0."""
    amounts = ResourceLimits.model_json_schema()["properties"]["resources"]["additionalProperties"]
    assert amounts == {"type": "number", "exclusiveMinimum": 0}


def test_a_list_of_delays_in_the_json_schema():
    """It isn't empty."""
    found = RetryPolicy.model_json_schema()["properties"]["backoff"]["anyOf"]
    (delays,) = (each for each in found if each.get("type") == "array")
    assert delays["minItems"] == 1


def test_json_schema_of_a_generator_of_ones_own():
    """Pydantic's own options go through, by name or by position."""
    asked = []

    class Generator(GenerateJsonSchema):
        def generate(self, schema, mode="validation"):
            asked.append(mode)
            return super().generate(schema, mode)

    schema = Hedge.model_json_schema(True, "#/x/{model}", Generator)
    assert schema["title"] == "Hedge"
    assert asked == ["validation"]
    RetryPolicy.model_json_schema(True, "#/x/{model}")
    assert Hedge.model_json_schema(by_alias=False)["title"] == "Hedge"


@every_policy
def test_copies(policy):
    """Copies are the same."""
    assert same(copy.copy(policy), policy)
    assert same(copy.deepcopy(policy), policy)
    assert same(policy.model_copy(), policy)
    assert same(policy.model_copy(deep=True), policy)


def test_mappings_differ():
    """Policies that differ in a mapping alone aren't equal."""
    one, same_one, other = (ResourceLimits(resources={"tokens": n}) for n in (1, 1, 2))
    assert one == same_one
    assert one != other


def test_policies_differ():
    """Policies of the table are different from each other."""
    assert len(set(POLICIES)) == len(POLICIES)


def test_repr_shows_what_was_given():
    """The repr has the given fields alone, by name."""
    policy = RetryPolicy(3, delay="200ms", retry_on=(ValueError, pickle.PickleError))
    assert repr(policy) == (
        "RetryPolicy(max_retries=3, delay=0.2, retry_on=(ValueError, '_pickle:PickleError'))"
    )
    assert repr(RetryPolicy()) == "RetryPolicy()"
    assert repr(RetryPolicy(backoff=[1])) == "RetryPolicy(backoff=(1.0,))"
    assert "<lambda>" in repr(RetryPolicy(retry_on=lambda error: True))


def test_all_fields_on_demand():
    """The defaults can be dumped too."""
    fields = RetryPolicy(1).model_dump(exclude_unset=False)
    assert list(fields) == list(RetryPolicy.model_fields)
    assert fields["max_delay"] == 60.0
    whole = RetryPolicy(1).model_dump_json(exclude_unset=False)
    assert RetryPolicy.model_validate_json(whole) == RetryPolicy(1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("retry_on", lambda error: True),
        ("retry_on", tenacity.retry_if_exception_type(ValueError)),
        ("retry_on", type("Local", (Exception,), {})),
        ("retry_on_result", lambda result: False),
        ("retry_on_result", {}.get),
        ("backoff", tenacity.wait_fixed(3)),
    ],
    ids=repr,
)
def test_code_without_a_name(field, value):
    """What has no import string is accepted in Python and refused in JSON, with its field."""
    policy = RetryPolicy(**{field: value})
    for written in (policy, PolicySet(retry=policy)):
        with pytest.raises(PolicyError, match=f"{field} .*can't be written to JSON"):
            written.model_dump_json()
        with pytest.raises(PolicyError, match=f"{field} .*can't be written to JSON"):
            written.model_dump(mode="json")
    assert policy.model_dump()[field] in (value, (value,))


def test_middleware_without_a_name():
    """A middleware that has no import string can't be written to JSON."""
    with pytest.raises(PolicyError, match=r"around_call .*can't be written to JSON"):
        PolicySet(around_call=lambda call, call_next: None).model_dump_json()


def test_given_fields():
    """What was given is known, whatever its value."""
    assert RetryPolicy(3).model_fields_set == {"max_retries"}
    assert RetryPolicy(max_elapsed=None).model_fields_set == {"max_elapsed"}
    assert RetryPolicy().model_fields_set == set()
    assert TimeoutPolicy(total=3).given == {"total": 3.0}


def test_equality_is_about_values():
    """Policies that say the same are equal, given or by default."""
    assert RetryPolicy(3, "exponential") == RetryPolicy() == RetryPolicy(delay="1s")
    assert hash(RetryPolicy(3)) == hash(RetryPolicy())
    assert RetryPolicy(2) != RetryPolicy(3)
    assert RetryPolicy(3) != TimeoutPolicy(3)


class TestMerging:
    def test_the_stronger_wins(self):
        """Given fields of the stronger policy win, field by field."""
        merged = RetryPolicy(5, jitter="none").merged_over(RetryPolicy(2, "linear", delay=3))
        assert same(merged, RetryPolicy(5, "linear", delay=3, jitter="none"))

    def test_defaults_do_not_win(self):
        """A default of the stronger policy doesn't hide what the weaker one gives."""
        merged = RetryPolicy().merged_over(RetryPolicy(7))
        assert same(merged, RetryPolicy(7))

    def test_a_given_default_wins(self):
        """A value that happens to be the default wins if it was given."""
        merged = RetryPolicy(3, max_elapsed=None).merged_over(RetryPolicy(7, max_elapsed=5))
        assert same(merged, RetryPolicy(3, max_elapsed=None))

    def test_contradictions(self):
        """A merge that makes no sense is refused."""
        with pytest.raises(PolicyError, match=r"max_delay \(1s\) is below delay \(5s\)"):
            RetryPolicy(max_delay=1).merged_over(RetryPolicy(delay=5))
        with pytest.raises(PolicyError, match=r"attempt \(30s\) is above total \(10s\)"):
            TimeoutPolicy(30).merged_over(TimeoutPolicy(total=10))

    def test_an_inherited_limit_of_attempts(self):
        """It is cut to a total that the stronger policy gives; a longer total gives it back."""
        cut = TimeoutPolicy(total=10).merged_over(TimeoutPolicy(30, grace=1))
        assert same(cut, TimeoutPolicy(10, total=10, grace=1))
        assert same(TimeoutPolicy(total=20).merged_over(cut), TimeoutPolicy(20, total=20, grace=1))
        assert same(TimeoutPolicy(total=90).merged_over(cut), TimeoutPolicy(30, total=90, grace=1))
        assert same(
            cut.merged_over(TimeoutPolicy(3, total=5)), TimeoutPolicy(10, total=10, grace=1)
        )
        assert same(TimeoutPolicy(5).merged_over(cut), TimeoutPolicy(5, total=10, grace=1))
        assert TimeoutPolicy(total=30).merged_over(TimeoutPolicy(30)).attempt == 30

    @pytest.mark.parametrize(
        ("weaker", "stronger", "merged"),
        [
            ({"factor": 7}, {"backoff": "constant"}, {"backoff": "constant"}),
            ({"backoff": "constant"}, {"factor": 7}, {"backoff": "constant"}),
            (
                {"delay": 5, "max_delay": 9, "jitter": "equal"},
                {"backoff": "none"},
                {"backoff": "none"},
            ),
            (
                {"delay": 5, "max_delay": 9, "jitter": "equal"},
                {"backoff": [1, 2]},
                {"backoff": [1, 2], "max_delay": 9, "jitter": "equal"},
            ),
            ({"jitter": "none"}, {"backoff": "decorrelated"}, {"backoff": "decorrelated"}),
            ({"max_hint": 9}, {"hint": None}, {"hint": None}),
        ],
        ids=repr,
    )
    def test_what_has_no_part_in_a_merge(self, weaker, stronger, merged):
        """It is left out without a word, and is back when it has a part again."""
        result = RetryPolicy(**stronger).merged_over(RetryPolicy(**weaker))
        assert same(result, RetryPolicy(**merged))
        assert same(type(result).model_validate_json(result.model_dump_json()), result)
        again = RetryPolicy(backoff="exponential", hint="wait").merged_over(result)
        fields = {**weaker, **stronger, "backoff": "exponential", "hint": "wait"}
        assert same(again, RetryPolicy(**fields))
        assert same(pickle.loads(pickle.dumps(result)), result)
        assert same(
            RetryPolicy(backoff="exponential").merged_over(pickle.loads(pickle.dumps(result))),
            RetryPolicy(backoff="exponential").merged_over(result),
        )

    @given(st.data())
    def test_field_by_field(self, data):
        """The merge is that of the given fields, as of dicts."""
        fields = st.fixed_dictionaries(
            {},
            optional={
                "max_retries": st.integers(0, 9),
                "backoff": st.sampled_from(["constant", "linear", "fibonacci"]),
                "delay": st.floats(0, 9),
                "max_delay": st.floats(9, 99),
                "jitter": st.sampled_from(["none", "equal", "full"]),
                "hint": st.sampled_from([None, "wait"]),
                "seed": st.none() | st.integers(),
            },
        )
        weaker, stronger = data.draw(fields), data.draw(fields)
        merged = RetryPolicy(**stronger).merged_over(RetryPolicy(**weaker))
        assert same(merged, RetryPolicy(**{**weaker, **stronger}))
        assert merged.given == {**weaker, **stronger}


def test_own_policy():
    """A policy of one's own needs nothing but fields."""

    class Own(Policy):
        limit: int = 3

    assert Own(limit=4).limit == 4
    assert repr(Own(limit=4)) == "Own(limit=4)"
    assert Own().merged_over(Own(limit=4)) == Own(limit=4)
    with pytest.raises(PolicyError, match="Own has no field 'limt', did you mean 'limit'"):
        Own(limt=4)
    with pytest.raises(PolicyError, match=r"Own.limit is wrong: .*; given: 'x'"):
        Own(limit="x")


def test_subclass_of_a_policy():
    """A subclass takes its own fields too."""

    class Own(RetryPolicy):
        note: str = ""

    own = Own(2, note="mine")
    assert (own.max_retries, own.note) == (2, "mine")
    assert own.merged_over(RetryPolicy(delay=3)) == Own(2, delay=3, note="mine")
