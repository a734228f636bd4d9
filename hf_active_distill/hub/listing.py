"""What stands in a lineage, and what changed between two of its rounds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records import Annotation
from .layout import ANNOTATIONS, METRICS_FILE, POOL, STUDENT, round_of, shard
from .shards import lineage_annotation_from, read_table
from .store import LineageStore


@dataclass(frozen=True)
class Comparison:
    """
    What lies between two rounds.

    Args:
        old (`str`), new (`str`): Their tags.
        figures (`dict[str, tuple]`): Figures of both rounds by name, where they differ.
        added (`list[Annotation]`): Annotations that the new one has and the old one has not.
        changed (`list[tuple[Annotation, Annotation]]`): The same row with another answer or label, asked about again.
        moved (`list[tuple[str, float, float]]`): (row, score, score) of rows that both rounds scored, by how much they
            moved: what the student understands better or worse.
    """

    old: str
    new: str
    figures: dict[str, tuple[Any, Any]]
    added: list[Annotation]
    changed: list[tuple[Annotation, Annotation]]
    moved: list[tuple[str, float, float]]


def list_rounds(store: LineageStore) -> list[dict[str, Any]]:
    """The rounds that exist, oldest first: their figures, with `tag` and `commit`."""
    tags = store.round_tags()
    if not tags:
        return []
    figures = {row["round"]: row for row in _history(store, list(tags.values())[-1])}
    return [{**figures.get(round_of(tag), {}), "tag": tag, "commit": commit} for tag, commit in tags.items()]


def compare_rounds(store: LineageStore, old: str, new: str) -> Comparison:
    """
    Compares two rounds.

    Raises:
        [`~errors.LineageError`]: When one of them does not exist.
    """
    infos = [store.require_round(tag) for tag in (old, new)]
    commits = [store.commits_of(tag) for tag in (old, new)]
    before, after = (info["figures"] for info in infos)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    known, added = _annotations(store, commits[0][ANNOTATIONS]), _annotations(store, commits[1][ANNOTATIONS])
    added = [annotation for annotation in added if annotation.round > infos[0]["round"]]
    earlier = {annotation.row_id: annotation for annotation in known}
    changed = [
        (earlier[annotation.row_id], annotation)
        for annotation in added
        if annotation.row_id in earlier and _said(earlier[annotation.row_id]) != _said(annotation)
    ]
    scores = [_scores(store, commit[POOL], info["round"]) for commit, info in zip(commits, infos, strict=True)]
    moved = [(row_id, scores[0][row_id], score) for row_id, score in scores[1].items() if row_id in scores[0]]
    return Comparison(
        old=old,
        new=new,
        figures={name: (before.get(name), after.get(name)) for name in names},
        added=added,
        changed=changed,
        moved=sorted(moved, key=lambda row: -abs(row[2] - row[1])),
    )


def _said(annotation: Annotation) -> tuple[str | None, str | None]:
    return annotation.answer, annotation.label


def _history(store: LineageStore, commit: str) -> list[dict[str, Any]]:
    path = store.fetch(STUDENT, commit, [METRICS_FILE])[METRICS_FILE]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _annotations(store: LineageStore, commit: str) -> list[Annotation]:
    paths = [path for path in store.files(ANNOTATIONS, commit) if path.startswith("annotations/")]
    paths.sort(key=lambda path: round_of(Path(path).stem) or 0)
    found = store.fetch(ANNOTATIONS, commit, paths)
    return [lineage_annotation_from(row) for row in read_table([found[path] for path in paths])]


def _scores(store: LineageStore, commit: str, round_index: int) -> dict[str, float]:
    path = shard("scores", round_index)
    rows = read_table([store.fetch(POOL, commit, [path])[path]])
    return {row["row_id"]: row["score"] for row in rows if row["score"] is not None}
