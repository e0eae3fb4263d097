"""The file that processes share, whatever state it is in."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time

from daglite.state.shared import Said
from daglite.stores import host
from daglite.stores.host import HostCell, HostFile, Row
from daglite.stores.schema import prepare


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    """Makes files, which are closed at the end."""
    made = Files(tmp_path / "state")
    yield made
    for file in made.made:
        file.close()


class Files:
    """One file, as processes would have it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[HostFile] = []

    def __call__(self, directory: Path | None = None, *, pause: float = 0.0) -> HostFile:
        file = HostFile(directory or self.directory, patience=0.02, pause=pause)
        self.made.append(file)
        return file

    def cell(self, key: str = "db") -> HostCell:
        return self().cell("breaker", key)


def news(cell: HostCell) -> Any:
    return cell.peek(lambda news: news)


def write(cell: HostCell, text: str | None) -> Any:
    """Write, and return the news of before."""
    return cell.change(lambda news: (news, text))


def execute(file: HostFile, *statements: str) -> None:
    """As somebody who isn't daglite."""
    connection = sqlite3.connect(file.path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_what_one_writes_another_reads(files: Files) -> None:
    """And who has read it needn't do so again."""
    one, two = files.cell(), files.cell()
    assert news(one) is Said.NOTHING
    assert write(one, "first") is Said.NOTHING
    assert news(one) is Said.SAME
    assert news(two) == "first"
    assert news(two) is Said.SAME
    assert write(two, "second") is Said.SAME
    assert write(one, None) == "second"
    assert write(one, "third") is Said.SAME
    assert news(two) == "third"
    assert news(files.cell("web")) is Said.NOTHING


def test_only_its_user_may_read_it(files: Files) -> None:
    """The directory and all files in it."""
    write(files.cell(), "text")
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in files.directory.iterdir()}
    assert modes == {0o600}


def test_it_is_opened_when_it_is_needed(files: Files) -> None:
    """Not before."""
    file = files()
    file.cell("breaker", "db")
    assert file.rows() == []
    assert not files.directory.exists()


def test_rows(files: Files) -> None:
    """All that is there, with the policy that was given."""
    file = files()
    write(file.cell("breaker", "web", "policy"), "1")
    write(file.cell("breaker", "db"), "2")
    assert files().rows() == [Row("breaker", "db", ""), Row("breaker", "web", "policy")]


def test_an_error_while_it_is_changed(files: Files) -> None:
    """Nothing is written, nobody is locked out, and all is read again."""
    one, two = files.cell(), files.cell()
    write(one, "text")

    def interrupted(news: object) -> Any:
        raise KeyboardInterrupt

    for act in (one.change, one.peek):
        with pytest.raises(KeyboardInterrupt):
            act(interrupted)
        assert write(two, "text") is not Said.AWAY
        assert news(one) == "text"


def test_rows_of_long_ago_are_dropped(files: Files) -> None:
    """When a file is opened; but not what somebody has opened by hand."""
    with freeze_time("2026-01-01"):
        write(files.cell("old"), "{}")
        write(files.cell("by hand"), '{"state":"forced_open"}')
    with freeze_time("2026-01-25"):
        write(files.cell("young"), "{}")
    with freeze_time("2026-02-10"):
        assert [row.key for row in files().rows()] == ["by hand", "young"]


# -- trouble ----------------------------------------------------------------------


def used(file: HostFile, caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """It can't be, and that is said once, for all of this process."""
    caplog.set_level(logging.WARNING, "daglite")
    for key in ("db", "db", "web"):
        assert write(file.cell("breaker", key), "text") is Said.AWAY
        assert news(file.cell("breaker", key)) is Said.AWAY
    assert file.rows() == []
    (record,) = caplog.records
    assert reason in record.message
    assert str(file.path) in record.message


def test_a_directory_in_its_place(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    file = files()
    file.path.mkdir(parents=True)
    used(file, caplog, "unable to open database file")


def test_a_file_in_place_of_the_directory(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    files.directory.write_text("a file")
    used(files(), caplog, "FileExistsError")


def test_a_home_that_is_not_there(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """Nor can be made."""
    used(files(Path("/proc/nobody/daglite")), caplog, "can't be used")


def test_a_path_that_can_not_be(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    used(files(Path("nul\0l")), caplog, "embedded null")


def test_a_file_that_can_not_be_written(
    files: Files, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SQLite sees one on a disk that is read only: root may write all others."""
    file = files()
    write(file.cell("breaker", "db"), "text")
    file.close()
    connect = sqlite3.connect

    def read_only(path: Path, **options: Any) -> sqlite3.Connection:
        return connect(f"{path.as_uri()}?mode=ro", uri=True, **options)

    caplog.set_level(logging.WARNING, "daglite")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", read_only)
        for _ in range(3):
            # It may be read, or not even that.
            assert write(file.cell("breaker", "db"), "other") in ("text", Said.AWAY)
    (record,) = caplog.records
    assert "attempt to write a readonly database" in record.message
    assert news(files.cell()) == "text"


def test_a_full_disk(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """What was there before is there after."""
    file = files()
    cell = file.cell("breaker", "db")
    write(cell, "text")
    file.run("PRAGMA max_page_count = 1")
    caplog.set_level(logging.WARNING, "daglite")
    assert write(cell, "x" * 100_000) is Said.SAME
    (record,) = caplog.records
    assert "database or disk is full" in record.message
    assert news(cell) == "text"
    assert write(files.cell(), "other") == "text"


def test_a_file_that_another_process_holds(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """It is waited for a little; and reading goes on."""
    one, two = files(), files()
    write(one.cell("breaker", "db"), "text")
    assert one.run("BEGIN IMMEDIATE") == []
    caplog.set_level(logging.WARNING, "daglite")
    cell = two.cell("breaker", "db")
    assert write(cell, "other") is Said.AWAY
    assert news(cell) == "text"
    one.roll_back()
    assert write(cell, "other") is Said.SAME
    (record,) = caplog.records
    assert "database is locked" in record.message


def test_who_hears_of_trouble_may_use_the_file(files: Files) -> None:
    """And so may others while it listens."""
    file = files()
    file.path.mkdir(parents=True)
    heard: list[Any] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            other = threading.Thread(target=lambda: heard.append(news(file.cell("a", "b"))))
            other.start()
            other.join(10)
            heard.append(write(file.cell("a", "b"), "text"))

    handler = Handler()
    logging.getLogger("daglite").addHandler(handler)
    try:
        write(file.cell("breaker", "db"), "text")
    finally:
        logging.getLogger("daglite").removeHandler(handler)
    assert heard == [Said.AWAY, Said.AWAY]


def test_a_pause_after_trouble(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is left alone, however well it is, and used again after that."""
    now = [100.0]
    monkeypatch.setattr(host.SystemClock, "now", lambda: now[0])
    file = files(pause=5.0)
    file.path.mkdir(parents=True)
    cell = file.cell("breaker", "db")
    assert write(cell, "text") is Said.AWAY
    file.path.rmdir()
    now[0] += 4.9
    assert write(cell, "text") is Said.AWAY
    now[0] += 0.2
    assert write(cell, "text") is Said.NOTHING


DAMAGE = {
    "no database": lambda path: path.write_bytes(b"nonsense" * 1000),
    "a page": lambda path: path.write_bytes(
        path.read_bytes()[:4096] + b"\xff" * 8192 + path.read_bytes()[12288:]
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_put_aside(
    files: Files, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """Under another name, and a new one is begun; also by those that have the old one open."""
    file = files()
    for number in range(30):
        write(file.cell("breaker", f"key {number}"), "x" * 500)
    file.close()
    DAMAGE[damage](file.path)
    caplog.set_level(logging.WARNING, "daglite")
    cell = file.cell("breaker", "db")
    assert write(cell, "text") is Said.AWAY
    assert write(cell, "text") is Said.NOTHING
    names = sorted(path.name for path in files.directory.iterdir())
    assert any(".damaged-" in name for name in names)
    (record,) = caplog.records
    assert "is put aside as" in record.message
    assert files().rows() == [Row("breaker", "db", "")]


def test_a_table_that_is_not_ours(files: Files) -> None:
    """It is put aside as well."""
    file = files()
    file.path.parent.mkdir()
    execute(file, "CREATE TABLE states (name TEXT)")
    cell = file.cell("breaker", "db")
    assert write(cell, "text") is Said.AWAY
    assert write(cell, "text") is Said.NOTHING


def test_a_damaged_file_that_another_process_has_replaced(files: Files) -> None:
    """The new one isn't put aside."""
    one, two = files(), files()
    write(one.cell("breaker", "db"), "text")
    one._fail(sqlite3.DatabaseError("database disk image is malformed"))
    assert news(two.cell("breaker", "db")) == "text"
    assert not [path for path in files.directory.iterdir() if "damaged" in path.name]


def test_a_table_that_is_gone(files: Files) -> None:
    """That is damage, too."""
    file = files()
    cell = file.cell("breaker", "db")
    write(cell, "text")
    execute(file, "DROP TABLE states")
    assert write(cell, "text") is Said.AWAY
    assert write(cell, "text") is Said.NOTHING


def test_a_damaged_file_that_is_replaced_just_now(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process was faster: the new one stays."""
    file = files()
    write(file.cell("breaker", "db"), "text")

    def replaced() -> bool:
        file.path.rename(files.directory / "old")
        file.path.write_bytes(b"")
        return True

    monkeypatch.setattr(file, "_is_damaged", replaced)
    file._fail(sqlite3.DatabaseError("database disk image is malformed"))
    assert file.path.exists()
    assert not [path for path in files.directory.iterdir() if "damaged" in path.name]


def test_a_damaged_file_that_can_not_be_renamed(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each process goes on alone."""
    file = files()
    file.path.parent.mkdir()
    file.path.write_bytes(b"nonsense" * 1000)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "rename", refuse)
    used(file, caplog, "each process goes on alone")


def test_alone(files: Files) -> None:
    """What is done there is done while no thread is within the file."""
    cell = files.cell()
    entered: list[bool] = []

    def look() -> str:
        thread = threading.Thread(target=lambda: entered.append(write(cell, "text") is None))
        thread.start()
        thread.join(0.02)
        assert thread.is_alive()
        look.thread = thread  # type: ignore[attr-defined]
        return "seen"

    assert cell.alone(look) == "seen"
    look.thread.join(10)  # type: ignore[attr-defined]
    assert entered == [False]


def test_a_file_without_a_log() -> None:
    """Such as one on a network share: it isn't used."""
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError, match="can't have a write-ahead log"):
        prepare(connection, 0.0)
    connection.close()


def test_a_schema_of_another_time(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """It is left as it is."""
    file = files()
    file.path.parent.mkdir()
    execute(file, "PRAGMA user_version = 7")
    used(file, caplog, "schema has version 7")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("version", "'nine'"),
        ("version", "-1"),
        ("version", "9223372036854775807"),
        ("data", "x'ff00ff'"),
        ("data", "17"),
    ],
)
def test_a_row_of_nonsense(files: Files, column: str, value: str) -> None:
    """It is news like others, and can be written over."""
    file = files()
    cell = file.cell("breaker", "db")
    write(cell, "text")
    execute(file, f"UPDATE states SET {column} = {value}, policy = x'ff'")
    assert isinstance(write(cell, "text"), (str, Said))
    assert write(cell, "text") is Said.SAME
    execute(file, "UPDATE states SET policy = x'ff'")
    assert files().rows() == [Row("breaker", "db", "�")]


def test_a_file_that_was_taken_away(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has it open soon sees it, and begins another."""
    now = [100.0]
    monkeypatch.setattr(host.SystemClock, "now", lambda: now[0])
    one, two = files(), files()
    cell = one.cell("breaker", "db")
    write(cell, "text")
    for path in list(files.directory.iterdir()):
        path.unlink()
    assert write(two.cell("breaker", "db"), "new") is Said.NOTHING
    now[0] += 1.1
    assert news(cell) == "new"


def test_threads(files: Files) -> None:
    """None loses what another one has counted."""
    cells = [files.cell(), files.cell()]
    file = cells[0]._file
    write(cells[0], "0")
    known = {id(cell): 0 for cell in cells}

    def count(cell: HostCell) -> None:
        def more(news: Any) -> tuple[None, str]:
            if news is not Said.SAME:
                known[id(cell)] = int(news)
            known[id(cell)] += 1
            return None, str(known[id(cell)])

        for _ in range(50):
            cell.change(more)

    file._patience = cells[1]._file._patience = 10.0
    threads = [threading.Thread(target=count, args=(cell,)) for cell in cells * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert news(files.cell()) == "200"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork(files: Files) -> None:
    """No connection is there in the child, and both go on, though a thread is at work."""
    cell, stop = files.cell(), threading.Event()
    cell._file._patience = 10.0
    write(cell, "text")

    def work() -> None:
        while not stop.is_set():
            write(cell, "text")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if not child:
                code = 1
                try:
                    open_there = cell._file._connection is not None
                    code = 2 if open_there else int(write(cell, "text") is Said.AWAY)
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        thread.join(10)
    assert write(cell, "text") is not Said.AWAY
