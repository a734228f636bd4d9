"""What TGI refuses, with its status, its kind of body and its words."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_helpers import WordBackend, call, events, post, serve


@pytest.fixture(scope="module")
def backend():
    return WordBackend()


@pytest.fixture(scope="module")
def url(backend):
    with serve(backend) as address:
        yield address


# (parameters, the router's message)
INVALID = [
    ({"temperature": 0}, "`temperature` must be strictly positive"),
    ({"temperature": -1.5}, "`temperature` must be strictly positive"),
    ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"top_p": 0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"typical_p": 1.0}, "`typical_p` must be > 0.0 and < 1.0"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
    ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"top_n_tokens": 9}, "`top_n_tokens` must be >= 0 and <= 5. Given: 9"),
    ({"best_of": 3, "do_sample": True}, "`best_of` must be > 0 and <= 2. Given: 3"),
    ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
    ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must not be set when `best_of` > 1"),
    ({"truncate": 0}, "`truncate` must be strictly positive and less than 63. Given: 0"),
    (
        {"max_new_tokens": 63},
        "`inputs` tokens + `max_new_tokens` must be <= 64. Given: 2 `inputs` tokens and 63 `max_new_tokens`",
    ),
    (
        {"grammar": {"type": "json", "value": {"type": "object"}}},
        "grammar is not valid: Grammar must have a 'properties' field",
    ),
    ({"grammar": {"type": "json", "value": [1]}}, "grammar is not supported"),
    ({"watermark": True}, "`watermark` is not supported by this server: leave it out"),
]


@pytest.mark.parametrize(("parameters", "message"), INVALID)
def test_values_out_of_range_are_json_422(url, parameters, message):
    expected = {"error": f"Input validation error: {message}", "error_type": "validation"}
    assert post(f"{url}/generate", {"inputs": "What is", "parameters": parameters}) == (422, expected)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"best_of": 2, "do_sample": True}, "`best_of` != 1 is not supported when streaming tokens"),
        ({"decoder_input_details": True}, "`decoder_input_details` == true is not supported when streaming tokens"),
        ({"temperature": 0}, "`temperature` must be strictly positive"),
    ],
)
def test_on_a_stream_the_error_is_an_event_under_200(url, parameters, message):
    expected = {"error": f"Input validation error: {message}", "error_type": "validation"}
    assert events(f"{url}/generate_stream", {"inputs": "What is", "parameters": parameters}) == [expected]


def test_empty_inputs(url):
    expected = {"error": "Input validation error: `inputs` cannot be empty", "error_type": "validation"}
    assert post(f"{url}/generate", {"inputs": ""}) == (422, expected)


def test_too_long_inputs(url):
    _, body = post(f"{url}/generate", {"inputs": "a " * 64, "parameters": {}})
    assert body["error"].startswith("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 64")
    _, body = post(f"{url}/generate", {"inputs": "a " * 63, "parameters": {}})
    assert body["error"] == "Input validation error: `inputs` must have less than 63 tokens. Given: 64"


@pytest.mark.parametrize(
    "change", [{"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.9}, {"typical_p": 0.9}, {"do_sample": True}]
)
def test_a_warper_or_do_sample_means_sampling(url, backend, change):
    post(f"{url}/generate", {"inputs": "What is", "parameters": change})
    params = backend.asked[-1][1]
    assert params.temperature == change.get("temperature", 1.0) and params.seed is not None


@pytest.mark.parametrize(("body", "sampled"), [({}, True), ({"parameters": {}}, False)])
def test_parameters_left_out_altogether_mean_sampling(url, backend, body, sampled):
    post(f"{url}/generate", {"inputs": "What is", **body})
    assert (backend.asked[-1][1].temperature > 0) is sampled


@pytest.mark.parametrize(("temperature", "sampled"), [(0, False), (None, True), (0.7, True)])
def test_chat_samples_unless_temperature_is_0(url, backend, temperature, sampled):
    body = {"messages": [{"role": "user", "content": "hi"}]}
    post(f"{url}/v1/chat/completions", body if temperature is None else {**body, "temperature": temperature})
    assert (backend.asked[-1][1].temperature > 0) is sampled


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_cap(url, backend, name):
    post(f"{url}/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], name: 7})
    assert backend.asked[-1][1].max_new_tokens == 7


def test_presence_penalty_becomes_a_repetition_penalty(url, backend):
    body = {"messages": [{"role": "user", "content": "hi"}], "presence_penalty": 0.5, "temperature": 0}
    post(f"{url}/v1/chat/completions", body)
    assert backend.asked[-1][1].repetition_penalty == 2.5


@pytest.mark.parametrize("key", ["value", "json_schema"])
def test_response_format_reaches_the_backend(url, backend, key):
    schema = {"properties": {"answer": {"type": "string"}}}
    grammar = {"type": "json_schema", key: {"name": "reply", "schema": schema}}
    post(f"{url}/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "response_format": grammar})
    assert backend.asked[-1][1].grammar == {"type": "json", "value": {"type": "object", **schema}}


@pytest.mark.parametrize(
    ("raw", "content_type", "status", "text"),
    [
        (b"{", "application/json", 400, "Failed to parse the request body as JSON"),
        (b"\xff\xfe", "application/json", 400, "Failed to parse the request body as JSON"),
        (b'{"inputs": NaN}', "application/json", 400, "Failed to parse the request body as JSON"),
        (b'{"inputs": "\\ud800"}', "application/json", 400, "Failed to parse the request body as JSON"),
        (b"[" * 100_000, "application/json", 400, "Failed to parse the request body as JSON"),
        (b'{"inputs": "a"}', "text/plain", 415, "Expected request with `Content-Type: application/json`"),
        (b"[]", "application/json", 422, "Failed to deserialize the JSON body into the target type"),
        (b"{}", "application/json", 422, "missing field `inputs`"),
        (b'{"inputs": 3}', "application/json", 422, "inputs: invalid type: integer `3`, expected a string"),
        (
            b'{"inputs": "a", "parameters": {"temperature": "hot"}}',
            "application/json",
            422,
            'parameters.temperature: invalid type: string "hot", expected f32',
        ),
        (
            b'{"inputs": "a", "parameters": {"max_new_tokens": -1}}',
            "application/json",
            422,
            "parameters.max_new_tokens: invalid value: integer `-1`, expected u32",
        ),
        (b'{"inputs": "a", "parameters": {"do_sample": null}}', "application/json", 422, "expected a boolean"),
        (b'{"inputs": "a", "parameters": {"stop": "x"}}', "application/json", 422, "expected a sequence"),
        (b'{"inputs": "a", "parameters": {"grammar": {"type": "cfg"}}}', "application/json", 422, "unknown variant"),
        (b" " * 2_000_001, "application/json", 413, "length limit exceeded"),
    ],
)
def test_bodies_of_another_kind_are_plain_text(url, raw, content_type, status, text):
    answer, headers, body = call(f"{url}/generate", raw=raw, headers={"Content-Type": content_type})
    assert answer == status and headers["content-type"].startswith("text/plain") and text in body.decode()


def test_the_limit_itself_is_taken(url):
    body = b'{"inputs": "hi"}'
    assert call(f"{url}/generate", raw=body + b" " * (2_000_000 - len(body)))[0] == 200


def test_generation_errors_are_424(url):
    expected = {"error": "Request failed during generation: the GPU is on fire", "error_type": "generation"}
    assert post(f"{url}/generate", {"inputs": "fail"}) == (424, expected)
    assert events(f"{url}/generate_stream", {"inputs": "fail"}) == [expected]
    status, body = post(f"{url}/generate", {"inputs": "crash"})
    assert status == 424 and "division by zero" in body["error"]


def test_a_template_that_refuses_is_422(url):
    body = {"messages": [{"role": "system", "content": "x"}]}
    expected = {"error": "Template error: System role not supported", "error_type": "template_error"}
    assert post(f"{url}/v1/chat/completions", body) == (422, expected)


def test_tools_and_images_are_refused(url):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    status, body = post(f"{url}/v1/chat/completions", {"messages": [], "tools": tools})
    assert (status, body["error_type"]) == (422, "tool_error")
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    status, body = post(f"{url}/v1/chat/completions", {"messages": [{"role": "user", "content": image}]})
    assert (status, body["error"]) == (422, "Input validation error: image_url modality is not supported")


def test_completions_refuse_suffix_and_large_batches(url):
    status, body = post(f"{url}/v1/completions", {"prompt": "a", "suffix": "b"})
    assert (status, body["error_type"]) == (422, "suffix not supported")
    status, body = post(f"{url}/v1/completions", {"prompt": ["a"] * 5})
    assert (status, body["error_type"]) == (422, "batch size exceeded")


def test_unknown_paths_and_methods(url):
    assert call(f"{url}/v2/nothing")[::2] == (404, b"")
    assert call(f"{url}/generate", method="GET")[::2] == (405, b"")


_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=8)
)
_JSON = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
_NAMES = st.sampled_from(
    [
        *("inputs", "parameters", "stream", "messages", "role", "content", "type", "text", "prompt", "grammar"),
        *("value", "temperature", "top_p", "top_k", "stop", "seed", "best_of", "max_new_tokens", "top_n_tokens"),
        *("response_format", "logprobs", "top_logprobs", "tools", "stream_options", "truncate", "details"),
    ]
)
_BODIES = st.recursive(
    _JSON, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=5), max_leaves=20
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(
        ["/", "/generate", "/generate_stream", "/v1/chat/completions", "/v1/completions", "/tokenize"]
    ),
    body=st.dictionaries(_NAMES, _BODIES, max_size=6) | _BODIES,
)
def test_no_body_makes_the_server_fail(url, path, body):
    try:
        raw = json.dumps(body, allow_nan=False).encode()
    except ValueError:  # infinity is not JSON
        raw = json.dumps(body).encode()
    status, headers, answer = call(url + path, raw=raw)
    assert status in (200, 400, 422)
    if status == 422 and headers["content-type"] == "application/json":
        assert set(json.loads(answer)) == {"error", "error_type"}
