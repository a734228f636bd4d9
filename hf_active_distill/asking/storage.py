"""Where a journal may lie and who may write it: network file systems, and the lock of the one writer."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from ..errors import JournalError


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: SQLite's write-ahead log needs memory shared by all processes, which these do not give between hosts.
NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs beegfs ceph cifs fuse.ceph-fuse fuse.cephfs fuse.gcsfuse fuse.glusterfs fuse.goofys fuse.juicefs "
    "fuse.mountpoint-s3 fuse.rclone fuse.s3fs fuse.sshfs glusterfs gpfs lustre ncpfs nfs nfs4 orangefs panfs pvfs2 "
    "smb2 smb3 smbfs wekafs".split()
)
MOUNTS = Path("/proc/self/mounts")


def file_system_of(path: Path, mounts: Path = MOUNTS) -> tuple[str, str] | None:
    """(mount point, type) of the file system that holds `path`, `None` where the system does not tell."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    target = path.resolve()
    best: tuple[str, str] | None = None
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        # Blanks in mount points are written as \040.
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), fields[1])
        # `>=`: of two mounts on one point the later one hides the earlier.
        if target.is_relative_to(point) and (best is None or len(point) >= len(best[0])):
            best = (point, fields[2])
    return best


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the network file system that holds `path`, `None` where it is a local one."""
    found = file_system_of(path, mounts)
    return found[1] if found is not None and found[1] in NETWORK_FILE_SYSTEMS else None


class WriterLock:
    """
    The advisory lock of the one writer, held on a file beside the journal.

    POSIX record locks end with the process that took them, also when it is killed while processes that it forked (data
    loader workers) live on. They do not tell two owners in one process apart, hence the set.
    """

    _held: set[str] = set()

    def __init__(self, path: Path):
        self.path = path
        self._name = str(path.resolve())
        self._fd: int | None = None

    def acquire(self) -> None:
        """Takes the lock or raises a [`~errors.JournalError`] that names the process which holds it."""
        if self._name in self._held:
            raise JournalError(f"{self.path} is held by this very process: close the other Journal object first.")
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            if fcntl is not None:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = _owner(os.pread(fd, 4096, 0))
            os.close(fd)
            raise JournalError(
                f"The journal is being written by {owner}, and a journal has one writer. Wait for it, stop it, or "
                f"give this run a journal of its own. Reading it (`hf-active-distill journal list`) is possible "
                f"meanwhile. [{self.path}]"
            ) from None
        except OSError as error:
            os.close(fd)
            raise JournalError(f"{self.path} cannot be locked ({error}): put the journal on a local disk.") from error
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(fd, 0)
        os.write(fd, json.dumps(note).encode())
        self._fd = fd
        self._held.add(self._name)

    def release(self) -> None:
        """Gives the lock back. The file stays: removing it would let two processes lock two different files."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._held.discard(self._name)


def _owner(note: bytes) -> str:
    try:
        owner: dict[str, Any] = json.loads(note)
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
