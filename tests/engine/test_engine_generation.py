"""Generation: token by token what `generate` writes, and noise that belongs to the row."""

import random

import numpy as np
import pytest
import torch
from helpers_models import TINY, tiny_model, tiny_tokenizer

from hf_active_distill.engine import Generator, StopStrings, inference, keyed_uniforms
from hf_active_distill.engine.generation import choose


PROMPTS = [[5, 6, 7, 8, 9], [10, 11, 12], [13] * 20, [200, 201, 7]]


def reference(model, prompt, count, **kwargs):
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, pad_token_id=2, **kwargs
    )
    return out[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", sorted(TINY))
def test_greedy_equals_generate(kind):
    model = tiny_model(kind)
    written = Generator(model, eos_ids=[1], batch_size=3).generate(PROMPTS, max_new_tokens=14)
    assert [result.tokens for result in written] == [reference(model, prompt, 14) for prompt in PROMPTS]


def test_without_a_cache_the_same_is_written():
    model = tiny_model()
    plain, cached = (Generator(model, eos_ids=[1], batch_size=2) for _ in range(2))
    plain.cached = False
    assert [r.tokens for r in plain.generate(PROMPTS, max_new_tokens=8)] == [
        r.tokens for r in cached.generate(PROMPTS, max_new_tokens=8)
    ]


def test_rows_end_at_any_end_token_and_leave_the_batch():
    model = tiny_model()
    free = [reference(model, prompt, 12, eos_token_id=-1) for prompt in PROMPTS]
    ends = {free[0][3], free[2][6]}
    sizes = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    written = Generator(model, eos_ids=ends, batch_size=4).generate(PROMPTS, max_new_tokens=12)
    handle.remove()
    for tokens, result in zip(free, written, strict=True):
        stop = next((i + 1 for i, token in enumerate(tokens) if token in ends), None)
        assert result.tokens == tokens[:stop]
        assert result.finish_reason == ("length" if stop is None else "stop")
    assert sizes[0] == 4
    assert sum(sizes) == sum(len(result.tokens) for result in written)


def test_logprobs_and_entropies_are_those_of_the_full_distribution():
    model = tiny_model()
    noise = [keyed_uniforms(10, row) for row in range(4)]
    generator = Generator(model, eos_ids=[1], batch_size=4)
    for prompt, result in zip(
        PROMPTS, generator.generate(PROMPTS, max_new_tokens=10, temperature=0.6, uniforms=noise), strict=True
    ):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + result.tokens])).logits[0, len(prompt) - 1 : -1].double()
        logprobs = logits.log_softmax(-1)
        expected = [float(row[token]) for row, token in zip(logprobs, result.tokens, strict=True)]
        assert result.logprobs == pytest.approx(expected, abs=1e-5)
        assert result.entropies == pytest.approx((-(logprobs.exp() * logprobs).sum(-1)).tolist(), abs=1e-5)


def test_the_cache_is_what_encoding_the_text_gives():
    model = tiny_model("mistral")
    for prompt, result in zip(
        PROMPTS, Generator(model, eos_ids=[1]).generate(PROMPTS, max_new_tokens=9, keep_cache=True), strict=True
    ):
        ids = prompt + result.tokens[:-1]
        with torch.no_grad():
            layers = model(torch.tensor([ids]), use_cache=True).past_key_values.layers
        for (keys, values), layer in zip(result.cache, layers, strict=True):
            assert keys.shape[1] == len(ids)
            # The model's own cache keeps the window only.
            kept = layer.keys.shape[2]
            torch.testing.assert_close(keys[:, -kept:], layer.keys[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(values[:, -kept:], layer.values[0], atol=1e-5, rtol=1e-4)


def test_samples_do_not_depend_on_the_batch_or_the_global_seed():
    model = tiny_model()
    noise = [keyed_uniforms(12, 0, f"row {row}") for row in range(4)]
    kwargs = {"max_new_tokens": 12, "temperature": 1.0}
    torch.manual_seed(1)
    together = Generator(model, eos_ids=[1], batch_size=4).generate(PROMPTS, uniforms=noise, **kwargs)
    torch.manual_seed(2)
    alone = [
        Generator(model, eos_ids=[1]).generate([prompt], uniforms=[own], **kwargs)[0]
        for prompt, own in zip(PROMPTS, noise, strict=True)
    ]
    assert [result.tokens for result in together] == [result.tokens for result in alone]
    assert len({tuple(result.tokens) for result in together}) == 4


def test_sampling_follows_the_distribution():
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]]).repeat(4000, 1)
    uniforms = keyed_uniforms(4000, "distribution")
    drawn = np.bincount([token for token, _, _ in choose(logits, 0.5, list(uniforms))], minlength=4) / 4000
    assert drawn == pytest.approx(torch.softmax(logits[0] / 0.5, -1).numpy(), abs=0.02)


def test_sampling_never_picks_what_has_no_probability():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).repeat(2, 1)
    assert [token for token, _, _ in choose(logits, 1.0, [0.0, np.nextafter(1.0, 0.0)])] == [1, 3]


def test_noise_is_a_function_of_its_key():
    assert np.array_equal(keyed_uniforms(5, 0, 1, "a"), keyed_uniforms(9, 0, 1, "a")[:5])
    assert not np.array_equal(keyed_uniforms(5, 0, 1, "a"), keyed_uniforms(5, 0, 1, "b"))
    assert not np.array_equal(keyed_uniforms(5, 0, 1, "1"), keyed_uniforms(5, 0, 1, 1))


def test_rooms_may_differ_and_may_be_empty():
    written = Generator(tiny_model(), eos_ids=[], batch_size=4).generate(PROMPTS, max_new_tokens=[3, 0, 1, 2])
    assert [len(result.tokens) for result in written] == [3, 0, 1, 2]


def test_stop_strings_end_a_row_and_trim_the_text():
    tokenizer = tiny_tokenizer()
    stop = StopStrings(tokenizer, [" answer", "\n\n"])
    ids = tokenizer("The answer is 17")["input_ids"]
    ends = [stop(0, ids[: count + 1]) for count in range(len(ids))]
    assert ends[:2] == [False, True]
    assert stop.trim("The answer is 17") == "The"
    assert stop.trim("nothing") == "nothing"
    model = tiny_model()
    plain = Generator(model, eos_ids=[]).generate(PROMPTS[:1], max_new_tokens=12)[0]
    text = tokenizer.decode(plain.tokens[4:6])
    stopped = Generator(model, eos_ids=[]).generate(
        PROMPTS[:1], max_new_tokens=12, stop=StopStrings(tokenizer, [text])
    )[0]
    assert stopped.finish_reason == "stop"
    assert stopped.tokens == plain.tokens[: len(stopped.tokens)]
    assert text in tokenizer.decode(stopped.tokens)
    assert text not in tokenizer.decode(stopped.tokens[:-1])


def random_state():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def test_everything_is_left_as_found():
    model = tiny_model("gpt2", attn_pdrop=0.5, resid_pdrop=0.5)
    model.train()
    model.transformer.gradient_checkpointing = True
    model.transformer.h[0].eval()
    flags = [module.training for module in model.modules()]
    checkpointed = [getattr(module, "gradient_checkpointing", None) for module in model.modules()]
    state = random_state()
    first = Generator(model, eos_ids=[1]).generate(PROMPTS, max_new_tokens=6)
    assert random_state() == state
    assert [module.training for module in model.modules()] == flags
    assert [getattr(module, "gradient_checkpointing", None) for module in model.modules()] == checkpointed
    assert True in checkpointed
    model.eval()
    model.transformer.gradient_checkpointing = False
    again = Generator(model, eos_ids=[1]).generate(PROMPTS, max_new_tokens=6)
    assert [result.tokens for result in first] == [result.tokens for result in again]


def test_the_state_comes_back_after_an_error():
    model = tiny_model().train()
    state = random_state()

    def use():
        with inference(model):
            torch.rand(3), random.random(), np.random.rand()
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        use()
    assert model.training
    assert random_state() == state
    assert torch.is_grad_enabled()
