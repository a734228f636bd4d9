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
from .disk import Disk
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
#: Seconds from the beginning of a sync to the next one: what is answered meanwhile shares it.
SYNC_SECONDS = 0.001

# Whole pages go into the log: those of the row, of its index and the inner ones above them.
_PAGES_A_COMMIT = 4 * 4096


class Journal:
    """
    A durable record of every call to a teacher, in one SQLite file.

    One object writes at a time; readers ([`JournalReader`], `hf-active-distill journal`) may look at any time. What
    was written is committed when the method returns, and survives a killed process. After [`synced`] it is on the disk
    too, and survives a power cut; the dispatcher waits for that before it hands on an answer. In SQLite's words: WAL
    with `synchronous=NORMAL`, where the syncs that `FULL` would make in the midst of every commit are made by a thread
    of their own, one for all the answers that wait.

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
            # Who goes through rows does so over a connection of its own, whatever is written meanwhile.
            self._reader = schema.connect(self.path, readonly=True)
            self._next_id = 1 + (self._db.execute("SELECT max(id) FROM calls").fetchone()[0] or 0)
        except BaseException:
            self._lock.release()
            raise
        self._pid = os.getpid()
        self._closed = False
        self._broken: JournalError | None = None
        # Statements and commits run on the loop's thread: another one would lose the interpreter lock at every single
        # statement, and a commit alone takes no longer than to hand it over. Whatever waits for the disk does so in a
        # thread: syncs, and the moving of the log into the file.
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._disk = Disk(self.path)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing = False
        self._synced_at = 0.0
        self._logged = 0

    def lookup(self, key: str, *, run: str | None = None) -> TeacherReply | None:
        """
        The recorded answer to `key`, with its original usage; `run` looks at one run's rows only. It is committed
        when this returns.
        """
        self._check()
        query = f"SELECT answer, {reader.USAGE_COLUMNS} FROM calls WHERE key = ? AND state = 'answered'" + (
            " AND run = ?" if run is not None else ""
        )
        try:
            values = (key,) if run is None else (key, run)
            rows = self._db.execute(query + " ORDER BY id LIMIT 1", values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error
        if not rows:
            return None
        # This connection sees its own open transaction: the answer may be one that nobody may use yet.
        self._commit()
        answer, *usage = rows[0]
        return reply_from_json(answer, reader.usage_of(usage))

    def sending(self, call: Call, bound: Usage, *, cost: float | None = None, clock: float = 0.0) -> int:
        """Commits that `call` is about to be made, counted at `bound`. Returns the row's id."""
        call_id = self._next_id
        self._next_id += 1
        request = call.request
        self._write(
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
            len(request.content()),
        )
        return call_id

    def answered(
        self,
        call_id: int,
        reply: TeacherReply,
        *,
        cost: float | None = None,
        latency: float = 0.0,
        clock: float = 0.0,
        commit: bool = True,
    ) -> None:
        """
        Commits the answer, counted at `reply.usage`. With `commit=False` the next [`sending`] or [`synced`] commits it
        along with its own: no call is made before the answers that came before it are safe. Nobody may use the answer
        before [`synced`] has returned.
        """
        answer = reply_to_json(reply)
        self._finish(call_id, "answered", answer, None, reply.usage, cost, latency, clock, commit)

    def failed(
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
        self._finish(call_id, "failed", None, text, usage, cost, latency, clock, commit=True)

    async def synced(self) -> None:
        """Waits until the disk has everything that was committed before."""
        self._check()
        if self._journal_mode != "WAL":
            self._commit()  # which puts it on the disk
            return
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and self._loop.is_running():
                raise JournalError(f"The journal {self.path} is used by two event loops at once: give each its own.")
            # The loop before this one may have been interrupted while something waited.
            self._loop, self._waiting, self._syncing = loop, [], False
        waiter = loop.create_future()
        self._waiting.append(waiter)
        if not self._syncing:
            self._syncing = True
            # Not at once: all answers of this turn of the loop share the sync.
            loop.call_soon(self._sync, loop)
        await waiter

    def spent(self, run: str = "") -> tuple[Usage, float]:
        """What a run has used so far and its seconds of asking: a fold over its rows and nothing else."""
        self._settle()
        return reader.spent(self._reader, run)

    def rows(self, **filters: Any) -> Iterator[JournalRow]:
        """The rows in the order of sending; filters as in [`JournalReader.rows`]."""
        self._settle()
        return reader.select(self._reader, **filters)

    def compact(self) -> None:
        """
        Drops the requests of calls that failed or that were asked again, keeping what they count for, and gives the
        free space back to the disk.
        """
        self._check()
        self._commit()
        self._syncer.submit(int).result()  # a sync under way ends first
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
        """Closes the file and lets another process write it."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        error = None
        try:
            self._commit()
        except JournalError as refused:
            error = refused
            raise
        finally:
            self._close()
            # Closing has moved everything into the file: nobody has to wait for a sync that will not come.
            if self._loop is not None and not self._loop.is_closed():
                self._tell(self._waiting, error)
                self._waiting = []

    def _close(self) -> None:
        self._syncer.shutdown()
        self._disk.close()
        self._reader.close()
        # The last connection moves the log into the file, on the disk, and removes it.
        self._db.close()
        self._lock.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _finish(
        self,
        call_id: int,
        state: str,
        answer: str | None,
        error: str | None,
        usage: Usage,
        cost: float | None,
        latency: float,
        clock: float,
        commit: bool,
    ) -> None:
        tokens = (usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens, usage.cached_prompt_tokens)
        values = (state, answer, error, usage.calls, *tokens, usage.estimated, cost, latency, clock, _now(), call_id)
        self._write(_FINISHED, values, len(answer or ""), commit)

    def _write(self, statement: str, values: tuple[Any, ...], size: int, commit: bool = True) -> None:
        """One statement. `size`: characters of its long text."""
        self._check()
        try:
            if not self._db.in_transaction and not commit:
                self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise self._stop(self._error(error)) from error
        self._logged += _PAGES_A_COMMIT + size
        if commit:
            self._commit()

    def _commit(self) -> None:
        if not self._db.in_transaction:
            return
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._stop(self._error(error)) from error

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._closed:
            raise JournalError(f"The journal {self.path} is closed.")
        if os.getpid() != self._pid:
            raise JournalError(f"The journal {self.path} was opened before a fork: open it in the writer.")

    def _settle(self) -> None:
        """Commits what is open before rows are read, which a journal that broke can still do."""
        if self._closed:
            self._check()
        if self._broken is None:
            self._commit()

    def _sync(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._closed:
            return
        waiters, self._waiting = self._waiting, []
        self._synced_at = loop.time()
        try:
            self._commit()
        except JournalError as error:
            self._tell(waiters, error)
            return
        done = loop.run_in_executor(self._syncer, self._disk.sync, self._logged)
        done.add_done_callback(lambda future: self._synced(loop, waiters, future))

    def _synced(
        self, loop: asyncio.AbstractEventLoop, waiters: list[asyncio.Future[None]], done: asyncio.Future[None]
    ) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            text = f"The journal {self.path} did not reach the disk ({error}): check the disk."
            self._tell(waiters, self._stop(JournalError(text)))
            return
        self._tell(waiters)
        if self._waiting:
            loop.call_at(self._synced_at + SYNC_SECONDS, self._sync, loop)
        else:
            self._syncing = False

    def _tell(self, waiters: list[asyncio.Future[None]], error: JournalError | None = None) -> None:
        """Ends waits: those of `waiters`, and after an error all."""
        if error is not None:
            waiters, self._waiting, self._syncing = waiters + self._waiting, [], False
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _stop(self, error: JournalError) -> JournalError:
        """After this error nothing more is written: what was committed before it stays."""
        self._broken = error
        return error

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
