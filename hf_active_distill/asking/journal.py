"""The journal: every call is committed before it is made, every answer before anyone gets it."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(eq=False)
class _Write:
    """One statement on its way into the file."""

    statement: str
    values: tuple[Any, ...]
    sync: bool
    done: asyncio.Future[None]

    def finish(self, error: JournalError | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Journal:
    """
    A durable record of every call to a teacher, in one SQLite file.

    One object writes at a time; readers ([`JournalReader`], `hf-active-distill journal`) may look at any time. What a
    coroutine wrote is committed when it returns, and survives a killed process; an answer is also on the disk by then,
    and survives a power cut. Writes of concurrent calls share commits.

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
        self._journal_mode = _journal_mode(self.path, on_network)
        self._lock = storage.WriterLock(self.path.with_name(self.path.name + ".lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except OSError as error:
            raise JournalError(
                f"The journal {self.path} cannot be written ({error}). Give a path in a folder where you may write."
            ) from error
        try:
            self._db = schema.open_for_writing(self.path, journal_mode=self._journal_mode, check=check)
            # Answers are looked up over a connection of their own: it sees what is committed and nothing else.
            self._lookup = schema.connect(self.path, readonly=True)
            self._next_id = 1 + (self._db.execute("SELECT max(id) FROM calls").fetchone()[0] or 0)
        except BaseException:
            self._lock.release()
            raise
        self._pid = os.getpid()
        self._closed = False
        self._broken: JournalError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._batch: list[_Write] = []
        self._flushing = False
        # The log is flushed to the disk in a thread of its own, while the event loop goes on. Statements and commits
        # run on the loop's thread: another one would lose the interpreter lock at every single statement.
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._log_fd: int | None = None
        self._unsynced: list[_Write] = []
        self._syncing = False

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
            sync=False,
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
        self._write_out()
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
        """Commits what still waits, closes the file and lets another process write it."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        try:
            if self._broken is None:
                self._write_out()
        finally:
            self._syncer.shutdown()
            if self._log_fd is not None:
                os.close(self._log_fd)
            self._lookup.close()
            # The last connection moves the log into the file, on the disk, and removes it.
            self._db.close()
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
        await self._write(_FINISHED, values, sync=state == "answered")

    async def _write(self, statement: str, values: tuple[Any, ...], *, sync: bool) -> None:
        """Puts one statement into the next commit and waits for it, with `sync` until the disk has it."""
        if self._broken is not None:
            raise self._broken
        if self._closed:
            raise JournalError(f"The journal {self.path} is closed.")
        if os.getpid() != self._pid:
            raise JournalError(f"The journal {self.path} was opened before a fork: open it in the writer.")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # The loop before this one may have been interrupted in the midst of its writes.
            self._write_out()
            self._loop = loop
        write = _Write(statement, values, sync, loop.create_future())
        self._batch.append(write)
        if not self._flushing:
            self._flushing = True
            # Not at once: everything that is ready in this turn of the loop shares the commit.
            loop.call_soon(self._flush, loop)
        await write.done

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._flushing = False
        batch, self._batch = self._batch, []
        try:
            self._commit(batch)
        except sqlite3.Error as error:
            self._fail(batch, self._error(error))
            return
        for write in batch:
            if write.sync and self._journal_mode == "WAL":
                self._unsynced.append(write)
            else:
                write.finish()
        if self._unsynced and not self._syncing:
            self._sync(loop)

    def _commit(self, batch: list[_Write]) -> None:
        if not batch:
            return
        self._db.execute("BEGIN IMMEDIATE")
        for write in batch:
            self._db.execute(write.statement, write.values)
        self._db.execute("COMMIT")

    def _sync(self, loop: asyncio.AbstractEventLoop) -> None:
        self._syncing = True
        writes, self._unsynced = self._unsynced, []
        done = loop.run_in_executor(self._syncer, self._sync_log)
        done.add_done_callback(lambda future: self._synced(loop, writes, future))

    def _synced(self, loop: asyncio.AbstractEventLoop, writes: list[_Write], future: asyncio.Future[None]) -> None:
        self._syncing = False
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self._fail(
                writes, JournalError(f"The journal {self.path} did not reach the disk ({error}): check the disk.")
            )
            return
        for write in writes:
            write.finish()
        if self._unsynced:
            self._sync(loop)

    def _sync_log(self) -> None:
        """Makes the disk take everything that was committed."""
        if self._log_fd is None:
            self._log_fd = os.open(self.path.with_name(self.path.name + "-wal"), os.O_RDONLY)
            folder = os.open(self.path.parent, os.O_RDONLY)
            os.fsync(folder)  # the files' names
            os.close(folder)
        os.fsync(self._log_fd)

    def _write_out(self) -> None:
        """Commits and syncs what is left, in this thread."""
        self._syncer.submit(int).result()  # a sync under way ends first
        batch, self._batch, self._unsynced = self._batch, [], []
        self._flushing = self._syncing = False
        try:
            self._commit(batch)
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _fail(self, writes: list[_Write], error: JournalError) -> None:
        """These writes are not safe on the disk: whoever waits is told, and nothing more is written."""
        self._broken = error
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            logger.debug("The rollback after a failed commit failed too.", exc_info=True)
        waiting, self._batch, self._unsynced = [*writes, *self._unsynced, *self._batch], [], []
        for write in waiting:
            write.finish(error)

    def _error(self, error: sqlite3.Error) -> JournalError:
        return schema.explain(error, self.path)


def _journal_mode(path: Path, on_network: str) -> str:
    network = storage.network_file_system(path)
    if network is None:
        return "WAL"
    if on_network == "refuse":
        raise JournalError(
            f"{path} lies on a network file system ({network}), where SQLite's write-ahead log is not safe. Put the "
            "journal on a local disk (`journal_path`), or pass a `Journal` with on_network='delete' to a `Dispatcher` "
            "to go on with the slower rollback journal, if no other host opens the file and the server's locks can be "
            "trusted."
        )
    logger.warning("The journal lies on a network file system (%s): journal_mode=DELETE is used.", network)
    return "DELETE"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
