"""Rows that are annotated at the start."""

from __future__ import annotations

import pytest
from counting_teacher import rule
from helpers_models import tiny_model, tiny_tokenizer
from tiny_run import POOL

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.errors import DataError


def seeded(tmp_path, seeds, pool, **settings):
    return ActiveDistillationTrainer(
        model=tiny_model(),
        args=ActiveDistillationConfig(
            output_dir=str(tmp_path), samples_per_round=4, num_rounds=2, use_cpu=True, **settings
        ),
        pool_dataset=pool,
        train_dataset=seeds,
        teacher=lambda messages, params: rule(messages),
        processing_class=tiny_tokenizer(chat=True),
    )


def test_seed_rows_leave_the_pool_whatever_the_task_puts_around_a_prompt(tmp_path):
    seeds = [{**POOL[3], "completion": "#### 13"}]
    for settings in ({}, {"task_kwargs": {"system_prompt": "Think."}}):
        trainer = seeded(tmp_path, seeds, POOL, **settings)
        assert (trainer.data.pool.excluded, len(trainer.data.pool.rows)) == (1, len(POOL) - 1)


def test_whole_dialogues_are_seed_rows(tmp_path):
    question = {"role": "user", "content": "How much is 3 and 10?"}
    pool = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in POOL]
    seeds = [{"messages": [question, {"role": "assistant", "content": "3 + 10 = 13\n#### 13"}]}]
    trainer = seeded(tmp_path, seeds, pool)
    assert trainer.data.pool.excluded == 1
    [annotation] = trainer.data.seed_annotations
    assert annotation.prompt[-1] == question and annotation.answer == "13"
    for nothing in ({"messages": [question]}, {"prompt": "How much?"}):
        with pytest.raises(DataError, match="no text in 'completion'"):
            seeded(tmp_path, [nothing], pool)
