"""What the journal's own thread does: it waits for the disk, so that the event loop need not."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from . import schema


#: Bytes of the write-ahead log after which it is moved into the file.
CHECKPOINT_BYTES = 16 * 2**20

# Not on every system; it leaves out the time of the last change, which nobody reads.
_sync_file = getattr(os, "fdatasync", os.fsync)


class Disk:
    """
    Makes the disk take what was committed to a journal in WAL mode. All methods are for one thread.

    Args:
        path (`Path`): The journal.
    """

    def __init__(self, path: Path):
        self._path = path
        self._log: int | None = None
        self._db: sqlite3.Connection | None = None
        self._moved = 0

    def sync(self, logged: int) -> None:
        """
        Returns when the disk has everything that was committed before the call: about `logged` bytes since the journal
        was opened.
        """
        if self._log is None:
            self._log = os.open(self._path.with_name(self._path.name + "-wal"), os.O_RDONLY)
            folder = os.open(self._path.parent, os.O_RDONLY)
            os.fsync(folder)  # the files' names
            os.close(folder)
        _sync_file(self._log)
        if logged - self._moved >= CHECKPOINT_BYTES:
            self._checkpoint()
            self._moved = logged

    def _checkpoint(self) -> None:
        """Moves the log into the file as far as no reader needs it; the next commit then begins it anew."""
        if self._db is None:
            self._db = schema.connect(self._path, readonly=False)
        self._db.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Closes what was opened."""
        if self._db is not None:
            self._db.close()
        if self._log is not None:
            os.close(self._log)
