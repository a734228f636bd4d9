"""A student whose training has diverged, and the parts on rows as they come."""

from __future__ import annotations

import pytest
from counting_teacher import rule
from helpers_models import tiny_model, tiny_tokenizer
from tiny_run import POOL, build

from hf_active_distill import annotate, export_annotations, score, select
from hf_active_distill.errors import ConfigurationError, DataError


def test_a_student_that_has_diverged_is_not_paid_for(tmp_path):
    calls = []

    def teacher(messages, params):
        calls.append(messages)
        return rule(messages)

    trainer = build(
        str(tmp_path),
        teacher,
        {"args": {"annotation": "cot", "num_train_epochs": 1}},
        compute_loss_func=lambda outputs, labels, num_items_in_batch=None: outputs.logits.sum() * float("nan"),
    )
    with pytest.raises(ConfigurationError, match="lower `learning_rate`"):
        trainer.train()
    assert len(calls) == trainer.args.samples_per_round  # the first round's, whose student was sound


def test_duplicates_are_scored_once_and_said(caplog):
    scored = score(tiny_model(), POOL[:3] + POOL[:2], processing_class=tiny_tokenizer(), max_new_tokens=4)
    assert scored["prompt"] == [row["prompt"] for row in POOL[:3]]
    assert "2 of 5 pool rows are duplicates" in caplog.text
    twice = annotate(POOL[:1] * 2, lambda messages, params: rule(messages), annotation="cot")
    assert twice["status"] == ["ok", "ok"]


def test_an_explanation_that_was_cut_off_stays_so_between_the_parts():
    scored = score(tiny_model(), POOL[:2], processing_class=tiny_tokenizer(), max_new_tokens=4)
    assert scored["finish_reason"] == ["length", "length"]
    asked = annotate(scored, lambda messages, params: rule(messages), annotation="cot")
    assert [student["finish_reason"] for student in asked["student"]] == ["length", "length"]
    with pytest.raises(DataError, match="no solution of a student was rejected"):
        export_annotations(asked, "preference")
    whole = annotate(scored.remove_columns("finish_reason"), lambda messages, params: rule(messages), annotation="cot")
    assert len(export_annotations(whole, "preference")) == 2


def test_rows_without_a_score():
    with pytest.raises(DataError, match="call `score"):
        select([{"prompt": "a", "score": 1.0}, {"prompt": "b", "score": None}], 1)
