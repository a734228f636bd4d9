"""Calls of another journal, taken over with what they cost: their answers are not asked for again."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import schema, storage
from .reader import USAGE_COLUMNS
from .rows import JournalRow


_COLUMNS = (
    "key, run, row_id, round, kind, turn, model, revision, sample_index, attempt, state, content, answer, error, "
    "bound_prompt_tokens, bound_completion_tokens, cost, latency, clock, sent_at, finished_at"
)
_ALL = f"{_COLUMNS}, {USAGE_COLUMNS}"
_INSERT = f"INSERT INTO calls ({_ALL}) VALUES ({', '.join('?' * len(_ALL.split(', ')))})"
_SAME = ("key", "run", "sent_at", "attempt")


def import_calls(path: str | Path, rows: Iterable[JournalRow]) -> int:
    """
    Adds rows to a journal, all of them or none, and leaves out those that stand in it already.

    Args:
        path (`str` or `Path`): The journal; it is created where there is none.
        rows (`Iterable[JournalRow]`): The rows, in their order. They get new ids.

    Returns:
        `int`: How many were added.

    Raises:
        [`~errors.JournalError`]: When the journal cannot be written, or another process is writing it.
    """
    with _opened(Path(path)) as db:
        return _insert(db, rows)


def erase_row(path: str | Path, row_id: str) -> int:
    """
    Takes out what was asked and answered about a row. What it cost stays: it is gone whether or not the row is.

    Returns:
        `int`: Calls that were erased.
    """
    with _opened(Path(path)) as db:
        done = db.execute(
            "UPDATE calls SET key = '', row_id = '', content = '', answer = NULL, error = 'deleted', state = 'failed' "
            "WHERE row_id = ?",
            (row_id,),
        )
        if done.rowcount:
            db.execute("VACUUM")  # what was deleted is still in the file until it is written anew
        return done.rowcount


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The journal, while nobody else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = storage.WriterLock(path.with_name(path.name + ".lock"))
    lock.acquire()
    try:
        # No log is needed beside the file, on whatever file system it lies.
        db = schema.open_for_writing(path, journal_mode="DELETE", check=True)
        try:
            yield db
        except sqlite3.Error as error:
            raise schema.explain(error, path) from error
        finally:
            db.close()
    finally:
        lock.release()


def _insert(db: sqlite3.Connection, rows: Iterable[JournalRow]) -> int:
    added = 0
    db.execute("BEGIN IMMEDIATE")
    try:
        there = set(db.execute(f"SELECT {', '.join(_SAME)} FROM calls"))
        for row in rows:
            flat = row.to_dict()
            if tuple(flat[name] for name in _SAME) not in there:
                db.execute(_INSERT, [flat[name] for name in _ALL.split(", ")])
                added += 1
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    return added
