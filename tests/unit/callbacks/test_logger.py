"""
Logger: a run's events in the standard logging library.
"""

import logging
import sys
import uuid

import pytest

from daglite.callbacks import Logger
from daglite.core.events import (
    AttemptFailed,
    CallAbandoned,
    CallParked,
    MapProgress,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    RunFinished,
    RunStarted,
)

ORDINARY = [
    RunStarted("r1", 0.0, 2, ("train",)),
    NodeCompleted("r1", 1.0, 3, "load", 1.0),
    CallParked("r1", 1.0, 3, "load", None, 1, 2.0, "retry"),
    RunFinished("r1", 2.0, True, 2.0),
    RunFinished("r1", 2.0, False, 2.0),
]
FIXED = [
    (NodeStarted("r1", 0.0, 3, "load"), logging.DEBUG),
    (MapProgress("r1", 1.0, 3, "clean", 40, 100), logging.DEBUG),
    (AttemptFailed("r1", 1.0, 3, "clean", 7, 2, OSError("gone"), 0.5), logging.WARNING),
    (CallAbandoned("r1", 1.0, 3, "load", None, 1, 35.0), logging.WARNING),
    (NodeFailed("r1", 1.0, 3, "clean", 7, ValueError("bad")), logging.ERROR),
]


class Records(logging.Handler):
    """A handler that keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def target():
    """A logger of its own for each test, which lets everything through."""
    logger = logging.getLogger(f"test.{uuid.uuid4().hex}")
    logger.propagate = False
    logger.setLevel(1)
    return logger


@pytest.fixture
def records(target):
    handler = Records()
    target.addHandler(handler)
    return handler.records


@pytest.mark.parametrize("event", ORDINARY)
@pytest.mark.parametrize("level", ["DEBUG", "info", "WARNING", 17])
def test_ordinary_lines_are_written_at_the_given_level(target, records, event, level):
    """Starts and ends of runs, completed nodes and waits are ordinary lines."""
    Logger(level, target).on_event(event)
    number = level if isinstance(level, int) else getattr(logging, level.upper())
    assert [(r.levelno, r.getMessage()) for r in records] == [(number, str(event))]


@pytest.mark.parametrize(("event", "level"), FIXED)
@pytest.mark.parametrize("given", ["DEBUG", "CRITICAL"])
def test_other_lines_have_levels_of_their_own(target, records, event, level, given):
    """Details are DEBUG, failed attempts WARNING, failed nodes ERROR, whatever is given."""
    Logger(given, target).on_event(event)
    assert [(r.levelno, r.getMessage()) for r in records] == [(level, str(event))]


def test_info_is_the_level_when_none_is_given(target, records):
    """`Logger()` writes ordinary lines at INFO."""
    Logger(logger=target).on_event(ORDINARY[0])
    assert records[0].levelno == logging.INFO


def test_a_record_carries_the_fields_of_its_event(target, records):
    """What a message says is there as attributes too."""
    Logger("INFO", target).on_event(AttemptFailed("r1", 1.5, 3, "clean", 7, 2, OSError("x"), 0.5))
    record = records[0]
    assert record.event == "AttemptFailed"
    assert (record.run_id, record.node_id, record.node_name) == ("r1", 3, "clean")
    assert (record.element, record.attempt, record.ran) == (7, 2, 0.5)
    assert record.run_time == 1.5
    assert record.error == "OSError: x"


@pytest.mark.parametrize("event", [*ORDINARY, *(event for event, _ in FIXED)])
def test_a_format_may_name_the_common_fields(target, event):
    """A format string with daglite's fields works for every event."""
    logger = Logger("INFO", target)
    lines = []

    class Lines(logging.Handler):
        def emit(self, record):
            lines.append(self.format(record).splitlines()[0])

    handler = Lines()
    handler.setFormatter(
        logging.Formatter("%(run_id)s|%(node_id)s|%(node_name)s|%(element)s|%(attempt)s|%(event)s")
    )
    target.addHandler(handler)
    logger.on_event(event)
    assert len(lines) == 1
    assert lines[0].startswith("r1|")
    assert lines[0].endswith(f"|{type(event).__name__}")


def test_a_failed_node_brings_its_traceback(target, records):
    """A log file alone is enough to see where a task failed."""
    try:
        raise ValueError("bad")
    except ValueError as caught:
        error = caught
    Logger("INFO", target).on_event(NodeFailed("r1", 1.0, 3, "load", None, error))
    assert "raise ValueError" in logging.Formatter().format(records[0])


def test_a_percent_sign_in_a_name_is_only_text(target, records):
    """A task's name is never taken for a format."""
    Logger("INFO", target).on_event(NodeCompleted("r1", 1.0, 3, "50%s", 1.0))
    assert records[0].getMessage().startswith("50%s completed")


def test_a_level_that_is_switched_off_costs_no_text(target, records):
    """An event that nobody would see isn't turned into text."""

    class Silent(NodeCompleted):
        def __str__(self):
            raise AssertionError("not to be printed")

    target.setLevel(logging.WARNING)
    Logger("INFO", target).on_event(Silent("r1", 1.0, 3, "load", 1.0))
    assert records == []


def test_the_logger_may_be_named_or_left_out():
    """None means "daglite", and a name finds the logger of that name."""
    assert "logger='daglite'" in repr(Logger())
    assert repr(Logger("warning", "my.app")) == "Logger(level='WARNING', logger='my.app')"


def test_logging_is_never_configured():
    """No handler and no level is set, on no logger."""
    daglite, root = logging.getLogger("daglite"), logging.getLogger()
    before = (list(daglite.handlers), daglite.level, list(root.handlers), root.level)
    Logger("DEBUG").on_event(ORDINARY[0])
    assert (list(daglite.handlers), daglite.level, list(root.handlers), root.level) == before


def test_a_level_of_the_users_own_is_known(target, records):
    """A level made with `logging.addLevelName` is a level, in the case it was given."""
    logging.addLevelName(23, "Notice")
    Logger("Notice", target).on_event(ORDINARY[0])
    assert records[0].levelno == 23


@pytest.mark.parametrize("level", ["LOUD", "", "NOTSET", "Level 7", 0, -5])
def test_an_unknown_level_is_refused(level):
    """A level that logging doesn't know is refused, and the message names those it does."""
    with pytest.raises(ValueError, match="level"):
        Logger(level)


def test_the_message_on_an_unknown_level_names_the_known_ones():
    """A typing error in a level is easily put right."""
    with pytest.raises(ValueError, match=r"level='INFOO'.*'INFO'"):
        Logger("INFOO")


@pytest.mark.parametrize("level", [True, None, 1.5])
def test_a_level_of_the_wrong_type_is_refused(level):
    """A level is a name or a whole number."""
    with pytest.raises(TypeError, match="level"):
        Logger(level)


def test_a_logger_of_the_wrong_type_is_refused():
    """A logger is a logger or a name."""
    with pytest.raises(TypeError, match=r"logging\.Logger"):
        Logger(logger=sys.stderr)
