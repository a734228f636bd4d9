"""The journal: every call is committed before it is made, every answer before anyone gets it."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, JournalError
from ..records import Usage
from ..teachers.base import TeacherReply
from . import reader, schema, storage
from .rows import Call, JournalRow, redact, reply_from_json, reply_to_json, storable


logger = logging.getLogger(__name__)

_SENDING = """
    INSERT INTO calls (
        id, key, run, row_id, round, kind, turn, model, revision, sample_index, attempt, state, content, calls,
        prompt_tokens, completion_tokens, bound_prompt_tokens, bound_completion_tokens, cost, clock, sent_at
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'sending', ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FINISHED = """
    UPDATE calls SET
        state = ?, answer = ?, error = ?, calls = ?, prompt_tokens = ?, completion_tokens = ?, reasoning_tokens = ?,
        cached_prompt_tokens = ?, estimated = ?, cost = ?, latency = ?, clock = ?, finished_at = ?
    WHERE id = ?
"""


class Journal:
    """
    A durable record of every call to a teacher, in one SQLite file.

    One object writes at a time; readers ([`JournalReader`], `hf-active-distill journal`) may look at any time. The
    coroutines return when what they wrote is on the disk; writes of concurrent calls share one commit.

    Args:
        path (`str` or `Path`): The file. It is created where there is none, and its folder too.
        on_network (`str`, *optional*, defaults to `"refuse"`): What to do on a network file system: `"refuse"`, or
            `"delete"` to go on with SQLite's rollback journal, which is slower and trusts the server's locks.
        check (`bool`, *optional*, defaults to `True`): Whether an existing file is checked for damage when opened.
        secrets (`tuple[str, ...]`, *optional*, defaults to `()`): Texts that are taken out of recorded errors, beside
            everything that looks like a token.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        on_network: str = "refuse",
        check: bool = True,
        secrets: tuple[str, ...] = (),
    ):
        if on_network not in ("refuse", "delete"):
            raise ConfigurationError(f"on_network must be 'refuse' or 'delete', got {on_network!r}.")
        self.path = Path(path)
        self._secrets = secrets
        journal_mode = _journal_mode(self.path, on_network)
        self._lock = storage.WriterLock(self.path.with_name(self.path.name + ".lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise JournalError(
                f"The journal {self.path} cannot be written ({error}). Give a path in a folder where you may write."
            ) from error
        try:
            self._db = schema.open_for_writing(self.path, journal_mode=journal_mode, check=check)
            # Answers are looked up over a connection of their own: it sees what is committed and nothing else.
            self._lookup = schema.connect(self.path, readonly=True)
            self._next_id = 1 + (self._db.execute("SELECT max(id) FROM calls").fetchone()[0] or 0)
        except BaseException:
            self._lock.release()
            raise
        self._pid = os.getpid()
        self._closed = False
        self._broken: JournalError | None = None
        self._batch: list[tuple[str, tuple[Any, ...], asyncio.Future[None]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flushing = False
        # One thread for the commits alone. The statements run on the event loop's thread: a second thread would lose
        # the interpreter lock at every one of them, and wait for it while the loop is busy.
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="journal")

    def lookup(self, key: str, *, run: str | None = None) -> TeacherReply | None:
        """The committed answer to `key`, with its original usage; `run` looks at one run's rows only."""
        query = f"SELECT answer, {reader.USAGE_COLUMNS} FROM calls WHERE key = ? AND state = 'answered'" + (
            " AND run = ?" if run is not None else ""
        )
        try:
            values = (key,) if run is None else (key, run)
            rows = self._lookup.execute(query + " ORDER BY id LIMIT 1", values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error
        if not rows:
            return None
        answer, *usage = rows[0]
        return reply_from_json(answer, reader.usage_of(usage))

    async def sending(self, call: Call, bound: Usage, *, cost: float | None = None, clock: float = 0.0) -> int:
        """Commits that `call` is about to be made, counted at `bound`. Returns the row's id."""
        call_id = self._next_id
        self._next_id += 1
        request = call.request
        await self._write(
            _SENDING,
            (
                call_id,
                call.key,
                storable(call.run),
                storable(call.row_id),
                call.round,
                call.kind,
                call.turn,
                call.model,
                call.revision,
                request.sample_index,
                request.attempt,
                storable(request.content()),
                bound.calls,
                bound.prompt_tokens,
                bound.completion_tokens,
                bound.prompt_tokens,
                bound.completion_tokens,
                cost,
                clock,
                _now(),
            ),
        )
        return call_id

    async def answered(
        self, call_id: int, reply: TeacherReply, *, cost: float | None = None, latency: float = 0.0, clock: float = 0.0
    ) -> None:
        """Commits the answer, counted at `reply.usage`. Nobody may use it before this has returned."""
        answer = reply_to_json(reply)
        await self._finish(call_id, "answered", answer, None, reply.usage, cost, latency, clock)

    async def failed(
        self,
        call_id: int,
        error: BaseException,
        usage: Usage,
        *,
        cost: float | None = None,
        latency: float = 0.0,
        clock: float = 0.0,
    ) -> None:
        """Commits that the call failed, counted at `usage`: its bound where the model may have been reached."""
        text = storable(redact(f"{type(error).__name__}: {error}", self._secrets))
        await self._finish(call_id, "failed", None, text, usage, cost, latency, clock)

    def spent(self, run: str = "") -> tuple[Usage, float]:
        """What a run has used so far and its seconds of asking: a fold over its rows and nothing else."""
        return reader.spent(self._lookup, run)

    def rows(self, **filters: Any) -> Iterator[JournalRow]:
        """The committed rows in the order of sending; filters as in [`JournalReader.rows`]."""
        return reader.select(self._lookup, **filters)

    def compact(self) -> None:
        """
        Drops the requests of calls that failed or that were asked again, keeping what they count for, and gives the
        free space back to the disk.
        """
        self._sync_writer()
        try:
            self._db.execute(
                "UPDATE calls SET content = '' WHERE content != '' AND (state = 'failed' OR (state = 'sending' AND "
                "key IN (SELECT key FROM calls WHERE state = 'answered')))"
            )
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Commits what is still waiting, closes the file and lets another process write it."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        try:
            self._sync_writer()
            self._committer.shutdown()
            self._lookup.close()
            self._db.close()
        except sqlite3.Error as error:
            raise self._error(error) from error
        finally:
            self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _finish(
        self,
        call_id: int,
        state: str,
        answer: str | None,
        error: str | None,
        usage: Usage,
        cost: float | None,
        latency: float,
        clock: float,
    ) -> None:
        tokens = (usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens, usage.cached_prompt_tokens)
        values = (state, answer, error, usage.calls, *tokens, usage.estimated, cost, latency, clock, _now(), call_id)
        await self._write(_FINISHED, values)

    async def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        """Puts one statement into the next commit and waits for it."""
        if self._broken is not None:
            raise self._broken
        if self._closed:
            raise JournalError(f"The journal {self.path} is closed.")
        if os.getpid() != self._pid:
            raise JournalError(f"The journal {self.path} was opened before a fork: open it in the writer.")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._adopt(loop)
        future: asyncio.Future[None] = loop.create_future()
        self._batch.append((statement, values, future))
        if not self._flushing:
            self._flushing = True
            # Not at once: everything that is ready in this turn of the loop comes along.
            loop.call_soon(self._flush, loop)
        await future

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Writes now come from another loop than before; the old one may have been interrupted in mid-commit."""
        if self._loop is not None:
            self._sync_writer()
        self._loop = loop

    def _sync_writer(self) -> None:
        """Waits for a commit under way and commits what is left, in this thread."""
        self._committer.submit(lambda: None).result()
        self._flushing = False
        batch, self._batch = self._batch, []
        try:
            self._execute(batch)
            self._commit()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._batch:
            self._flushing = False
            return
        batch, self._batch = self._batch, []
        try:
            self._execute(batch)
        except sqlite3.Error as error:
            self._fail(batch, error)
            return
        commit = loop.run_in_executor(self._committer, self._commit)
        commit.add_done_callback(lambda done: self._committed(loop, batch, done))

    def _execute(self, batch: list[tuple[str, tuple[Any, ...], asyncio.Future[None]]]) -> None:
        if not batch:
            return
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        for statement, values, _ in batch:
            self._db.execute(statement, values)

    def _commit(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    def _committed(self, loop, batch, done: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        if isinstance(error, sqlite3.Error):
            self._fail(batch, error)
            return
        for _, _, future in batch:
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)
        self._flush(loop)

    def _fail(self, batch: list[tuple[str, tuple[Any, ...], asyncio.Future[None]]], error: sqlite3.Error) -> None:
        """Nothing of this batch is on the disk: whoever waits is told, and nothing more is written."""
        self._broken = self._error(error)
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            logger.debug("The rollback after a failed commit failed too.", exc_info=True)
        waiting, self._batch = [*batch, *self._batch], []
        self._flushing = False
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(self._broken)

    def _error(self, error: sqlite3.Error) -> JournalError:
        return schema.explain(error, self.path)


def _journal_mode(path: Path, on_network: str) -> str:
    network = storage.network_file_system(path)
    if network is None:
        return "WAL"
    if on_network == "refuse":
        raise JournalError(
            f"{path} lies on a network file system ({network}), where SQLite's write-ahead log is not safe. Put the "
            "journal on a local disk, or pass on_network='delete' to go on with the slower rollback journal, if no "
            "other host opens the file and the server's locks can be trusted."
        )
    logger.warning("The journal lies on a network file system (%s): journal_mode=DELETE is used.", network)
    return "DELETE"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
