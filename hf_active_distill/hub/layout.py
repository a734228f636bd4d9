"""Names: the three parts of a lineage, their repositories, files and tags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, LineageError


#: In the order in which a round is committed: each part names the commits of those before it, and a round exists when
#: the last one carries its tag.
POOL, ANNOTATIONS, STUDENT = "pool", "annotations", "student"
PARTS = (POOL, ANNOTATIONS, STUDENT)
REPO_TYPES = {POOL: "dataset", ANNOTATIONS: "dataset", STUDENT: "model"}
_SUFFIXES = {POOL: "-pool", ANNOTATIONS: "-annotations", STUDENT: ""}

#: Stands in every part: which lineage and round the commit belongs to.
ROUND_FILE = "round.json"
METRICS_FILE = "metrics.jsonl"
#: What of a round no table holds: step, seconds, rows left, why it ended. One line a round.
MANIFESTS_FILE = "rounds.jsonl"
#: What an optimiser needs to go on, in the student's part.
STATE_FOLDER = "training_state"
#: The tables of the data sets: configuration name -> part that holds it.
TABLES = {
    "rows": POOL,
    "states": POOL,
    "scores": POOL,
    "annotations": ANNOTATIONS,
    "seed": ANNOTATIONS,
    "journal": ANNOTATIONS,
}
#: A version of the layout: a reader refuses a newer one.
FORMAT = 1

_TAG = re.compile(r"^round-(\d{3,})$")
_REPO_ID = re.compile(r"^[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?$")
# The Hub takes 96 characters; the longest suffix is that of the annotations.
_LONGEST_NAME = 96 - len("-annotations")


def tag_of(round_index: int) -> str:
    """`round-003`."""
    return f"round-{round_index:03d}"


def round_of(tag: str) -> int | None:
    """The round of a tag, `None` for a tag of another kind."""
    found = _TAG.match(tag)
    return int(found.group(1)) if found else None


def parse_tag(text: str) -> str:
    """`round-003`, also from `3`."""
    tag = tag_of(int(text)) if text.isdigit() else text
    if round_of(tag) is None:
        raise ConfigurationError(f"'{text}' is no round: name one as `round-003`, or by its number.")
    return tag


def shard(table: str, round_index: int) -> str:
    """The file that a round adds to a table."""
    return f"{table}/{tag_of(round_index)}.parquet"


def is_repo_id(target: str) -> bool:
    """Whether a target reads as a name on the Hub and not as a path."""
    return bool(_REPO_ID.match(target)) and not Path(target).exists()


def repo_id(name: str, part: str) -> str:
    """
    The repository of a part.

    Raises:
        [`~errors.ConfigurationError`]: When the name is too long to be given a suffix.
    """
    if len(name) > _LONGEST_NAME:
        raise ConfigurationError(
            f"'{name}' has {len(name)} characters: with `-annotations` behind it the Hub would refuse it. Choose a "
            f"`hub_model_id` of at most {_LONGEST_NAME}."
        )
    return name + _SUFFIXES[part]


@dataclass(frozen=True)
class Changes:
    """
    What a commit changes: files by their path in the repository, and paths that go.

    Args:
        files (`dict[str, Path]`): New or changed files, where they lie on this machine.
        deleted (`tuple[str, ...]`, *optional*): Paths that the commit removes; those that are not there are left out.
    """

    files: dict[str, Path]
    deleted: tuple[str, ...] = ()

    @classmethod
    def of_folder(cls, folder: Path, deleted: tuple[str, ...] = ()) -> Changes:
        """All files of a folder."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return cls({path.relative_to(folder).as_posix(): path for path in paths}, deleted)


def require_known_format(info: dict[str, Any], where: str) -> dict[str, Any]:
    """
    Raises:
        [`~errors.LineageError`]: When a newer version of this library wrote the round.
    """
    if info.get("format", 0) > FORMAT:
        raise LineageError(
            f"{where} was written by a newer version of this library (format {info['format']}, this one knows "
            f"{FORMAT}). Upgrade hf-active-distill."
        )
    return info
