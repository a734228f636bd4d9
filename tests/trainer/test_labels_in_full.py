"""Labelling runs as users set them up: audits, several labels, cut texts, pairs, and what is refused."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from helpers_models import tiny_classifier, tiny_tokenizer
from label_run import EVAL, LABELS, POOL, TEXTS, RuleAnnotation, build, share_of, teacher
from transformers import pipeline

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.annotation import Demonstrations
from hf_active_distill.errors import ConfigurationError, TeacherError
from hf_active_distill.selection import available_strategies, expect_several_labels, get_strategy
from hf_active_distill.students.classifier import Classifier, separates_pairs
from hf_active_distill.tasks import get_task


TASK = get_task("classification", labels=LABELS)
MANY = get_task("classification", labels=LABELS, multi_label=True)
PAIRS = get_task("classification", labels=LABELS, text_columns=("first", "second"))


def figures(trainer) -> list[dict]:
    return [json.loads(line) for line in (trainer.args.output_path / "metrics.jsonl").read_text().splitlines()]


def is_wrong(text: str) -> bool:
    return share_of(text) < 0.5


def half_wrong(messages, params) -> str:
    """Sure of a letter that is wrong for about every other text."""
    label, text = next(one for one in TEXTS if one[1] in messages[-1]["content"])
    return LABELS[(LABELS.index(label) + is_wrong(text)) % 3]


def test_an_audit_counts_the_answers_that_a_reference_contradicts(tmp_path):
    pool = [{"text": text, "label": label} for label, text in TEXTS]
    options = {"args": {"verify_with_reference": True, "annotation_kwargs": {"method": "samples", "samples": 1}}}
    trainer = build(str(tmp_path), options, pool_dataset=pool, annotation=None, teacher=named(half_wrong))
    trainer.train()
    wrong = sum(is_wrong(text) for _, text in TEXTS)
    last = figures(trainer)[-1]
    assert 0 < wrong < 48 and len(trainer.training_rows) == 48 - wrong
    assert last["audit_checked"] == 48 and last["audit_teacher_accuracy"] == pytest.approx(1 - wrong / 48)


def test_the_audit_says_by_which_temperature_the_teacher_is_as_sure_as_it_is_right(tmp_path):
    pool = [{"text": text, "label": label} for label, text in TEXTS]
    args = {"verify_with_reference": True, "num_rounds": 2, "samples_per_round": 24, "random_share": 0.5}
    trainer = build(str(tmp_path), {"args": {**args, "selection": "entropy"}}, pool_dataset=pool)
    trainer.train()
    _, first, second = figures(trainer)
    assert first["audit_rows"] == second["audit_rows"] == 12 and first["audit_teacher_temperature"] is None
    drawn = [i for record in trainer.book.records.values() for i in record.random_ids]
    said = {one.row_id: one for one in trainer.book.annotations()}
    # RuleAnnotation is right about every text, and never quite sure: by the definition, with the prior of the fit.
    given = np.array([[said[i].distribution[name] for name in LABELS] for i in drawn])
    right = [LABELS.index(said[i].label) for i in drawn]
    grid = np.geomspace(0.05, 20, 4001)
    powers = given[None] ** (1 / grid)[:, None, None]
    logp = np.log(powers[:, range(24), right] / powers.sum(-1)).sum(1) - np.log(grid) ** 2 / 2
    assert second["audit_teacher_temperature"] == pytest.approx(grid[logp.argmax()], rel=5e-3)
    assert second["audit_teacher_temperature"] < 1


def named(labeller):
    """Answers with the letter of a label."""

    def reply(messages, params) -> str:
        options = [line for line in messages[-1]["content"].split("\n") if line[1:3] == ". "]
        return next(line[0] for line in options if line[3:] == labeller(messages, params))

    return reply


# ---------------------------------------------------------------- several labels


def several(tmp_path, **args):
    settings = {"num_rounds": 1, "samples_per_round": 6, "num_train_epochs": 1, "report_to": "none", "use_cpu": True}
    args = ActiveDistillationConfig(output_dir=str(tmp_path), **settings, disable_tqdm=True, **args)
    return ActiveDistillationTrainer(
        tiny_classifier("bert", std=0.1),
        args,
        POOL,
        lambda messages, params: "A",
        processing_class=tiny_tokenizer(),
        task=MANY,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"selection": "margin"},
        {"selection": "subsample", "selection_kwargs": {"strategy": "entropy", "size": 20}},
        {"selection": "uncertainty_then_coverage", "selection_kwargs": {"uncertainty": "bald"}},
    ],
    ids=str,
)
def test_several_labels_with_strategies_over_probabilities(tmp_path, options):
    kwargs = {"annotation_kwargs": {"method": "samples", "samples": 1}, **options}
    trainer = several(tmp_path, **kwargs)
    trainer.train()
    assert len(trainer.book.records[0].selected_ids) == 6
    assert all(np.isfinite(score) for score in trainer.book.records[0].scores.values())


@pytest.mark.parametrize(
    "name", ["badge", "llkd_gate", "stratified_random", "contrastive", "expected_gradient_length"]
)
def test_strategies_that_take_one_label_for_granted_are_refused_before_anything_is_scored(tmp_path, name):
    with pytest.raises(ConfigurationError, match=f"'{name}' takes one label.*'entropy'"):
        several(tmp_path, selection=name)
    with pytest.raises(ConfigurationError, match="'class_balance' takes one label"):
        several(tmp_path, selection="class_balance", selection_kwargs={"strategy": "entropy"})


def test_every_strategy_over_probabilities_says_whether_it_can():
    around = {"strategy": "random"}
    needs = {
        "class_balance": around,
        "easy_to_hard": {"rounds": 2},
        "per_token": around,
        "random_share": {**around, "share": 0.1},
        "subsample": around,
    }
    seen = []
    for name in available_strategies():
        strategy = get_strategy(name, **needs.get(name, {}))
        reads = {request.name for request in strategy.requests()} & {"probabilities", "mc_probabilities"}
        if not reads or strategy.one_label:
            continue
        expect_several_labels(strategy)
        inner = strategy.inner() if hasattr(strategy, "inner") else (strategy,)
        assert any(getattr(part, "multi_label", False) for part in inner), name
        seen.append(name)
    assert {"entropy", "margin", "bald", "uncertainty_then_coverage"} <= set(seen)


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize("selection", ["random", "entropy"])
def test_cut_texts_are_told_whatever_looked_at_them_before(tmp_path, caplog, selection):
    with caplog.at_level(logging.WARNING):
        args = {"selection": selection, "max_length": 8, "samples_per_round": 8, "candidates_per_round": 16}
        build(str(tmp_path), {"args": args}).train()
    told = [record.message for record in caplog.records if "lose their end" in record.message]
    assert len(told) == 1 and told[0].startswith("8 of 8 texts are longer")


def test_texts_of_a_pair_are_parted_by_a_line_break_where_the_tokenizer_puts_nothing(tmp_path):
    tokenizer = tiny_tokenizer()
    row = PAIRS.read_row({"first": "There are 1", "second": "6 birds"})
    assert not separates_pairs(tokenizer)
    student = Classifier(tiny_classifier("llama"), tokenizer, PAIRS)
    [inputs] = student.encode([row])
    assert tokenizer.decode(inputs["input_ids"]).count("There are 1\n6 birds") == 1


def test_the_saved_students_pipeline_cuts_where_the_model_ends(tmp_path):
    trainer = build(str(tmp_path / "run"), {"args": {"samples_per_round": 8}})
    trainer.train()
    trainer.save_model(str(tmp_path / "student"))
    classify = pipeline("text-classification", model=str(tmp_path / "student"), truncation=True)
    assert classify("There are 4 birds. " * 400)[0]["label"] in LABELS


# ---------------------------------------------------------------- what a run says


def test_rows_drawn_among_the_easiest_are_no_audit(tmp_path):
    args = {
        "selection": "easy_to_hard",
        "selection_kwargs": {"rounds": 3},
        "samples_per_round": 8,
        "random_share": 0.0,
    }
    trainer = build(str(tmp_path), {"args": args})
    trainer.train()
    record = trainer.book.records[0]
    assert len(record.selected_ids) == 8 and record.random_ids == []
    assert set(record.reasons.values()) == {"random among the easiest"}


def test_a_moving_threshold_by_expectation(tmp_path):
    options = {"args": {"answer_gate": True, "answer_gate_kwargs": {"class_statistic": "expectation"}}}
    trainer = build(str(tmp_path), options)
    trainer.train()
    kept = sum(annotation.status == "ok" for annotation in trainer.book.annotations())
    assert 0 < kept < 48


@pytest.mark.parametrize(
    "column", [{"label": "cats"}, {"label": 7}, {"label": float("nan")}, {"answer": "It is 4."}], ids=str
)
def test_a_pool_with_foreign_labels_is_warned_about_and_read(tmp_path, column):
    pool = [{**row, **column} for row in POOL]
    if column.get("label") != column.get("label"):
        trainer = build(str(tmp_path), {}, pool_dataset=pool)
    else:
        with pytest.warns(UserWarning, match="holds labels in 48 of 48 rows.*not used"):
            trainer = build(str(tmp_path), {}, pool_dataset=pool)
    assert all(row.reference is None for row in trainer.data.pool.rows.values())


def test_a_formatting_function_still_sees_the_columns_that_are_taken_off(tmp_path):
    pool = [{"question": "Which?", "answer": row["text"]} for row in POOL]
    with pytest.warns(UserWarning, match="holds labels"):
        trainer = build(
            str(tmp_path), {}, pool_dataset=pool, eval_dataset=None, formatting_func=lambda example: example["answer"]
        )
    assert {TASK.texts(row)[0] for row in trainer.data.pool.rows.values()} == {row["text"] for row in POOL}


def test_options_that_are_no_plain_values_name_the_way(tmp_path):
    shown = Demonstrations(TASK, [TASK.read_row(example) for example in EVAL], count=2)
    with pytest.raises(ConfigurationError, match="plain values.*annotation=get_annotation"):
        build(
            str(tmp_path),
            {"args": {"annotation": "label", "annotation_kwargs": {"demonstrations": shown}}},
            annotation=None,
        )


def test_a_threshold_that_rejects_all_is_named(tmp_path):
    trainer = build(str(tmp_path), {"args": {"min_confidence": 1.0}}, annotation=RuleAnnotation(TASK, lambda *_: 0.9))
    with pytest.raises(TeacherError, match="too unsure of all 48.*lower `min_confidence`"):
        trainer.train()


@pytest.mark.parametrize(("args", "seed"), [({}, 7), ({"data_seed": 0}, 0), ({"data_seed": 3}, 3)], ids=str)
def test_a_data_seed_of_zero_counts(tmp_path, args, seed):
    trainer = build(str(tmp_path), {"args": args}, teacher=teacher)
    assert trainer.args.order_seed == seed
    assert trainer.session.settings()["data_seed"] == args.get("data_seed")
