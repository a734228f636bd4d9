"""
Rounds that wait to be pushed: `output_dir/lineage/round-003`, a copy that nothing else writes to or clears away.

A frozen round appears in one rename. When it has been pushed its files go, and what was pushed where stays.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import LineageError
from .layout import PARTS, STUDENT, Changes, round_of, tag_of


FOLDER = "lineage"
#: Files of a frozen round as they are uploaded, where the commits of the parts before stand in them.
NAMED = "named"
_IDENTITY_FILE, _FROZEN_FILE, _PUSHED_FILE = "lineage.json", "frozen.json", "pushed.json"


@dataclass(frozen=True)
class FrozenRound:
    """
    One round, ready to be pushed or pushed already.

    Args:
        folder (`Path`): Where it lies: a folder a part.
        lineage (`str`): Id of the lineage it belongs to.
        round (`int`): Which round.
        id (`str`): Tells this copy from the same round of another process.
        journal_id (`int`): Last call of the journal that it, or a round before it, holds.
        deleted (`dict[str, list[str]]`): Files of the round before, by part, that are no more.
    """

    folder: Path
    lineage: str
    round: int
    id: str
    journal_id: int
    deleted: dict[str, list[str]]

    @property
    def tag(self) -> str:
        return tag_of(self.round)

    def changes(self, part: str) -> Changes:
        """What its commit changes in a part."""
        return Changes.of_folder(self.folder / part, tuple(self.deleted.get(part, ())))

    def info(self, part: str) -> dict[str, str | int]:
        """What identifies its commits, in `round.json` of every part."""
        return {"lineage": self.lineage, "round": self.round, "frozen": self.id}

    def student_files(self) -> list[str]:
        """Files of the student's part, to find those that a later round has no more."""
        return json.loads((self.folder / _FROZEN_FILE).read_text(encoding="utf-8"))["student_files"]

    @property
    def pushed(self) -> dict[str, Any] | None:
        """`{"target": ..., "commits": {part: commit}}` once it has been pushed."""
        path = self.folder / _PUSHED_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def mark_pushed(self, target: str, commits: dict[str, str]) -> None:
        """Notes where it went, and lets its files go."""
        write_json(self.folder / _PUSHED_FILE, {"target": target, "commits": commits})
        for part in (*PARTS, NAMED):
            shutil.rmtree(self.folder / part, ignore_errors=True)


class LineageFolder:
    """
    The frozen rounds of one run.

    Args:
        output_dir (`str` or `Path`): The run's folder.
    """

    def __init__(self, output_dir: str | Path):
        self.folder = Path(output_dir) / FOLDER

    def id(self) -> str:
        """The lineage's id, made at the first call; a restored run keeps that of the run it goes on from."""
        identity = self._identity()
        if identity is None:
            identity = {"lineage": uuid.uuid4().hex}
            write_json(self.folder / _IDENTITY_FILE, identity)
        return identity["lineage"]

    def begin(self, target: str) -> None:
        """
        Says where the rounds of this run go from now on. Under a new name begins a new lineage, with all rows of the
        rounds before: a restored run does not go on in the place that it came from unless it is told to.
        """
        gone_to = [str(frozen.pushed["target"]) for frozen in self.rounds() if frozen.pushed is not None]
        identity = self._identity() or {}
        if gone_to and not self.waiting() and not any(same_target(target, gone) for gone in gone_to):
            self.clear()
            identity.pop("lineage")
        write_json(self.folder / _IDENTITY_FILE, {"lineage": uuid.uuid4().hex, **identity, "target": target})

    def target(self) -> str | None:
        """Where the run's rounds go."""
        return (self._identity() or {}).get("target")

    def base_model(self) -> str | None:
        """Of a restored run, the model that its student began as."""
        return (self._identity() or {}).get("base_model")

    def restored_from(self) -> dict[str, str] | None:
        """Of a restored run, the name and tag on the Hub that it goes on from."""
        return (self._identity() or {}).get("restored_from")

    def _identity(self) -> dict[str, Any] | None:
        path = self.folder / _IDENTITY_FILE
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def clear(self) -> None:
        """Another run begins in this folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def rounds(self) -> list[FrozenRound]:
        """All frozen rounds in order, pushed ones included."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if round_of(path.name) is not None]
        return [self._read(path) for path in sorted(found, key=lambda path: round_of(path.name) or 0)]

    def waiting(self) -> list[FrozenRound]:
        """The rounds that are not pushed yet, in order."""
        return [frozen for frozen in self.rounds() if frozen.pushed is None]

    def last(self) -> FrozenRound | None:
        """The last frozen round."""
        return next(reversed(self.rounds()), None)

    def partial(self, round_index: int) -> Path:
        """An empty folder to put a round together in."""
        path = self.folder / f"{tag_of(round_index)}.partial"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def finish(self, partial: Path, *, round_index: int, journal_id: int, frozen_id: str) -> FrozenRound:
        """Lets the round that was put together in `partial` exist."""
        last = self.last()
        files = sorted(Changes.of_folder(partial / STUDENT).files)
        gone = sorted(set(last.student_files()) - set(files)) if last is not None else []
        body = {
            "lineage": self.id(),
            "round": round_index,
            "id": frozen_id,
            "journal_id": journal_id,
            "deleted": {STUDENT: gone},
            "student_files": files,
        }
        write_json(partial / _FROZEN_FILE, body)
        os.replace(partial, self.folder / tag_of(round_index))
        return self._read(self.folder / tag_of(round_index))

    def adopt_round(self, info: dict[str, Any], *, target: str, commits: dict[str, str], files: list[str]) -> None:
        """Notes a round that was restored: the next one goes on behind it."""
        identity: dict[str, Any] = {"lineage": info["lineage"], "base_model": info["base_model"]}
        if not os.path.isabs(target):
            identity["restored_from"] = {"name": target, "tag": tag_of(info["round"])}
        write_json(self.folder / _IDENTITY_FILE, identity)
        folder = self.folder / tag_of(info["round"])
        body = {
            "lineage": info["lineage"],
            "round": info["round"],
            "id": info["frozen"],
            "journal_id": info["journal_id"],
            "deleted": {},
            "student_files": files,
        }
        write_json(folder / _FROZEN_FILE, body)
        write_json(folder / _PUSHED_FILE, {"target": target, "commits": commits})

    def _read(self, folder: Path) -> FrozenRound:
        try:
            body = json.loads((folder / _FROZEN_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LineageError(
                f"{folder} cannot be read ({error}). Move it away: the next round brings the rows of this one."
            ) from error
        fields = ("lineage", "round", "id", "journal_id", "deleted")
        return FrozenRound(folder=folder, **{name: body[name] for name in fields})


def same_target(named: str, pushed: str) -> bool:
    """Whether a name that may lack its `user/` means the place that was pushed to."""
    return pushed == named or ("/" not in named and pushed.endswith(f"/{named}") and not os.path.isabs(pushed))


def pushed_lines(output_dir: str | Path) -> list[str]:
    """Where the rounds of a run are, in words; nothing for a run that keeps none."""
    rounds = LineageFolder(output_dir).rounds()
    pushed = [(frozen.tag, frozen.pushed["target"]) for frozen in rounds if frozen.pushed is not None]
    waiting = [frozen.tag for frozen in rounds if frozen.pushed is None]
    lines = [f"{', '.join(tag for tag, _ in pushed)} are at {pushed[-1][1]}."] if pushed else []
    if waiting:
        lines.append(f"{', '.join(waiting)} wait to be pushed: `hf-active-distill push {output_dir}`.")
    return lines


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Writes a small file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(body, indent=2, ensure_ascii=False), encoding="utf-8")
    os.replace(partial, path)
