"""The `openai` client against the development server over a real socket."""

import json

import openai
import pytest
import torch
from serving_helpers import WordBackend, serve


MESSAGES = [{"role": "user", "content": "How many birds?"}]


@pytest.fixture
def client(url):
    with connect(url) as made:
        yield made


def connect(url, key="none"):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)


def test_chat_equals_the_model_itself(client, model, tokenizer):
    answer = client.chat.completions.create(
        model="tgi", messages=MESSAGES, max_tokens=4, temperature=0, logprobs=True, top_logprobs=2
    )
    prompt = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    ids = tokenizer.encode(prompt)
    with torch.no_grad():
        expected = torch.log_softmax(model(torch.tensor([ids])).logits[0, -1].float(), -1)
    choice = answer.choices[0]
    first = choice.logprobs.content[0]
    assert first.logprob == pytest.approx(float(expected.max()), abs=1e-4)
    assert [top.logprob for top in first.top_logprobs] == pytest.approx(expected.topk(2).values.tolist(), abs=1e-4)
    assert answer.usage.prompt_tokens == len(ids)
    assert answer.usage.completion_tokens == len(choice.logprobs.content) and choice.finish_reason in (
        "length",
        "stop",
    )


def test_a_streamed_chat_adds_up_to_the_whole_one(client):
    options = {"model": "tgi", "messages": MESSAGES, "max_tokens": 6, "temperature": 0}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks[:-1]).strip() == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_plain_completions_and_their_stream(client):
    options = {"model": "tgi", "prompt": "There are 12 birds", "max_tokens": 6, "temperature": 0}
    whole = client.completions.create(**options)
    chunks = list(client.completions.create(**options, stream=True))
    streamed = "".join(chunk.choices[0].text for chunk in chunks)
    # A character that the cap cut in the middle is never streamed.
    assert streamed and streamed == whole.choices[0].text.rstrip("\ufffd")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


def test_a_reply_bound_to_a_schema(client):
    schema = {"type": "object", "properties": {"wrong": {"type": "boolean"}}, "required": ["wrong"]}
    wanted = {"name": "verdict", "schema": {**schema, "additionalProperties": False}}
    answer = client.chat.completions.create(
        model="tgi",
        messages=MESSAGES,
        max_tokens=60,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": wanted},
    )
    assert isinstance(json.loads(answer.choices[0].message.content)["wrong"], bool)


def test_the_model_list(client):
    assert [card.id for card in client.models.list()] == ["tiny"]


def test_errors_are_the_clients_own():
    with serve(WordBackend(), api_key="right") as url:
        with connect(url, "wrong") as client, pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="tgi", messages=MESSAGES)
        with connect(url, "right") as client:
            with pytest.raises(openai.UnprocessableEntityError) as refused:
                client.chat.completions.create(model="tgi", messages=MESSAGES, logprobs=True, top_logprobs=9)
            with pytest.raises(openai.APIStatusError) as failed:
                client.chat.completions.create(model="tgi", messages=[{"role": "user", "content": "fail"}])
    with serve(WordBackend(), max_concurrent_requests=0) as url, connect(url) as client:
        with pytest.raises(openai.RateLimitError) as overloaded:
            client.chat.completions.create(model="tgi", messages=MESSAGES)
    answers = [error.value.response for error in (refused, failed, overloaded)]
    assert [answer.json()["error_type"] for answer in answers] == ["validation", "generation", "overloaded"]
    assert "Given: 9" in answers[0].text and "on fire" in answers[1].text and answers[1].status_code == 424
