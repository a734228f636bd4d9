"""What holds for a student whatever it is asked."""

import gc
import weakref

import numpy as np
import pytest
import torch
from helpers_models import ChunkTask, LineTask, tiny_model, tiny_tokenizer
from peft import LoraConfig, get_peft_model

from hf_active_distill.engine import Generated
from hf_active_distill.errors import DataError
from hf_active_distill.records import PoolRow
from hf_active_distill.selection.base import SignalRequest
from hf_active_distill.students import Student
from hf_active_distill.students.batch import Batch


ROWS = [PoolRow(f"row-{i}", "12 birds " * (1 + i % 3) + str(i)) for i in range(5)]
REQUESTS = [
    SignalRequest.of("tokens"),
    SignalRequest.of("samples", k=2),
    SignalRequest.of("boundaries", answers=True, distribution=True),
    SignalRequest.of("boundaries", removal="leave_one_out"),
    SignalRequest.of("resamples", samples=2, step_tokens=8),
    SignalRequest.of("self_confidence"),
    SignalRequest.of("embedding"),
]


def build(model=None, **kwargs):
    settings = {"max_new_tokens": 16, "batch_size": 2, **kwargs}
    return Student(model or tiny_model(), tiny_tokenizer(), ChunkTask(max_steps=3), **settings)


def plain(value):
    """A signal as nested lists, numbers apart from the rest."""
    if isinstance(value, (np.ndarray, float)):
        return pytest.approx(np.asarray(value), abs=1e-4)
    if isinstance(value, list):
        return value
    return {name: plain(inner) if isinstance(inner, np.ndarray) else inner for name, inner in vars(value).items()}


def fields(value):
    return value if isinstance(value, (np.ndarray, float, list)) else vars(value)


def assert_same(first, second):
    assert [candidate.explanation for candidate in first] == [candidate.explanation for candidate in second]
    for one, other in zip(first, second, strict=True):
        for request in REQUESTS:
            assert fields(one.signals[request]) == plain(other.signals[request])


def test_results_depend_on_neither_batches_nor_the_global_seed_nor_the_mode():
    torch.manual_seed(0)
    student = build()
    together = student.candidates(ROWS, REQUESTS)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    model = tiny_model(attention_dropout=0.5).train()
    apart = [found for row in ROWS for found in build(model, batch_size=4).candidates([row], REQUESTS)]
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert_same(together, apart)


def test_noise_differs_by_seed_and_round_and_row():
    student, other = build(), build(seed=1)
    texts = {
        tuple(e.text for samples in found for e in samples)
        for found in (
            student.sample(ROWS[:1], k=2),
            student.sample(ROWS[:1], k=2, round=1),
            other.sample(ROWS[:1], k=2),
            student.sample([PoolRow("other", ROWS[0].prompt)], k=2),
        )
    }
    assert len(texts) == 4
    assert student.sample(ROWS[:1], k=2) == [student.sample(ROWS[:1], k=3)[0][:2]]


def test_explanations_are_what_candidates_carry():
    student = build()
    found = student.candidates(ROWS, REQUESTS[:1])
    assert [candidate.explanation for candidate in found] == student.explain(ROWS)
    assert [candidate.row for candidate in found] == ROWS
    assert student.candidates([], REQUESTS) == []


def test_an_explanation_is_made_only_where_a_signal_needs_it():
    (found,) = build().candidates(ROWS[:1], [])
    assert found.explanation is None


def test_caches_are_released_batch_by_batch():
    student = build()
    alive = []
    make = student.generator.generate

    def watched(*args, **kwargs):
        gc.collect()
        alive.append(sum(reference() is not None for reference in held))
        results = make(*args, **kwargs)
        if kwargs.get("keep_cache"):
            held.extend(weakref.ref(result.cache[0][0]) for result in results)
        return results

    held = []
    student.generator.generate = watched
    student.candidates(ROWS, REQUESTS[2:3])
    assert len(held) == 5
    assert alive == [0, 2, 2] or alive == [0, 0, 0]


def test_adapters_are_fine():
    bare = tiny_model()
    expected = build(bare).candidates(ROWS[:2], REQUESTS)
    wrapped = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    student = build(wrapped)
    assert_same(student.candidates(ROWS[:2], REQUESTS), expected)
    assert student.scorer.method == "tree"


def test_a_chat_student_ends_at_the_end_of_its_turn():
    tokenizer = tiny_tokenizer(chat=True)
    model = tiny_model()
    model.generation_config.eos_token_id = [1, 7]
    student = Student(model, tokenizer, LineTask(), max_new_tokens=6)
    assert student.eos_ids == {1, 7, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    (explanation,) = student.explain([PoolRow("chat", [{"role": "user", "content": "12 + 5?"}])])
    assert explanation.num_tokens <= 6


def test_thinking_is_dropped_or_kept():
    student = build()
    kept = build(drop_thinking=False)
    tokens = student.codec.encode_text("<think>add</think>17")
    generated = Generated(tokens)
    prompt = student.encode_prompt("12 + 5?")
    first = student.explanation(ROWS[0], generated, student.read(prompt, generated))
    second = kept.explanation(ROWS[0], generated, kept.read(prompt, generated))
    assert (first.text, first.thinking) == ("17", "add")
    assert (second.text, second.thinking) == ("<think>add</think>17", None)


def test_boundaries_stand_behind_the_thinking_block():
    student = Student(tiny_model(), tiny_tokenizer(), LineTask(), max_new_tokens=4)
    tokens = student.codec.encode_text("<think>a\nb</think>\n\n12 + 5 = 17.\nSo 17.\nThe answer is 17")
    batch = Batch(student, ROWS[:1], 0, True)
    batch.generated = [Generated(tokens)]
    (bounds,) = batch.boundaries
    texts = [student.codec.decode(tokens[:bound]) for bound in bounds]
    assert texts == ["<think>a\nb</think>", texts[0] + "\n\n12 + 5 = 17.", texts[0] + "\n\n12 + 5 = 17.\nSo 17."]


def test_a_prompt_that_leaves_no_room_names_its_row_and_the_cure():
    student = build(tiny_model("gpt2", n_positions=96))
    with pytest.raises(DataError, match="row 'long' has .* tokens and leaves no room .*96 positions"):
        student.explain([ROWS[0], PoolRow("long", "12 + 5 " * 30)])
    fits = student.explain([PoolRow("row", "12 + 5 " * 5)], max_new_tokens=90)
    assert fits[0].num_tokens + len(student.prompts([PoolRow("row", "12 + 5 " * 5)])[0]) <= 96 - 64


def test_cut_training_rows_are_counted():
    student = build(max_length=8)
    assert student.encode_training("12 birds", "17")["truncated"] is False
    assert student.encode_training("12 birds", "12 + 5 = 17")["truncated"] is True
    assert student.truncated_rows == 1
