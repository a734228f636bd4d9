"""
A lineage in a folder: `student/`, `pool/` and `annotations/`, each with `commits/ID/` and a link `round-003` on one.

A commit is a folder with all files of its revision, so `from_pretrained` and `load_dataset` read `student/round-003`
and `pool/round-003` as they are. Files that did not change are hard links and take no room.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from ..errors import LineageConflictError, LineageError
from .layout import PARTS, Changes
from .store import LineageStore


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_COMMITS, _HEAD, _PARENT = "commits", "HEAD", ".parent"


class LocalStore(LineageStore):
    """
    Args:
        path (`Path`): The folder.
    """

    def __init__(self, path: Path):
        self.path = path.absolute()
        super().__init__(str(self.path))

    def prepare(self) -> None:
        try:
            for part in PARTS:
                (self.path / part / _COMMITS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LineageError(
                f"{self.path} cannot be written ({error}): choose a folder where you may write."
            ) from error

    def where(self, part: str) -> str:
        return str(self.path / part)

    def visibility(self, part: str) -> str:
        return "local"

    def head(self, part: str) -> str | None:
        path = self.path / part / _HEAD
        return path.read_text(encoding="ascii").strip() if path.is_file() else None

    def tags(self, part: str) -> dict[str, str]:
        folder = self.path / part
        if not folder.is_dir():
            return {}
        return {path.name: os.path.basename(os.readlink(path)) for path in folder.iterdir() if path.is_symlink()}

    def files(self, part: str, revision: str) -> list[str]:
        return sorted(self._contents(self._folder(part, revision)))

    def fetch(self, part: str, revision: str, paths: list[str]) -> dict[str, Path]:
        folder = self._folder(part, revision)
        missing = [path for path in paths if not (folder / path).is_file()]
        if missing:
            raise LineageError(f"{folder} has no {', '.join(missing)}.")
        return {path: folder / path for path in paths}

    def commit(self, part: str, changes: Changes, *, parent: str | None, message: str) -> str:
        with self._locked(part):
            if self.head(part) != parent:
                raise LineageConflictError(
                    f"{self.where(part)} was committed to by another process; nothing was changed."
                )
            commit = self._write(part, changes, parent, parent, message)
            self._move_head(part, commit)
        return commit

    def tag(self, part: str, tag: str, commit: str) -> None:
        try:
            os.symlink(os.path.join(_COMMITS, commit), self.path / part / tag)
        except FileExistsError:
            if self.tags(part).get(tag) != commit:
                raise LineageConflictError(
                    f"{self.where(part)} has a `{tag}` already; it was left as it is."
                ) from None

    def replace(self, part: str, tag: str, changes: Changes, *, message: str, squash: bool) -> str:
        with self._locked(part):
            old = self.tags(part)[tag]
            parent = None if squash else old
            commit = self._write(part, changes, old, parent, message)
            link = self.path / part / f".{tag}"
            link.unlink(missing_ok=True)
            os.symlink(os.path.join(_COMMITS, commit), link)
            os.replace(link, self.path / part / tag)
            if self.head(part) == old:
                self._move_head(part, commit)
        return commit

    def squash(self, part: str, message: str) -> None:
        """Removes every commit that neither a tag nor the head stands on."""
        with self._locked(part):
            kept = {*self.tags(part).values(), self.head(part)}
            for folder in (self.path / part / _COMMITS).iterdir():
                if folder.name not in kept:
                    shutil.rmtree(folder)
                else:
                    (folder / _PARENT).unlink(missing_ok=True)

    def _folder(self, part: str, revision: str) -> Path:
        folder = self.path / part / revision
        if folder.is_symlink():
            return folder
        folder = self.path / part / _COMMITS / revision
        if not folder.is_dir():
            raise LineageError(f"{self.where(part)} has no revision '{revision}'.")
        return folder

    @staticmethod
    def _contents(folder: Path) -> dict[str, Path]:
        paths = (path for path in folder.resolve().rglob("*") if path.is_file() and path.name != _PARENT)
        return {path.relative_to(folder.resolve()).as_posix(): path for path in paths}

    def _write(self, part: str, changes: Changes, base: str | None, parent: str | None, message: str) -> str:
        """A commit's folder: the files of `base` with the changes."""
        files = self._contents(self.path / part / _COMMITS / base) if base is not None else {}
        files = {path: source for path, source in files.items() if path not in changes.deleted} | changes.files
        commits = self.path / part / _COMMITS
        partial = commits / f".{uuid.uuid4().hex}"
        try:
            digest = hashlib.sha256(json.dumps([parent, message]).encode())
            for path, source in sorted(files.items()):
                target = partial / path
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(source, target)
                digest.update(f"{path}\0{_sha256(target)}\n".encode())
            (partial / _PARENT).write_text(parent or "", encoding="ascii")
            commit = digest.hexdigest()[:40]
            with contextlib.suppress(OSError):  # the very same commit stands there already
                os.rename(partial, commits / commit)
        except OSError as error:
            raise LineageError(f"{commits} cannot be written ({error}). Give the disk room.") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return commit

    def _move_head(self, part: str, commit: str) -> None:
        path = self.path / part / f"{_HEAD}.partial"
        path.write_text(commit, encoding="ascii")
        os.replace(path, self.path / part / _HEAD)

    @contextlib.contextmanager
    def _locked(self, part: str) -> Iterator[None]:
        """One process at a time commits to a part. The lock ends with the process."""
        with open(self.path / part / ".lock", "w") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
