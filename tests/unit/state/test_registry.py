"""One state for each key, and one policy."""

from __future__ import annotations

from typing import Any

import pytest

from daglite.exceptions import PolicyError
from daglite.state.breaker import Breaker
from daglite.state.bucket import Bucket
from daglite.state.budget import Budget
from daglite.state.permits import Permits
from daglite.state.registry import Registry, Scope
from tests.unit.state.wanted import WantedBreaker, WantedBucket, WantedBudget, WantedPermits

KINDS = {
    "breaker": (Breaker, WantedBreaker(), "circuit breaker"),
    "bucket": (Bucket, WantedBucket(5), "rate limit"),
    "permits": (Permits, WantedPermits(5), "bulkhead"),
    "budget": (Budget, WantedBudget(), "retry budget"),
}


@pytest.mark.parametrize("method", KINDS)
def test_one_state_for_a_key(method: str) -> None:
    """All who use it share it; another key has another."""
    cls, policy, _ = KINDS[method]
    obtain = getattr(Registry(), method)
    first = obtain(policy, "db", "fetch")
    assert type(first) is cls
    assert obtain(policy, "db", "store") is first
    assert obtain(policy, "web", "fetch") is not first


def test_kinds_keep_apart() -> None:
    """The same name serves for each."""
    registry = Registry()
    states = [getattr(registry, method)(KINDS[method][1], "db", "fetch") for method in KINDS]
    assert [type(state) for state in states] == [cls for cls, _, _ in KINDS.values()]


def test_states_are_made_from_their_policy() -> None:
    """And breakers know their key."""
    registry = Registry()
    assert registry.breaker(WantedBreaker(mode="forced_open"), "db", "fetch").key == "db"
    bucket = registry.bucket(WantedBucket(2), "db", "fetch")
    assert [bucket.take(0) for _ in range(2)] == [0, 0.5]
    permits = registry.permits(WantedPermits(1, 0), "db", "fetch")
    assert [permits.acquire(token) for token in "ab"] == ["go", "full"]
    assert registry.budget(WantedBudget(min_per_second=0), "db", "fetch").reserve(0)


def test_two_policies_for_a_key() -> None:
    """The error names both users, and shows both policies."""
    registry = Registry()
    registry.bucket(WantedBucket(5), "api", "fetch")
    with pytest.raises(PolicyError) as caught:
        registry.bucket(WantedBucket(6), "api", "store")
    assert str(caught.value) == (
        "'fetch' and 'store' share the rate limit 'api', but not its policy: "
        "WantedBucket(rate=5, per=1.0, burst=1) and WantedBucket(rate=6, per=1.0, burst=1); "
        "give both the same, or another key"
    )
    assert registry.bucket(WantedBucket(5), "api", "store")


def test_two_policies_of_one_task() -> None:
    """A task that goes by two options is told so."""
    registry = Registry()
    registry.bucket(WantedBucket(5), "api", "fetch")
    with pytest.raises(
        PolicyError, match="'fetch' uses the rate limit 'api' with more than one policy"
    ):
        registry.bucket(WantedBucket(6), "api", "fetch")


@pytest.mark.parametrize("method", KINDS)
def test_runs_share_the_state_of_the_process(method: str) -> None:
    """Those that ask for that scope, and only those."""
    _, policy, _ = KINDS[method]
    process = Registry()
    one, two = Registry({"process": process}), Registry({"process": process})
    shared = getattr(one, method)(policy, "db", "fetch", "process")
    assert getattr(two, method)(policy, "db", "store", "process") is shared
    assert getattr(one, method)(policy, "web", "fetch") is not (
        getattr(two, method)(policy, "web", "fetch")
    )


def test_two_policies_in_two_runs() -> None:
    """The conflict is found by the one who knows both."""
    process = Registry()
    first = Registry({"process": process})
    first.bucket(WantedBucket(5), "api", "fetch", "process")
    later = Registry({"process": process})
    with pytest.raises(PolicyError, match="'fetch' and 'store' share the rate limit 'api'"):
        later.bucket(WantedBucket(6), "api", "store", "process")
    assert later.bucket(WantedBucket(5), "api", "store", "process")


def test_two_scopes_for_a_key() -> None:
    """Who shares it is part of the agreement."""
    for one, other in (("process", "run"), ("run", "process")):
        registry = Registry({"process": Registry()})
        registry.bucket(WantedBucket(5), "api", "fetch", one)
        with pytest.raises(PolicyError, match=f"its scope: '{one}' and '{other}'; give both"):
            registry.bucket(WantedBucket(5), "api", "store", other)


def test_a_scope_that_is_not_there() -> None:
    """It is refused, with those that are."""
    with pytest.raises(PolicyError, match=r"'fetch' .* scope='host'.*; use 'run'$"):
        Registry().bucket(WantedBucket(5), "api", "fetch", "host")
    with pytest.raises(PolicyError, match=r"use 'run' or 'process'$"):
        Registry({"process": Registry()}).bucket(WantedBucket(5), "api", "fetch", "host")
    wide = Registry({"process": Registry(), "host": Registry()})
    with pytest.raises(PolicyError, match=r"use 'run', 'process' or 'host'$"):
        wide.bucket(WantedBucket(5), "api", "fetch", "moon")  # type: ignore[arg-type]


def test_a_source_of_ones_own() -> None:
    """It is asked once for each key, and not for narrower scopes."""
    asked: list[tuple[Any, ...]] = []

    class Host:
        def obtain(self, *what: Any) -> str:
            asked.append(what)
            return "far away"

    registry, policy = Registry({"host": Host()}), WantedBreaker()
    for user in ("fetch", "store"):
        assert registry.breaker(policy, "db", user, "host") == "far away"
    registry.breaker(policy, "web", "fetch")
    assert asked == [("circuit breaker", "db", policy, "fetch")]


def test_breakers() -> None:
    """All of them, in the order in which they came, and nothing else."""
    process = Registry()
    registry = Registry({"process": process})
    assert registry.breakers() == ()
    web = registry.breaker(WantedBreaker(), "web", "fetch")
    registry.bucket(WantedBucket(5), "web", "fetch")
    registry.permits(WantedPermits(5), "web", "fetch")
    db = registry.breaker(WantedBreaker(), "db", "store", "process")
    assert registry.breakers() == (web, db)
    assert process.breakers() == (db,)


@pytest.mark.parametrize("method", KINDS)
def test_looking_makes_nothing(method: str) -> None:
    """What `check` refuses is what `obtain` would, and it leaves no trace."""
    _, policy, kind = KINDS[method]
    registry, other = Registry(), object()
    registry.check(kind, "db", other, "fetch")  # type: ignore[arg-type]
    state = getattr(registry, method)(policy, "db", "store")
    registry.check(kind, "db", policy, "fetch")  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match=f"'store' and 'fetch' share the {kind} 'db'"):
        registry.check(kind, "db", other, "fetch")  # type: ignore[arg-type]
    assert getattr(registry, method)(policy, "db", "fetch") is state


def test_a_key_is_free_when_nobody_has_its_state_any_more() -> None:
    """So a policy may change between two runs, and while one goes on it may not."""
    process = Registry()
    first, second = (Registry({"process": process}) for _ in range(2))
    first.bucket(WantedBucket(5), "api", "fetch", "process")
    second.bucket(WantedBucket(5), "api", "fetch", "process")
    later = Registry({"process": process})
    first.leave()
    with pytest.raises(PolicyError, match="'fetch' and 'store' share the rate limit 'api'"):
        later.bucket(WantedBucket(6), "api", "store", "process")
    del second
    made = later.bucket(WantedBucket(6), "api", "store", "process")
    assert Registry({"process": process}).bucket(WantedBucket(6), "api", "x", "process") is made


def test_what_was_asked_for_in_a_registry_itself_stays() -> None:
    """Who did that isn't known, so it is never given up."""
    process = Registry()
    process.bucket(WantedBucket(5), "api", "fetch")
    with pytest.raises(PolicyError, match="share"):
        Registry({"process": process}).bucket(WantedBucket(6), "api", "store", "process")


def test_a_registry_between_two() -> None:
    """What it doesn't share itself it has from the wider one, for the one who asks."""
    process = Registry()
    between = Registry({"process": process})

    def asks(scope: Scope, policy: WantedBucket) -> Any:
        registry = Registry({"run": between, "process": between})
        return registry, registry.bucket(policy, "api", "fetch", scope)

    one, shared = asks("process", WantedBucket(5))
    assert Registry({"process": process}).bucket(WantedBucket(5), "api", "x", "process") is shared
    with pytest.raises(PolicyError, match="scope"):
        asks("run", WantedBucket(5))
    del one
    other, own = asks("run", WantedBucket(7))
    assert asks("run", WantedBucket(7))[1] is own
    assert process.breakers() == ()
    assert other.bucket(WantedBucket(7), "api", "fetch", "run") is own


def test_a_registry_between_two_tells_the_wider_one_of_each_holder() -> None:
    """So a state is there until the last of them has ended, or left, and not the first."""
    process = Registry()
    between = Registry({"process": process})

    def holder() -> tuple[Registry, Any]:
        registry = Registry({"process": between})
        return registry, registry.bucket(WantedBucket(5), "api", "fetch", "process")

    first, shared = holder()
    second, too = holder()
    third, three = holder()
    assert shared is too is three
    del first, second
    later = Registry({"process": process})
    with pytest.raises(PolicyError, match="share the rate limit 'api', but not its policy"):
        later.bucket(WantedBucket(6), "api", "store", "process")
    third.leave()
    assert later.bucket(WantedBucket(6), "api", "store", "process") is not shared


def test_a_registry_between_two_keeps_nothing_that_was_given_up() -> None:
    """What the wider one made anew meanwhile is what the next one gets."""
    process = Registry()
    between = Registry({"process": process})

    def asks(source: Registry, rate: int) -> tuple[Registry, Any]:
        registry = Registry({"process": source})
        return registry, registry.bucket(WantedBucket(rate), "api", "fetch", "process")

    asks(between, 5)[0].leave()
    asks(process, 6)[0].leave()
    there, made = asks(process, 5)
    here, same = asks(between, 5)
    assert same is made
    there.leave()
    assert asks(process, 5)[1] is made
    here.leave()
