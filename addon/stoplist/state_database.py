"""State database: the tables of a state directory in SQLite, made, opened and checked."""

from __future__ import annotations

import os
import sqlite3
from contextlib import ExitStack
from pathlib import Path

from stoplist import files
from stoplist.errors import StoplistError

DATABASE = "state.db"
VERSION = 2
_SCHEMA = """
CREATE TABLE seen (
  list TEXT, key_id TEXT, serial INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (list, key_id)
) STRICT;
CREATE TABLE in_force (
  file TEXT PRIMARY KEY, payload BLOB NOT NULL, header TEXT NOT NULL, signers TEXT NOT NULL, since TEXT NOT NULL
) STRICT;
CREATE TABLE held (
  file TEXT PRIMARY KEY, list TEXT NOT NULL, serial INTEGER NOT NULL, payload BLOB NOT NULL,
  why TEXT NOT NULL, since TEXT NOT NULL
) STRICT;
CREATE TABLE released (payload BLOB PRIMARY KEY, time TEXT NOT NULL) STRICT;
CREATE TABLE journal (
  id INTEGER PRIMARY KEY, time TEXT NOT NULL, file TEXT NOT NULL, result TEXT NOT NULL,
  list TEXT, serial INTEGER, why TEXT NOT NULL, signers TEXT NOT NULL
) STRICT;
"""
_SCHEMA_OF_COUNTS = """
CREATE TABLE counts (
  starts INTEGER, ends INTEGER, period TEXT, list TEXT, serial INTEGER, outcome TEXT,
  requests TEXT NOT NULL, fresh INTEGER NOT NULL, expired INTEGER NOT NULL,
  PRIMARY KEY (starts, ends, period, list, serial, outcome)
) STRICT, WITHOUT ROWID;
CREATE TABLE reported (until INTEGER NOT NULL) STRICT;
INSERT INTO reported VALUES (0);
"""
"""Since version 2. `requests` always has twelve digits, so that a row's length tells nothing. `list` and `serial`
are '' and 0 if a cell has none."""


def state_error(folder: Path, done: str, error: sqlite3.Error) -> StoplistError:
    return StoplistError(
        f"the state cannot be {done} ({error})",
        hint="check the disk, and the folder's owner and mode",
        place=str(folder),
    )


def connect(path: Path) -> sqlite3.Connection:
    """Open a database for writing, and make sure that it is whole and can be written."""
    database = sqlite3.connect(f"file:{_quoted(path)}?mode=rw", uri=True, timeout=5, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")
        if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the database is damaged")
        _check_version(path, database)
        database.execute("BEGIN IMMEDIATE")
        database.execute("UPDATE held SET why = why WHERE 0")
        if _check_version(path, database) < VERSION:  # another process may have upgraded it before the lock
            for statement in (*_SCHEMA_OF_COUNTS.split(";"), f"PRAGMA user_version = {VERSION}"):
                database.execute(statement)
        database.commit()
    except BaseException:
        database.close()
        raise
    return database


def connect_read_only(path: Path) -> sqlite3.Connection:
    for options in ("mode=ro", "mode=ro&immutable=1"):
        try:
            with ExitStack() as unless_fine:
                database = sqlite3.connect(f"file:{_quoted(path)}?{options}", uri=True, check_same_thread=False)
                unless_fine.callback(database.close)
                _check_version(path, database)
                unless_fine.pop_all()
                return database
        except sqlite3.Error as error:
            failure = error
    raise state_error(path.parent, "read", failure)


def create(path: Path) -> sqlite3.Connection:
    """Make an empty database beside its place, and rename it there. A crash leaves no database or a whole one."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, files.PRIVATE))
    database = sqlite3.connect(beside)
    database.execute("PRAGMA journal_mode = WAL")
    database.executescript(f"BEGIN; {_SCHEMA} {_SCHEMA_OF_COUNTS} PRAGMA user_version = {VERSION}; COMMIT;")
    database.close()
    beside.replace(path)
    return connect(path)


def in_memory() -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.executescript(_SCHEMA + _SCHEMA_OF_COUNTS)
    return database


def _check_version(path: Path, database: sqlite3.Connection) -> int:
    version: int
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoplistError(
            f"made by a newer Stoplist (state version {version}, {VERSION} is known here)",
            hint="use that version, or another --state-dir",
            place=str(path),
        )
    if version == 0:
        raise sqlite3.DatabaseError("it was never finished")
    return version


def set_aside(folder: Path, aside: str) -> None:
    (folder / DATABASE).replace(folder / aside)
    for suffix in ("-wal", "-shm"):
        if (folder / f"{DATABASE}{suffix}").exists():
            (folder / f"{DATABASE}{suffix}").replace(folder / f"{aside}{suffix}")


def _quoted(path: Path) -> str:
    """A path for an SQLite URI (https://www.sqlite.org/uri.html)."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
