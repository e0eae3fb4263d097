"""Which policies and which backend a task has, and where each came from."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from types import FunctionType
from typing import Any

import pytest
from tenacity import wait_fixed

from daglite import (
    Backend,
    Chaos,
    CircuitBreaker,
    DagliteSettings,
    FallbackPolicy,
    Hedge,
    MapPolicy,
    PolicySet,
    ResourceLimits,
    RetryPolicy,
    SequentialBackend,
    TimeoutPolicy,
    evaluate,
    find_backend,
    task,
)
from daglite.core.graph import TaskInfo
from daglite.core.plan import Step
from daglite.exceptions import BackendError, PolicyError
from daglite.planner import NOT_YET, Planner
from daglite.testing import ScriptedBackend, VirtualClock


@task
def work(x: int = 0) -> int:
    return x


def plain_predicate(result: object) -> bool:
    return False


def planner(
    settings: DagliteSettings | None = None, backend: str | Backend = "sequential", **layers: Any
) -> Planner:
    return Planner(settings or DagliteSettings(), backend, find_backend, **layers)


def info_of(made: Any) -> TaskInfo:
    info: TaskInfo = made.bind().task
    return info


def step_of(made: Any, *args: Any, **layers: Any) -> Step:
    return planner(*args, **layers).step_of(info_of(made))


def test_without_policies() -> None:
    """There is no chain, and in place the task runs straight."""
    step = step_of(work)
    assert (step.bare, step.straight, step.timed, step.policies) == (True, True, False, PolicySet())
    assert (step.name, step.backend.name) == ("work", "sequential")


@pytest.mark.parametrize(
    ("options", "bare", "straight", "timed"),
    [
        ({"retry": 3}, False, True, False),
        ({"timeout": 3}, False, True, True),
        ({"retry": 3, "timeout": 3, "bulkhead": 3}, False, True, True),
        ({"retry": RetryPolicy(retry_on_result=plain_predicate)}, False, False, False),
        ({"backend": "threading"}, True, False, False),
        ({"backend": "threading", "retry": 3}, False, False, False),
    ],
)
def test_kinds_of_steps(options: dict[str, Any], bare: bool, straight: bool, timed: bool) -> None:
    """Straight is what is in place, and has nothing to wait for until a call fails."""
    step = step_of(work.with_options(**options))
    assert (step.bare, step.straight, step.timed) == (bare, straight, timed)


def test_the_settings_are_the_weakest() -> None:
    """They fill what nobody else says."""
    settings = DagliteSettings(max_retries=5, task_timeout=7)
    step = step_of(work, settings)
    assert step.policies.retry == RetryPolicy(5)
    assert step.policies.timeout == TimeoutPolicy(7)
    assert dict(step.policies.origins) == {"retry": "settings", "timeout": "settings"}
    own = step_of(work.with_options(retry=1, timeout=None), settings)
    assert own.policies.retry is not None
    assert (own.policies.retry.max_retries, own.policies.timeout) == (1, None)


@pytest.mark.parametrize("layer", ["policies", "@task", "overrides"])
def test_the_settings_fill_only_empty_slots(layer: str) -> None:
    """A policy of any other layer is what it is without them: no field comes from the settings."""
    retry, timeout = RetryPolicy(backoff="none"), TimeoutPolicy(total=30)
    options: dict[str, Any] = {"retry": retry, "timeout": timeout}
    settings = DagliteSettings(max_retries=1, task_timeout=60)
    if layer == "@task":
        step = step_of(work.with_options(**options), settings)
    else:
        step = step_of(work, settings, **{layer: PolicySet(**options)})
    assert step.policies == PolicySet(**options)
    assert "settings" not in step.policies.origins.values()
    half = step_of(work.with_options(timeout=timeout), settings)
    assert half.policies == PolicySet(retry=RetryPolicy(1), timeout=timeout)


def test_what_starts_afresh_has_nothing_of_the_settings() -> None:
    """Nor of what the task said before its policy was taken away."""
    again = (
        work.with_options(retry=3).with_options(retry=None).with_options(retry=RetryPolicy(delay=5))
    )
    step = step_of(again, DagliteSettings(max_retries=9))
    assert step.policies.retry == RetryPolicy(delay=5)
    step = step_of(again, policies=PolicySet(retry=9))
    assert step.policies.retry == RetryPolicy(delay=5)


def test_precedence_and_origins() -> None:
    """evaluate(policies=) ‹ @task ‹ evaluate(overrides=), field by field."""
    step = step_of(
        work.with_options(retry=RetryPolicy(delay=4)),
        policies=PolicySet(retry=RetryPolicy(2, "constant", delay=3), timeout=8),
        overrides=PolicySet(timeout=TimeoutPolicy(total=90)),
    )
    retry, timeout = step.policies.retry, step.policies.timeout
    assert retry is not None
    assert timeout is not None
    assert (retry.max_retries, retry.backoff, retry.delay) == (2, "constant", 4)
    assert (timeout.attempt, timeout.total) == (8, 90)
    assert dict(step.policies.origins) == {"retry": "@task", "timeout": "evaluate(overrides=)"}


def test_an_inherited_limit_of_attempts() -> None:
    """It is cut to the total that a stronger layer gives."""
    made = work.with_options(timeout=TimeoutPolicy(total=30))
    step = step_of(made, policies=PolicySet(timeout="1m"))
    assert step.policies.timeout == TimeoutPolicy(30, total=30)
    step = step_of(work.with_options(timeout=30), overrides=PolicySet(timeout={"total": 5}))
    assert step.policies.timeout == TimeoutPolicy(5, total=5)


def test_overrides_take_away() -> None:
    """None in a stronger layer wins."""
    step = step_of(work.with_options(retry=3, timeout=3), overrides=PolicySet(retry=None))
    assert step.policies.retry is None
    assert dict(step.policies.origins) == {"timeout": "@task"}


NOT_CARRIED_OUT: dict[str, Any] = {
    "bulkhead": 4,
    "cache": True,
    "circuit_breaker": CircuitBreaker(),
    "fallback": FallbackPolicy(0),
    "rate_limit": 100,
}


@pytest.mark.parametrize("slot", sorted(NOT_YET))
def test_what_nobody_carries_out(slot: str) -> None:
    """It is refused from whichever layer it comes, never accepted and ignored."""
    options: dict[str, Any] = {slot: NOT_CARRIED_OUT.get(slot)}
    spelling = f"{slot}="
    message = (
        rf"^task 'work': {spelling} can't be carried out in this version of daglite yet; leave"
    )
    with pytest.raises(PolicyError, match=message):
        step_of(work.with_options(**options))
    for layer in ("policies", "overrides"):
        with pytest.raises(PolicyError, match=message):
            step_of(work, **{layer: PolicySet(**options)})


def test_chaos_is_off() -> None:
    """A task with it has no chain unless the plan is for a run with chaos."""
    made = work.with_options(chaos=Chaos(0.5, error=OSError))
    assert step_of(made).straight
    assert not step_of(made, chaos=True).bare
    assert step_of(work.with_options(chaos=Chaos(0, error=OSError)), chaos=True).straight


@pytest.mark.parametrize("on_error", ["raise", "skip", "collect"])
def test_tolerant_maps(on_error: Any) -> None:
    """Only those that go on after a failure need an engine."""
    step = step_of(work.with_options(map_policy=MapPolicy(on_error)))
    assert step.bare
    assert step.straight is (step.tolerance is None) is (on_error == "raise")


def test_what_is_taken_away_is_not_refused() -> None:
    """Nor is what only says something of a task."""
    made = work.with_options(idempotent=True, cache=True)
    step = step_of(made, overrides=PolicySet(cache=None))
    assert step.policies.idempotent is True
    assert step.policies.cache is None
    with pytest.raises(PolicyError, match="task 'work': cache= can't be carried out"):
        step_of(work.with_options(cache=True))


def test_hedging_needs_a_task_that_is_idempotent() -> None:
    """The message names the task and the layer."""
    with pytest.raises(PolicyError, match=r"task 'work': hedge=.* say idempotent=True.*'@task'"):
        step_of(work.with_options(hedge=Hedge(1)))


def test_backends() -> None:
    """The task's own, else the default; a name or an object."""
    backend = ScriptedBackend(VirtualClock())
    assert step_of(work, None, backend).backend is backend
    assert step_of(work.with_options(backend=backend)).backend is backend
    named = step_of(work.with_options(backend="threading"), None, backend)
    assert named.backend.name == "threading"
    alias = step_of(work, None, "synchronous").backend
    assert isinstance(alias, SequentialBackend)


def test_an_unknown_backend() -> None:
    """It is refused with what there is."""
    with pytest.raises(BackendError, match="there is no backend 'thread'; did you mean"):
        step_of(work.with_options(backend="thread"))


def test_steps_are_made_once() -> None:
    """However many nodes a task has."""
    plan, info = planner(), info_of(work)
    assert plan.step_of(info) is plan.step_of(info)


def referring_to_itself(kind: str) -> Any:
    """A task with a function or a policy that holds the task."""
    held: list[Any] = []

    def closure(x: int = 0) -> int:
        return x + len(held)

    async def middleware(call: Any, call_next: Any) -> Any:
        return await call_next(call) if held else None

    def of_error(error: Exception) -> bool:
        return bool(held)

    class Wait(wait_fixed):
        def __hash__(self) -> int:
            return len(held)

    class Holder:
        def __init__(self, held: object) -> None:
            self.held = held

    plain = work.func
    attribute = FunctionType(plain.__code__, plain.__globals__, "attribute")
    attribute.held = held  # type: ignore[attr-defined]
    attribute.__module__ = plain.__module__
    namespace: dict[str, Any] = {"__name__": "gone"}
    made = {
        "closure": lambda: task(closure),
        "async": lambda: task(closure, around_attempt=middleware),
        "attribute": lambda: task(attribute),
        "namespace": lambda: task(FunctionType(plain.__code__, namespace, "namespace")),
        "object": lambda: task(partial(plain, held), name="object"),
        "around_call": lambda: work.with_options(around_call=middleware),
        "retry_on": lambda: work.with_options(retry=RetryPolicy(1, retry_on=of_error)),
        "retry_on_result": lambda: work.with_options(
            retry=RetryPolicy(1, retry_on_result=of_error)
        ),
        "backoff": lambda: work.with_options(retry=RetryPolicy(1, Wait(0))),
        "fallback": lambda: work.with_options(fallback=FallbackPolicy(attribute)),
        "value": lambda: work.with_options(fallback=FallbackPolicy((1, Holder(held)))),
    }[kind]()
    held.append(made)
    namespace["held"] = made
    return made


@pytest.mark.parametrize(
    "kind",
    [
        "closure",
        "async",
        "attribute",
        "namespace",
        "object",
        "around_call",
        "retry_on",
        "retry_on_result",
        "backoff",
        "fallback",
        "value",
    ],
)
def test_a_task_that_refers_to_itself_ends(kind: str) -> None:
    """Its step is kept, but by the task: it can't keep it, nor what it has captured."""
    plan = planner(overrides=PolicySet(fallback=None))
    info = referring_to_itself(kind)
    assert plan.step_of(info) is plan.step_of(info)
    gone = weakref.ref(info)
    del info
    gc.collect()
    assert gone() is None


def test_steps_of_plain_functions_go_with_the_task() -> None:
    """Policies without code, or with plain functions, don't change that."""
    plan = planner()
    made = work.with_options(
        retry=RetryPolicy(3, retry_on=(OSError, KeyError), retry_on_result=plain_predicate),
        timeout=3,
        around_call=None,
        fallback=FallbackPolicy((0, "x", None)),
        limits=ResourceLimits(max_memory="1GB"),
        idempotent=True,
    ).with_options(fallback=None, limits=None)
    assert plan.step_of(made) is plan.step_of(made)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


def test_contradictions_name_the_task() -> None:
    """And the layers that they come from."""
    made = work.with_options(timeout=TimeoutPolicy(total=5))
    with pytest.raises(PolicyError, match=r"task 'work': .*evaluate\(overrides=\)"):
        step_of(made, overrides=PolicySet(timeout=20))
    made = work.with_options(retry=RetryPolicy(2, [9], jitter="none"))
    with pytest.raises(PolicyError, match="task 'work': no retry can ever start"):
        step_of(made, overrides=PolicySet(timeout=TimeoutPolicy(total=5)))


class Capable:
    """A backend with the given capabilities; nothing runs on it."""

    name = "capable"
    slots = 1

    def __init__(self, **capabilities: bool) -> None:
        self.capabilities = type(ScriptedBackend.capabilities)(**capabilities)

    def submit(self, call: Any, done: Any) -> None: ...
    def cancel(self, call: Any) -> None: ...
    def cancel_run(self, run: Any) -> None: ...
    def is_running(self, call: Any) -> bool:
        return False

    def stack_of(self, call: Any) -> str | None:
        return None

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("wanted", "capabilities", "refused"),
    [
        ("kill", {}, "'kill'.* use on_expiry='abandon'"),
        ("kill", {"cancel": True}, "'kill'.* use on_expiry='cancel' or 'abandon'"),
        ("cancel", {}, "'cancel'.* use on_expiry='abandon'"),
        ("kill", {"kill": True}, None),
        ("cancel", {"cancel": True}, None),
        ("abandon", {}, None),
        (None, {}, None),
    ],
)
def test_promises(wanted: Any, capabilities: dict[str, bool], refused: str | None) -> None:
    """What a backend can't do is refused, never done otherwise."""
    backend = Capable(**capabilities)
    made = work.with_options(timeout=TimeoutPolicy(3, on_expiry=wanted), backend=backend)
    if refused is not None:
        with pytest.raises(PolicyError, match=f"task 'work' asks for on_expiry={refused}"):
            step_of(made)
    else:
        assert step_of(made).on_expiry == wanted


LIMITED: list[dict[str, Any]] = [
    {"max_memory": "1GB"},
    {"max_cpu_time": 60},
    {"limits": ResourceLimits(max_processes=0)},
    {"limits": ResourceLimits(max_open_files=10)},
    {"limits": ResourceLimits(cpus=2)},
    {"timeout": TimeoutPolicy(3, on_expiry="kill")},
]


@pytest.mark.parametrize("options", LIMITED)
@pytest.mark.parametrize("default", ["sequential", "threading", Capable(cancel=True)])
def test_what_needs_processes_gets_them(options: dict[str, Any], default: Any) -> None:
    """A task that names no backend runs where its policies are kept."""
    assert step_of(work.with_options(**options), None, default).backend.name == "process"
    able = Capable(kill=True, limits=True)
    able.slots = 2
    assert step_of(work.with_options(**options), None, able).backend is able


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_memory": "1GB"}, r"max_memory=, but backend 'threading' can't limit that"),
        ({"max_cpu_time": 60}, r"max_cpu_time=, but backend 'threading' can't limit that"),
        (
            {"limits": ResourceLimits(max_processes=0)},
            r"max_processes=, but backend 'threading' can't limit that",
        ),
        ({"limits": ResourceLimits(cpus=2)}, "cpus=2, but backend 'threading' doesn't count CPUs"),
    ],
)
def test_limits_that_a_named_backend_cant_keep(options: dict[str, Any], told: str) -> None:
    """It is refused, and told which one can."""
    with pytest.raises(PolicyError, match=f"task 'work' .*{told}; use backend='process', or leave"):
        step_of(work.with_options(backend="threading", **options))


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        ({"gpus": 1}, "needs gpus=1.0, which backend 'process' doesn't hand out"),
        ({"resources": {"licence": 1}}, "needs resources=.*licence.*'process' doesn't hand out"),
        ({"cpus": 100_000}, "needs cpus=100000, but backend 'process' has"),
    ],
)
def test_what_nobody_hands_out(needs: dict[str, Any], told: str) -> None:
    """It is refused: a task that needs it would run without."""
    with pytest.raises(PolicyError, match=f"task 'work' {told}"):
        step_of(work.with_options(backend="process", limits=ResourceLimits(**needs)))


def test_a_step_dies_with_its_task() -> None:
    """Whatever its function captures, the task itself among it."""

    def make() -> weakref.ref[Any]:
        @task
        def itself(x: int = 1) -> str:
            return itself.name

        assert evaluate(itself.bind()) == "itself"
        assert evaluate(itself.bind()) == "itself"
        return weakref.ref(itself)

    seen = make()
    gc.collect()
    assert seen() is None
