"""What a round consists of, and how it is put together in the layout of its three parts."""

from __future__ import annotations

import json
import os
import platform
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from datasets import Features

from ..asking import JournalReader
from ..records import Annotation, PoolRow, Usage
from ..rounds import RoundRecord
from . import shards
from .cards import draw_learning_curve, model_card
from .dataset_cards import TableFacts, annotations_card, pool_card
from .facts import RunFacts
from .frozen import FrozenRound, LineageFolder, write_json
from .layout import (
    ANNOTATIONS,
    FORMAT,
    MANIFESTS_FILE,
    METRICS_FILE,
    POOL,
    ROUND_FILE,
    STATE_FOLDER,
    STUDENT,
    shard,
    tag_of,
)


CARD_FILE = "README.md"
FIRST_WEIGHTS = "first_weights.safetensors"
_LIBRARIES = ("hf-active-distill", "transformers", "trl", "peft", "accelerate", "datasets", "torch", "huggingface_hub")


@dataclass
class RoundContents:
    """
    A finished round of a run.

    Args:
        records (`list[RoundRecord]`): All rounds up to this one.
        rows (`list[PoolRow]`): The pool, in its order.
        seeds (`list[tuple[PoolRow, Annotation]]`): What was annotated from the start.
        conversational_annotations (`bool`): Whether some prompt of the student is a conversation.
        max_attempts (`int`): Times a row may fail before it leaves the pool.
        journal (`Path`), run (`str`): The journal, and the run's name in it.
        known_ids (`set[str]`): Rows whose answers other runs may have left in a shared journal.
        settings (`dict`): What the run is: see [`~rounds.BINDING_SETTINGS`].
        configuration (`dict`): Arguments that differ from their defaults, without secrets and paths.
        state (`dict`): Our own state of a checkpoint.
        history (`list[dict]`): Figures of the baseline and of all rounds up to this one.
        facts ([`~hub.facts.RunFacts`]): What the cards say.
        first_weights (`Path`, *optional*): Weights that every round starts from.
        resumable (`bool`, *optional*, defaults to `True`): Whether the training can be gone on with.
    """

    records: list[RoundRecord]
    rows: list[PoolRow]
    seeds: list[tuple[PoolRow, Annotation]]
    conversational_annotations: bool
    max_attempts: int
    journal: Path
    run: str
    known_ids: set[str]
    settings: dict[str, Any]
    configuration: dict[str, Any]
    state: dict[str, Any]
    history: list[dict[str, Any]]
    facts: RunFacts
    first_weights: Path | None = None
    resumable: bool = True

    @property
    def record(self) -> RoundRecord:
        """The round itself."""
        return self.records[-1]


def freeze(folder: LineageFolder, partial: Path, contents: RoundContents) -> FrozenRound:
    """
    Puts the round together and lets it exist.

    Args:
        folder ([`LineageFolder`]): The run's frozen rounds.
        partial (`Path`): Made by `folder.partial`; its `student/` holds weights, tokenizer and training state already.
        contents ([`RoundContents`]): The rest.
    """
    last = folder.last()
    record, frozen_id = contents.record, uuid.uuid4().hex
    first = 0 if last is None else last.round + 1
    _write_pool(partial / POOL, contents, first)
    _write_annotations(partial / ANNOTATIONS, contents, first)
    journal_id = _write_journal(partial / ANNOTATIONS, contents, after=0 if last is None else last.journal_id)
    info = {
        "format": FORMAT,
        "lineage": folder.id(),
        "round": record.round,
        "frozen": frozen_id,
    }
    for part in (POOL, ANNOTATIONS):
        write_json(partial / part / ROUND_FILE, info)
    of_student = {"journal_id": journal_id, "restored_from": folder.restored_from()}
    _write_student(partial / STUDENT, contents, {**info, **of_student})
    _write_cards(partial, contents)
    return folder.finish(partial, round_index=record.round, journal_id=journal_id, frozen_id=frozen_id)


def _write_pool(folder: Path, contents: RoundContents, first: int) -> None:
    if first == 0:
        conversational = shards.is_conversational(contents.rows)
        rows = (shards.pool_row(row, conversational) for row in contents.rows)
        shards.write_table(folder / shard("rows", contents.record.round), rows, shards.rows_features(conversational))
    failures: Counter[str] = Counter()
    for record in contents.records:
        if record.round >= first:
            states = shards.state_rows(record, failures, contents.max_attempts)
            shards.write_table(folder / shard("states", record.round), states, shards.STATES)
            shards.write_table(folder / shard("scores", record.round), shards.score_rows(record), shards.SCORES)
        failures.update(a.row_id for a in record.annotations if a.status != "ok")


def _write_annotations(folder: Path, contents: RoundContents, first: int) -> None:
    conversational = contents.conversational_annotations
    if first == 0 and contents.seeds:
        rows = (shards.seed_row(row, annotation, conversational) for row, annotation in contents.seeds)
        shards.write_table(folder / shard("seed", contents.record.round), rows, shards.seed_features(conversational))
    features = shards.annotations_features(conversational)
    for record in contents.records[first:]:
        rows = (shards.lineage_annotation_row(annotation, conversational) for annotation in record.annotations)
        shards.write_table(folder / shard("annotations", record.round), rows, features)


def _write_journal(folder: Path, contents: RoundContents, *, after: int) -> int:
    """The calls since the last round, of this run; of a journal that runs share, also answers about the same rows."""
    last, found = after, []
    with JournalReader(contents.journal) as journal:
        for row in journal.rows():
            if row.id <= after:
                continue
            last = row.id
            own = row.run == contents.run
            if own or (row.state == "answered" and row.row_id in contents.known_ids):
                found.append(shards.journal_row(row, own=own))
    shards.write_table(folder / shard("journal", contents.record.round), found, shards.JOURNAL)
    return last


def _write_student(folder: Path, contents: RoundContents, info: dict[str, Any]) -> None:
    record = contents.record
    if contents.first_weights is not None:
        link_or_copy(contents.first_weights, folder / STATE_FOLDER / FIRST_WEIGHTS)
    _write_lines(folder / METRICS_FILE, contents.history)
    _write_lines(folder / MANIFESTS_FILE, [shards.manifest_of(record) for record in contents.records])
    asked = [a for r in contents.records for a in r.annotations if a.teacher is not None]
    teachers = {(shards.public_name(a.teacher), a.revision) for a in asked}
    body = {
        **info,
        "tag": tag_of(record.round),
        "global_step": contents.state["global_step"],
        "seed": contents.settings["seed"],
        "data_fingerprint": contents.settings["pool"],
        "base_model": contents.facts.base_model,
        "teachers": [{"model": model, "revision": revision} for model, revision in sorted(teachers, key=str)],
        "spent": _spent(contents.records),
        "figures": contents.history[-1] if contents.history else {},
        "settings": contents.settings,
        "configuration": contents.configuration,
        "state": contents.state,
        "resumable": contents.resumable,
        "versions": _versions(),
    }
    write_json(folder / ROUND_FILE, body)


def _write_cards(partial: Path, contents: RoundContents) -> None:
    facts, rows = contents.facts, shards.is_conversational(contents.rows)
    facts.picture = draw_learning_curve(facts, partial / STUDENT)
    model_card(facts).save(partial / STUDENT / CARD_FILE)
    tables = [
        _table("rows", shards.rows_features(rows), "the rows that may be asked about"),
        _table("states", shards.STATES, "what a round changed; the last state of a row counts"),
        _table("scores", shards.SCORES, "every candidate of every round, chosen or not", default=True),
    ]
    pool_card(facts, tables).save(partial / POOL / CARD_FILE)
    annotations = shards.annotations_features(contents.conversational_annotations)
    tables = [
        _table("annotations", annotations, "one row each, failed ones included", default=True),
        _table("journal", shards.JOURNAL, "every call to the teacher: a restored run asks none of them again"),
    ]
    if contents.seeds:
        seeds = shards.seed_features(contents.conversational_annotations)
        tables.insert(1, _table("seed", seeds, "rows that were annotated before the first round"))
    annotations_card(facts, tables).save(partial / ANNOTATIONS / CARD_FILE)


def _table(name: str, features: Features, words: str, *, default: bool = False) -> TableFacts:
    return TableFacts(name, f"{name}/*.parquet", features, words, default)


def _spent(records: Iterable[RoundRecord]) -> dict[str, Any]:
    """Tokens and money of all rounds together."""
    records = list(records)
    usage = sum((record.usage for record in records), Usage())
    costs = [a.cost for record in records for a in record.annotations if a.cost is not None]
    return {
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "cost": sum(costs) if costs else None,
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system gives one, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
