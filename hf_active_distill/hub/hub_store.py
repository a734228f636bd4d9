"""A lineage in three repositories of the Hub."""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperation, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..asking.rows import redact
from ..errors import LineageConflictError, LineageError, LineageUnreachableError
from .layout import PARTS, REPO_TYPES, Changes, repo_id
from .store import LineageStore


_LOGIN = "Log in (`hf auth login`), or pass a token that may write (`hub_token`, `--token`)"


class HubStore(LineageStore):
    """
    Args:
        name (`str`): `user/name` of the student; the data sets have `-pool` and `-annotations` behind it. Without
            `user/`, [`prepare`] finds out who is logged in.
        token (`str`, *optional*): Hub token; the stored login by default.
        private (`bool`, *optional*, defaults to `True`): Whether repositories that are created are private.
    """

    def __init__(self, name: str, *, token: str | None = None, private: bool = True):
        super().__init__(name)
        self.private = private
        self.token = token
        self.api = HfApi(token=token, library_name="hf_active_distill")

    def _at(self, part: str) -> dict[str, Any]:
        return {"repo_id": repo_id(self.name, part), "repo_type": REPO_TYPES[part]}

    def prepare(self) -> None:
        with self._translated(None):
            for part in PARTS:
                # Said outright: an organisation's default may be public.
                url = self.api.create_repo(**self._at(part), private=self.private, exist_ok=True)
                if "/" not in self.name:
                    self.name = f"{url.namespace}/{self.name}" if url.namespace else self.name

    def where(self, part: str) -> str:
        return repo_id(self.name, part)

    def visibility(self, part: str) -> str:
        with self._translated(part):
            return "private" if self.api.repo_info(**self._at(part)).private else "public"

    def head(self, part: str) -> str | None:
        with self._translated(part):
            try:
                return self.api.repo_info(**self._at(part)).sha
            except RepositoryNotFoundError as error:
                if error.response is not None and error.response.status_code == 404:
                    return None
                raise

    def tags(self, part: str) -> dict[str, str]:
        with self._translated(part):
            try:
                refs = self.api.list_repo_refs(**self._at(part))
            except RepositoryNotFoundError as error:
                if error.response is not None and error.response.status_code == 404:
                    return {}
                raise
        return {ref.name: ref.target_commit for ref in refs.tags}

    def files(self, part: str, revision: str) -> list[str]:
        with self._translated(part):
            return sorted(self.api.list_repo_files(**self._at(part), revision=revision))

    def fetch(self, part: str, revision: str, paths: list[str]) -> dict[str, Path]:
        with self._translated(part):
            return {
                path: Path(self.api.hf_hub_download(filename=path, **self._at(part), revision=revision))
                for path in paths
            }

    def commit(self, part: str, changes: Changes, *, parent: str | None, message: str) -> str:
        return self._commit_on("main", part, changes, parent, message, squash=False)

    def tag(self, part: str, tag: str, commit: str) -> None:
        try:
            with self._translated(part):
                self.api.create_tag(**self._at(part), tag=tag, revision=commit)
        except LineageConflictError:
            if self.tags(part).get(tag) != commit:
                raise

    def replace(self, part: str, tag: str, changes: Changes, *, message: str, squash: bool) -> str:
        old = self.tags(part)[tag]
        if self.head(part) == old:
            commit = self._commit_on("main", part, changes, old, message, squash=squash)
            self._move_tag(part, tag, commit)
            return commit
        # A branch of its own, for a commit that is not the last; the tag keeps it when the branch goes.
        at, branch = self._at(part), f"replace-{tag}-{uuid.uuid4().hex[:8]}"
        with self._translated(part):
            self.api.create_branch(**at, branch=branch, revision=old)
        try:
            commit = self._commit_on(branch, part, changes, old, message, squash=squash)
            self._move_tag(part, tag, commit)
        finally:
            with contextlib.suppress(HfHubHTTPError):
                self.api.delete_branch(**at, branch=branch)
        return commit

    def _commit_on(
        self, branch: str, part: str, changes: Changes, parent: str | None, message: str, *, squash: bool
    ) -> str:
        at = self._at(part)
        present = set(self.files(part, parent)) if parent is not None and changes.deleted else set()
        with self._translated(part):
            # Not `upload_folder`, which may split what it uploads into several commits.
            done = self.api.create_commit(
                **at,
                operations=_operations(changes, present),
                commit_message=message,
                parent_commit=parent,
                revision=branch,
            )
            if not squash:
                return done.oid
            self.api.super_squash_history(**at, branch=branch, commit_message=message)
            return str(self.api.repo_info(**at, revision=branch).sha)

    def _move_tag(self, part: str, tag: str, commit: str) -> None:
        with self._translated(part):
            self.api.delete_tag(**self._at(part), tag=tag)
            self.api.create_tag(**self._at(part), tag=tag, revision=commit)

    def squash(self, part: str, message: str) -> None:
        with self._translated(part):
            self.api.super_squash_history(**self._at(part), commit_message=message)

    @contextlib.contextmanager
    def _translated(self, part: str | None) -> Iterator[None]:
        """Errors of the client as errors of this library, with the cure, and without what the server may quote."""
        where = "The Hub" if part is None else f"{self.where(part)} on the Hub"
        try:
            yield
        except OfflineModeIsEnabled as error:
            raise LineageError(f"{where} is out of reach: HF_HUB_OFFLINE is set. Unset it.") from error
        except LocalTokenNotFoundError as error:
            raise LineageError(f"{where} wants to know who you are. {_LOGIN}.") from error
        except HFValidationError as error:
            raise LineageError(f"'{self.name}' is no name for the Hub: {error}. Name it `user/name`.") from error
        except (RevisionNotFoundError, EntryNotFoundError) as error:
            raise LineageError(f"{where}: {self._said(error)}") from error
        except RepositoryNotFoundError as error:
            raise LineageError(
                f"{where} is not there, or is private and you may not see it. Check the name. {_LOGIN}."
            ) from error
        except HfHubHTTPError as error:
            raise self._of_status(error, where) from error
        except Exception as error:
            if not isinstance(error, (*_transport_errors(), OSError)):
                raise
            raise LineageUnreachableError(f"{where} cannot be reached ({self._said(error)}).") from error

    def _of_status(self, error: Any, where: str) -> LineageError:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", 0)
        said = self._said(error)
        if status in (409, 412):
            return LineageConflictError(f"{where} was changed meanwhile, and nothing was overwritten: {said}")
        if status in (408, 425, 429) or status >= 500:
            after = response.headers.get("Retry-After", "") if response is not None else ""
            return LineageUnreachableError(
                f"{where} answered {status}: {said}", retry_after=float(after) if after.isdigit() else None
            )
        if status in (401, 403):
            return LineageError(f"{where} refuses ({status}): {said} {_LOGIN}.")
        if status == 413:
            return LineageError(f"{where} takes no files of that size ({status}): {said}")
        return LineageError(f"{where} refuses ({status}): {said}")

    def _said(self, error: BaseException) -> str:
        text = " ".join(str(error).split())
        return redact(text[:500], (self.token,) if self.token else ())


def _operations(changes: Changes, present: set[str]) -> list[CommitOperation]:
    """`present` are the paths that can be deleted."""
    added = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in changes.files.items()]
    gone = [CommitOperationDelete(path_in_repo=path) for path in changes.deleted if path in present]
    return [*added, *gone]


def _transport_errors() -> tuple[type[BaseException], ...]:
    """What broken connections raise in the HTTP library that the installed huggingface_hub stands on."""
    found: list[type[BaseException]] = []
    for library, name in (("httpx2", "TransportError"), ("httpx", "TransportError"), ("requests", "RequestException")):
        if library in sys.modules:
            found.append(getattr(sys.modules[library], name))
    return tuple(found)
