"""The shipped student: loads on both tracks, reads any text, is at home with known words and not with unknown ones."""

import json
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_active_distill.students import Student
from hf_active_distill.synthetic import get_world, quickstart_student_path
from hf_active_distill.synthetic.pretraining import pretraining_text
from hf_active_distill.synthetic.tokenizer import build_tokenizer, save_tokenizer
from hf_active_distill.tasks import get_task


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(quickstart_student_path())


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(quickstart_student_path())


def test_it_is_small_on_disk_and_float32_in_memory(model):
    files = list(quickstart_student_path().iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {f.name for f in files}
    assert sum(f.stat().st_size for f in files) <= 2_000_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.num_parameters() < 1_000_000


def test_it_knows_the_known_and_not_the_unknown(model, tokenizer):
    task = get_task("reasoning")
    student = Student(model, tokenizer, task, max_new_tokens=80)
    rows = get_world("arithmetic_skewed").problems(160, 7, "eval")
    right = {True: [], False: []}
    for row, explanation in zip(rows, student.explain(rows), strict=True):
        assert explanation.finish_reason == "stop" and explanation.answer is not None
        right[row.columns["unknown"]].append(task.verify(row, explanation.answer))
    assert sum(right[False]) / len(right[False]) > 0.9
    assert sum(right[True]) / len(right[True]) < 0.4


def test_its_texts_fit_the_reasoning_task():
    task, world = get_task("reasoning"), get_world("arithmetic_skewed")
    for row in world.problems(50, 0, "train"):
        steps, answer = world.solve(row.prompt)
        completion = task.render_completion(steps, answer)
        assert [span.text for span in task.split_steps(completion)] == steps
        assert task.read_answer(completion) == answer
        assert task.student_prompt(row) == row.prompt
        assert task.verify(row, answer)
    prompt, completion = pretraining_text(random.Random(0), loose=0.0, early=0.0)
    steps, answer = world.solve(prompt)
    assert task.read_answer(completion) == answer and len(task.split_steps(completion)) == len(steps)


def test_cutting_after_a_step_moves_no_token_boundary(tokenizer):
    task, world = get_task("reasoning"), get_world("arithmetic_skewed")
    for row in world.problems(20, 0, "train"):
        steps, answer = world.solve(row.prompt)
        text = row.prompt + task.render_completion(steps, answer)
        whole = tokenizer(text, add_special_tokens=False).input_ids
        for i in range(len(steps) + 1):
            head = row.prompt + "\n".join(steps[:i])
            ids = tokenizer(head, add_special_tokens=False).input_ids
            assert whole[: len(ids)] == ids
            assert tokenizer(text[len(head) :], add_special_tokens=False).input_ids == whole[len(ids) :]


def test_digits_are_single_tokens_and_words_cost_one(tokenizer):
    assert tokenizer.tokenize("Ann: 12 + 12 = 24") == ["Ann", ":Ġ", "1", "2", "Ġ+Ġ", "1", "2", "Ġ=Ġ", "2", "4"]


@given(st.text(max_size=40))
def test_any_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_a_saved_tokenizer_names_a_class_that_both_tracks_know(tmp_path):
    built = build_tokenizer(["Ann has double 12.\n"] * 3, vocab_size=300)
    save_tokenizer(built, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("Ann has double 7.").input_ids == built("Ann has double 7.").input_ids
    assert (loaded.eos_token, loaded.pad_token) == (built.eos_token, built.pad_token)
