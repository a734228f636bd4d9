"""What the OpenAI-compatible door sends, learns from refusals, and makes of the answers of different servers."""

import asyncio
import hashlib
import json

import pytest
from fault_server import Answer, FaultServer, chatted, openai_routes

from hf_active_distill.errors import (
    ConfigurationError,
    TeacherAuthError,
    TeacherConnectionError,
    TeacherRequestError,
)
from hf_active_distill.teachers import (
    GenerationParams,
    HFInferenceTeacher,
    OpenAITeacher,
    TeacherRequest,
    TopToken,
    describe,
)


SCHEMA = {"type": "object", "properties": {"a": {"const": None}}}


def ask(teacher, *requests):
    async def closing():
        try:
            return [await teacher.ask(request) for request in requests]
        finally:
            await teacher.aclose()

    replies = asyncio.run(closing())
    return replies[0] if len(replies) == 1 else replies


def info_of(teacher):
    async def closing():
        try:
            return await teacher.info()
        finally:
            await teacher.aclose()

    return asyncio.run(closing())


def chat(**params):
    return TeacherRequest.chat([{"role": "user", "content": "Why?"}], GenerationParams(**params))


def generate(**params):
    return TeacherRequest.generate("Why?", GenerationParams(**params))


@pytest.fixture
def server():
    with FaultServer(openai_routes()) as running:
        yield running


def test_a_chat_sends_what_was_asked_for_and_nothing_else(server):
    ask(OpenAITeacher(server.url), chat(max_new_tokens=7, top_p=0.5))
    message = {"role": "user", "content": "Why?"}
    sent = server.last("/v1/chat/completions").json
    assert sent.pop("stream", False) is False
    assert sent == {"model": "served/model", "messages": [message], "max_tokens": 7, "temperature": 0.0}


def test_a_sampled_chat(server):
    ask(OpenAITeacher(server.url), chat(temperature=0.7, top_p=0.9, seed=4, stop=("a", "b"), top_logprobs=2))
    sent = server.last("/v1/chat/completions").json
    assert (sent["temperature"], sent["top_p"], sent["seed"], sent["stop"]) == (0.7, 0.9, 4, ["a", "b"])
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)


def test_a_schema_survives_the_client_library(server):
    ask(OpenAITeacher(server.url), chat(grammar={"type": "json", "value": SCHEMA}))
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
    assert server.last("/v1/chat/completions").json["response_format"] == wanted


@pytest.mark.parametrize(
    ("owner", "field"),
    [("vllm", {"structured_outputs": {"regex": "(A|B)"}}), ("sglang", {"regex": "(A|B)"}), ("someone", {})],
)
def test_a_regular_expression_goes_in_the_servers_own_form(owner, field, caplog):
    with FaultServer(openai_routes(owned_by=owner)) as server:
        ask(OpenAITeacher(server.url), chat(grammar={"type": "regex", "value": "(A|B)"}))
        sent = server.last("/v1/chat/completions").json
    assert {key: sent[key] for key in ("structured_outputs", "regex") if key in sent} == field
    assert ("not bound" in caplog.text) is (not field)


def test_a_plain_prompt_goes_to_completions(server):
    choice = {
        "index": 0,
        "text": " yes",
        "finish_reason": "length",
        "logprobs": {"tokens": [" yes"], "token_logprobs": [-0.1], "top_logprobs": [{" yes": -0.1, " no": -9999.0}]},
        "prompt_logprobs": [None, {"17": {"logprob": -1.5, "rank": 2, "decoded_token": "hy"}}],
    }
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    server.routes["/v1/completions"] = Answer({"choices": [choice], "usage": usage})
    reply = ask(OpenAITeacher(server.url), generate(max_new_tokens=1, top_logprobs=2, prefill_logprobs=True))
    sent = server.last("/v1/completions").json
    assert (sent["prompt"], sent["max_tokens"], sent["logprobs"], sent["prompt_logprobs"]) == ("Why?", 1, 2, 0)
    assert (reply.text, reply.finish_reason) == (" yes", "length")
    assert reply.top_tokens == [[TopToken(" yes", -0.1), TopToken(" no", -9999.0)]]
    assert reply.prefill == [TopToken("", None), TopToken("hy", -1.5, 17)]
    assert reply.usage.prompt_tokens == 2


def test_refused_parameters_are_learned_and_left_out(server):
    def strict(seen):
        body = seen.json
        for name, words in (
            ("max_tokens", "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'."),
            ("temperature", "Unsupported value: 'temperature' does not support 0.0 with this model."),
            ("seed", "Unrecognized request argument supplied: 'seed'"),
        ):
            if name in body:
                return Answer({"error": {"message": words, "type": "invalid_request_error"}}, 400)
        return chatted("fine")

    server.routes["/v1/chat/completions"] = strict
    teacher = OpenAITeacher(server.url)
    replies = ask(teacher, chat(seed=1), chat(seed=2))
    assert [reply.text for reply in replies] == ["fine", "fine"]
    assert server.count("/v1/chat/completions") == 5
    assert server.last("/v1/chat/completions").json["max_completion_tokens"] == 512
    assert info_of(teacher).supports_seed is False


def test_a_refusal_about_something_else_is_not_tried_again(server):
    server.routes["/v1/chat/completions"] = Answer({"error": {"message": "maximum context length is 2048"}}, 400)
    with pytest.raises(TeacherRequestError, match="maximum context length is 2048"):
        ask(OpenAITeacher(server.url), chat())
    assert server.count("/v1/chat/completions") == 1


def test_the_cap_on_top_logprobs_is_learned(server):
    def capped(seen):
        wanted = seen.json["top_logprobs"]
        if wanted > 20:
            words = f"Requested sample logprobs of {wanted}, which is greater than max allowed: 20"
            return Answer({"error": {"message": words, "type": "BadRequestError", "code": 400}}, 400)
        return chatted("fine", logprobs={"content": [{"token": "fine", "logprob": 0.0, "top_logprobs": []}]})

    server.routes["/v1/chat/completions"] = capped
    teacher = OpenAITeacher(server.url)
    assert ask(teacher, chat(top_logprobs=40)).top_tokens == [[TopToken("fine", 0.0)]]
    assert info_of(teacher).max_top_tokens == 20


def test_facts_of_known_and_unknown_servers(server):
    info = info_of(OpenAITeacher(server.url))
    assert (info.model, info.door, info.server, info.max_total_tokens) == ("served/model", "openai", "vllm", 2048)
    assert info.supports_named_logprobs and info.max_top_tokens == 20
    assert describe(info) == "served/model through vllm; 2048 tokens a call."
    with FaultServer(openai_routes(owned_by="someone")) as other:
        info = info_of(OpenAITeacher(other.url))
    assert info.supports_logprobs is None and "unknown until asked" in describe(info)


def test_named_tokens_go_to_vllm_by_their_ids(server):
    ids = {"A": [37], " A": [225, 37], "B": [38], " B": [310]}

    def tokenize(seen):
        assert seen.json["add_special_tokens"] is False and seen.json["model"] == "served/model"
        return Answer({"tokens": ids[seen.json["prompt"]]})

    server.routes["/tokenize"] = tokenize
    params = GenerationParams(max_new_tokens=1, top_logprobs=20, logprob_tokens=("A", "B"))
    request = TeacherRequest.chat([{"role": "user", "content": "A or B?"}], params)

    async def twice(teacher):
        await teacher.ask(request)
        await teacher.ask(request)
        await teacher.aclose()

    asyncio.run(twice(OpenAITeacher(server.url)))
    sent = server.last("/v1/chat/completions").json
    assert (sent["logprob_token_ids"], sent["logprobs"], sent["top_logprobs"]) == ([37, 38, 310], True, 20)
    assert server.count("/tokenize") == 4, "each text is asked about once"
    with FaultServer(openai_routes(owned_by="someone")) as other:
        asyncio.run(twice(OpenAITeacher(other.url)))
        assert "logprob_token_ids" not in other.last("/v1/chat/completions").json and other.count("/tokenize") == 0


def test_names_of_tokens_change_no_key_where_there_are_none():
    request = TeacherRequest.chat([{"role": "user", "content": "Why?"}], GenerationParams(max_new_tokens=5))
    # Computed before requests had such a field: what was recorded then is found.
    expected = json.dumps(
        {
            "kind": "chat",
            "messages": [{"content": "Why?", "role": "user"}],
            "params": {
                "extra": [],
                "grammar": None,
                "max_new_tokens": 5,
                "prefill_logprobs": False,
                "seed": None,
                "stop": [],
                "temperature": 0.0,
                "top_logprobs": None,
                "top_p": None,
            },
            "prompt": None,
        }
    )
    assert request.content() == expected
    parts = json.dumps(['m\u00e4"', None, expected, 0, 0], ensure_ascii=False)
    assert request.key('m\u00e4"', None) == hashlib.sha256(parts.encode()).hexdigest()
    named = TeacherRequest.chat([{"role": "user", "content": "Why?"}], GenerationParams(logprob_tokens=("A",)))
    assert '"logprob_tokens": ["A"]' in named.content()


def test_a_model_by_name(server):
    card = {"object": "model", "owned_by": "vllm"}
    server.routes["/v1/models"] = Answer({"data": [{"id": "first", **card}, {"id": "second", **card}]})
    assert info_of(OpenAITeacher(server.url, model="second")).model == "second"
    with pytest.raises(ConfigurationError, match="does not serve 'third'. It serves: first, second"):
        info_of(OpenAITeacher(server.url, model="third"))
    server.routes["/v1/models"] = Answer({"object": "list", "data": []})
    with pytest.raises(ConfigurationError, match="lists no model"):
        info_of(OpenAITeacher(server.url))
    server.routes["/v1/models"] = Answer(status=404)
    assert info_of(OpenAITeacher(server.url, model="third")).model == "third"
    with pytest.raises(ConfigurationError, match="pass `model`"):
        info_of(OpenAITeacher(server.url))


def test_a_refused_token_at_the_list_of_models_is_an_auth_error(server, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    server.routes["/v1/models"] = Answer({"error": "Unauthorized"}, 401)
    with pytest.raises(TeacherAuthError, match="HTTP 401: Unauthorized. No token was sent"):
        ask(OpenAITeacher(server.url), chat())


def test_prompt_tokens_by_vllms_tokenizer(server):
    def tokenize(seen):
        return Answer({"count": len(seen.json.get("messages", "ab")), "max_model_len": 2048, "tokens": [1]})

    server.routes["/tokenize"] = tokenize
    teacher = OpenAITeacher(server.url)

    async def counts():
        return [await teacher.count_tokens(request) for request in (chat(), chat(), generate())]

    assert asyncio.run(counts()) == [1, 1, 2]
    assert server.count("/tokenize") == 2
    with FaultServer(openai_routes(owned_by="someone")) as other:
        assert asyncio.run(OpenAITeacher(other.url).count_tokens(chat())) is None
        assert other.count("/tokenize") == 0


def test_another_variable_for_the_token(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_forthehub")
    monkeypatch.setenv("VENDOR_KEY", "sk-vendor")
    ask(OpenAITeacher(server.url, token_env="VENDOR_KEY"), chat())
    assert {seen.headers["authorization"] for seen in server.requests} == {"Bearer sk-vendor"}


def test_a_full_chat_route_says_where_the_api_is():
    routes = openai_routes()
    renamed = {path.replace("/v1", "/api/v4"): route for path, route in routes.items()}
    with FaultServer(renamed) as server:
        assert ask(OpenAITeacher(server.url + "/api/v4/chat/completions"), chat()).text == "fine"


def test_inference_providers_without_the_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    teacher = HFInferenceTeacher("together/owner/model", token="hf_abcdefghij")
    info = info_of(teacher)
    assert (info.model, info.door) == ("owner/model", "hf-inference")
    with pytest.raises(TeacherConnectionError, match="unset HF_HUB_OFFLINE") as caught:
        ask(teacher, chat())
    assert "hf_abcdefghij" not in str(caught.value) + repr(teacher)
    with pytest.raises(TeacherRequestError, match="dialogues only"):
        ask(teacher, generate())


def test_an_inference_provider_that_does_not_exist(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(TeacherRequestError, match="nobody.*Check provider"):
        ask(HFInferenceTeacher("nobody/owner/model", token="hf_abcdefghij"), chat())


TRANSFORMERS_SERVE = {"info": {"title": "FastAPI"}, "paths": {"/v1/chat/completions": {}, "/load_model": {}}}


@pytest.mark.parametrize(
    ("owner", "page", "answer", "known"),
    [
        ("org", "/openapi.json", TRANSFORMERS_SERVE, {"server": "transformers serve", "supports_logprobs": False}),
        ("me", "/openapi.json", {"info": {"title": "llama.cpp Python API"}}, {"supports_logprobs": True}),
        ("llamacpp", "/props", {"default_generation_settings": {"n_ctx": 512}}, {"max_total_tokens": 512}),
        ("org", "/openapi.json", {"info": {}, "paths": {"/other": {}}}, {"server": "org", "supports_logprobs": None}),
        ("org", "/openapi.json", [1, 2], {"server": "org", "max_total_tokens": 2048}),
        ("org", "/openapi.json", "<html>not here</html>", {"server": "org"}),
    ],
)
def test_what_get_routes_tell_of_a_server_is_found_out_at_no_cost(owner, page, answer, known):
    with FaultServer({**openai_routes(owned_by=owner), page: Answer(answer)}) as server:
        info = info_of(OpenAITeacher(server.url))
    assert {name: getattr(info, name) for name in known} == known
    assert [(seen.method, seen.path) for seen in server.requests] == [("GET", "/v1/models"), ("GET", page)]


def test_a_server_without_such_a_page_is_a_teacher_all_the_same():
    with FaultServer(openai_routes(owned_by="org")) as server:
        info = info_of(OpenAITeacher(server.url))
    assert info.model == "served/model" and "unknown until asked: logprobs, grammar" in describe(info)


def test_transformers_serve_is_described_with_what_it_lacks():
    with FaultServer({**openai_routes(owned_by="org"), "/openapi.json": Answer(TRANSFORMERS_SERVE)}) as server:
        line = describe(info_of(OpenAITeacher(server.url)))
    assert "no logprobs: label confidence will be estimated from samples" in line
    assert "no grammar" in line and "\n" not in line


def test_reasoning_missing_usage_token_and_headers_at_this_door_too(server):
    server.routes["/v1/chat/completions"] = chatted("<think>b</think>\n\nyes", usage=None)
    reply = ask(OpenAITeacher(server.url, token="sk-mine", headers={"x-team": "a"}), chat())
    assert (reply.text, reply.reasoning, reply.usage.estimated) == ("yes", "b", True)
    sent = server.last("/v1/chat/completions").headers
    assert (sent["authorization"], sent["x-team"]) == ("Bearer sk-mine", "a")
