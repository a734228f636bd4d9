"""The tables of a lineage as parquet files, one shard a round, and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import Features, List, Value

from ..asking import JournalRow
from ..asking.rows import storable
from ..records import Annotation, PoolRow, Prompt, Usage
from ..rounds import RoundRecord
from ..tables import annotation_features, annotation_from_row, annotation_row
from ..tasks import as_messages


_TEXT, _COUNT, _NUMBER, _FLAG = Value("string"), Value("int64"), Value("float64"), Value("bool")
_MESSAGES = List({"role": _TEXT, "content": _TEXT})
_USAGE = ("calls", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_prompt_tokens", "estimated")

STATES = Features({"row_id": _TEXT, "round": _COUNT, "state": _TEXT, "attempts": _COUNT, "reason": _TEXT})
SCORES = Features(
    {
        "row_id": _TEXT,
        "round": _COUNT,
        "score": _NUMBER,
        "chosen": _FLAG,
        "rank": _COUNT,
        "reason": _TEXT,
        "random": _FLAG,
    }
)
JOURNAL = Features(
    {
        "id": _COUNT,
        "key": _TEXT,
        "own": _FLAG,
        "row_id": _TEXT,
        "round": _COUNT,
        "kind": _TEXT,
        "turn": _COUNT,
        "model": _TEXT,
        "revision": _TEXT,
        "sample_index": _COUNT,
        "attempt": _COUNT,
        "state": _TEXT,
        "content": _TEXT,
        "answer": _TEXT,
        "error": _TEXT,
        **dict.fromkeys(_USAGE[:-1], _COUNT),
        "estimated": _FLAG,
        "bound_prompt_tokens": _COUNT,
        "bound_completion_tokens": _COUNT,
        "cost": _NUMBER,
        "latency": _NUMBER,
        "clock": _NUMBER,
        "sent_at": _TEXT,
        "finished_at": _TEXT,
    }
)


def rows_features(conversational: bool) -> Features:
    """The columns of the pool's rows."""
    prompt = {"prompt": _MESSAGES, "text_prompt": _FLAG} if conversational else {"prompt": _TEXT}
    return Features({"row_id": _TEXT, **prompt, "reference": _TEXT, "columns": _TEXT})


def annotations_features(conversational: bool) -> Features:
    """The columns of the annotations: those of [`~tables.annotation_features`]."""
    features = annotation_features(conversational)
    # A pool may hold both kinds of prompts, and a student sees a difference between them.
    return Features({**features, "text_prompt": _FLAG}) if conversational else features


def seed_features(conversational: bool) -> Features:
    """Those of the annotations that a run was given, and the row as it stood in the data, as one JSON text."""
    return Features({**annotations_features(conversational), "row": _TEXT})


def is_conversational(rows: Iterable[PoolRow]) -> bool:
    """Whether some prompt is a conversation: all shards of a table then hold conversations, so that they fit."""
    return any(not isinstance(row.prompt, str) for row in rows)


# ---------------------------------------------------------------------- writing


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], features: Features) -> None:
    """Writes rows to a parquet file, which may be empty. The same rows give the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist([_storable(row) for row in rows], schema=features.arrow_schema)
    pyarrow.parquet.write_table(table, path)


def read_table(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The rows of a table's shards, in their order."""
    return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]


def pool_row(row: PoolRow, conversational: bool) -> dict[str, Any]:
    """A row of the pool; its further columns are one JSON text, whatever they hold."""
    text = isinstance(row.prompt, str)
    return {
        "row_id": row.row_id,
        "prompt": as_messages(row.prompt) if conversational else row.prompt,
        "text_prompt": text,
        "reference": row.reference,
        "columns": json.dumps(row.columns, ensure_ascii=False, default=str),
    }


def state_rows(record: RoundRecord, failures: Counter[str], max_attempts: int) -> Iterator[dict[str, Any]]:
    """
    What the round changed in the state of rows. The state of a row is its last one; a row without any is available.

    Args:
        record (`RoundRecord`): The round.
        failures (`Counter`): How often each row had failed before the round.
        max_attempts (`int`): Times a row may fail before it leaves the pool.
    """
    for annotation in record.annotations:
        attempts = failures[annotation.row_id] + 1
        failed = "failed" if attempts < max_attempts else "given_up"
        state = "annotated" if annotation.status == "ok" else failed
        yield _state(record, annotation.row_id, state, attempts, annotation.reason)
    for row_id in record.unfinished_ids:
        yield _state(record, row_id, "unfinished", failures[row_id], "budget")


def _state(record: RoundRecord, row_id: str, state: str, attempts: int, reason: str | None) -> dict[str, Any]:
    return {"row_id": row_id, "round": record.round, "state": state, "attempts": attempts, "reason": reason}


def score_rows(record: RoundRecord) -> Iterator[dict[str, Any]]:
    """Every candidate of the round, chosen or not, in the order of scoring."""
    ranks = {row_id: rank for rank, row_id in enumerate(record.selected_ids)}
    random_ids = set(record.random_ids)
    for row_id in [*record.scores, *(row_id for row_id in ranks if row_id not in record.scores)]:
        yield {
            "row_id": row_id,
            "round": record.round,
            "score": record.scores.get(row_id),
            "chosen": row_id in ranks,
            "rank": ranks.get(row_id),
            "reason": record.reasons.get(row_id),
            "random": row_id in random_ids,
        }


def lineage_annotation_row(annotation: Annotation, conversational: bool) -> dict[str, Any]:
    """An annotation in the columns of [`annotations_features`]."""
    row = annotation_row(annotation, conversational)
    return {**row, "teacher": public_name(row["teacher"]), "text_prompt": isinstance(annotation.prompt, str)}


def seed_row(row: PoolRow, annotation: Annotation, conversational: bool) -> dict[str, Any]:
    """A row of `train_dataset` in the columns of [`seed_features`]."""
    given = json.dumps(row.to_dict(), ensure_ascii=False, default=str)
    return {**lineage_annotation_row(annotation, conversational), "row": given}


def seed_row_from(row: Mapping[str, Any]) -> tuple[PoolRow, Annotation]:
    """The reverse of [`seed_row`]."""
    return PoolRow.from_dict(json.loads(row["row"])), lineage_annotation_from(row)


def journal_row(row: JournalRow, *, own: bool) -> dict[str, Any]:
    """A call of the journal; the name of the run is a folder's name of this machine and stays here."""
    return {**row.to_dict(), "model": public_name(row.model), "own": own}


def public_name(name: str | None) -> str | None:
    """A model's name; of one that was loaded from a folder of this machine, the folder's."""
    return Path(name).name if name is not None and Path(name).is_absolute() else name


def _storable(value: Any) -> Any:
    """Parquet holds UTF-8, which takes no lone surrogates."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value


# ---------------------------------------------------------------------- reading


def pool_row_from(row: Mapping[str, Any]) -> PoolRow:
    """The reverse of [`pool_row`]."""
    return PoolRow(row["row_id"], prompt_from(row), row["reference"], json.loads(row["columns"]))


def prompt_from(row: Mapping[str, Any]) -> Prompt:
    """A prompt as it was, text where it had been text."""
    prompt = row["prompt"]
    return prompt[-1]["content"] if isinstance(prompt, list) and row["text_prompt"] else prompt


def record_from(
    manifest: Mapping[str, Any],
    scores: Sequence[Mapping[str, Any]],
    states: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
) -> RoundRecord:
    """
    A round as it was recorded, put together from the rows of its shards.

    Args:
        manifest (`dict`): What [`manifest_of`] kept.
        scores, states, annotations (`list[dict]`): Rows of the round's shards, in their order.
    """
    chosen = sorted((row for row in scores if row["chosen"]), key=lambda row: row["rank"])
    candidates = [row for row in scores if row["score"] is not None]
    return RoundRecord(
        round=manifest["round"],
        global_step=manifest["global_step"],
        selected_ids=[row["row_id"] for row in chosen],
        reasons={row["row_id"]: row["reason"] for row in chosen if row["reason"] is not None},
        random_ids=[row["row_id"] for row in chosen if row["random"]],
        scores={row["row_id"]: row["score"] for row in candidates},
        annotations=[lineage_annotation_from(row) for row in annotations],
        unfinished_ids=[row["row_id"] for row in states if row["state"] == "unfinished"],
        unfinished_usage=Usage.from_dict(manifest["unfinished_usage"]),
        stop_reason=manifest["stop_reason"],
        available=manifest["available"],
        seconds=manifest["seconds"],
    )


def manifest_of(record: RoundRecord) -> dict[str, Any]:
    """What of a round stands in no table, and names no row."""
    kept = ("round", "global_step", "available", "seconds", "stop_reason", "unfinished_usage")
    fields = record.to_dict()
    return {name: fields[name] for name in kept}


def lineage_annotation_from(row: Mapping[str, Any]) -> Annotation:
    """The reverse of [`lineage_annotation_row`]."""
    return annotation_from_row(dict(row), text_prompt=bool(row.get("text_prompt")))


def journal_row_from(row: Mapping[str, Any], run: str) -> JournalRow:
    """The reverse of [`journal_row`], as a call of `run` where it was one of the run's own."""
    fields = {name: value for name, value in row.items() if name not in ("own", *_USAGE)}
    usage = Usage(**{name: row[name] for name in _USAGE})
    return JournalRow(**fields, run=run if row["own"] else f"{run} (restored)", usage=usage)
