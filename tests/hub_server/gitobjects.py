"""Names and sizes as git gives them: clients compute the same ones to see what has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch


#: What a new repository's `.gitattributes` sends to large file storage.
LFS_PATTERNS = {
    "models": ("*.bin", "*.bin.*", "*.ckpt", "*.gz", "*.h5", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx")
    + ("*.parquet", "*.pickle", "*.pkl", "*.pt", "*.pth", "*.safetensors", "*.tar", "*.tflite", "*.zip", "*.zst"),
    "datasets": ("*.arrow", "*.bin", "*.gz", "*.npy", "*.npz", "*.parquet", "*.pickle", "*.pkl", "*.safetensors")
    + ("*.tar", "*.zip", "*.zst", "*.png", "*.jpg", "*.jpeg", "*.webp", "*.wav", "*.mp3", "*.flac"),
}


@dataclass(frozen=True)
class Entry:
    """
    A file of a revision.

    Args:
        oid (`str`): Name of the git blob: of the content, or of the pointer to a large file.
        size (`int`): Bytes of the content.
        sha256 (`str` or `None`): Name of the content in large file storage.
    """

    oid: str
    size: int
    sha256: str | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid

    @property
    def pointer_size(self) -> int:
        return len(lfs_pointer(self.sha256, self.size)) if self.sha256 else 0


Tree = dict[str, Entry]


def blob_oid(content: bytes) -> str:
    """The name of a file's content in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def lfs_pointer(sha256: str | None, size: int) -> bytes:
    """The file that git holds in place of one in large file storage."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def lfs_entry(sha256: str, size: int) -> Entry:
    return Entry(blob_oid(lfs_pointer(sha256, size)), size, sha256)


def folder_oid(tree: Mapping[str, Entry], folder: str) -> str:
    """A name for a folder that changes whenever something in it does."""
    inside = sorted((path, entry.oid) for path, entry in tree.items() if path.startswith(f"{folder}/"))
    return hashlib.sha1(repr(inside).encode()).hexdigest()


def folders_of(tree: Mapping[str, Entry]) -> list[str]:
    """Every folder, as its files imply."""
    found = set()
    for path in tree:
        parts = path.split("/")[:-1]
        found.update("/".join(parts[: index + 1]) for index in range(len(parts)))
    return sorted(found)


def gitattributes(kind: str) -> bytes:
    return "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS[kind]).encode()


def is_large(path: str, size: int, attributes: str, threshold: int) -> bool:
    """Whether a file goes to large file storage: by its name, or by its size."""
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    name = path.rsplit("/", 1)[-1]
    return size >= threshold or any(fnmatch(name, pattern) or fnmatch(path, pattern) for pattern in patterns)
