"""Rows that do not fit: too long for the student, or no rows at all."""

from __future__ import annotations

import pytest
from counting_teacher import rule
from datasets import Dataset, DatasetDict
from helpers_models import tiny_model, tiny_tokenizer
from tiny_run import POOL

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.errors import DataError, EmptyPoolError
from hf_active_distill.students import Student
from hf_active_distill.tasks import get_task, row_from_example


LONG = {"prompt": "How much is 3 and 4? " + "Think about it well. " * 200}


def make(tmp_path, pool, tokenizer=None, train_dataset=None, **settings):
    return ActiveDistillationTrainer(
        model=tiny_model(),
        args=ActiveDistillationConfig(
            output_dir=str(tmp_path),
            num_rounds=2,
            samples_per_round=3,
            candidates_per_round=-1,
            num_train_epochs=1,
            max_new_tokens=4,
            report_to="none",
            use_cpu=True,
            **settings,
        ),
        pool_dataset=pool,
        train_dataset=train_dataset,
        teacher=lambda messages, params: rule(messages),
        processing_class=tokenizer or tiny_tokenizer(),
    )


@pytest.mark.parametrize("settings", [{"max_length": None}, {"max_length": 100}])
def test_one_row_too_long_for_the_student_does_not_end_the_run(tmp_path, caplog, settings):
    trainer = make(tmp_path, [*POOL[:6], LONG], **settings)
    assert trainer.data.pool.too_long == 1
    assert "1 pool rows have prompts that leave no room" in caplog.text
    trainer.train()
    assert trainer.book.totals()["total_annotated"] == 6


def test_a_pool_of_nothing_else(tmp_path):
    with pytest.raises(EmptyPoolError, match="max_length"):
        make(tmp_path, [LONG])


@pytest.mark.parametrize("chat", [False, True])
def test_room_is_counted_in_tokens_to_the_last_one(chat):
    student = Student(tiny_model(max_position_embeddings=130), tiny_tokenizer(chat=chat), get_task("reasoning"))
    found = set()
    for length in range(0, 60):
        text = "Wie viel ist \u00e9? " + "7" * length
        row = row_from_example({"prompt": [{"role": "user", "content": text}] if chat else text})
        try:
            student.room([row], student.prompts([row]))
            fits = True
        except DataError:
            fits = False
        assert student.has_room(row) is fits
        found.add(fits)
    assert found == {True, False}


def test_seed_rows_cut_by_max_length_are_told_and_not_trained_on_empty(tmp_path, caplog):
    seeds = [{**LONG, "completion": "#### 7"}, {"prompt": "How much is 900 and 1?", "completion": "#### 901"}]
    trainer = make(tmp_path, POOL, train_dataset=seeds, max_length=100)
    trainer.train()
    assert "of 1 nothing is left to learn" in caplog.text
    assert all(any(label != -100 for label in row["labels"]) for row in trainer.training_rows.rows)


@pytest.mark.parametrize("pool", [DatasetDict(train=Dataset.from_list(POOL)), ["How much is 1 and 2?"]])
def test_what_is_no_list_of_rows(tmp_path, pool):
    with pytest.raises(DataError, match="one split of a `DatasetDict`"):
        make(tmp_path, pool)
