"""The journal's file: its tables, their version, and how a file is opened without ever harming one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from ..errors import JournalError


#: Marks a SQLite file as a journal of this library ("hfad").
APPLICATION_ID = 0x68666164
BUSY_MILLISECONDS = 30_000


def _create(db: sqlite3.Connection) -> None:
    # One row a call that was sent, retries included. The token columns always hold what the row has to be counted
    # for if nothing more is ever learnt about it: the bound from the moment of sending, the server's figures later.
    # Long texts come last, so that a sum over the short columns does not read them.
    db.execute(
        """
        CREATE TABLE calls (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL,
            run TEXT NOT NULL,
            row_id TEXT NOT NULL,
            round INTEGER NOT NULL,
            kind TEXT NOT NULL,
            turn INTEGER NOT NULL,
            model TEXT NOT NULL,
            revision TEXT,
            sample_index INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('sending', 'answered', 'failed')),
            calls INTEGER NOT NULL,
            prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            reasoning_tokens INTEGER NOT NULL DEFAULT 0,
            cached_prompt_tokens INTEGER NOT NULL DEFAULT 0,
            estimated INTEGER NOT NULL DEFAULT 1,
            bound_prompt_tokens INTEGER NOT NULL,
            bound_completion_tokens INTEGER NOT NULL,
            cost REAL,
            latency REAL,
            clock REAL NOT NULL DEFAULT 0,
            sent_at TEXT NOT NULL,
            finished_at TEXT,
            content TEXT NOT NULL,
            answer TEXT,
            error TEXT
        )
        """
    )
    db.execute("CREATE INDEX calls_answered ON calls (key) WHERE state = 'answered'")


#: Step i brings a file from version i to i + 1. A new version appends one; none is ever changed.
MIGRATIONS: list[Callable[[sqlite3.Connection], None]] = [_create]


def connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """A connection in autocommit mode: transactions are begun where they are wanted."""
    mode = "ro" if readonly else "rwc"
    return _connect(path, f"mode={mode}")


def _connect(path: Path, options: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.resolve()))}?{options}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    db.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
    return db


def open_for_writing(path: Path, *, journal_mode: str, check: bool) -> sqlite3.Connection:
    """Opens or creates the file and brings it to the present version. The caller holds the writer's lock."""
    try:
        db = connect(path, readonly=False)
    except sqlite3.Error as error:
        raise explain(error, path) from error
    try:
        version = _version(db, path)
        if check and version:
            _check(db, path)
        db.execute(f"PRAGMA journal_mode = {journal_mode}")
        # With the write-ahead log the writer itself sees to it that the log reaches the disk.
        db.execute(f"PRAGMA synchronous = {'NORMAL' if journal_mode == 'WAL' else 'FULL'}")
        # It moves the log into the file as well (`disk.Disk`).
        db.execute("PRAGMA wal_autocheckpoint = 0")
        _migrate(db, version)
    except sqlite3.Error as error:
        db.close()
        raise explain(error, path) from error
    except JournalError:
        db.close()
        raise
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Opens the file for reading, beside a writer or without one."""
    if not path.exists():
        raise JournalError(f"There is no journal at {path}.")
    db = None
    try:
        try:
            db = connect(path, readonly=True)
            version = _version(db, path)
        except sqlite3.OperationalError:
            # A folder that cannot be written has no room for the shared memory of the log. With no log beside the
            # file nobody writes it and all of it is in the file.
            if db is not None:
                db.close()
            if path.with_name(path.name + "-wal").exists():
                raise
            db = _connect(path, "immutable=1")
            version = _version(db, path)
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        raise explain(error, path) from error
    except JournalError:
        if db is not None:
            db.close()
        raise
    if version < len(MIGRATIONS):
        db.close()
        raise JournalError(
            f"{path} has the older format {version}: open it once for writing (`hf-active-distill journal compact`), "
            "which brings it up to date."
        )
    return db


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The file's format version, 0 for a new file. Reads only."""
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if tables == 0 and application == 0 and version == 0:
        return 0
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is a SQLite file of another program; it was left untouched. Give another path.")
    if version > len(MIGRATIONS):
        raise JournalError(
            f"{path} was written by a newer version of this library (format {version}, this one knows "
            f"{len(MIGRATIONS)}); it was left untouched. Upgrade hf-active-distill, or give another path."
        )
    return version


def _check(db: sqlite3.Connection, path: Path) -> None:
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise JournalError(
            f"{path} is damaged ({verdict}); it was left untouched. Restore a copy, or move the file away and start a "
            "new one: what it recorded would be asked again."
        )


def _migrate(db: sqlite3.Connection, version: int) -> None:
    if version == len(MIGRATIONS):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in MIGRATIONS[version:]:
            step(db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def explain(error: sqlite3.Error, path: Path) -> JournalError:
    """What a SQLite error means to the user, with the cure."""
    code = getattr(error, "sqlite_errorname", "") or ""
    text = str(error)
    if code.startswith("SQLITE_FULL"):
        cure = "the disk is full. Free some space and start again: all that was committed is kept"
    elif code.startswith("SQLITE_READONLY") or code.startswith("SQLITE_CANTOPEN") or code.startswith("SQLITE_PERM"):
        cure = "it cannot be written or opened. Give a path in a folder where you may write"
    elif code.startswith("SQLITE_NOTADB") or code.startswith("SQLITE_CORRUPT"):
        cure = (
            "it is not a journal, or is damaged; it was left untouched. Restore a copy, or move the file away and "
            "start a new one: what it recorded would be asked again"
        )
    elif code.startswith("SQLITE_BUSY"):
        cure = "another program holds it locked. Close that program"
    else:
        cure = "the disk did not take or give the data. Check the disk, or give another path"
    return JournalError(f"The journal {path} cannot be used: {cure}. ({text})")
