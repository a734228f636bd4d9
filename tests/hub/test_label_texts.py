"""Texts come out of the prompts that a task made of them as they went in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from card_facts import label
from frozen_rounds import SETTINGS, frozen_round, record

from hf_active_distill import export_annotations
from hf_active_distill.hub import LineageFolder, Secrets, open_store, push_waiting
from hf_active_distill.hub.label_texts import texts_of
from hf_active_distill.rounds import RoundRecord, RoundStore
from hf_active_distill.tasks import ClassificationTask


LABELS = {"labels": ["good", "bad"]}
PAIRS = {**LABELS, "text_columns": ["premise", "hypothesis"], "instruction": "Does it follow?"}


def asked(kwargs, example):
    """An annotation whose prompt is the one that the task makes of an example."""
    task = ClassificationTask(**kwargs)
    row = task.read_row(example)
    return replace(label(row.row_id, 0, "bad"), prompt=task.student_prompt(row)), task.texts(row)


@pytest.mark.parametrize(
    ("kwargs", "example"),
    [
        (LABELS, {"text": "  The battery\n\nLabels: died. "}),
        (LABELS, {"prompt": [{"role": "user", "content": "The battery died."}]}),
        ({**LABELS, "instruction": "Good or bad?", "system_prompt": "Be short."}, {"text": "Label this text."}),
        ({**LABELS, "few_shot": [("Fine.", "Label: good")], "multi_label": True}, {"text": "Fine."}),
        (PAIRS, {"premise": "It rains.\nA lot.", "hypothesis": "It is wet."}),
    ],
)
def test_texts_come_back(kwargs, example):
    annotation, texts = asked(kwargs, example)
    assert texts_of([annotation], {"task": "classification", "task_kwargs": kwargs}) == {annotation.row_id: texts}


def test_what_cannot_be_told_is_left_out():
    annotation, _ = asked(PAIRS, {"premise": "a\nhypothesis: b", "hypothesis": "c"})
    assert texts_of([annotation], {"task": "classification", "task_kwargs": PAIRS}) == {}
    annotation, _ = asked(LABELS, {"text": "Fine."})
    other = {"task": "classification", "task_kwargs": {**LABELS, "instruction": "Good or bad?"}}
    for settings in (other, {"task": "reasoning"}, {"task": "my_own"}, {}):
        assert texts_of([annotation], settings) == {}


def test_runs_and_lineages_give_the_texts_of_the_rows(tmp_path):
    annotation, (text,) = asked(LABELS, {"text": "The battery died."})
    settings = {**SETTINGS, "task": "classification", "task_kwargs": LABELS}
    store = RoundStore(tmp_path / "run")
    store.begin(settings, resuming=False, overwrite=False)
    store.write(RoundRecord(0, annotations=[annotation]))
    frozen_round(tmp_path / "frozen", 0, settings=settings, records=[replace(record(0), annotations=[annotation])])
    lineage = open_store(tmp_path / "lineage", create=True)
    push_waiting(lineage, LineageFolder(tmp_path / "frozen"), Secrets(), wait=lambda s: False)
    for source, revision in (("run", None), ("lineage", None), ("lineage", "round-000")):
        exported = export_annotations(tmp_path / source, "classification", revision=revision)
        assert exported.to_list() == [{"text": text, "label": 1}]
    table = tmp_path / "lineage/annotations/round-000/annotations/round-000.parquet"
    (whole,) = export_annotations(table, "classification")
    assert whole["text"].startswith("Label this text.")
