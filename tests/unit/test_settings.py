"""
Settings: what holds for a process, checked when it is written down.
"""

import gc
import os
import pickle
import threading
import warnings
import weakref
from datetime import timedelta

import pytest

from daglite import evaluate, find_backend, task
from daglite import settings as module
from daglite.backends import registry
from daglite.exceptions import SettingsError
from daglite.settings import DagliteSettings, get_global_settings, set_global_settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Each test begins with a process that has no settings and no pools."""
    monkeypatch.setattr(module, "_current", None)
    monkeypatch.setattr(registry, "_shared", registry._Shared())


def test_the_defaults():
    """Without a word: sequential, no limit, no retries."""
    settings = DagliteSettings()
    assert settings.max_backend_threads is None
    assert settings.default_backend == "sequential"
    assert settings.task_timeout is None
    assert settings.max_retries == 0
    assert settings.max_abandoned == 128


@pytest.mark.parametrize("timeout", [30, 30.0, "30s", timedelta(seconds=30)])
def test_a_timeout_is_read_from_any_duration(timeout):
    """Whatever it is written as, a timeout is seconds."""
    assert DagliteSettings(task_timeout=timeout).task_timeout == 30.0


def test_settings_are_values():
    """Settings can be compared, hashed, copied and sent, and not changed."""
    settings = DagliteSettings(max_retries=2, task_timeout="30s")
    assert settings == DagliteSettings(max_retries=2, task_timeout=30)
    assert hash(settings) == hash(DagliteSettings(max_retries=2, task_timeout=30))
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert DagliteSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("name", ["max_retries", "colour"])
def test_settings_cannot_be_changed(name):
    """Neither by assignment nor by deletion; the message says how to make others."""
    settings = DagliteSettings(max_retries=2)
    with pytest.raises(SettingsError, match=rf"model_copy\(update=\{{'{name}': 3\}}\)"):
        setattr(settings, name, 3)
    with pytest.raises(SettingsError, match="can't be changed"):
        delattr(settings, name)
    assert settings == DagliteSettings(max_retries=2)


def test_a_copy_is_checked():
    """A copy with changes is checked like new settings, and keeps what was given."""
    settings = DagliteSettings(max_retries=2)
    for threads in (0, -5):
        with pytest.raises(SettingsError, match="'max_backend_threads' must be"):
            settings.model_copy(update={"max_backend_threads": threads})
    copy = settings.model_copy(update={"task_timeout": "30s"})
    assert copy == DagliteSettings(max_retries=2, task_timeout=30)
    assert copy.model_fields_set == {"max_retries", "task_timeout"}
    assert settings.model_copy() == settings


def test_settings_are_checked_once_more():
    """`validate` finds what went round the checks of the constructor."""
    assert DagliteSettings().validate() is None
    with pytest.raises(SettingsError, match=r"'max_backend_threads' must be .*; given: 0"):
        DagliteSettings.model_construct(max_backend_threads=0).validate()


def test_a_settings_error_is_a_value_error():
    """Who expects a `ValueError` for a wrong value gets one."""
    with pytest.raises(ValueError, match="'max_backend_threads' must be"):
        DagliteSettings(max_backend_threads=0)


REFUSED = [
    ("max_backend_threads", 0),
    ("max_backend_threads", True),
    ("max_backend_threads", 2.0),
    ("max_backend_threads", "4"),
    ("default_backend", ""),
    ("default_backend", None),
    ("task_timeout", 0),
    ("task_timeout", -1),
    ("task_timeout", True),
    ("task_timeout", "soon"),
    ("task_timeout", [30]),
    ("task_timeout", float("nan")),
    ("task_timeout", float("inf")),
    ("max_retries", -1),
    ("max_retries", True),
    ("max_retries", None),
    ("max_abandoned", 0),
    ("max_abandoned", False),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_value_that_cannot_be_is_refused(name, value):
    """The message names the setting, what is wanted, and what was given."""
    with pytest.raises(SettingsError) as caught:
        DagliteSettings(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"setting '{name}' must be ")
    assert message.endswith(f"given: {value!r}")


def test_all_wrong_values_are_named_at_once():
    """Nobody has to try again for each mistake."""
    with pytest.raises(SettingsError, match=r"'max_retries'.*; .*'max_abandoned'"):
        DagliteSettings(max_retries=-1, max_abandoned=0)


def test_validation_in_other_ways_gives_the_same_error():
    """A mapping that is read from elsewhere is checked in the same words."""
    with pytest.raises(SettingsError, match=r"^setting 'max_retries' must be .*; given: -1$"):
        DagliteSettings.model_validate({"max_retries": -1})
    with pytest.raises(SettingsError, match=r"^setting 'max_retries' must be .*; given: -1$"):
        DagliteSettings.model_validate_json('{"max_retries": -1}')
    with pytest.raises(SettingsError, match="no setting '3'"):
        DagliteSettings.model_validate({3: 4})


@pytest.mark.parametrize("wrong", [3, None, "x", ["max_retries"]])
def test_what_is_no_mapping_of_settings(wrong):
    """It is refused, and shown."""
    with pytest.raises(SettingsError, match="made from a mapping of their names; given: "):
        DagliteSettings.model_validate(wrong)


def test_json_that_cannot_be_read():
    """It is refused as settings are."""
    with pytest.raises(SettingsError, match="the settings can't be read: Invalid JSON"):
        DagliteSettings.model_validate_json("{")


def test_a_long_value_is_shortened():
    """A message stays readable whatever was given."""
    with pytest.raises(SettingsError) as caught:
        DagliteSettings(max_retries="9" * 1000)
    assert len(str(caught.value)) < 200


def test_a_value_without_a_repr():
    """The message is made even where the value's own repr fails."""

    class Rude:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(SettingsError, match=r"'max_retries' must be .* given: a Rude"):
        DagliteSettings(max_retries=Rude())


def test_a_misspelt_setting_is_recognised():
    """An unknown name is refused with the name that was meant."""
    with pytest.raises(SettingsError, match="no setting 'max_retry'; did you mean 'max_retries'"):
        DagliteSettings(max_retry=3)


def test_an_unknown_setting_is_refused_with_those_that_exist():
    """An unknown name that is like no other one is answered with the list."""
    with pytest.raises(SettingsError, match=r"no setting 'colour'; the settings are .*max_retries"):
        DagliteSettings(colour="red")


@pytest.mark.parametrize(
    "name",
    ["enable_caching", "cache_backend", "log_level", "enable_profiling"],
)
def test_a_setting_of_later_versions_is_refused(name):
    """What nothing carries out yet is never accepted and ignored."""
    with pytest.raises(SettingsError, match=f"'{name}' isn't available in this version"):
        DagliteSettings(**{name: 1})


def test_threads_is_what_was_asked_for():
    """A given number of threads is the number of threads."""
    assert DagliteSettings(max_backend_threads=7).threads == 7


@pytest.mark.parametrize(("cpus", "threads"), [(1, 5), (4, 8), (64, 32)])
def test_threads_follows_the_cpus_of_the_process(monkeypatch, cpus, threads):
    """Without a number there are four more threads than CPUs, and at most 32."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cpus)), raising=False)
    assert DagliteSettings().threads == threads


@pytest.mark.parametrize(("cpus", "threads"), [(None, 5), (4, 8)])
def test_threads_where_affinity_is_unknown(monkeypatch, cpus, threads):
    """Systems that can't say which CPUs a process may use say how many there are, or nothing."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert DagliteSettings().threads == threads


def test_global_settings_are_the_defaults_until_they_are_set():
    """A process begins with the defaults, and always has the same ones."""
    assert get_global_settings() == DagliteSettings()
    assert get_global_settings() is get_global_settings()


def test_global_settings_are_those_that_were_set():
    """What was set is what is read."""
    settings = DagliteSettings(max_retries=2)
    set_global_settings(settings)
    assert get_global_settings() is settings


def test_all_threads_see_the_same_global_settings():
    """Threads that ask for the first time at once get one object."""
    together = threading.Barrier(8)
    seen = []

    def ask():
        together.wait()
        seen.append(get_global_settings())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(settings) for settings in seen}) == 1


@pytest.mark.parametrize("wrong", [None, {"max_retries": 2}, DagliteSettings, "threading"])
def test_only_settings_can_be_global_settings(wrong):
    """Anything else is refused, says how it is written, and changes nothing."""
    before = get_global_settings()
    with pytest.raises(SettingsError, match=r"DagliteSettings\(max_backend_threads=8\)"):
        set_global_settings(wrong)
    assert get_global_settings() is before


def test_settings_with_wrong_values_never_become_global():
    """However they came by them."""
    with pytest.raises(SettingsError, match="'max_backend_threads' must be"):
        set_global_settings(DagliteSettings.model_construct(max_backend_threads=0))
    assert get_global_settings() == DagliteSettings()


def test_another_size_while_the_pool_exists_is_a_warning():
    """It tells which pool there is and which there will be, at the line that asked for it."""
    set_global_settings(DagliteSettings(max_backend_threads=6))
    old = find_backend("threading")
    with pytest.warns(UserWarning, match=r"with 6 threads .* with 2 threads") as caught:
        set_global_settings(DagliteSettings(max_backend_threads=2))
    assert caught[0].filename == __file__
    assert (old.slots, find_backend("threading").slots) == (6, 2)


def test_another_cap_while_the_pool_exists_is_a_warning():
    """The cap on abandoned calls belongs to the pool too."""
    find_backend("threading")
    with pytest.warns(UserWarning, match=r"max_abandoned=128; .* max_abandoned=7;"):
        set_global_settings(DagliteSettings(max_abandoned=7))
    assert find_backend("threading").max_abandoned == 7


def test_no_pool_no_warning():
    """Nobody is warned of a pool that was never made, nor twice of the same one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for threads in (6, 3, 5):
            set_global_settings(DagliteSettings(max_backend_threads=threads))
    find_backend("threading")
    with pytest.warns(UserWarning, match="with 5 threads"):
        set_global_settings(DagliteSettings(max_backend_threads=4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_global_settings(DagliteSettings(max_backend_threads=3))


def test_the_same_size_while_the_pool_exists_is_no_warning():
    """Other settings take effect at once, so there is nothing to warn of."""
    pool = find_backend("threading")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_global_settings(DagliteSettings(max_retries=2))
        set_global_settings(DagliteSettings(max_backend_threads=pool.slots))
    assert find_backend("threading") is pool


def test_a_pool_of_another_size_ends():
    """Runs take the new pool; the old one is gone when no run uses it any more."""
    one = task(lambda: 1, name="one").bind()
    set_global_settings(DagliteSettings(max_backend_threads=6))
    assert evaluate(one, default_backend="threading") == 1
    old = weakref.ref(find_backend("threading"))
    assert old() is not None
    with pytest.warns(UserWarning, match="with 6 threads"):
        set_global_settings(DagliteSettings(max_backend_threads=2))
    assert evaluate(one, default_backend="threading") == 1
    gc.collect()
    assert old() is None
    assert find_backend("threading").slots == 2
    for threads in (7, 8, 9):
        settings = DagliteSettings(max_backend_threads=threads)
        assert evaluate(one, default_backend="threading", settings=settings) == 1
        gc.collect()
        assert set(registry._shared.pools) == {(2, 128), (threads, 128)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_while_the_lock_is_held():
    """The child doesn't wait for a thread that it doesn't have."""
    with module._lock:
        child = os.fork()
        if not child:
            os._exit(get_global_settings() != DagliteSettings())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
