"""One model behind every door that a laptop has: same texts, same confidence, same log-probabilities."""

import asyncio
import importlib.util

import pytest
from helpers_models import tiny_model, tiny_tokenizer

from hf_active_distill.errors import TeacherAuthError, TeacherRequestError
from hf_active_distill.serving import EmbeddedServer
from hf_active_distill.teachers import (
    GenerationParams,
    LocalTeacher,
    TeacherRequest,
    describe,
    label_distribution,
    load_teacher,
)


KEY = "hf_embeddedteacherkey"
TURNS = [{"role": "user", "content": "How many birds?"}]
CLIENTS = ["direct", "hub"] + ["text_generation"] * (importlib.util.find_spec("text_generation") is not None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher")
    tiny_model().save_pretrained(path)
    tiny_tokenizer(chat=True).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def url(folder):
    with EmbeddedServer(folder, api_key=KEY) as server:
        yield server.url


def run(teacher, work):
    async def closing():
        try:
            return await work(teacher)
        finally:
            await teacher.aclose()

    return asyncio.run(closing())


async def answers(teacher):
    greedy = GenerationParams(max_new_tokens=8)
    bound = GenerationParams(max_new_tokens=8, grammar={"type": "regex", "value": "(yes|no)"})
    sampled = GenerationParams(max_new_tokens=8, temperature=0.9, top_p=0.95, seed=4, stop=("q", "x", "z", "k", "j"))
    requests = [TeacherRequest.chat(TURNS, params) for params in (greedy, bound, sampled)]
    requests += [TeacherRequest.generate("How many birds?", params) for params in (greedy, bound, sampled)]
    return [(reply.text, reply.finish_reason) for reply in [await teacher.ask(request) for request in requests]]


async def confidence(teacher):
    info = await teacher.info()
    prompts = (TURNS, "How many birds?")
    return [await label_distribution(teacher.ask, info, prompt, list("uvwxyz")) for prompt in prompts]


def test_texts_and_confidence_are_those_of_the_model_itself(folder, url):
    wanted = run(LocalTeacher(folder, device="cpu"), answers)
    exact = run(LocalTeacher(folder, device="cpu"), confidence)
    for client in CLIENTS:
        teacher = load_teacher(url, token=KEY, client=client)
        assert run(teacher, answers) == wanted
        for got, of_model in zip(run(teacher, confidence), exact, strict=True):
            assert got.method == "grammar"
            assert got.probabilities == pytest.approx(of_model.probabilities, abs=1e-4)


def test_an_openai_compatible_door_to_the_same_server(folder, url):
    async def greedy(teacher):
        params = GenerationParams(max_new_tokens=8, top_logprobs=3)
        requests = (TeacherRequest.chat(TURNS, params), TeacherRequest.generate("How many birds?", params))
        return [await teacher.ask(request) for request in requests]

    local = run(LocalTeacher(folder, device="cpu"), greedy)
    served = run(load_teacher("openai+" + url, token=KEY), greedy)
    assert [reply.text for reply in served] == [reply.text for reply in local]
    assert [reply.usage for reply in served] == [reply.usage for reply in local]
    for ours, theirs in zip(local[0].top_tokens, served[0].top_tokens, strict=True):
        assert [token.logprob for token in ours] == pytest.approx([token.logprob for token in theirs], abs=1e-4)
    assert served[1].top_tokens is None, "TGI's completions never carry log-probabilities"


@pytest.mark.parametrize("client", CLIENTS)
def test_limits_and_refusals_of_a_real_server(folder, url, client):
    async def refused(teacher):
        with pytest.raises(TeacherRequestError, match="HTTP 422.*max_new_tokens"):
            await teacher.ask(TeacherRequest.generate("a", GenerationParams(max_new_tokens=5000)))
        info = await teacher.info()
        counted = await teacher.count_tokens(TeacherRequest.generate("How many birds?", GenerationParams()))
        capped = await teacher.ask(TeacherRequest.generate("a", GenerationParams(max_new_tokens=1, top_logprobs=50)))
        return info, counted, len(capped.top_tokens[0]), await teacher.info()

    info, counted, top, after = run(load_teacher("tgi+" + url, token=KEY, client=client), refused)
    assert "\n" not in describe(info) and info.max_total_tokens == 512
    assert counted == len(tiny_tokenizer().encode("How many birds?"))
    assert top >= 5 and after.max_top_tokens == 5
    with pytest.raises(TeacherAuthError, match="HTTP 401") as caught:
        run(load_teacher("tgi+" + url, token="hf_anotherwrongkey", client=client), answers)
    assert "hf_anotherwrongkey" not in str(caught.value)
