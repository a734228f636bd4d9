"""Real clients over a real socket: the hub client on both tracks, TGI's own client where it is installed."""

import asyncio
import importlib.metadata
import json

import huggingface_hub
import pytest
import torch
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import GenerationError, OverloadedError, ValidationError
from serving_helpers import WordBackend, call, serve


HAS_TGI_CLIENT = any(found.name == "text-generation" for found in importlib.metadata.distributions())
CLIENTS = ["hub", "text_generation"] if HAS_TGI_CLIENT else ["hub"]
MESSAGES = [{"role": "user", "content": "How many birds?"}]


@pytest.fixture(autouse=True)
def loopback_allowed(monkeypatch):
    """Offline mode is about the Hub, but its client refuses this machine's own servers as well."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture(scope="module")
def words_url():
    with serve(WordBackend()) as address:
        yield address


def hub(url, work):
    async def run():
        client = AsyncInferenceClient(base_url=url, timeout=30)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


def generate(kind, url, prompt, **options):
    """The same request through one of the clients, with details."""
    if kind == "hub":
        stop = options.pop("stop_sequences", None)
        return hub(url, lambda client: client.text_generation(prompt, details=True, stop=stop, **options))
    from text_generation import AsyncClient

    return asyncio.run(AsyncClient(url, timeout=30).generate(prompt, **options))


def direct(model, tokenizer, prompt, generated):
    ids = tokenizer.encode(prompt)
    with torch.no_grad():
        logits = model(torch.tensor([ids + generated])).logits[0].float()
    return ids, torch.log_softmax(logits, -1)


@pytest.mark.parametrize("kind", CLIENTS)
def test_details_equal_the_model_itself(kind, url, model, tokenizer):
    options = {"max_new_tokens": 6, "decoder_input_details": True, "top_n_tokens": 3}
    details = generate(kind, url, "There are 12 birds", **options).details
    written = [token.id for token in details.tokens]
    ids, logprobs = direct(model, tokenizer, "There are 12 birds", written)
    assert [token.id for token in details.prefill] == ids and details.prefill[0].logprob is None
    expected = [float(logprobs[i, token]) for i, token in enumerate(ids[1:])]
    assert [token.logprob for token in details.prefill[1:]] == pytest.approx(expected, abs=1e-4)
    places = range(len(ids) - 1, len(ids) - 1 + len(written))
    assert written == [int(logprobs[place].argmax()) for place in places]
    expected = [float(logprobs[place, token]) for place, token in zip(places, written, strict=True)]
    assert [token.logprob for token in details.tokens] == pytest.approx(expected, abs=1e-4)
    for place, row in zip(places, details.top_tokens, strict=True):
        top = [dict(token) if isinstance(token, dict) else vars(token) for token in row]
        assert [token["id"] for token in top] == logprobs[place].topk(3).indices.tolist()


@pytest.mark.parametrize("kind", CLIENTS)
def test_label_confidence_in_one_request(kind, url, model, tokenizer):
    if kind == "hub":
        grammar = {"type": "regex", "value": "(A|B|C)"}
    else:
        from text_generation.types import Grammar, GrammarType

        grammar = Grammar(type=GrammarType.Regex, value="(A|B|C)")
    answer = generate(kind, url, "Pick one:", max_new_tokens=1, top_n_tokens=5, grammar=grammar)
    ids, logprobs = direct(model, tokenizer, "Pick one:", [])
    labels = [tokenizer.encode(label)[0] for label in "ABC"]
    expected = dict(zip("ABC", torch.softmax(logprobs[-1][labels], -1).tolist(), strict=True))
    row = [dict(token) if isinstance(token, dict) else vars(token) for token in answer.details.top_tokens[0]]
    found = {token["text"]: torch.tensor(token["logprob"]).exp().item() for token in row}
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", CLIENTS)
def test_errors_are_the_clients_own(kind, words_url):
    if kind == "hub":
        validation, generation, overloaded = ValidationError, GenerationError, OverloadedError
    else:
        from text_generation import errors

        validation, generation = errors.ValidationError, errors.GenerationError
        overloaded = errors.OverloadedError
    with pytest.raises(validation, match="Given: 9"):
        generate(kind, words_url, "What is", top_n_tokens=9)
    with pytest.raises(generation, match="on fire"):
        generate(kind, words_url, "fail")
    with serve(WordBackend(), max_concurrent_requests=0) as full, pytest.raises(overloaded, match="overloaded"):
        generate(kind, full, "What is")


@pytest.mark.parametrize("kind", CLIENTS)
def test_streams_arrive_token_by_token(kind, url):
    whole = generate(kind, url, "There are", max_new_tokens=5)

    async def stream_hub(client):
        events = await client.text_generation("There are", max_new_tokens=5, stream=True, details=True)
        return [event async for event in events]

    async def stream_tgi():
        from text_generation import AsyncClient

        return [event async for event in AsyncClient(url).generate_stream("There are", max_new_tokens=5)]

    events = hub(url, stream_hub) if kind == "hub" else asyncio.run(stream_tgi())
    assert [event.token.id for event in events] == [token.id for token in whole.details.tokens]
    assert events[-1].generated_text == whole.generated_text and events[0].generated_text is None
    assert events[-1].details.generated_tokens == len(events)


def test_stop_sequences_and_best_of_through_the_hub_client(words_url):
    answer = generate("hub", words_url, "What is", best_of=2, do_sample=True)
    assert len(answer.details.best_of_sequences) == 1
    with pytest.raises(ValidationError, match="4 stop sequences. Given: 5"):
        generate("hub", words_url, "What is", stop_sequences=list("abcde"))


@pytest.mark.parametrize("kind", CLIENTS)
def test_chat_equals_the_model_itself(kind, url, model, tokenizer):
    options = {"max_tokens": 4, "temperature": 0.0, "logprobs": True, "top_logprobs": 2}
    if kind == "hub":
        answer = json.loads(json.dumps(hub(url, lambda client: client.chat_completion(MESSAGES, **options))))
    else:
        from text_generation import AsyncClient

        # This one sends every field it knows, null where it is not set.
        answer = asyncio.run(AsyncClient(url).chat(MESSAGES, **options)).model_dump()
    prompt = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    _, logprobs = direct(model, tokenizer, prompt, [])
    choice = answer["choices"][0]
    content = choice["logprobs"]["content"]
    assert choice["message"]["role"] == "assistant" and answer["usage"]["completion_tokens"] == len(content)
    assert content[0]["logprob"] == pytest.approx(float(logprobs[-1].max()), abs=1e-4)
    top = [one["logprob"] for one in content[0]["top_logprobs"]]
    assert top == pytest.approx(logprobs[-1].topk(2).values.tolist(), abs=1e-4)


def test_chat_stream_through_the_hub_client(url):
    async def both(client):
        whole = await client.chat_completion(MESSAGES, max_tokens=6, temperature=0)
        stream = await client.chat_completion(MESSAGES, max_tokens=6, temperature=0, stream=True)
        return whole, [chunk async for chunk in stream]

    whole, chunks = hub(url, both)
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-1])


def test_response_format_through_the_hub_client(url):
    schema = {"type": "object", "properties": {"wrong": {"type": "boolean"}}, "required": ["wrong"]}
    schema["additionalProperties"] = False
    response_format = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}

    async def ask(client):
        return await client.chat_completion(MESSAGES, max_tokens=60, temperature=0, response_format=response_format)

    assert isinstance(json.loads(hub(url, ask).choices[0].message.content)["wrong"], bool)


@pytest.mark.parametrize("kind", CLIENTS)
def test_many_at_once_answer_as_one_by_one(kind, url):
    prompts = [f"There are {i} birds" + " and more" * (i % 3) for i in range(12)]
    alone = [generate("hub", url, prompt, max_new_tokens=4 + i).generated_text for i, prompt in enumerate(prompts)]

    async def together_hub(client):
        tasks = [client.text_generation(prompt, max_new_tokens=4 + i) for i, prompt in enumerate(prompts)]
        return await asyncio.gather(*tasks)

    async def together_tgi():
        from text_generation import AsyncClient

        client = AsyncClient(url)
        tasks = [client.generate(prompt, max_new_tokens=4 + i) for i, prompt in enumerate(prompts)]
        return [answer.generated_text for answer in await asyncio.gather(*tasks)]

    assert (hub(url, together_hub) if kind == "hub" else asyncio.run(together_tgi())) == alone


def test_the_server_is_recognised_by_its_info(url):
    info = json.loads(call(f"{url}/info")[2])
    assert info["model_id"] == "tiny" and info["max_total_tokens"] == 512
