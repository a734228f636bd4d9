"""A real model behind the server: what it reports equals what the model says when it is called directly."""

import asyncio
import json
import math
import re
import sys

import pytest
import torch
from helpers_models import tiny_model, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.engine.continuous import TransformersBackend
from hf_active_distill.engine.continuous.detokenizer import Detokenizer
from hf_active_distill.engine.continuous.sampling import TokenChooser, top_tokens
from hf_active_distill.errors import ConfigurationError, TeacherError, TeacherGenerationError, TeacherRequestError
from hf_active_distill.exchange import ServingParams, TemplateError


PROMPTS = [f"There are {i} birds" + " and more" * (i % 4) for i in range(8)]


def generate(backend, prompt="There are", **params):
    return asyncio.run(backend.generate(prompt, ServingParams(**{"max_new_tokens": 8, **params})))


def direct_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def greedy(model, tokenizer, prompt, count):
    """The slow way: the whole text encoded again for every token."""
    ids, start = tokenizer.encode(prompt), len(tokenizer.encode(prompt))
    for _ in range(count):
        ids.append(int(direct_logits(model, ids)[-1].argmax()))
    return ids[start:]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "gemma2", "gpt_neo"])
def test_rows_that_come_and_go_are_written_as_if_alone(kind, tokenizer):
    model = tiny_model(kind)
    backend = TransformersBackend(model, tokenizer, max_batch_size=5)

    async def one(index, prompt):
        await asyncio.sleep(0.003 * index)  # they join while others are being written
        params = ServingParams(max_new_tokens=3 + 3 * index, ignore_eos=True, prefill_logprobs=index % 3 == 0)
        return await backend.generate(prompt, params)

    async def everything():
        return await asyncio.gather(*(one(index, prompt) for index, prompt in enumerate(PROMPTS)))

    replies = asyncio.run(everything())
    backend.close()
    for index, (prompt, reply) in enumerate(zip(PROMPTS, replies, strict=True)):
        ids, written = tokenizer.encode(prompt), [token.id for token in reply.tokens]
        assert written == greedy(model, tokenizer, prompt, 3 + 3 * index)
        logprobs = torch.log_softmax(direct_logits(model, ids + written), -1)
        expected = [float(logprobs[len(ids) - 1 + i, token]) for i, token in enumerate(written)]
        assert [token.logprob for token in reply.tokens] == pytest.approx(expected, abs=1e-4)
        if reply.prefill is not None:
            assert [token.token_id for token in reply.prefill] == ids and reply.prefill[0].logprob is None
            expected = [float(logprobs[i, token]) for i, token in enumerate(ids[1:])]
            assert [token.logprob for token in reply.prefill[1:]] == pytest.approx(expected, abs=1e-4)


def test_a_recurrent_model_is_encoded_anew(model, tokenizer, monkeypatch):
    monkeypatch.setattr(type(model), "_is_stateful", True)
    backend = TransformersBackend(model, tokenizer)

    async def all_of_them():
        params = ServingParams(max_new_tokens=4, ignore_eos=True)
        return await asyncio.gather(*(backend.generate(prompt, params) for prompt in PROMPTS[:3]))

    replies = asyncio.run(all_of_them())
    backend.close()
    written = [[token.id for token in reply.tokens] for reply in replies]
    assert written == [greedy(model, tokenizer, prompt, 4) for prompt in PROMPTS[:3]]


def test_reported_logprobs_come_after_penalty_and_temperature(backend, model, tokenizer):
    params = {"repetition_penalty": 1.7, "frequency_penalty": 0.9, "temperature": 0.6, "seed": 3, "top_logprobs": 5}
    reply = generate(backend, ignore_eos=True, **params)
    ids = tokenizer.encode("There are")
    for token, top in zip(reply.tokens, reply.top_tokens, strict=True):
        scores = direct_logits(model, ids)[-1].double()
        for seen in set(ids):
            scores[seen] = scores[seen] * 1.7 if scores[seen] < 0 else scores[seen] / 1.7
        for seen in set(ids):
            scores[seen] -= 0.9 * ids.count(seen) / len(ids)
        expected = torch.log_softmax(scores / 0.6, -1)
        assert token.logprob == pytest.approx(float(expected[token.id]), abs=1e-4)
        best = expected.topk(5)
        assert [one.token_id for one in top] == best.indices.tolist()
        assert [one.logprob for one in top] == pytest.approx(best.values.tolist(), abs=1e-4)
        ids.append(token.id)


@pytest.mark.parametrize("warp", [{"top_k": 3}, {"top_p": 0.4}, {"typical_p": 0.3}])
def test_warped_distributions_are_renormalised(backend, warp):
    reply = generate(backend, temperature=1.0, seed=1, top_logprobs=5, ignore_eos=True, **warp)
    for top in reply.top_tokens:
        mass = sum(math.exp(token.logprob) for token in top)
        assert mass <= 1 + 1e-5 and all(token.logprob > -math.inf for token in top)
        assert "top_k" not in warp or (len(top) == 3 and mass == pytest.approx(1, abs=1e-5))


def test_top_p_keeps_the_smallest_set_that_reaches_it(model, tokenizer):
    logits = direct_logits(model, tokenizer.encode("There are"))[-1]
    scores = TokenChooser(ServingParams(temperature=1.0, top_p=0.4)).adjust(logits, [0])
    probabilities = torch.softmax(logits.double(), -1)
    order = probabilities.argsort(descending=True).tolist()
    kept, mass = [], 0.0
    for token in order:
        kept.append(token)
        mass += float(probabilities[token])
        if mass >= 0.4:
            break
    assert sorted(torch.nonzero(scores > -torch.inf).flatten().tolist()) == sorted(kept)


def test_sampling_follows_the_distribution():
    logprobs = torch.log(torch.tensor([0.5, 0.0, 0.3, 0.2]))
    chooser = TokenChooser(ServingParams(temperature=1.0, seed=5))
    counts = torch.bincount(torch.tensor([chooser.sample(logprobs) for _ in range(4000)]), minlength=4) / 4000
    assert counts[1] == 0 and counts.tolist() == pytest.approx([0.5, 0.0, 0.3, 0.2], abs=0.03)


def test_the_same_seed_writes_the_same_text(backend):
    first, second, other = (
        [token.id for token in generate(backend, temperature=1.0, seed=seed, max_new_tokens=12).tokens]
        for seed in (7, 7, 8)
    )
    assert first == second != other


def test_a_seed_does_not_care_for_neighbours(backend):
    params = ServingParams(max_new_tokens=10, temperature=0.9, seed=11, ignore_eos=True)
    alone = generate(backend, max_new_tokens=10, temperature=0.9, seed=11, ignore_eos=True).tokens

    async def together():
        crowd = [backend.generate(prompt, ServingParams(max_new_tokens=6)) for prompt in PROMPTS]
        return (await asyncio.gather(backend.generate("There are", params), *crowd))[0]

    assert [token.id for token in asyncio.run(together()).tokens] == [token.id for token in alone]


def test_ties_make_the_list_of_top_tokens_longer(tokenizer):
    logprobs = torch.tensor([-1.0, -2.0, -3.0, -2.0, -2.0, -torch.inf])
    assert [token.token_id for token in top_tokens(logprobs, 2, tokenizer)] == [0, 1, 3, 4]
    assert [token.token_id for token in top_tokens(logprobs, 6, tokenizer)] == [0, 1, 3, 4, 2]


def test_a_stop_string_ends_the_text_and_stays_in_it(backend):
    tokens = generate(backend, max_new_tokens=12, ignore_eos=True).tokens
    stop = next(token.text for token in tokens if token.text.isalnum() and not token.special)
    reply = generate(backend, max_new_tokens=12, ignore_eos=True, stop=("never", stop))
    assert reply.stopped_by_sequence and reply.finish_reason == "stop" and reply.text.endswith(stop)
    assert len(reply.tokens) < 12


def test_the_end_token_is_counted_and_not_shown(model, tokenizer):
    second = greedy(model, tokenizer, "There are", 2)[1]
    model.generation_config.eos_token_id = [second]
    backend = TransformersBackend(model, tokenizer)
    try:
        reply = generate(backend)
    finally:
        backend.close()
        model.generation_config.eos_token_id = 1
    assert reply.finish_reason == "stop" and not reply.stopped_by_sequence
    assert len(reply.tokens) == reply.usage.completion_tokens == 2


def test_chat_goes_through_the_template(backend, model, tokenizer):
    messages = [{"role": "user", "content": "How many birds?"}]
    reply = asyncio.run(backend.chat(messages, ServingParams(max_new_tokens=5, ignore_eos=True)))
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert reply.usage.prompt_tokens == len(ids)
    assert reply.tokens[0].id == int(direct_logits(model, ids)[-1].argmax())


def test_template_options_reach_the_template(model, tokenizer):
    backend = TransformersBackend(model, tokenizer, chat_template_kwargs={"enable_thinking": False})
    ask = backend.chat([{"role": "user", "content": "x"}], ServingParams(max_new_tokens=1))
    with_thinking_off = asyncio.run(ask).usage.prompt_tokens
    backend.close()
    plain = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True
    )
    assert with_thinking_off > len(tokenizer.encode(plain, add_special_tokens=False))


def test_a_model_without_a_template_says_so(model):
    backend = TransformersBackend(model, tiny_tokenizer())
    with pytest.raises(TemplateError, match="no chat template"):
        asyncio.run(backend.chat([{"role": "user", "content": "x"}], ServingParams(max_new_tokens=1)))
    backend.close()


def test_what_does_not_fit_is_refused_and_truncate_makes_it_fit(backend):
    long = "birds " * 600
    with pytest.raises(TeacherRequestError, match="`max_new_tokens` must be <= 512"):
        generate(backend, long)
    reply = generate(backend, long, truncate=10, max_new_tokens=2)
    assert reply.usage.prompt_tokens == 10


def test_without_a_cap_the_context_is_filled(model, tokenizer):
    backend = TransformersBackend(model, tokenizer, max_total_tokens=20)
    reply = generate(backend, max_new_tokens=0, fill_context=True, ignore_eos=True)
    backend.close()
    assert reply.finish_reason == "length" and reply.usage.total_tokens == 20


def test_tokenize_gives_places_in_the_text(backend, tokenizer):
    text = "12 birds – more"
    spans = backend.tokenize(text)
    assert [span.id for span in spans] == tokenizer.encode(text)
    assert all(span.text == text[span.start : span.stop] for span in spans)


def test_info_tells_the_context(backend):
    info = backend.info()
    assert (info.model, info.max_total_tokens, info.max_input_tokens) == ("tiny", 512, 511)
    assert (info.dtype, info.device) == ("torch.float32", "cpu")


def test_a_failing_step_fails_its_rows_and_the_server_lives_on(model, tokenizer, monkeypatch):
    backend = TransformersBackend(model, tokenizer)
    expected = generate(backend).text
    with monkeypatch.context() as broken:

        def out_of_memory(*args, **kwargs):
            raise RuntimeError("out of memory")

        broken.setattr(type(model), "forward", out_of_memory)
        with pytest.raises(RuntimeError, match="out of memory"):
            generate(backend)
    assert generate(backend).text == expected
    backend.close()
    with pytest.raises(TeacherError, match="ending"):
        generate(backend)


def test_a_cancelled_row_leaves_the_batch(backend):
    async def cancel_one():
        task = asyncio.ensure_future(backend.generate("There", ServingParams(max_new_tokens=400, ignore_eos=True)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await backend.generate("There are", ServingParams(max_new_tokens=2, ignore_eos=True))

    assert len(asyncio.run(cancel_one()).tokens) == 2


def test_listeners_hear_every_token_in_order(backend):
    async def listen():
        heard = []
        params = ServingParams(max_new_tokens=6, top_logprobs=2, ignore_eos=True)
        reply = await backend.generate("There are", params, lambda token, top: heard.append((token, top)))
        return heard, reply

    heard, reply = asyncio.run(listen())
    assert heard == list(zip(reply.tokens, reply.top_tokens, strict=True))


# Grammars.


def test_a_choice_gives_the_exact_distribution_over_its_labels(backend, model, tokenizer):
    grammar = {"type": "regex", "value": "(A|B|C)"}
    reply = generate(backend, "Pick one:", grammar=grammar, max_new_tokens=1, top_logprobs=5)
    ids = [tokenizer.encode(label)[0] for label in "ABC"]
    logits = direct_logits(model, tokenizer.encode("Pick one:"))[-1]
    expected = dict(zip("ABC", torch.softmax(logits[ids], -1).tolist(), strict=True))
    assert {token.text: math.exp(token.logprob) for token in reply.top_tokens[0]} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_schemas_bind_the_text(backend, seed):
    schema = {
        "type": "object",
        "properties": {"wrong": {"type": "boolean"}, "step": {"enum": ["one", "two"]}},
        "required": ["wrong", "step"],
        "additionalProperties": False,
    }
    grammar = {"type": "json", "value": schema}
    reply = generate(backend, grammar=grammar, temperature=1.0, seed=seed, max_new_tokens=60)
    answer = json.loads(reply.text)
    assert reply.finish_reason == "stop" and set(answer) == {"wrong", "step"}
    assert isinstance(answer["wrong"], bool) and answer["step"] in ("one", "two")


def test_expressions_bind_rows_side_by_side(backend):
    async def both():
        grammars = [{"type": "regex", "value": pattern} for pattern in ("[0-9]{3}-[0-9]{2}", "(yes|no), [a-c]+z")]
        params = [ServingParams(max_new_tokens=40, grammar=grammar, temperature=1.0, seed=2) for grammar in grammars]
        return await asyncio.gather(
            *(backend.generate("Now", one) for one in params), backend.generate("x", params[0])
        )

    first, second, third = asyncio.run(both())
    assert re.fullmatch("[0-9]{3}-[0-9]{2}", first.text) and re.fullmatch("[0-9]{3}-[0-9]{2}", third.text)
    assert re.fullmatch("(yes|no), [a-c]+z", second.text) or second.finish_reason == "length"


@pytest.mark.parametrize("grammar", [{"type": "regex", "value": "("}, {"type": "json", "value": {"type": "nothing"}}])
def test_a_grammar_that_cannot_be_read_is_refused(backend, grammar):
    with pytest.raises(TeacherRequestError, match="grammar is not valid"):
        generate(backend, grammar=grammar)


def test_without_the_library_the_cure_is_named(model, tokenizer, monkeypatch):
    backend = TransformersBackend(model, tokenizer)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(TeacherRequestError, match=r"pip install 'hf-active-distill\[grammar\]'"):
        generate(backend, grammar={"type": "regex", "value": "a"})
    backend.close()


def test_a_dead_end_fails_its_row_alone(backend, monkeypatch):
    from hf_active_distill.engine.continuous import grammar as module

    def dead_end(self, scores):
        raise TeacherGenerationError("the grammar has no way on: dead end")

    monkeypatch.setattr(module.GrammarState, "mask", dead_end)

    async def both():
        bound = ServingParams(max_new_tokens=4, grammar={"type": "regex", "value": "a+"})
        free = ServingParams(max_new_tokens=4, ignore_eos=True)
        tasks = [backend.generate("There are", params) for params in (bound, free)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    failed, written = asyncio.run(both())
    assert isinstance(failed, TeacherGenerationError) and len(written.tokens) == 4


# Text.


@settings(max_examples=60, deadline=None)
@given(prompt=st.text(max_size=12), text=st.text(min_size=1, max_size=20))
def test_tokens_add_up_to_the_text(prompt, text):
    tokenizer = _TOKENIZER
    before, ids = tokenizer.encode(prompt), tokenizer.encode(text, add_special_tokens=False)
    writer = Detokenizer(tokenizer, before)
    pieces = [writer.push(token) for token in ids]
    assert "�" in text or "".join(pieces) == text == writer.text()


_TOKENIZER = tiny_tokenizer()


def test_a_character_of_several_tokens_is_written_once_whole():
    ids = _TOKENIZER.encode("é漢", add_special_tokens=False)
    writer = Detokenizer(_TOKENIZER, [])
    assert [piece for piece in map(writer.push, ids) if piece] == ["é", "漢"] and len(ids) > 2


def test_encoder_decoders_are_refused(model, tokenizer, monkeypatch):
    monkeypatch.setattr(model.config, "is_encoder_decoder", True)
    with pytest.raises(ConfigurationError, match="causal"):
        TransformersBackend(model, tokenizer)
