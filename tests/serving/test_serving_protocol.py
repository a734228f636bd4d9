"""
Bodies of TGI's protocol. What is expected here was written down from TGI's published API, field by field, and not
taken from the server's own answers.
"""

import http.client
import json
import threading
import time

import pytest
from serving_helpers import WordBackend, call, events, post, serve

from hf_active_distill.serving.scripted import scripted_backend


TOKENS = [
    {"id": 0, "text": "Deep", "logprob": -0.5, "special": False},
    {"id": 1, "text": " Learning", "logprob": -1.0, "special": False},
    {"id": 2, "text": " is", "logprob": -1.5, "special": False},
]
PREFILL = [{"id": 0, "text": "What", "logprob": None}, {"id": 1, "text": "is", "logprob": -1.0}]
FINGERPRINT_KEYS = {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
QUESTION = [{"role": "user", "content": "What is"}]


@pytest.fixture(scope="module")
def url():
    with serve(WordBackend()) as address:
        yield address


@pytest.fixture(scope="module")
def stopped_url():
    with serve(WordBackend(stop="stop_sequence")) as address:
        yield address


@pytest.fixture(scope="module")
def ended_url():
    with serve(WordBackend(stop="eos_token")) as address:
        yield address


def test_generate_without_details_is_the_text_alone(url):
    assert post(f"{url}/generate", {"inputs": "What is"}) == (200, {"generated_text": "Deep Learning is"})


def test_generate_with_details(url):
    parameters = {"details": True, "max_new_tokens": 3}
    details = {"finish_reason": "length", "generated_tokens": 3, "seed": None, "prefill": [], "tokens": TOKENS}
    expected = {"generated_text": "Deep Learning is", "details": details}
    assert post(f"{url}/generate", {"inputs": "What is", "parameters": parameters}) == (200, expected)


def test_decoder_input_details_alone_bring_details_and_prefill(url):
    status, body = post(f"{url}/generate", {"inputs": "What is", "parameters": {"decoder_input_details": True}})
    assert status == 200 and body["details"]["prefill"] == PREFILL


def test_top_tokens_stand_beside_tokens(url):
    parameters = {"details": True, "top_n_tokens": 5}
    _, body = post(f"{url}/generate", {"inputs": "What is", "parameters": parameters})
    assert body["details"]["top_tokens"] == [[token] for token in TOKENS]


def test_full_text_puts_the_prompt_before(url):
    _, body = post(f"{url}/generate", {"inputs": "What is ", "parameters": {"return_full_text": True}})
    assert body["generated_text"] == "What is Deep Learning is"


def test_best_of_gives_the_other_sequences(url):
    parameters = {"best_of": 2, "do_sample": True, "details": True}
    _, body = post(f"{url}/generate", {"inputs": "What is", "parameters": parameters})
    (other,) = body["details"]["best_of_sequences"]
    assert other["generated_text"] == "Deep Learning is" and other["tokens"] == TOKENS
    assert set(other) == {"generated_text", "finish_reason", "generated_tokens", "seed", "prefill", "tokens"}
    assert body["details"]["seed"] != other["seed"]


def test_root_answers_a_list_of_one(url):
    assert post(url + "/", {"inputs": "What is"}) == (200, [{"generated_text": "Deep Learning is"}])


def test_usage_stands_in_the_headers(url):
    _, headers, _ = call(f"{url}/generate", {"inputs": "What is"})
    assert (headers["x-prompt-tokens"], headers["x-generated-tokens"]) == ("2", "3")


@pytest.mark.parametrize("path", ["/generate_stream", "/"])
def test_stream_carries_details_on_its_last_token(url, path):
    body = {"inputs": "What is", "parameters": {"details": True, "top_n_tokens": 1}, "stream": True}
    details = {"finish_reason": "length", "generated_tokens": 3, "seed": None, "input_length": 2}
    expected = [
        {"index": i + 1, "token": token, "top_tokens": [token], "generated_text": None, "details": None}
        for i, token in enumerate(TOKENS)
    ]
    expected[-1] |= {"generated_text": "Deep Learning is", "details": details}
    assert events(url + path, body) == expected


def test_chat(url):
    before = int(time.time())
    status, body = post(f"{url}/v1/chat/completions", {"messages": QUESTION, "model": "tgi"})
    assert status == 200 and set(body) == FINGERPRINT_KEYS
    assert (body["object"], body["model"]) == ("chat.completion", "words") and body["created"] >= before
    message = {"role": "assistant", "content": "Deep Learning is"}
    assert body["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}]
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def test_chat_logprobs_have_no_ids(url):
    request = {"messages": QUESTION, "logprobs": True, "top_logprobs": 2}
    _, body = post(f"{url}/v1/chat/completions", request)
    assert body["choices"][0]["logprobs"]["content"] == [
        {
            "token": token["text"],
            "logprob": token["logprob"],
            "top_logprobs": [{"token": token["text"], "logprob": token["logprob"]}],
        }
        for token in TOKENS
    ]


def test_chat_stream_ends_with_done(url):
    *chunks, done = events(f"{url}/v1/chat/completions", {"messages": QUESTION, "stream": True})
    assert done == "[DONE]" and {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert [chunk["choices"][0] for chunk in chunks] == [
        {"index": 0, "delta": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": reason}
        for text, reason in [("Deep", None), (" Learning", None), (" is", "length")]
    ]


def test_chat_stream_tells_usage_where_asked(url):
    request = {"messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}}
    *_, last, done = events(f"{url}/v1/chat/completions", request)
    assert done == "[DONE]" and last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def test_content_may_come_in_parts(url):
    parts = [{"type": "text", "text": "What "}, {"type": "text", "text": "is"}]
    _, body = post(f"{url}/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]})
    assert body["usage"]["prompt_tokens"] == 2


def test_completions_take_several_prompts_and_never_return_logprobs(url):
    status, body = post(f"{url}/v1/completions", {"prompt": ["What is", "a b c"], "logprobs": 3, "max_tokens": 9})
    assert status == 200 and body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": i, "text": "Deep Learning is", "logprobs": None, "finish_reason": "length"} for i in range(2)
    ]
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}


def test_completion_stream(url):
    *chunks, done = events(f"{url}/v1/completions", {"prompt": "What is", "stream": True, "max_tokens": 9})
    assert done == "[DONE]"
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["Deep", " Learning", " is"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length" and chunks[-1]["usage"]["total_tokens"] == 5


def test_finish_reasons_by_route(stopped_url, ended_url):
    for address, generate, chat in ((stopped_url, "stop_sequence", "stop_sequence"), (ended_url, "eos_token", "stop")):
        _, body = post(f"{address}/generate", {"inputs": "What is", "parameters": {"details": True}})
        assert body["details"]["finish_reason"] == generate
        _, body = post(f"{address}/v1/chat/completions", {"messages": QUESTION})
        assert body["choices"][0]["finish_reason"] == chat


def test_info_models_and_health_need_no_token():
    with serve(WordBackend(), api_key="sesame", max_concurrent_requests=7) as address:
        status, _, body = call(f"{address}/info")
        info = json.loads(body)
        assert status == 200
        assert (info["model_id"], info["max_input_tokens"], info["max_total_tokens"]) == ("words", 63, 64)
        assert (info["max_concurrent_requests"], info["max_best_of"], info["max_stop_sequences"]) == (7, 2, 4)
        assert "max_top_n_tokens" not in info
        _, _, body = call(f"{address}/v1/models")
        model = {"id": "words", "object": "model", "created": 0, "owned_by": "words"}
        assert json.loads(body) == {"object": "list", "data": [model]}
        assert [call(address + path)[::2] for path in ("/health", "/ping")] == [(200, b"")] * 2
        assert call(f"{address}/metrics")[0] == 200


GUARDED = [
    "/",
    "/generate",
    "/generate_stream",
    "/v1/chat/completions",
    "/v1/completions",
    "/invocations",
    "/tokenize",
]


@pytest.mark.parametrize("path", GUARDED)
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer open"}, {"Authorization": "sesame"}])
def test_guarded_routes_refuse_with_an_empty_401(path, header):
    with serve(WordBackend(), api_key="sesame") as address:
        assert call(address + path, {"inputs": "What is"}, headers=header)[::2] == (401, b"")


def test_the_right_token_opens():
    with serve(WordBackend(), api_key="sesame") as address:
        status, _ = post(f"{address}/generate", {"inputs": "What is"}, headers={"Authorization": "Bearer sesame"})
        assert status == 200


def test_tokenize(url):
    tokens = [{"id": 0, "text": "What", "start": 0, "stop": 4}, {"id": 1, "text": "is", "start": 5, "stop": 7}]
    assert post(f"{url}/tokenize", {"inputs": "What is"}) == (200, tokens)


def test_invocations_follow_the_body(url):
    assert post(f"{url}/invocations", {"inputs": "What is"})[1] == [{"generated_text": "Deep Learning is"}]
    assert post(f"{url}/invocations", {"messages": QUESTION})[1]["object"] == "chat.completion"
    assert post(f"{url}/invocations", {"prompt": "What is", "max_tokens": 9})[1]["object"] == "text_completion"
    assert call(f"{url}/invocations", {"text": "What is"})[0] == 422


def test_metrics_count_what_happened():
    with serve(WordBackend()) as address:
        post(f"{address}/generate", {"inputs": "What is"})
        post(f"{address}/generate", {"inputs": "What is", "parameters": {"temperature": 0}})
        lines = call(f"{address}/metrics")[2].decode().splitlines()
    assert "tgi_request_count 2" in lines and "tgi_request_success 1" in lines
    assert 'tgi_request_failure{err="validation"} 1' in lines and "tgi_request_generated_tokens_sum 3" in lines


def test_one_request_too_many_is_refused_at_once():
    backend = WordBackend()
    backend.hold()
    with serve(backend, max_concurrent_requests=2) as address:
        threads = [threading.Thread(target=post, args=(f"{address}/generate", {"inputs": "hi"})) for _ in range(2)]
        for thread in threads:
            thread.start()
        _until(lambda: len(backend.asked) == 2)
        refused = (429, {"error": "Model is overloaded", "error_type": "overloaded"})
        assert post(f"{address}/generate", {"inputs": "hi"}) == refused
        assert post(f"{address}/v1/chat/completions", {"messages": QUESTION}) == refused
        assert events(f"{address}/generate_stream", {"inputs": "hi"}) == [refused[1]]
        backend.free()
        for thread in threads:
            thread.join(10)
        assert post(f"{address}/generate", {"inputs": "hi"})[0] == 200


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_a_client_that_goes_away_stops_its_request(path):
    backend = WordBackend()
    backend.hold()
    with serve(backend) as address:
        connection = http.client.HTTPConnection(address.removeprefix("http://"))
        connection.request("POST", path, json.dumps({"inputs": "hi"}), {"Content-Type": "application/json"})
        _until(lambda: backend.asked)
        connection.sock.close()
        connection.close()
        _until(lambda: backend.cancelled == 1)
        backend.free()
        assert post(f"{address}/generate", {"inputs": "hi"})[0] == 200


def _until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the server did not get there"
        time.sleep(0.005)


def test_without_a_cap_a_scripted_teacher_writes_to_its_end():
    with serve(scripted_backend("arithmetic_skewed")) as address:
        question = "Question: Ann has 3 plus 4. How many has Ann?\n"
        _, written = post(address + "/generate", {"inputs": question})
        _, said = post(address + "/v1/chat/completions", {"messages": [{"role": "user", "content": question}]})
    assert written["generated_text"].endswith("The answer is 7")
    assert said["choices"][0]["message"]["content"].endswith("The answer is 7")
