"""One row, deleted from every round of a lineage and from a run's folder."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from ..asking.restoring import erase_row
from ..errors import LineageError
from ..pool import fingerprint_of
from ..reports.labels import DISAGREEMENTS_FILE
from ..reports.page import REPORT_FILE, write_report
from ..rounds import RoundStore
from . import shards
from .contents import CARD_FILE
from .dataset_cards import revision_example
from .frozen import LineageFolder, write_json
from .layout import PARTS, ROUND_FILE, STUDENT, Changes
from .restore import read_annotations, read_pool, shards_of
from .store import LineageStore


MESSAGE = "Delete a row"
#: Tables that the command line leaves in a run's folder.
TABLES = ("annotations.parquet", "pool.parquet")
#: Of a call, what it cost stays: it is gone whether or not the row is.
_ERASED = {"key": "", "row_id": "", "content": "", "answer": None, "error": "deleted", "state": "failed"}


@dataclass(frozen=True)
class Forgotten:
    """
    What was done.

    Args:
        commits (`dict[str, dict[str, str]]`): New commits by tag and part.
        settings (`dict`): What changed in the settings of the run: see [`settings_without`].
        files (`int`): Tables that were rewritten, over all tags.
    """

    commits: dict[str, dict[str, str]]
    settings: dict[str, Any]
    files: int


def forget_row(store: LineageStore, row_id: str, *, squash: bool = False) -> Forgotten:
    """
    Deletes a row from all rounds: tags move to new commits without it, and so does `main`.

    Args:
        store ([`~hub.LineageStore`]): Where the lineage lives.
        row_id (`str`): The row.
        squash (`bool`, *optional*, defaults to `False`): Whether nothing leads to the old commits any more. Without
            it they can still be read by whoever knows their id.

    Raises:
        [`~errors.LineageError`]: When no round holds the row.
    """
    commits: dict[str, dict[str, str]] = {}
    settings: dict[str, Any] = {}
    rewritten = 0
    for tag in store.round_tags():
        old = store.commits_of(tag)
        new: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as made:
            for part in PARTS:
                files = store.fetch(part, old[part], store.files(part, old[part]))
                settings |= settings_without(files, row_id)
                changed = rewrite(files, row_id, Path(made) / part, commits=new, settings=settings)
                new[part] = old[part]
                if changed:
                    new[part] = store.replace(part, tag, Changes(changed), message=MESSAGE, squash=squash)
                rewritten += _tables_in(changed)
        commits[tag] = new
    rewritten += _forget_at_head(store, row_id, squash=squash)
    if not rewritten:
        raise LineageError(f"No round of {store.where(STUDENT)} holds a row '{row_id}'.")
    return Forgotten(commits, settings, rewritten)


def _forget_at_head(store: LineageStore, row_id: str, *, squash: bool) -> int:
    """`main`, where somebody has committed to it since the last round; its history, where that shall go."""
    rewritten = 0
    for part in PARTS:
        head = store.head(part)
        if head is None:
            continue
        with tempfile.TemporaryDirectory() as made:
            files = store.fetch(part, head, store.files(part, head))
            changed = rewrite(files, row_id, Path(made), commits=None, settings={})
            if changed:
                store.commit(part, Changes(changed), parent=head, message=MESSAGE)
                rewritten += _tables_in(changed)
        if squash:
            store.squash(part, MESSAGE)
    return rewritten


def rewrite(
    files: dict[str, Path],
    row_id: str,
    folder: Path,
    *,
    commits: dict[str, str] | None,
    settings: dict[str, Any],
) -> dict[str, Path]:
    """
    The files of a part that change when a row goes, written into `folder`.

    Args:
        files (`dict[str, Path]`): All files of the part.
        commits (`dict[str, str]` or `None`): Commits to name in `round.json`, `None` to leave those that are there.
        settings (`dict`): What changes in the settings of the run: see [`settings_without`].
    """
    folder.mkdir(parents=True, exist_ok=True)
    changed: dict[str, Path] = {}
    for path, file in files.items():
        if path.endswith(".parquet") and _without(file, row_id, folder / path):
            changed[path] = folder / path
    if changed and CARD_FILE in files and any(path.startswith("annotations/") for path in files):
        changed |= _card_without(files, row_id, folder)
    body: dict[str, Any] = json.loads(files[ROUND_FILE].read_text(encoding="utf-8")) if ROUND_FILE in files else {}
    stays = json.dumps(body)
    if commits is not None and "commits" in body:
        body["commits"] = dict(commits)
    if settings and "settings" in body:
        body["settings"] |= settings
        body["data_fingerprint"] = body["settings"]["pool"]
    if json.dumps(body) != stays:
        write_json(folder / ROUND_FILE, body)
        changed[ROUND_FILE] = folder / ROUND_FILE
    return changed


def _without(file: Path, row_id: str, target: Path) -> bool:
    """Writes the table without the row; returns whether it was in it."""
    table = pyarrow.parquet.read_table(file)
    if "row_id" not in table.column_names:
        return False
    found = pyarrow.compute.equal(table["row_id"], row_id)
    if not pyarrow.compute.any(found).as_py():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.parent.name == "journal":
        rows = [{**row, **_ERASED} if row["row_id"] == row_id else row for row in table.to_pylist()]
        table = pyarrow.Table.from_pylist(rows, schema=table.schema)
    else:
        table = table.filter(pyarrow.compute.invert(found))
    pyarrow.parquet.write_table(table, target)
    return True


def _card_without(files: dict[str, Path], row_id: str, folder: Path) -> dict[str, Path]:
    """The card with another example, where its example is of the row."""
    annotations = read_annotations(files)
    example = revision_example(annotations)
    others = revision_example([annotation for annotation in annotations if annotation.row_id != row_id])
    text = files[CARD_FILE].read_text(encoding="utf-8")
    if example == others or example not in text:
        return {}
    (folder / CARD_FILE).write_text(text.replace(example, others), encoding="utf-8")
    return {CARD_FILE: folder / CARD_FILE}


def settings_without(files: dict[str, Path], row_id: str) -> dict[str, Any]:
    """What a resumed run is compared by, as far as a part tells: hash of the pool, number of rows annotated before."""
    found: dict[str, Any] = {}
    rows, seeds = read_pool(files), shards_of(files, "seed")
    left = [row for row in rows if row.row_id != row_id]
    if len(left) < len(rows):
        found["pool"] = fingerprint_of(left)
    ids = [row["row_id"] for row in shards.read_table(seeds)]
    if row_id in ids:
        found["seed_rows"] = len(ids) - ids.count(row_id)
    return found


def _tables_in(changed: dict[str, Path]) -> int:
    return sum(path.endswith(".parquet") for path in changed)


def forget_in_run(output_dir: str | Path, row_id: str, settings: dict[str, Any]) -> int:
    """
    Deletes a row from a run's folder: its rounds, its journal (what the calls cost stays), the tables beside them, the
    rounds that wait to be pushed, the report, and the same of the arms that were run beside it. Checkpoints hold
    weights and no rows.

    Args:
        output_dir (`str` or `Path`): The run's folder.
        row_id (`str`): The row.
        settings (`dict`): What [`forget_row`] said of the settings; a resumed run is compared by them.

    Returns:
        `int`: Places that held it.
    """
    output_dir = Path(output_dir)
    places = RoundStore(output_dir).forget(row_id, settings)
    if (output_dir / "journal.sqlite").is_file():
        places += erase_row(output_dir / "journal.sqlite", row_id)
    for frozen in LineageFolder(output_dir).waiting():
        for part in PARTS:
            files = frozen.changes(part).files
            changed = rewrite(files, row_id, frozen.folder / part, commits=None, settings=settings)
            places += _tables_in(changed)
    for name in TABLES:
        places += _forget_in_table(output_dir / name, row_id)
    places += _forget_in_lines(output_dir / DISAGREEMENTS_FILE, row_id)
    for arm in sorted(output_dir.glob("compare-*/")):
        places += forget_in_run(arm, row_id, settings)
    if (output_dir / REPORT_FILE).is_file():
        write_report(output_dir)
    return places


def _forget_in_lines(path: Path, row_id: str) -> bool:
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    kept = [line for line in lines if not line or json.loads(line).get("row_id") != row_id]
    if kept == lines:
        return False
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(kept), encoding="utf-8")
    os.replace(partial, path)
    return True


def _forget_in_table(path: Path, row_id: str) -> bool:
    partial = path.with_name(path.name + ".partial")
    found = path.is_file() and _without(path, row_id, partial)
    if found:
        os.replace(partial, path)
    return found
