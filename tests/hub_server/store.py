"""Repositories, commits and references in SQLite, file contents beside it. A commit is one transaction."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .blobs import BlobStore
from .errors import HubError, not_found
from .gitobjects import Entry, Tree, blob_oid, gitattributes, lfs_entry


_SCHEMA = """
CREATE TABLE IF NOT EXISTS repos (
    id INTEGER PRIMARY KEY, kind TEXT, name TEXT, private INTEGER, created TEXT, UNIQUE (kind, name));
CREATE TABLE IF NOT EXISTS commits (
    repo INTEGER, oid TEXT, parent TEXT, title TEXT, message TEXT, author TEXT, date TEXT, tree TEXT,
    PRIMARY KEY (repo, oid));
CREATE TABLE IF NOT EXISTS refs (
    repo INTEGER, kind TEXT, name TEXT, oid TEXT, message TEXT, PRIMARY KEY (repo, kind, name));
CREATE TABLE IF NOT EXISTS large_files (repo INTEGER, sha256 TEXT, size INTEGER, PRIMARY KEY (repo, sha256));
"""


@dataclass(frozen=True)
class Repo:
    """A repository; `kind` is `"models"` or `"datasets"`."""

    id: int
    kind: str
    name: str
    private: bool
    created: str


@dataclass(frozen=True)
class Commit:
    """A revision with all its files."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    tree: Tree


class HubStore:
    """
    What the server knows, in `folder`. It survives the end of the process at any moment.

    Args:
        folder (`str` or `Path`): Made where it is missing.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        self.blobs = BlobStore(folder / "blobs")
        self.large = BlobStore(folder / "large")
        self._lock = threading.RLock()
        self._base = sqlite3.connect(folder / "hub.sqlite", isolation_level=None, check_same_thread=False)
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = FULL")
        self._base.executescript(_SCHEMA)

    def close(self) -> None:
        self._base.close()

    @contextmanager
    def _transaction(self):
        with self._lock:
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[tuple]:
        with self._lock:
            return self._base.execute(query, values).fetchall()

    # Repositories

    def create(self, kind: str, name: str, *, private: bool, author: str) -> Repo:
        """
        A new repository with its first commit.

        Raises:
            [`HubError`]: 409 where there is one of this name.
        """
        with self._transaction():
            if self.find(kind, name) is not None:
                raise HubError(409, f"You already created this {kind[:-1]} repo")
            self._base.execute(
                "INSERT INTO repos (kind, name, private, created) VALUES (?, ?, ?, ?)", (kind, name, private, _now())
            )
            repo = self.find(kind, name)
            assert repo is not None
            attributes = gitattributes(kind)
            self.blobs.add(blob_oid(attributes), attributes)
            tree = {".gitattributes": Entry(blob_oid(attributes), len(attributes))}
            self._set_ref(repo, "branch", "main", self._add_commit(repo, None, tree, "initial commit", "", author).oid)
        return repo

    def find(self, kind: str, name: str) -> Repo | None:
        rows = self._rows("SELECT id, kind, name, private, created FROM repos WHERE kind = ? AND name = ?", kind, name)
        return Repo(*rows[0][:3], bool(rows[0][3]), rows[0][4]) if rows else None

    def repo(self, kind: str, name: str) -> Repo:
        """As [`HubStore.find`], for one that is known to be there."""
        found = self.find(kind, name)
        if found is None:
            raise not_found("Repository not found", "RepoNotFound")
        return found

    def repos(self) -> list[Repo]:
        rows = self._rows("SELECT id, kind, name, private, created FROM repos ORDER BY id")
        return [Repo(*row[:3], bool(row[3]), row[4]) for row in rows]

    def set_private(self, repo: Repo, private: bool) -> None:
        with self._transaction():
            self._base.execute("UPDATE repos SET private = ? WHERE id = ?", (private, repo.id))

    def delete(self, repo: Repo) -> None:
        with self._transaction():
            self._base.execute("DELETE FROM repos WHERE id = ?", (repo.id,))
            for table in ("commits", "refs", "large_files"):
                self._base.execute(f"DELETE FROM {table} WHERE repo = ?", (repo.id,))

    # Large files

    def has_large(self, repo: Repo, sha256: str) -> int | None:
        """The size of a large file that was uploaded to this repository."""
        rows = self._rows("SELECT size FROM large_files WHERE repo = ? AND sha256 = ?", repo.id, sha256)
        return rows[0][0] if rows else None

    def note_large(self, repo: Repo, sha256: str, size: int) -> None:
        with self._transaction():
            self._base.execute("INSERT OR REPLACE INTO large_files VALUES (?, ?, ?)", (repo.id, sha256, size))

    # Commits and references

    def commit(
        self,
        repo: Repo,
        branch: str,
        operations: Iterable[Mapping[str, Any]],
        *,
        title: str,
        message: str = "",
        author: str = "someone",
        parent: str | None = None,
    ) -> Commit:
        """
        One commit on a branch; what changes nothing gives the commit that is there.

        Args:
            operations (`Iterable[Mapping]`): `{"key": "file", "value": {"path", "content" (bytes)}}`, `lfsFile` with
                `oid`, `deletedFile` or `deletedFolder` with `path`.
            parent (`str`, *optional*): The commit that must be the branch's last, or its first characters.

        Raises:
            [`HubError`]: 412 for another last commit, 404 for what is to be deleted and is not there, 400 for a large
                file that was not uploaded or a path that cannot be.
        """
        operations = list(operations)
        for operation in operations:
            if operation["key"] == "file":
                content = operation["value"]["content"]
                self.blobs.add(blob_oid(content), content)
        with self._transaction():
            head = self.revision(repo, self._branch(repo, branch))
            if parent is not None and not (len(parent) >= 7 and head.oid.startswith(parent)):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            tree = dict(head.tree)
            for operation in operations:
                self._apply(repo, tree, operation["key"], operation["value"])
            _check_paths(tree)
            if tree == head.tree:
                return head
            commit = self._add_commit(repo, head.oid, tree, title, message, author)
            self._set_ref(repo, "branch", branch, commit.oid)
        return commit

    def squash(self, repo: Repo, branch: str, title: str, author: str) -> Commit:
        """Puts a commit without a parent in the place of a branch's history."""
        with self._transaction():
            head = self.revision(repo, self._branch(repo, branch))
            commit = self._add_commit(repo, None, head.tree, title, "", author)
            self._set_ref(repo, "branch", branch, commit.oid)
        return commit

    def _apply(self, repo: Repo, tree: Tree, key: str, value: Mapping[str, Any]) -> None:
        path = value["path"]
        if key == "file":
            tree[path] = Entry(blob_oid(value["content"]), len(value["content"]))
        elif key == "lfsFile":
            size = self.has_large(repo, value["oid"])
            if size is None:
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
            tree[path] = lfs_entry(value["oid"], size)
        elif key == "deletedFile":
            if tree.pop(path, None) is None:
                raise not_found(f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "deletedFolder":
            inside = [name for name in tree if name.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise not_found(f"A folder with this name doesn't exist: {path}", "EntryNotFound")
            for name in inside:
                del tree[name]
        else:
            raise HubError(400, f"Unknown operation {key}")

    def _branch(self, repo: Repo, name: str) -> str:
        if not self._rows("SELECT 1 FROM refs WHERE repo = ? AND kind = 'branch' AND name = ?", repo.id, name):
            raise not_found(f"Invalid rev id: {name}", "RevisionNotFound")
        return f"refs/heads/{name}"

    def _add_commit(self, repo: Repo, parent: str | None, tree: Tree, title: str, message: str, author: str) -> Commit:
        date = _now()
        files = json.dumps({path: asdict(entry) for path, entry in sorted(tree.items())})
        oid = hashlib.sha1(json.dumps([parent, files, title, message, author, date]).encode()).hexdigest()
        row = (repo.id, oid, parent, title, message, author, date, files)
        self._base.execute("INSERT INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return Commit(oid, parent, title, message, author, date, tree)

    def revision(self, repo: Repo, name: str) -> Commit:
        """The commit that a branch, a tag, a full reference or (the first characters of) an id names."""
        for kind, prefix in (("branch", "refs/heads/"), ("tag", "refs/tags/")):
            query = "SELECT oid FROM refs WHERE repo = ? AND kind = ? AND name = ?"
            if rows := self._rows(query, repo.id, kind, name.removeprefix(prefix)):
                return self._commit(repo, rows[0][0])
        if len(name) >= 7 and all(letter in "0123456789abcdef" for letter in name):
            rows = self._rows("SELECT oid FROM commits WHERE repo = ? AND oid LIKE ?", repo.id, f"{name}%")
            if len(rows) == 1:
                return self._commit(repo, rows[0][0])
        raise not_found(f"Invalid rev id: {name}", "RevisionNotFound")

    def _commit(self, repo: Repo, oid: str) -> Commit:
        query = "SELECT oid, parent, title, message, author, date, tree FROM commits WHERE repo = ? AND oid = ?"
        [(*fields, files)] = self._rows(query, repo.id, oid)
        return Commit(*fields, {path: Entry(**entry) for path, entry in json.loads(files).items()})

    def history(self, repo: Repo, revision: str) -> list[Commit]:
        """The commit and those before it, the last first."""
        commits = [self.revision(repo, revision)]
        while (parent := commits[-1].parent) is not None:
            commits.append(self._commit(repo, parent))
        return commits

    def refs(self, repo: Repo, kind: str) -> dict[str, str]:
        """Commits by name of the branch or tag."""
        query = "SELECT name, oid FROM refs WHERE repo = ? AND kind = ? ORDER BY name"
        return dict(self._rows(query, repo.id, kind))

    def add_ref(self, repo: Repo, kind: str, name: str, revision: str, *, message: str = "") -> None:
        """
        Raises:
            [`HubError`]: 409 where there is one of this name.
        """
        with self._transaction():
            commit = self.revision(repo, revision)
            if name in self.refs(repo, kind):
                raise HubError(409, f"{kind.capitalize()} {name} already exists")
            self._set_ref(repo, kind, name, commit.oid, message)

    def delete_ref(self, repo: Repo, kind: str, name: str) -> None:
        with self._transaction():
            if name not in self.refs(repo, kind):
                raise not_found(f"{kind.capitalize()} {name} doesn't exist", "RevisionNotFound")
            self._base.execute("DELETE FROM refs WHERE repo = ? AND kind = ? AND name = ?", (repo.id, kind, name))

    def _set_ref(self, repo: Repo, kind: str, name: str, oid: str, message: str = "") -> None:
        self._base.execute("INSERT OR REPLACE INTO refs VALUES (?, ?, ?, ?, ?)", (repo.id, kind, name, oid, message))

    # Contents

    def path(self, entry: Entry) -> Path:
        """Where a file's content lies."""
        return self.large.path(entry.sha256) if entry.sha256 else self.blobs.path(entry.oid)

    def files(self, kind: str, name: str, revision: str = "main") -> dict[str, bytes]:
        """All files of a revision by path: what a test looks through."""
        tree = self.revision(self.repo(kind, name), revision).tree
        return {path: self.path(entry).read_bytes() for path, entry in tree.items()}


def _check_paths(tree: Tree) -> None:
    for path in tree:
        parts = path.split("/")
        if any(part in ("", ".", "..", ".git") for part in parts):
            raise HubError(400, f"Invalid path: {path}")
        if any("/".join(parts[:index]) in tree for index in range(1, len(parts))):
            raise HubError(400, f"A file and a folder have one name: {path}")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
