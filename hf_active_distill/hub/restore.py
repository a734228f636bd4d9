"""From a round of a lineage to a run's folder that training goes on from, on any machine."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..asking.restoring import import_calls
from ..errors import LineageError
from ..records import Annotation, PoolRow
from ..rounds import RoundRecord, RoundStore
from . import shards
from .cards import CURVE_FILE
from .contents import CARD_FILE, FIRST_WEIGHTS, link_or_copy
from .frozen import LineageFolder
from .layout import (
    ANNOTATIONS,
    MANIFESTS_FILE,
    METRICS_FILE,
    PARTS,
    POOL,
    ROUND_FILE,
    STATE_FOLDER,
    STUDENT,
    round_of,
)
from .store import LineageStore
from .training_state import write_pickles


#: A run's name in a journal of its own.
RUN = "train"
TRAINER_STATE_FILE = "trainer_state.json"
#: Not part of a checkpoint.
_NOT_STUDENT = {ROUND_FILE, METRICS_FILE, MANIFESTS_FILE, CARD_FILE, CURVE_FILE, ".gitattributes"}


@dataclass(frozen=True)
class RestoredRound:
    """
    What a restored folder holds.

    Args:
        output_dir (`Path`): The run's folder.
        checkpoint (`Path`): The checkpoint to go on from, which is also the student of the round.
        info (`dict[str, Any]`): The round's `round.json`.
        rows (`list[PoolRow]`): The pool.
        seeds (`list[tuple[PoolRow, Annotation]]`): What was annotated from the start.
    """

    output_dir: Path
    checkpoint: Path
    info: dict[str, Any]
    rows: list[PoolRow]
    seeds: list[tuple[PoolRow, Annotation]]


def restore_round(
    store: LineageStore, tag: str, output_dir: str | Path, *, journal: Path | None = None
) -> RestoredRound:
    """
    Brings back a round: student and optimiser as a checkpoint, the rounds and their annotations, the pool's state, and
    the teacher's answers in a journal, so that nothing is paid twice.

    Args:
        store ([`~hub.LineageStore`]): Where the lineage lives.
        tag (`str`): Which round, `round-003`.
        output_dir (`str` or `Path`): A folder that holds no run yet.
        journal (`Path`, *optional*): Journal that gets the answers. Defaults to `journal.sqlite` in `output_dir`.

    Raises:
        [`~errors.LineageError`]: When there is no such round, or the folder holds a run already.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and any(output_dir.iterdir()):
        raise LineageError(f"{output_dir} is not empty: restore into a new folder.")
    info = store.require_round(tag)
    commits = store.commits_of(tag)
    files = {part: store.fetch(part, commits[part], store.files(part, commits[part])) for part in PARTS}
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    # Put together beside its place, so that a restore that was interrupted leaves nothing to mistake for a run.
    with tempfile.TemporaryDirectory(dir=output_dir.parent, prefix=f".{output_dir.name}-") as made:
        folder = Path(made) / output_dir.name
        records = read_records(files[STUDENT], files[POOL], files[ANNOTATIONS])
        _write_rounds(folder, info, records, files[STUDENT])
        checkpoint = _write_checkpoint(folder, info, files[STUDENT])
        calls = shards.read_table(shards_of(files[ANNOTATIONS], "journal"))
        run = RUN if journal is None else RoundStore(folder).run_name()
        import_calls(journal or folder / "journal.sqlite", (shards.journal_row_from(call, run) for call in calls))
        student_files = sorted(files[STUDENT])
        LineageFolder(folder).adopt_round(info, target=store.name, commits=commits, files=student_files)
        if output_dir.exists():
            output_dir.rmdir()
        shutil.move(folder, output_dir)
    return RestoredRound(
        output_dir=output_dir,
        checkpoint=output_dir / checkpoint,
        info=info,
        rows=read_pool(files[POOL]),
        seeds=[shards.seed_row_from(row) for row in shards.read_table(shards_of(files[ANNOTATIONS], "seed"))],
    )


def read_pool(files: dict[str, Path]) -> list[PoolRow]:
    """The pool's rows, from the files of the pool's part."""
    return [shards.pool_row_from(row) for row in shards.read_table(shards_of(files, "rows"))]


def read_annotations(files: dict[str, Path]) -> list[Annotation]:
    """All annotations, from the files of the annotations' part."""
    return [shards.lineage_annotation_from(row) for row in shards.read_table(shards_of(files, "annotations"))]


def read_records(student: dict[str, Path], pool: dict[str, Path], annotations: dict[str, Path]) -> list[RoundRecord]:
    """The rounds as they were recorded, from the files of the three parts."""
    tables = (_by_round(pool, "scores"), _by_round(pool, "states"), _by_round(annotations, "annotations"))
    return [
        shards.record_from(manifest, *(table.get(manifest["round"], []) for table in tables))
        for manifest in _read_lines(student[MANIFESTS_FILE])
    ]


def _by_round(files: dict[str, Path], table: str) -> dict[int | None, list[dict[str, Any]]]:
    return {round_of(path.stem): shards.read_table([path]) for path in shards_of(files, table)}


def shards_of(files: dict[str, Path], table: str) -> list[Path]:
    """The shards of a table in the order of their rounds."""
    names = [name for name in files if name.startswith(f"{table}/") and name.endswith(".parquet")]
    return [Path(files[name]) for name in sorted(names, key=lambda name: round_of(Path(name).stem) or 0)]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _write_rounds(folder: Path, info: dict[str, Any], records: list[RoundRecord], student: dict[str, Path]) -> None:
    store = RoundStore(folder)
    store.begin(info["settings"], resuming=False, overwrite=False)
    history = _read_lines(student[METRICS_FILE])
    for figures in history:
        if figures["round"] < 0:
            store.write_baseline(figures)
    for record in records:
        store.write(record)
    for figures in history:
        if figures["round"] >= 0:
            store.write_metrics(figures["round"], figures)


def _write_checkpoint(folder: Path, info: dict[str, Any], student: dict[str, Path]) -> str:
    """The checkpoint as `Trainer` would have written it; `trainer_state.json` comes last, as there."""
    name = f"checkpoint-{info['global_step']}"
    checkpoint = folder / name
    checkpoint.mkdir(parents=True)
    state_folder = Path(tempfile.mkdtemp(dir=folder.parent))
    for path, source in student.items():
        if path == f"{STATE_FOLDER}/{FIRST_WEIGHTS}":
            shutil.copyfile(source, folder / FIRST_WEIGHTS)
        elif path.startswith(f"{STATE_FOLDER}/"):
            link_or_copy(source.resolve(), state_folder / Path(path).name)
        elif path not in _NOT_STUDENT and "/" not in path:
            # Copies: what is trained further must not be what the Hub's cache holds.
            shutil.copyfile(source, checkpoint / path)
    write_pickles(state_folder, checkpoint)
    (checkpoint / "active_distillation.json").write_text(json.dumps(info["state"], indent=2), encoding="utf-8")
    shutil.copyfile(state_folder / TRAINER_STATE_FILE, checkpoint / TRAINER_STATE_FILE)
    return name
