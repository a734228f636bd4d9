"""What Trainer derives from an evaluation's metrics works with the metrics that there are."""

from __future__ import annotations

import pytest
from counting_teacher import rule
from helpers_models import tiny_model, tiny_tokenizer
from tiny_run import EVAL, POOL, build

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.errors import ConfigurationError


def teacher(messages, params):
    return rule(messages)


@pytest.mark.parametrize(
    "settings", [{"load_best_model_at_end": True}, {"lr_scheduler_type": "reduce_lr_on_plateau"}], ids=str
)
def test_the_best_model_is_the_one_that_answers_best(tmp_path, settings):
    options = {"args": {"num_rounds": 2, "num_train_epochs": 1, **settings}}
    trainer = build(str(tmp_path), teacher, options)
    trainer.train()
    assert trainer.stop_reason == "rounds"
    assert trainer.args.metric_for_best_model == "accuracy" and trainer.args.greater_is_better
    if settings.get("load_best_model_at_end"):
        assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}, "'accuracy'"),
        ({"plateau_patience": 0}, "at least 1"),
        ({"round_start": "restart", "lr_scheduler_type": "reduce_lr_on_plateau"}, "'linear'"),
    ],
)
def test_what_cannot_work_is_told_before_a_teacher_is_paid(tmp_path, settings, cure):
    with pytest.raises(ConfigurationError, match=cure):
        ActiveDistillationConfig(output_dir=str(tmp_path), **settings)


def test_several_evaluation_sets_have_one_accuracy_to_stop_by(tmp_path):
    parts = {"easy": EVAL[:2], "hard": EVAL[2:]}
    trainer = ActiveDistillationTrainer(
        model=tiny_model(),
        args=ActiveDistillationConfig(
            output_dir=str(tmp_path),
            num_rounds=3,
            samples_per_round=2,
            selection="random",
            annotation="cot",
            num_train_epochs=1,
            max_new_tokens=4,
            plateau_patience=1,
            report_to="none",
            use_cpu=True,
        ),
        pool_dataset=POOL,
        eval_dataset=parts,
        teacher=teacher,
        processing_class=tiny_tokenizer(),
    )
    answers = {row["prompt"]: row["answer"] for row in EVAL}
    trainer.task.verify = lambda row, answer: row.prompt in list(answers)[:3]  # both easy ones, one of four hard ones
    metrics = trainer.evaluate()
    assert (metrics["eval_easy_accuracy"], metrics["eval_hard_accuracy"]) == (1.0, 0.25)
    assert metrics["eval_accuracy"] == (1.0 + 0.25) / 2
    trainer.train()
    assert trainer.stop_reason == "plateau"


@pytest.mark.parametrize("settings", [{"plateau_patience": 1}, {"load_best_model_at_end": True}], ids=str)
def test_what_compares_evaluations_needs_an_evaluation_set(tmp_path, settings):
    with pytest.raises(ConfigurationError, match="pass `eval_dataset`"):
        ActiveDistillationTrainer(
            model=tiny_model(),
            args=ActiveDistillationConfig(output_dir=str(tmp_path), use_cpu=True, **settings),
            pool_dataset=POOL,
            teacher=teacher,
            processing_class=tiny_tokenizer(),
        )
