"""What the file of shared states looks like, and how to tell that it is damaged."""

from __future__ import annotations

import sqlite3

__all__ = ["READ", "READ_ALL", "SCHEMA", "WRITE", "is_damage", "is_sound", "prepare"]

SCHEMA = 1
"""Its version, which is in the file's ``user_version`` and in its name."""

_TABLE = """
    CREATE TABLE IF NOT EXISTS states (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        policy TEXT NOT NULL,
        data TEXT NOT NULL,
        touched REAL NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID
"""

WRITE = """
    INSERT INTO states (kind, key, version, policy, data, touched) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (kind, key) DO UPDATE SET
        version = excluded.version, policy = excluded.policy,
        data = excluded.data, touched = excluded.touched
"""

# Bytes, which needn't be text.
READ = """
    SELECT version, CASE version WHEN ? THEN NULL ELSE CAST(data AS BLOB) END
    FROM states WHERE kind = ? AND key = ?
"""

READ_ALL = """
    SELECT CAST(kind AS BLOB), CAST(key AS BLOB), CAST(policy AS BLOB)
    FROM states ORDER BY kind, key
"""

# What somebody has opened by hand stays so until somebody resets it.
_OLD = """FROM states WHERE touched < ? AND instr(data, '"forced_open"') = 0"""


class _UnusableError(sqlite3.OperationalError):
    """It is a database, but none that can be used."""


def prepare(connection: sqlite3.Connection, untouched_since: float) -> None:
    """
    Make the table, if it isn't there, and drop rows that are old.

    Args:
        connection: Just opened.
        untouched_since: Seconds since 1970.

    Raises:
        sqlite3.Error: It can't be made.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, SCHEMA):
        raise _UnusableError(f"its schema has version {version}, not {SCHEMA}")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise _UnusableError(f"it can't have a write-ahead log, only {mode!r}")
    connection.execute("PRAGMA synchronous = OFF")
    if version != SCHEMA:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TABLE)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")
    # Looked for first, as others can't write meanwhile, nor this process while they do.
    if connection.execute(f"SELECT 1 {_OLD} LIMIT 1", (untouched_since,)).fetchone():
        connection.execute(f"DELETE {_OLD}", (untouched_since,))


def is_sound(connection: sqlite3.Connection) -> bool:
    """
    Whether all of the file can be read.

    Raises:
        sqlite3.Error: Not even that can be found out.
    """
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return bool(found == "ok")


def is_damage(error: Exception) -> bool:
    """Whether *error* says that the file is no database, or none of ours."""
    # Those of its subclasses say other things: that it is locked, that the disk is full.
    if type(error) is sqlite3.DatabaseError:
        return True
    return str(error).startswith(("no such table", "no such column", "table states has no column"))
