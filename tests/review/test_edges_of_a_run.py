"""The edges of a run: nothing to train on, stopped from outside, resumed with another batch size."""

from __future__ import annotations

import pytest
from counting_teacher import rule
from helpers_models import tiny_model, tiny_tokenizer
from tiny_run import EVAL, POOL, build
from transformers import EarlyStoppingCallback

from hf_active_distill import (
    ActiveDistillationCallback,
    ActiveDistillationConfig,
    ActiveDistillationTrainer,
)
from hf_active_distill.errors import CheckpointError, DataError, SelectionError
from hf_active_distill.rounds import RoundStore
from hf_active_distill.selection import as_strategy, choose
from hf_active_distill.selection.base import SelectionContext


SHORT = {"num_rounds": 2, "num_train_epochs": 1}


def teacher(messages, params):
    return rule(messages)


def test_a_loader_without_rows_says_so_instead_of_searching_forever(tmp_path):
    trainer = build(str(tmp_path), teacher, {})
    with pytest.raises(DataError, match="in the rounds of"):
        next(iter(trainer.get_train_dataloader()))


@pytest.mark.parametrize("changed", ["batch", "seeds"])
def test_a_resumed_run_keeps_what_its_steps_are_counted_by(tmp_path, changed):
    build(str(tmp_path), teacher, {"args": SHORT}).train()
    longer = {**SHORT, "num_rounds": 3}
    seeds = None
    if changed == "batch":
        longer["per_device_train_batch_size"] = 4
    else:
        seeds = [{"prompt": "How much is 500 and 1?", "completion": "#### 501"}]
    trainer = build(str(tmp_path), teacher, {"args": longer}, train_dataset=seeds)
    name = "total_train_batch_size was 2, is 4" if changed == "batch" else "seed_rows was 0, is 1"
    with pytest.raises(CheckpointError, match=name):
        trainer.train(resume_from_checkpoint=True)


def test_why_a_run_ended_is_always_said(tmp_path):
    stopped = build(str(tmp_path / "a"), teacher, {"args": {**SHORT, "max_steps": 3}})
    stopped.train()
    assert stopped.stop_reason == "stopped"
    patience = {**SHORT, "num_rounds": 4, "load_best_model_at_end": True}
    early = build(str(tmp_path / "b"), teacher, {"args": patience}, callbacks=[EarlyStoppingCallback(1)])
    early.train()
    assert early.stop_reason == "stopped"
    done = build(str(tmp_path / "c"), teacher, {"args": SHORT})
    done.train()
    again = build(str(tmp_path / "c"), teacher, {"args": SHORT})
    again.train(resume_from_checkpoint=True)
    assert (done.stop_reason, again.stop_reason) == ("rounds", "rounds")
    assert len(RoundStore(tmp_path / "c")) == 2


def test_a_callback_that_leaves_no_row(tmp_path):
    class Greedy(ActiveDistillationCallback):
        def on_selection_begin(self, args, state, control, event, **kwargs):
            event.available_ids.clear()

    with pytest.raises(DataError, match="available_ids"):
        build(str(tmp_path), teacher, {"args": SHORT}, callbacks=[Greedy()]).train()


def test_a_strategy_that_returns_nothing():
    with pytest.raises(SelectionError, match="returned NoneType"):
        choose(as_strategy(lambda context: None), SelectionContext([], 0, None))


def test_other_evaluation_rows_are_read_as_the_trainers_own(tmp_path):
    def renamed(rows):
        return [{"text": row["prompt"], **{k: v for k, v in row.items() if k == "answer"}} for row in rows]

    trainer = ActiveDistillationTrainer(
        model=tiny_model(),
        args=ActiveDistillationConfig(
            output_dir=str(tmp_path), samples_per_round=2, max_new_tokens=4, use_cpu=True, report_to="none"
        ),
        pool_dataset=renamed(POOL),
        eval_dataset=renamed(EVAL),
        teacher=teacher,
        processing_class=tiny_tokenizer(),
        formatting_func=lambda example: example["text"],
    )
    assert trainer.evaluate(renamed(EVAL[:2]))["eval_accuracy"] == 0.0
    with pytest.raises(DataError, match="empty"):
        trainer.evaluate([])


def test_a_teacher_that_can_answer_no_evaluation_row(tmp_path):
    trainer = ActiveDistillationTrainer(
        model=tiny_model(),
        args=ActiveDistillationConfig(
            output_dir=str(tmp_path), samples_per_round=2, eval_with_teacher=True, use_cpu=True, report_to="none"
        ),
        pool_dataset=POOL,
        eval_dataset=[{"prompt": row["prompt"]} for row in EVAL],
        teacher=lambda messages, params: "I would rather not.",
        processing_class=tiny_tokenizer(),
    )
    with pytest.raises(DataError, match="No evaluation row has an answer"):
        trainer.train()
