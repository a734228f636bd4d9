"""Files on disk, by name of their content: each appears whole, in one rename, or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from .errors import HubError


class BlobStore:
    """
    Content under `folder`. What is stored stays: a revision is never rewritten.

    Args:
        folder (`Path`): Made where it is missing.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.incoming = folder / "incoming"
        self.incoming.mkdir(parents=True, exist_ok=True)
        for leftover in self.incoming.iterdir():  # uploads that a kill interrupted
            leftover.unlink()

    def path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def add(self, name: str, content: bytes) -> None:
        """Stores a whole file."""
        with self.upload(name) as upload:
            upload.write(content)
            upload.finish()

    def upload(self, name: str) -> Upload:
        """A file that arrives in pieces."""
        return Upload(self, name)


class Upload:
    """
    A file on its way in; leaving the block without [`Upload.finish`] throws it away.

    Args:
        store ([`BlobStore`]): Where it goes.
        name (`str`): Its name, once it is whole.
    """

    def __init__(self, store: BlobStore, name: str):
        self.target = store.path(name)
        self.size = 0
        self._digest = hashlib.sha256()
        descriptor, self._partial = tempfile.mkstemp(dir=store.incoming)
        self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *exc_info) -> None:
        self._file.close()
        Path(self._partial).unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    def finish(self, *, sha256: str | None = None) -> None:
        """
        Puts the file in its place.

        Raises:
            [`HubError`]: When `sha256` is given and the content has another one.
        """
        if sha256 is not None and self._digest.hexdigest() != sha256:
            raise HubError(400, "The provided content does not match its SHA-256.")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.target.parent.mkdir(exist_ok=True)
        os.replace(self._partial, self.target)
