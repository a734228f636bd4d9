"""Tables of a round's rows in the real trackers, none of which is let near a network."""

from __future__ import annotations

import importlib.util
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from counting_teacher import CountingTeacher
from made_runs import labelling, revision

from hf_active_distill.records import Annotation
from hf_active_distill.reports import round_tables
from hf_active_distill.rounds import RoundRecord, RoundStore


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    settings = {
        "TENSORBOARD_LOGGING_DIR": str(tmp_path / "tensorboard"),
        "TRACKIO_DIR": str(tmp_path / "trackio"),
        "WANDB_DIR": str(tmp_path),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


def train(folder: Path, tracker: str) -> list[Annotation]:
    args = {"num_rounds": 2, "report_to": [tracker], "logging_steps": 1}
    with CountingTeacher() as teacher:
        trainer = tiny_run.build(str(folder / "out"), teacher.url, {"args": args})
        trainer.train()
    return trainer.book.annotations()


def revised_rows(annotations: list[Annotation]) -> list[str]:
    return [a.row_id for a in annotations if a.status == "ok" and a.first_rejected is not None]


def test_wandb_gets_tables(tmp_path):
    # In a process of its own: wandb keeps the run, and the settings, of whatever reported to it first.
    options = {"args": {"num_rounds": 2, "report_to": ["wandb"]}}
    with CountingTeacher() as teacher:
        command = [sys.executable, tiny_run.__file__, str(tmp_path / "out"), teacher.url, json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    annotations = [a for record in RoundStore(tmp_path / "out").records() for a in record.annotations]
    found = {"selected": [], "revised": []}
    for path in tmp_path.glob("wandb/offline-run-*/files/media/table/train/round/*.table.json"):
        table = json.loads(path.read_text())
        at = table["columns"].index("row_id")
        found[path.name.split("_rows_")[0]] += [row[at] for row in table["data"]]
    assert sorted(found["selected"]) == sorted(a.row_id for a in annotations)
    assert sorted(found["revised"]) == sorted(revised_rows(annotations)) != []


def test_tensorboard_gets_texts_and_figures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    annotations = train(tmp_path, "tensorboard")
    [folder] = {path.parent for path in tmp_path.rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    texts = [
        tensor.tensor_proto.string_val[0].decode()
        for tensor in events.Tensors("train/round/selected_rows/text_summary")
    ]
    assert len(texts) == 2
    assert all(any(a.row_id in text for text in texts) for a in annotations)
    assert "train/round/teacher_tokens" in events.Tags()["scalars"]


def test_trackio_gets_tables(tmp_path):
    """With the extra `trackio` (the modern track); without, transformers says what is missing."""
    if importlib.util.find_spec("trackio") is None:
        with pytest.raises((ImportError, RuntimeError), match="trackio"):
            train(tmp_path, "trackio")
        return
    annotations = train(tmp_path, "trackio")
    [database] = tmp_path.glob("trackio/*.db")
    with sqlite3.connect(database) as db:
        rows = [json.loads(text) for (text,) in db.execute("SELECT metrics FROM metrics")]
    shown = [
        line["row_id"]
        for row in rows
        if "train/round/selected_rows" in row
        for line in row["train/round/selected_rows"]["_value"]
    ]
    assert sorted(shown) == sorted(a.row_id for a in annotations)


def made_record(make, text=lambda plain: plain) -> RoundRecord:
    generator = np.random.default_rng(0)
    annotations = [make(f"row-{n}", 0, generator, text) for n in range(30)]
    ids = [a.row_id for a in annotations]
    return RoundRecord(0, selected_ids=ids, scores=dict.fromkeys(ids, 1.5), annotations=annotations)


def test_tables_hold_the_rows_of_the_round():
    record = made_record(revision)
    tables = round_tables(record, max_rows=25)
    assert [row[2] for row in tables["selected"].rows] == record.selected_ids[:25]
    revised = tables["revised"]
    assert [row[1] for row in revised.rows] == revised_rows(record.annotations)
    first = next(a for a in record.annotations if a.row_id == revised.rows[0][1])
    values = dict(zip(revised.columns, revised.rows[0], strict=True))
    assert values["rejected_step"] == first.first_rejected + 1
    assert values["student"].split("\n") == first.student.steps and values["teacher"].split("\n") == first.steps


def test_a_label_that_is_not_the_students_is_a_revision():
    record = made_record(labelling)
    revised = round_tables(record)["revised"]
    assert [row[1] for row in revised.rows] == [a.row_id for a in record.annotations if a.student.answer != a.label]


def test_markdown_shows_hostile_text_as_text():
    from html import unescape

    hostile = "| a <script>alert(1)</script> **b** [c](javascript:d) `e`\n# f \x00 \ud800 {{g}}"
    text = round_tables(made_record(revision, text=lambda plain: f"{hostile}{plain}"))["selected"].markdown()
    head, rule, *lines = text.split("\n")
    assert len(lines) == 30 and rule == "|" + " --- |" * 9
    for line in lines:
        cells = line.strip("|").split("|")
        assert len(cells) == 9
        assert not re.search(r"<(?!br>)|[*`\[\]{}]", line)
    question = unescape(lines[0].split("|")[4].replace("<br>", "\n"))
    assert question.strip().startswith("| a <script>alert(1)</script> **b** [c](javascript:d) `e`\n# f")
