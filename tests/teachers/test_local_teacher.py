"""A model in this process as a teacher: its answers are those of the model, whatever else runs beside it."""

import asyncio
import json
import random

import numpy as np
import pytest
import torch
from helpers_models import tiny_model, tiny_tokenizer

from hf_active_distill.errors import ConfigurationError, TeacherRequestError
from hf_active_distill.teachers import GenerationParams, LocalTeacher, TeacherRequest, load_teacher


TEXTS = ["There are 12 birds", "First add the numbers. Then take", "So 17", "Is this answer right? Answer yes or no:"]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def chat_tokenizer():
    return tiny_tokenizer(chat=True)


def ask(teacher, *requests):
    async def all_at_once():
        try:
            return await asyncio.gather(*(teacher.ask(request) for request in requests))
        finally:
            await teacher.aclose()

    return asyncio.run(all_at_once())


def greedy(model, tokenizer, ids, n):
    """The slow way: all of it anew for every token."""
    ids = list(ids)
    start = len(ids)
    with torch.no_grad():
        for _ in range(n):
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            ids.append(token)
            if token == tokenizer.eos_token_id:
                break
    return tokenizer.decode(ids[start:], skip_special_tokens=True), len(ids) - start


def test_greedy_answers_are_the_models_own(model, tokenizer):
    teacher = LocalTeacher(model, tokenizer)
    params = GenerationParams(max_new_tokens=8)
    replies = ask(teacher, *(TeacherRequest.generate(text, params) for text in TEXTS))
    for text, reply in zip(TEXTS, replies, strict=True):
        ids = tokenizer.encode(text)
        wanted, count = greedy(model, tokenizer, ids, 8)
        assert reply.text == wanted
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (len(ids), count)
        assert not reply.usage.estimated


def test_a_dialogue_goes_through_the_chat_template(model, chat_tokenizer):
    teacher = LocalTeacher(model, chat_tokenizer, chat_template_kwargs={"enable_thinking": False})
    request = TeacherRequest.chat([{"role": "user", "content": TEXTS[0]}], GenerationParams(max_new_tokens=6))
    (reply,) = ask(teacher, request)
    text = chat_tokenizer.apply_chat_template(
        request.message_list(), tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    ids = chat_tokenizer.encode(text, add_special_tokens=False)
    assert reply.text == greedy(model, chat_tokenizer, ids, 6)[0]
    assert asyncio.run(teacher.count_tokens(request)) == reply.usage.prompt_tokens == len(ids)


def test_a_dialogue_without_a_template_is_put_as_text_and_said_once(model, tokenizer, caplog):
    teacher = LocalTeacher(model, tokenizer)
    turns = [{"role": "user", "content": "So 17"}, {"role": "assistant", "content": "- 4"}]
    request = TeacherRequest.chat([*turns, {"role": "user", "content": "is"}], GenerationParams(max_new_tokens=5))
    replies = ask(teacher, request, request)
    ids = tokenizer.encode("User: So 17\n\nAssistant: - 4\n\nUser: is\n\nAssistant:")
    assert [reply.text for reply in replies] == [greedy(model, tokenizer, ids, 5)[0]] * 2
    assert caplog.text.count("no chat template") == 1


def test_samples_depend_on_the_request_alone(model, tokenizer):
    def texts(first, *requests):
        torch.manual_seed(first)
        return [reply.text for reply in ask(LocalTeacher(model, tokenizer), *requests)]

    sampled = GenerationParams(max_new_tokens=12, temperature=1.0)
    seeded = GenerationParams(max_new_tokens=12, temperature=1.0, seed=5, top_p=1.0)
    requests = [TeacherRequest.generate(TEXTS[0], sampled, sample_index=i) for i in range(3)]
    requests.append(TeacherRequest.generate(TEXTS[0], seeded))
    together = texts(1, *requests)
    assert [texts(2 + i, request)[0] for i, request in enumerate(requests)] == together
    assert len(set(together)) == 4


def test_the_global_random_state_is_left_alone(model, tokenizer):
    teacher = LocalTeacher(model, tokenizer)
    params = GenerationParams(max_new_tokens=4, temperature=1.0)

    async def draw_around():
        await teacher.ask(TeacherRequest.generate(TEXTS[0], params))
        # Drawn while the teacher's thread lives: its end must not put the state back to before.
        before = torch.rand(1).item(), np.random.rand(), random.random()
        await teacher.aclose()
        return before

    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    asyncio.run(draw_around())
    after = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    torch.rand(1), np.random.rand(), random.random()
    assert after == (torch.rand(1).item(), np.random.rand(), random.random())


def test_top_tokens_and_prefill_are_the_models_own_log_probabilities(model, tokenizer):
    params = GenerationParams(max_new_tokens=1, top_logprobs=4, prefill_logprobs=True)
    (reply,) = ask(LocalTeacher(model, tokenizer), TeacherRequest.generate(TEXTS[1], params))
    ids = tokenizer.encode(TEXTS[1])
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    best = logprobs[-1].topk(4)
    assert [token.token_id for token in reply.top_tokens[0]] == best.indices.tolist()
    assert [token.logprob for token in reply.top_tokens[0]] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert reply.prefill[0].logprob is None
    given = [logprobs[i, token].item() for i, token in enumerate(ids[1:])]
    assert [token.logprob for token in reply.prefill[1:]] == pytest.approx(given, abs=1e-4)


def test_a_stop_string_is_cut_away_and_a_grammar_binds(model, tokenizer):
    teacher = LocalTeacher(model, tokenizer)
    (whole,) = ask(teacher, TeacherRequest.generate(TEXTS[2], GenerationParams(max_new_tokens=12)))
    stop = whole.text[3:5]
    cut, bound = ask(
        teacher,
        TeacherRequest.generate(TEXTS[2], GenerationParams(max_new_tokens=12, stop=(stop,))),
        TeacherRequest.generate(
            TEXTS[2], GenerationParams(max_new_tokens=4, grammar={"type": "regex", "value": "(yes|no)"})
        ),
    )
    assert cut.text == whole.text[: whole.text.index(stop)] and cut.finish_reason == "stop"
    assert bound.text in ("yes", "no")


def test_a_model_from_a_folder_has_a_name_and_a_fingerprint(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    teacher = load_teacher(f"local:{tmp_path}/teacher", device="cpu")
    info = asyncio.run(teacher.info())
    assert (info.model, info.door) == (f"{tmp_path}/teacher", "local")
    assert info.supports_logprobs and info.supports_grammar and info.max_total_tokens == 512
    request = TeacherRequest.generate(TEXTS[0], GenerationParams(max_new_tokens=4))
    assert ask(teacher, request)[0].text == ask(LocalTeacher(model, tokenizer), request)[0].text
    assert ask(teacher, request)[0].text, "usable again after it was closed"
    asyncio.run(teacher.aclose())

    async def revision(of):
        found = (await of.info()).revision
        await of.aclose()
        return found

    assert asyncio.run(revision(LocalTeacher(model, tokenizer))) == info.revision
    assert asyncio.run(revision(LocalTeacher(tiny_model(seed=1), tokenizer))) != info.revision


def test_what_cannot_be_loaded_or_does_not_fit(model, tokenizer, tmp_path):
    with pytest.raises(ConfigurationError, match="no such folder.*causal language model"):
        asyncio.run(load_teacher(f"local:{tmp_path}/nothing").info())
    with pytest.raises(TeacherRequestError, match="cannot be loaded"):
        ask(load_teacher(f"local:{tmp_path}/nothing"), TeacherRequest.generate("a", GenerationParams()))
    with pytest.raises(TeacherRequestError, match="max_new_tokens"):
        ask(LocalTeacher(model, tokenizer), TeacherRequest.generate("a", GenerationParams(max_new_tokens=5000)))


def test_a_schema_binds_and_thoughts_are_told_from_the_answer(model, tokenizer):
    schema = {"type": "object", "properties": {"wrong": {"type": "boolean"}}, "required": ["wrong"]}
    grammars = [
        {"type": "json", "value": {**schema, "additionalProperties": False}},
        {"type": "regex", "value": "<think>one</think>two"},
    ]
    requests = [
        TeacherRequest.generate(TEXTS[2], GenerationParams(max_new_tokens=60, grammar=grammar)) for grammar in grammars
    ]
    bound, thought = ask(LocalTeacher(model, tokenizer), *requests)
    assert isinstance(json.loads(bound.text)["wrong"], bool)
    assert (thought.text, thought.reasoning) == ("two", "one")
