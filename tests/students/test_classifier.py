"""The classifying student, against one text at a time without padding and the model's own head."""

import inspect

import numpy as np
import pytest
import torch
from helpers_models import tiny_classifier, tiny_model, tiny_tokenizer

from hf_active_distill.engine import fold_temperature, reorder_labels
from hf_active_distill.engine.heads import last_layer
from hf_active_distill.errors import ConfigurationError, DataError
from hf_active_distill.selection.base import SignalRequest
from hf_active_distill.students import Classifier, Student
from hf_active_distill.students.classifier import match_labels
from hf_active_distill.tasks import get_task


TOKENIZER = tiny_tokenizer()
LABELS = ["birds", "numbers", "other"]
TASK = get_task("classification", labels=LABELS)
TEXTS = ["There are 12 birds.", "First add the numbers. Then take away 4.", "yes", "So 17 - 4 = 13."]
ROWS = [TASK.read_row({"text": text}) for text in TEXTS]
KINDS = ["bert", "roberta", "llama", "gpt2", "qwen3"]


def build(kind="roberta", task=TASK, model=None, **settings):
    model = model or tiny_classifier(kind, len(task.labels))
    return Classifier(model, TOKENIZER, task, **{"batch_size": 3, "seed": 5, **settings})


def signal(student, name, rows=ROWS, round=0, **options):
    request = SignalRequest.of(name, **options)
    return np.stack([c.signals[request] for c in student.candidates(rows, [request], round=round)])


@torch.no_grad()
def alone(model, texts):
    """Logits of one text, by the tokenizer and the model as a user would call them."""
    encoded = TOKENIZER(*texts, return_tensors="pt")
    if "token_type_ids" not in inspect.signature(model.forward).parameters:
        encoded.pop("token_type_ids", None)
    return model(**encoded).logits[0].numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_signals_are_those_of_one_text_at_a_time(kind):
    student = build(kind)
    expected = np.stack([alone(student.model, (text,)) for text in TEXTS])
    np.testing.assert_allclose(signal(student, "logits"), expected, atol=1e-5)
    softmax = torch.softmax(torch.tensor(expected), -1).numpy()
    np.testing.assert_allclose(signal(student, "probabilities"), softmax, atol=1e-6)
    # The logits are a linear function of the embedding, which is what gradient embeddings rely on.
    embeddings = signal(student, "embedding")
    layer = last_layer(student.model)
    with torch.no_grad():
        again = layer(torch.tensor(embeddings)).numpy()
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(again, expected, atol=1e-5)


def test_two_texts_and_several_labels():
    task = get_task("classification", labels=LABELS, text_columns=("premise", "claim"), multi_label=True)
    rows = [task.read_row({"premise": text, "claim": text[::-1]}) for text in TEXTS]
    student = build("bert", task)
    # This tokenizer puts nothing between the two.
    expected = torch.sigmoid(torch.tensor(np.stack([alone(student.model, (f"{t}\n{t[::-1]}",)) for t in TEXTS])))
    np.testing.assert_allclose(signal(student, "probabilities", rows), expected, atol=1e-6)


def test_the_label_that_the_student_gives_comes_with_its_signals():
    student = build()
    best = [LABELS[int(row.argmax())] for row in signal(student, "logits")]
    for name in ("embedding", "mc_probabilities"):
        found = student.candidates(ROWS, [SignalRequest.of(name)])
        assert [candidate.explanation.row_id for candidate in found] == [row.row_id for row in ROWS]
        answers = [candidate.explanation.answer for candidate in found]
        if name == "embedding":
            assert answers == best
        else:
            means = [candidate.signals[SignalRequest.of(name)].mean(0) for candidate in found]
            assert answers == [LABELS[int(mean.argmax())] for mean in means]
    task = get_task("classification", labels=LABELS, multi_label=True)
    rows = [task.read_row({"text": text}) for text in TEXTS]
    several = build("bert", task)
    expected = [
        task.join([n for n, x in zip(LABELS, row, strict=True) if x >= 0]) for row in signal(several, "logits", rows)
    ]
    found = several.candidates(rows, [SignalRequest.of("logits")])
    assert [candidate.explanation.answer for candidate in found] == expected


def test_dropout_passes_are_keyed_and_leave_the_random_state_alone():
    student = build(model=tiny_classifier("roberta", hidden_dropout_prob=0.3))
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = signal(student, "mc_probabilities", samples=4)
    assert first.shape == (len(ROWS), 4, 3)
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()
    assert not student.model.training
    torch.manual_seed(99)
    np.testing.assert_array_equal(first, signal(student, "mc_probabilities", samples=4))
    assert not np.array_equal(first, signal(student, "mc_probabilities", samples=4, round=1))
    assert len({row.tobytes() for row in first[0]}) == 4
    np.testing.assert_allclose(first.sum(-1), 1, atol=1e-6)
    still = build(model=tiny_classifier("roberta", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    same = signal(still, "mc_probabilities", samples=2)
    np.testing.assert_allclose(same[:, 0], signal(still, "probabilities"), atol=1e-7)


def test_one_pass_gives_all_that_it_can(monkeypatch):
    student = build()
    calls = []
    student.model.register_forward_hook(lambda *args: calls.append(1))
    student.candidates(ROWS[:3], [SignalRequest.of(name) for name in ("logits", "probabilities", "embedding")])
    assert len(calls) == 1


def test_long_texts_lose_their_end_and_are_counted():
    student = build("roberta")
    assert student.max_length == 64  # 67 positions, the first three of which RoBERTa never uses for text
    long = TASK.read_row({"text": "birds " * 100})
    [encoded] = student.encode([long])
    assert len(encoded["input_ids"]) == 64
    assert student.truncated == {long.row_id}
    student.encode([long, ROWS[0]])
    assert student.truncated == {long.row_id}
    assert signal(student, "probabilities", [long, ROWS[0]]).shape == (2, 3)
    assert build("bert", max_length=10).max_length == 10


def test_like_lengths_are_scored_side_by_side():
    order = build().order(ROWS)
    assert [len(TEXTS[index]) for index in order] == sorted(map(len, TEXTS), reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folded_temperature_divides_the_logits(kind):
    student = build(kind)
    before = signal(student, "logits")
    fold_temperature(student.model, 2.5)
    np.testing.assert_allclose(signal(student, "logits"), before / 2.5, atol=1e-6)
    with pytest.raises(ConfigurationError, match="over 0"):
        fold_temperature(student.model, 0.0)


def test_labels_are_matched_by_name():
    model = tiny_classifier("bert")
    assert match_labels(model, TASK) is None  # LABEL_0, ...: as many, and without names
    model.config.id2label = {0: "Other", 1: "birds", 2: "numbers"}
    order = match_labels(model, TASK)
    assert order == [1, 2, 0]
    before = signal(build(model=model), "logits")
    reorder_labels(model, order)
    np.testing.assert_allclose(signal(build(model=model), "logits"), before[:, order], atol=1e-6)
    model.config.id2label = {0: "other", 1: "cats", 2: "numbers"}
    with pytest.raises(ConfigurationError, match="cats.*birds.*ignore_mismatched_sizes"):
        match_labels(model, TASK)
    with pytest.raises(ConfigurationError, match="2 labels"):
        match_labels(tiny_classifier("bert", 2), TASK)


def test_signals_that_it_has_not():
    with pytest.raises(ConfigurationError, match="'tokens'.*writes no explanations.*entropy"):
        signal(build(), "tokens")
    with pytest.raises(ConfigurationError, match="no option 'k'"):
        signal(build(), "mc_probabilities", k=3)


def test_probabilities_of_a_causal_student():
    """p(label | prompt) by the chain rule, one label at a time, over the very ids that training would see."""
    student = Student(tiny_model("llama"), TOKENIZER, TASK, batch_size=2)
    for row, found in zip(ROWS, signal(student, "probabilities"), strict=True):
        totals = []
        for label in LABELS:
            encoded = student.encode_training(TASK.student_prompt(row), TASK.render_completion([], label))
            ids, mask = torch.tensor([encoded["input_ids"]]), encoded["completion_mask"]
            with torch.no_grad():
                logprobs = torch.log_softmax(student.model(ids).logits[0].double(), -1)
            totals.append(sum(logprobs[t - 1, ids[0, t]] for t in range(len(mask)) if mask[t]).item())
        np.testing.assert_allclose(found, np.exp(totals) / np.exp(totals).sum(), rtol=1e-4)
    open_ended = get_task("reasoning")
    with pytest.raises(DataError, match="closed set"):
        signal(Student(tiny_model("llama"), TOKENIZER, open_ended), "probabilities")
