"""Where a lineage lives: on the Hub, or in a folder. Both hold commits with a parent, and tags on them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from ..errors import LineageError
from .layout import PARTS, ROUND_FILE, STUDENT, Changes, is_repo_id, require_known_format, round_of


#: What a repository holds before anyone put anything into it.
_INITIAL_FILES = {".gitattributes", "README.md"}


class LineageStore(ABC):
    """
    The three parts of a lineage, each a history of commits with tags.

    Errors are those of [`~errors.LineageError`]: `LineageUnreachableError` for what may pass, `LineageConflictError`
    for a parent that is no longer the head.

    Args:
        name (`str`): Name on the Hub, or a folder.
    """

    def __init__(self, name: str):
        self.name = name

    @abstractmethod
    def prepare(self) -> None:
        """Creates what is not there, private; what is there is left as it is."""

    @abstractmethod
    def where(self, part: str) -> str:
        """The part in words: what a person would look for."""

    @abstractmethod
    def visibility(self, part: str) -> str:
        """`"private"`, `"public"` or `"local"`."""

    @abstractmethod
    def head(self, part: str) -> str | None:
        """The last commit, `None` where there is no part or no commit."""

    @abstractmethod
    def tags(self, part: str) -> dict[str, str]:
        """Tags and the commits they point to; none where there is no part."""

    @abstractmethod
    def files(self, part: str, revision: str) -> list[str]:
        """Paths of all files at a commit or tag."""

    @abstractmethod
    def fetch(self, part: str, revision: str, paths: list[str]) -> dict[str, Path]:
        """Files at a commit or tag, where they lie on this machine."""

    @abstractmethod
    def commit(self, part: str, changes: Changes, *, parent: str | None, message: str) -> str:
        """
        Adds a commit behind `parent` and returns it: all of the changes or nothing.

        Raises:
            [`~errors.LineageConflictError`]: When `parent` is not the head any more.
        """

    @abstractmethod
    def tag(self, part: str, tag: str, commit: str) -> None:
        """
        Puts a tag on a commit.

        Raises:
            [`~errors.LineageConflictError`]: When it stands on another one.
        """

    @abstractmethod
    def replace(self, part: str, tag: str, changes: Changes, *, message: str, squash: bool) -> str:
        """Moves a tag to a new commit: what it stood on, with these changes. `squash` gives it no history."""

    @abstractmethod
    def squash(self, part: str, message: str) -> None:
        """Makes one commit of the history."""

    # ------------------------------------------------------------------ what both share

    def is_empty(self, part: str) -> bool:
        """Whether nobody has put anything into the part yet."""
        head = self.head(part)
        return head is None or set(self.files(part, head)) <= _INITIAL_FILES

    def round_info(self, part: str, revision: str) -> dict[str, Any] | None:
        """`round.json` at a commit or tag, `None` where it is not a commit of a lineage."""
        if ROUND_FILE not in self.files(part, revision):
            return None
        path = self.fetch(part, revision, [ROUND_FILE])[ROUND_FILE]
        info = json.loads(path.read_text(encoding="utf-8"))
        return require_known_format(info, f"{self.where(part)}, {revision},")

    def round_tags(self) -> dict[str, str]:
        """
        The rounds that exist, in order: those whose tag the student's part carries, and the commits.

        Raises:
            [`~errors.LineageError`]: When there is no such repository or folder.
        """
        if self.head(STUDENT) is None:
            raise LineageError(f"{self.where(STUDENT)} is not there. Check the name, and whether you are logged in.")
        tags = {tag: commit for tag, commit in self.tags(STUDENT).items() if round_of(tag) is not None}
        return dict(sorted(tags.items(), key=lambda item: round_of(item[0]) or 0))

    def require_round(self, tag: str) -> dict[str, Any]:
        """
        `round.json` of a round.

        Raises:
            [`~errors.LineageError`]: When there is none of this name; the message names those there are.
        """
        tags = self.round_tags()
        if tag not in tags:
            found = ", ".join(tags) or "none"
            raise LineageError(f"{self.where(STUDENT)} has no round `{tag}`. It has: {found}.")
        info = self.round_info(STUDENT, tags[tag])
        if info is None:
            raise LineageError(
                f"The tag `{tag}` of {self.where(STUDENT)} was not made by this library: no {ROUND_FILE}."
            )
        return info

    def commits_of(self, tag: str) -> dict[str, str]:
        """The commits of a round, by part."""
        info = self.require_round(tag)
        return {**{part: info["commits"][part] for part in PARTS if part != STUDENT}, STUDENT: self.round_tags()[tag]}


def open_store(
    target: str | Path, *, token: str | None = None, private: bool = True, create: bool = False
) -> LineageStore:
    """
    The store that a name means.

    Args:
        target (`str` or `Path`): `user/name` on the Hub, or a folder. A folder that exists is taken before a name; one
            that does not is written `./name`, or given as a `Path`.
        token (`str`, *optional*): Hub token; the stored login by default.
        private (`bool`, *optional*, defaults to `True`): Whether repositories that are created are private.
        create (`bool`, *optional*, defaults to `False`): Whether to create what is not there.

    Raises:
        [`~errors.LineageError`]: When there is no such folder, and `create` is false.
    """
    from .hub_store import HubStore
    from .local_store import LocalStore

    if isinstance(target, str) and is_repo_id(target):
        store: LineageStore = HubStore(target, token=token, private=private)
    else:
        store = LocalStore(Path(target))
        if not create and not (Path(target) / STUDENT).is_dir():
            raise LineageError(f"{target} holds no lineage: name a folder with `{STUDENT}/` in it, or `user/name`.")
    if create:
        store.prepare()
    return store
