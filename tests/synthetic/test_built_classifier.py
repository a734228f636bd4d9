"""The encoder made by code: loads on both tracks, reads every message, and learns from a few labels."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_active_distill.synthetic import build_classifier, get_world


WORLD = get_world("support_messages")


@pytest.fixture(scope="module")
def made():
    return build_classifier(WORLD, seed=3)


def test_it_is_very_small_and_made_from_its_seed_alone(made):
    model, _ = made
    assert sum(parameter.numel() for parameter in model.parameters()) < 150_000
    state = torch.random.get_rng_state()
    again, other = build_classifier(WORLD, seed=3)[0], build_classifier(WORLD, seed=4)[0]
    assert torch.equal(state, torch.random.get_rng_state())
    weight = "classifier.weight"
    assert torch.equal(model.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(model.state_dict()[weight], other.state_dict()[weight])


def test_no_word_of_a_message_is_unknown(made):
    _, tokenizer = made
    for row in WORLD.problems(300, 0, "train"):
        ids = tokenizer(row.prompt).input_ids
        assert tokenizer.unk_token_id not in ids and len(ids) <= tokenizer.model_max_length
    assert tokenizer("chess").input_ids[1] == tokenizer.unk_token_id
    assert len(tokenizer("hello", "thanks").input_ids) == 5


def test_it_saves_and_loads_like_any_other(made, tmp_path):
    model, tokenizer = made
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = AutoTokenizer.from_pretrained(tmp_path)(
        ["hello. the lamp leaks.", "thanks."], padding=True, return_tensors="pt"
    )
    assert loaded.config.id2label == dict(enumerate(WORLD.labels))
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model.eval()(**batch).logits)


def test_it_learns_from_a_few_labels(made):
    model, tokenizer = made
    rows = WORLD.problems(128, 0, "train")
    held_out = WORLD.problems(200, 0, "eval")

    def batch(rows):
        inputs = tokenizer([row.prompt for row in rows], padding=True, return_tensors="pt")
        return {**inputs, "labels": torch.tensor([WORLD.labels.index(row.reference) for row in rows])}

    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for step in range(80):
        part = rows[step % 8 * 16 : step % 8 * 16 + 16]
        model(**batch(part)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        inputs = batch(held_out)
        right = model(**inputs).logits.argmax(-1) == inputs["labels"]
    assert right.float().mean() > 0.4  # six classes about equally frequent
