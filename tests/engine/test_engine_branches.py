"""Every way of scoring branches against encoding each prefix by itself, on the architectures that differ."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_models import TINY, tiny_model

from hf_active_distill.engine import Branch, BranchItem, BranchScorer, Generator, Limits, keyed_uniforms
from hf_active_distill.engine.tree import Trie
from hf_active_distill.errors import ConfigurationError


# Transformers 4 lets padding into the convolutions of LFM2.
FALLBACK = {"mpt": {"padded"}, "gpt_neo": {"padded"}, "lfm2": {"padded", "naive"}, "rwkv": {"naive"}}
BRANCHING = sorted(set(TINY) - set(FALLBACK))


def build_items(model, lengths=(5, 12, 30), count=24):
    """Prompts of different lengths with what the model writes, and branches of all shapes."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, 300, length).tolist() for length in lengths]
    generator = Generator(model, eos_ids=[], batch_size=len(prompts))
    items = []
    written = generator.generate(prompts, max_new_tokens=count, keep_cache=True)
    for prompt, result in zip(prompts, written, strict=True):
        trunk, start = prompt + result.tokens, len(prompt)
        tail = tuple(rng.integers(3, 300, 6).tolist())
        branches = [Branch(start + i, tail, 3) for i in range(0, count + 1, 6)]
        # A step left out; one that follows the trunk for a while; one without a cue; an alternative with the same cue.
        branches.append(Branch(start + 2, (*trunk[start + 7 :], *tail), 3))
        branches.append(Branch(start + 3, (*trunk[start + 3 : start + 6], 7, 8)))
        branches.append(Branch(start, (4,)))
        branches.append(Branch(start + 6, (*tail[:4], 9, 10), 2))
        items.append(BranchItem(trunk, branches, result.cache))
    return items


def flat(scores):
    return np.concatenate([values for item in scores for values in item])


def by_definition(model, items):
    """log p token by token from whole sequences, one at a time, nothing shared."""
    values = []
    for item in items:
        for branch in item.branches:
            ids = item.trunk[: branch.prefix] + list(branch.tokens)
            with torch.no_grad():
                logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            scored = len(branch.tokens) if branch.scored is None else branch.scored
            values += [float(logprobs[i - 1, ids[i]]) for i in range(len(ids) - scored, len(ids))]
    return np.array(values)


@pytest.mark.parametrize("kind", BRANCHING)
def test_tree_and_cache_equal_the_definition(kind):
    # Eager attention gives NaN with padding in float64.
    exact = TINY[kind].get("attn_implementation") != "eager"
    model = tiny_model(kind, dtype=torch.float64 if exact else torch.float32)
    items = build_items(model)
    uncached = [replace(item, cache=None) for item in items]
    expected = by_definition(model, items)
    for limits in (Limits(), Limits(branch_tokens=8), Limits(items=1, tokens=1)):
        scorer = BranchScorer(model, eos_ids=[1], method="tree", limits=limits)
        for given in (uncached, items):
            assert flat(scorer.score(given)) == pytest.approx(expected, abs=1e-12 if exact else 2e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text"])
def test_eager_attention_takes_the_mask_it_wants(kind, monkeypatch):
    model = tiny_model(kind, attn_implementation="eager")
    monkeypatch.setattr(type(model), "_supports_sdpa", False)
    items = build_items(model)
    scores = BranchScorer(model, eos_ids=[1], method="tree").score(items)
    assert flat(scores) == pytest.approx(by_definition(model, items), abs=2e-5)


@pytest.mark.parametrize("kind", sorted(TINY))
def test_automatic_choice_is_right_for_every_model(kind, caplog):
    model = tiny_model(kind)
    items = build_items(model)
    scorer = BranchScorer(model, eos_ids=[1])
    with caplog.at_level(logging.WARNING, logger="hf_active_distill"):
        scores = scorer.score(items)
    assert flat(scores) == pytest.approx(by_definition(model, items), abs=2e-5)
    assert scorer.method in FALLBACK.get(kind, {"tree"})
    assert len(caplog.records) == (kind not in BRANCHING)


def test_fallback_says_what_happens_and_says_it_once(caplog):
    model = tiny_model("gpt_neo")
    scorer = BranchScorer(model, eos_ids=[1])
    items = build_items(model)
    with caplog.at_level(logging.WARNING, logger="hf_active_distill"):
        scorer.score(items)
        scorer.score(items)
    (record,) = caplog.records
    assert "GPTNeoForCausalLM cannot branch inside one pass" in record.getMessage()
    assert "padded batches" in record.getMessage()


def test_a_model_that_padding_confuses_is_scored_one_by_one(caplog, monkeypatch):
    model = tiny_model("gpt_neo")
    items = build_items(model)
    expected = by_definition(model, items)
    forward = type(model).forward

    def blind(self, input_ids, attention_mask=None, position_ids=None, **kwargs):
        return forward(self, input_ids, **kwargs)

    monkeypatch.setattr(type(model), "forward", blind)
    scorer = BranchScorer(model, eos_ids=[1])
    with caplog.at_level(logging.WARNING, logger="hf_active_distill"):
        scores = scorer.score(items)
    assert scorer.method == "naive"
    assert "one by one" in caplog.records[0].getMessage()
    assert flat(scores) == pytest.approx(expected, abs=2e-5)


def test_windows_beyond_the_first_items_are_looked_for():
    model = tiny_model("gpt_neo", window_size=100)
    scorer = BranchScorer(model, eos_ids=[1])
    scorer.score(build_items(model, lengths=(5, 6)))
    assert scorer.method == "tree"
    longer = build_items(model, lengths=(120, 6))
    assert flat(scorer.score(longer)) == pytest.approx(by_definition(model, longer), abs=2e-5)
    assert scorer.method == "padded"


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "gpt_neo"])
def test_written_branches_equal_generation_from_each_prefix(kind):
    model = tiny_model(kind)
    items = build_items(model)
    noise = [[keyed_uniforms(7, i, j) for j in range(len(item.branches))] for i, item in enumerate(items)]
    generator = Generator(model, eos_ids=[17], batch_size=1)
    for temperature, limits in ((0.0, Limits()), (1.0, Limits()), (1.0, Limits(branch_tokens=8, items=2))):
        scorer = BranchScorer(model, eos_ids=[17], limits=limits)
        written = scorer.write(items, max_new_tokens=7, temperature=temperature, uniforms=noise)
        for i, item in enumerate(items):
            for j, branch in enumerate(item.branches):
                (alone,) = generator.generate(
                    [item.trunk[: branch.prefix] + list(branch.tokens)],
                    max_new_tokens=7,
                    temperature=temperature,
                    uniforms=[noise[i][j]],
                )
                assert written[i][j].tokens == alone.tokens
                assert written[i][j].finish_reason == alone.finish_reason
                assert written[i][j].logprobs == pytest.approx(alone.logprobs, abs=2e-5)


@pytest.mark.parametrize("method", ["tree", "padded"])
def test_a_branch_stops_by_itself(method):
    model = tiny_model()
    items = build_items(model)
    calls = []

    def stop(item, branch, tokens):
        calls.append((item, branch))
        return len(tokens) > branch % 3

    written = BranchScorer(model, eos_ids=[], method=method).write(items, max_new_tokens=9, stop=stop)
    for row in written:
        assert [len(result.tokens) for result in row] == [1 + number % 3 for number in range(len(row))]
        assert {result.finish_reason for result in row} == {"stop"}
    assert set(calls) == {(i, j) for i, item in enumerate(items) for j in range(len(item.branches))}


def test_items_with_and_without_caches_or_branches_mix():
    model = tiny_model()
    items = build_items(model)
    mixed = [items[0], replace(items[1], cache=None), replace(items[2], branches=[]), items[2]]
    scores = BranchScorer(model, eos_ids=[1]).score(mixed)
    assert scores[2] == []
    assert flat(scores) == pytest.approx(by_definition(model, mixed), abs=2e-5)
    assert BranchScorer(model, eos_ids=[1]).score([]) == []


def test_a_pass_encodes_each_shared_token_once():
    model = tiny_model()
    items = [replace(item, branches=item.branches[:5]) for item in build_items(model, lengths=(12, 12))]
    tokens = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    scorer = BranchScorer(model, eos_ids=[1], method="tree")
    scorer.score([replace(item, cache=None) for item in items])
    scorer.score(items)
    # Five branches of six tokens, the last of which is only predicted; a cached trunk lacks its last token.
    assert tokens == [2 * (36 + 5 * 5), 2 * (1 + 5 * 5)]


def test_logits_come_for_scored_positions_only():
    model = tiny_model()
    shapes = []
    model.lm_head.register_forward_hook(lambda module, args, out: shapes.append(out.shape[1]))
    items = [replace(item, branches=item.branches[:5], cache=None) for item in build_items(model)]
    BranchScorer(model, eos_ids=[1], method="tree").score(items)
    # Three scored tokens a branch.
    assert shapes[-1] == 15


def test_models_that_ignore_logits_to_keep_are_scored_right(monkeypatch):
    model = tiny_model()
    items = build_items(model)
    expected = by_definition(model, items)
    forward = type(model).forward

    def keeps_all(self, logits_to_keep=0, **kwargs):
        return forward(self, **kwargs)

    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, position_ids=None, logits_to_keep=0, **kwargs: keeps_all(
            self, logits_to_keep, position_ids=position_ids, **kwargs
        ),
    )
    for method in ("tree", "padded"):
        scores = BranchScorer(model, eos_ids=[1], method=method).score(items)
        assert flat(scores) == pytest.approx(expected, abs=2e-5)


def test_other_attention_is_switched_and_comes_back(monkeypatch):
    model = tiny_model()
    items = build_items(model)
    model.config._attn_implementation = "flash_attention_2"
    switched = []

    def switch(self, implementation):
        switched.append(implementation)
        self.config._attn_implementation = implementation

    monkeypatch.setattr(type(model), "set_attn_implementation", switch)
    scores = BranchScorer(model, eos_ids=[1], method="tree").score(items)
    assert switched == ["sdpa", "flash_attention_2"]
    model.config._attn_implementation = "sdpa"
    assert flat(scores) == pytest.approx(by_definition(model, items), abs=2e-5)


def test_half_precision_differs_by_rounding_only():
    model = tiny_model("qwen3", dtype=torch.bfloat16)
    items = build_items(model)
    scorer = BranchScorer(model, eos_ids=[1])
    scores = flat(scorer.score(items))
    assert scorer.method == "tree"
    wide = by_definition(tiny_model("qwen3"), items)
    naive = flat(BranchScorer(model, eos_ids=[1], method="naive").score(items))
    assert np.sqrt(np.mean((scores - wide) ** 2)) < 2 * np.sqrt(np.mean((naive - wide) ** 2)) + 0.01


def test_autocast_rounds_as_its_type_does(caplog):
    model = tiny_model()
    items = build_items(model)
    scorer = BranchScorer(model, eos_ids=[1])
    with caplog.at_level(logging.WARNING, logger="hf_active_distill"), torch.autocast("cpu", dtype=torch.bfloat16):
        scores = flat(scorer.score([replace(item, cache=None) for item in items]))
    assert scorer.method == "tree"
    assert caplog.records == []
    assert np.sqrt(np.mean((scores - by_definition(model, items)) ** 2)) < 0.2


def test_a_trie_shares_what_branches_have_in_common():
    trie = Trie([1, 2, 3])
    assert trie.insert(1, [2, 9]) == [0, 1, 3]
    assert trie.insert(2, [9, 8]) == [1, 3, 4]
    assert trie.insert(1, [9]) == [0, 5]
    assert trie.insert(3, []) == [2]
    assert (trie.tokens, trie.parents) == ([9, 8, 9], [1, 3, 0])


def test_an_unknown_method_is_refused():
    with pytest.raises(ConfigurationError, match="method='fast' is unknown"):
        BranchScorer(tiny_model(), eos_ids=[], method="fast")
