"""
What a round was, and its home on disk.

A round is a folder, `rounds/round-000`, that appears in one rename: `manifest.json`, `annotations.jsonl` and
`scores.jsonl` are written beside it first, so a half-written round does not exist. `metrics.json` is added when the
round has been trained and evaluated.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import CheckpointError
from .records import Annotation, Record, Usage


RUN_FILE = "run.json"
# What stands beside a metric in a round's figures.
_BESIDE_METRICS = ("_stderr", "_runtime", "_per_second", "_preparation_time")
NAME_KEY = "journal_run"
# A resumed run that differs in one of these would not be the same run.
BINDING_SETTINGS = (
    "annotation",
    "annotation_kwargs",
    "answer_gate",
    "answer_gate_kwargs",
    "candidates_per_round",
    "class_weights",
    "data_seed",
    "eval_with_teacher",
    "gate",
    "gate_kwargs",
    "gate_max_draws",
    "keep_thinking",
    "max_new_tokens",
    "min_confidence",
    "num_train_epochs",
    "pool",
    "random_share",
    "round_start",
    "samples_per_round",
    "seed",
    "seed_rows",
    "selection",
    "selection_kwargs",
    "soft_labels",
    "student_type",
    "task",
    "task_kwargs",
    "total_train_batch_size",
)


@dataclass
class RoundRecord(Record):
    """
    One round as it was selected and asked.

    Args:
        round (`int`): 0-based index.
        global_step (`int`): Optimiser step at which it began.
        selected_ids (`list[str]`): Chosen rows, best first.
        reasons (`dict[str, str]`): Why each was chosen.
        random_ids (`list[str]`): The chosen rows that were drawn at random: an unbiased probe.
        scores (`dict[str, float]`): Score of every candidate.
        annotations (`list[Annotation]`): One a row that was asked about, failed ones included.
        unfinished_ids (`list[str]`): Chosen rows that the budget did not reach. They return to the pool.
        unfinished_usage ([`~records.Usage`]): What their dialogues had cost when the budget ended.
        stop_reason (`str` or `None`): `"budget"` where the budget ended in this round.
        available (`int`): Rows in the pool before the round.
        seconds (`dict[str, float]`): Wall-clock time of scoring and asking.
    """

    round: int
    global_step: int = 0
    selected_ids: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    random_ids: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    annotations: list[Annotation] = field(default_factory=list)
    unfinished_ids: list[str] = field(default_factory=list)
    unfinished_usage: Usage = field(default_factory=Usage)
    stop_reason: str | None = None
    available: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def succeeded(self) -> list[Annotation]:
        """Annotations that enter training."""
        return [annotation for annotation in self.annotations if annotation.status == "ok"]

    @property
    def usage(self) -> Usage:
        """What the round cost, failed and unfinished rows included."""
        return sum((annotation.usage for annotation in self.annotations), self.unfinished_usage)

    def figures(self) -> dict[str, Any]:
        """The round in numbers: what is logged, and what the tables and curves are drawn from."""
        judged = sum(annotation.judged_steps for annotation in self.annotations)
        accepted = sum(annotation.accepted_steps for annotation in self.annotations)
        probe = self.probe_verdicts()
        usage = self.usage
        figures: dict[str, Any] = {
            "round": self.round,
            "candidates": len(self.scores),
            "selected": len(self.selected_ids),
            "annotated": len(self.succeeded),
            "failed": len(self.annotations) - len(self.succeeded),
            "unfinished": len(self.unfinished_ids),
            "teacher_calls": usage.calls,
            "teacher_prompt_tokens": usage.prompt_tokens,
            "teacher_completion_tokens": usage.completion_tokens,
            "teacher_tokens": usage.total_tokens,
            "accepted_steps": accepted,
            "judged_steps": judged,
            "accept_rate": accepted / judged if judged else None,
            "probe_judged_steps": len(probe),
            "probe_accept_rate": sum(probe) / len(probe) if probe else None,
        }
        costs = [annotation.cost for annotation in self.annotations if annotation.cost is not None]
        figures["teacher_cost"] = sum(costs) if costs else None
        return figures

    def probe_verdicts(self) -> list[bool]:
        """Whether each judged student step on the rows drawn at random was accepted, those of a row together."""
        probe = set(self.random_ids)
        rows = [annotation for annotation in self.annotations if annotation.row_id in probe]
        return [k < row.accepted_steps for row in rows for k in range(row.judged_steps)]


class RoundStore:
    """
    The rounds of one run, in `output_dir/rounds`.

    Args:
        output_dir (`str` or `Path`): The run's folder.
    """

    def __init__(self, output_dir: str | Path):
        self.folder = Path(output_dir) / "rounds"

    def path(self, round_index: int) -> Path:
        return self.folder / f"round-{round_index:03d}"

    def __len__(self) -> int:
        """Finished rounds without a gap from the first on."""
        count = 0
        while self.has(count):
            count += 1
        return count

    def has(self, round_index: int) -> bool:
        return (self.path(round_index) / "manifest.json").is_file()

    def write(self, record: RoundRecord) -> None:
        """Stores a round; it exists from the final rename on."""
        partial = self.folder / f"round-{record.round:03d}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        manifest = record.to_dict()
        _write_lines(partial / "annotations.jsonl", manifest.pop("annotations"))
        scores = manifest.pop("scores")
        _write_lines(partial / "scores.jsonl", [{"row_id": key, "score": value} for key, value in scores.items()])
        _write_durably(partial / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False))
        shutil.rmtree(self.path(record.round), ignore_errors=True)
        os.replace(partial, self.path(record.round))
        _sync_folder(self.folder)

    def read(self, round_index: int) -> RoundRecord:
        """Loads a round as it was written."""
        folder = self.path(round_index)
        if not self.has(round_index):
            raise CheckpointError(
                f"{folder} does not exist, but the checkpoint was made after that round. Resume from a checkpoint of "
                "an earlier round, or start anew with `overwrite_rounds=True` (answers in the journal are not paid "
                "for again)."
            )
        manifest = _read_json(folder / "manifest.json")
        manifest["annotations"] = _read_lines(folder / "annotations.jsonl")
        scores = _read_lines(folder / "scores.jsonl")
        return RoundRecord.from_dict({**manifest, "scores": {row["row_id"]: row["score"] for row in scores}})

    def records(self) -> list[RoundRecord]:
        return [self.read(index) for index in range(len(self))]

    def write_baseline(self, metrics: dict[str, Any]) -> None:
        """Stores what was measured before the first round."""
        _write_durably(self.folder / "baseline.json", json.dumps(metrics, indent=2))

    def history(self, before: int) -> list[dict[str, Any]]:
        """The baseline, where there is one, and the metrics of the rounds before `before`."""
        baseline = self.folder / "baseline.json"
        rows = [_read_json(baseline)] if baseline.is_file() else []
        return rows + [metrics for index in range(before) if (metrics := self.read_metrics(index)) is not None]

    def write_metrics(self, round_index: int, metrics: dict[str, Any]) -> None:
        """Adds what was measured after the round's training, and brings `metrics.jsonl` of the run up to date."""
        _write_durably(self.path(round_index) / "metrics.json", json.dumps(metrics, indent=2))
        _write_lines(self.folder.parent / "metrics.jsonl", self.history(round_index + 1))

    def read_metrics(self, round_index: int) -> dict[str, Any] | None:
        path = self.path(round_index) / "metrics.json"
        return _read_json(path) if path.is_file() else None

    def settings(self) -> dict[str, Any]:
        """What the run was begun with, empty where none was."""
        path = self.folder / RUN_FILE
        return _read_json(path) if path.is_file() else {}

    def forget(self, row_id: str, settings: dict[str, Any]) -> int:
        """Deletes a row from all rounds and changes the settings that it had a part in; the rounds that held it."""
        held = 0
        for index in range(len(self)):
            record = self.read(index)
            before = record.to_dict()
            record.annotations = [a for a in record.annotations if a.row_id != row_id]
            record.selected_ids = [known for known in record.selected_ids if known != row_id]
            record.random_ids = [known for known in record.random_ids if known != row_id]
            record.unfinished_ids = [known for known in record.unfinished_ids if known != row_id]
            record.scores.pop(row_id, None)
            record.reasons.pop(row_id, None)
            if record.to_dict() != before:
                metrics = self.read_metrics(index)
                self.write(record)
                if metrics is not None:
                    _write_durably(self.path(index) / "metrics.json", json.dumps(metrics, indent=2))
                held += 1
        path = self.folder / RUN_FILE
        if settings and path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            _write_durably(path, json.dumps({**stored, **settings}, indent=2, ensure_ascii=False))
        return held

    def begin(self, settings: dict[str, Any], *, resuming: bool, overwrite: bool) -> None:
        """
        Claims the folder for a run with these settings.

        Raises:
            [`~errors.CheckpointError`]: When another run's rounds stand there, or a resumed run has other settings.
        """
        path = self.folder / RUN_FILE
        stored = self.settings() if path.is_file() else None
        if stored is not None and resuming:
            changed = [key for key in BINDING_SETTINGS if stored.get(key) != json.loads(json.dumps(settings.get(key)))]
            if changed:
                raise CheckpointError(
                    f"{self.folder.parent} holds a run with other settings: "
                    + "; ".join(f"{key} was {stored.get(key)!r}, is {settings.get(key)!r}" for key in changed)
                    + ". Resume with the old settings, or choose another `output_dir`."
                )
        elif self.folder.exists() and any(self.folder.iterdir()) and not resuming:
            if not overwrite:
                raise CheckpointError(
                    f"{self.folder.parent} holds the rounds of another run. Go on with it "
                    "(`resume_from_checkpoint=True`), choose another `output_dir`, or replace it with "
                    "`overwrite_rounds=True`; the journal is kept, so no answer is paid for twice."
                )
            # Checkpoints first: one of the old run beside rounds of the new one would be resumed as the new run's.
            for checkpoint in self.folder.parent.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
            shutil.rmtree(self.folder)
        kept = {**settings, NAME_KEY: self._name_for(stored)}
        _write_durably(path, json.dumps(kept, indent=2, ensure_ascii=False))

    def run_name(self) -> str:
        """The run's name in a journal that it shares with others: two runs never have the same one."""
        return str(self.settings()[NAME_KEY])

    def _name_for(self, stored: dict[str, Any] | None) -> str:
        """Of a new run, a new name. A run keeps its name when resumed or begun anew: what it spent stays spent."""
        name = self.folder.parent.name
        if stored is None:
            return f"{name}-{uuid.uuid4().hex[:8]}"
        # Runs of before had no name but their folder's.
        return str(stored.get(NAME_KEY, name))


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    _write_durably(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    # Not `splitlines`: a JSON string may hold other line separators than \n.
    return [json.loads(line) for line in _read_text(path).split("\n") if line]


def _read_json(path: Path) -> Any:
    return json.loads(_read_text(path))


def _read_text(path: Path) -> str:
    # A small model may write half of a surrogate pair, and it is kept as it is.
    return path.read_text(encoding="utf-8", errors="surrogatepass")


def _write_durably(path: Path, text: str) -> None:
    """Writes through to the disk and renames into place, so that a reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error}). Give the disk room, or choose an `output_dir` where you may write, "
            "and go on with `resume_from_checkpoint=True`: the teacher's answers are in the journal."
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def measured_metrics(history: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names of what the evaluations of some rounds measured, accuracies first; no standard errors, no timings."""
    names = {
        name
        for row in history
        for name, value in row.items()
        if name.startswith("eval_") and isinstance(value, int | float) and math.isfinite(value)
    }
    metrics = [name for name in names if not name.endswith(_BESIDE_METRICS)]
    return sorted(metrics, key=lambda name: (name != "eval_accuracy", not name.endswith("accuracy"), name))
