"""What the TGI door sends and how it reads answers, over both client libraries; bodies are TGI's published ones."""

import asyncio
import importlib.util
import json

import pytest
from fault_server import TGI_INFO, Answer, FaultServer, chatted, generated, refused, tgi_routes

from hf_active_distill.errors import ConfigurationError, TeacherAuthError, TeacherRequestError
from hf_active_distill.teachers import GenerationParams, TeacherRequest, TGITeacher, TopToken, describe, load_teacher


CLIENTS = ["direct", "hub"] + ["text_generation"] * (importlib.util.find_spec("text_generation") is not None)
SCHEMA = {"type": "object", "properties": {"a": {"enum": [None, 1]}, "b": {"const": None}}}
ROWS = [{"id": 5, "text": " yes", "logprob": -0.1, "special": False}, {"id": 6, "text": " no", "logprob": -2.5}]


def run(coroutine_of_teacher, teacher):
    async def closing():
        try:
            return await coroutine_of_teacher(teacher)
        finally:
            await teacher.aclose()

    return asyncio.run(closing())


def ask(teacher, request):
    return run(lambda t: t.ask(request), teacher)


def chat(**params):
    return TeacherRequest.chat([{"role": "user", "content": "Why?"}], GenerationParams(**params))


def generate(**params):
    return TeacherRequest.generate("Why?", GenerationParams(**params))


@pytest.fixture
def server():
    with FaultServer(tgi_routes()) as running:
        yield running


@pytest.mark.parametrize("client", CLIENTS)
def test_greedy_generate_says_everything_that_silence_would_change(server, client):
    ask(TGITeacher(server.url, client=client), generate(max_new_tokens=7, top_p=1.0, seed=3))
    sent = server.last("/generate").json
    assert sent["inputs"] == "Why?"
    wanted = {"do_sample": False, "details": True, "decoder_input_details": False, "max_new_tokens": 7}
    harmless = {"return_full_text": False, "stop": [], "watermark": False}
    assert {k: v for k, v in sent["parameters"].items() if (k, v) not in harmless.items()} == wanted


@pytest.mark.parametrize("client", CLIENTS)
def test_sampled_generate(server, client):
    params = {
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 11,
        "top_logprobs": 3,
        "prefill_logprobs": True,
        "stop": ("\n\n",),
    }
    ask(TGITeacher(server.url, client=client), generate(max_new_tokens=7, **params))
    sent = server.last("/generate").json["parameters"]
    assert sent["do_sample"] is True and sent["decoder_input_details"] is True
    values = {key: sent[key] for key in ("temperature", "top_p", "seed", "top_n_tokens", "stop")}
    assert values == {"temperature": 0.7, "top_p": 0.9, "seed": 11, "top_n_tokens": 3, "stop": ["\n\n"]}


@pytest.mark.parametrize("client", CLIENTS)
def test_greedy_chat(server, client):
    ask(TGITeacher(server.url, client=client), chat(max_new_tokens=7, top_p=0.9, seed=3))
    sent = server.last("/v1/chat/completions").json
    assert sent.pop("stream", False) is False
    message = {"role": "user", "content": "Why?"}
    assert sent == {"model": "tgi", "messages": [message], "max_tokens": 7, "temperature": 0.0}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("request_of", [chat, generate])
def test_nothing_is_sent_as_null(server, client, request_of):
    ask(TGITeacher(server.url, client=client), request_of(temperature=1.0, grammar={"type": "regex", "value": "a|b"}))
    sent = server.requests[-1].json
    assert None not in [*sent.values(), *sent.get("parameters", {}).values()]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_grammar_arrives_as_it_was_given(server, client):
    forms = [
        {"type": "json", "value": SCHEMA},
        {"type": "json_schema", "value": {"name": "answer", "schema": SCHEMA}},
        {"type": "json", "value": json.dumps(SCHEMA)},
    ]
    teacher = TGITeacher(server.url, client=client)
    for grammar in forms:
        ask(teacher, generate(grammar=grammar))
        assert server.last("/generate").json["parameters"]["grammar"] == {"type": "json", "value": SCHEMA}
        ask(teacher, chat(grammar=grammar))
        assert server.last("/v1/chat/completions").json["response_format"] == {"type": "json", "value": SCHEMA}
    ask(teacher, chat(grammar={"type": "regex", "value": "(A|B)"}))
    assert server.last("/v1/chat/completions").json["response_format"] == {"type": "regex", "value": "(A|B)"}
    ask(teacher, chat(grammar={"type": "json", "value": {"type": "object"}}))
    assert server.last("/v1/chat/completions").json["response_format"]["value"]["properties"] == {}


def test_a_grammar_that_is_none_is_refused_before_sending(server):
    with pytest.raises(TeacherRequestError, match="'regex'"):
        ask(TGITeacher(server.url), generate(grammar={"type": "lark", "value": "x"}))
    assert server.requests == []


@pytest.mark.parametrize("client", CLIENTS)
def test_further_parameters_reach_the_server(server, client):
    teacher = TGITeacher(server.url, client=client)
    ask(teacher, generate(extra=(("adapter_id", "x"), ("brand_new", 1), ("repetition_penalty", 1.2))))
    sent = server.last("/generate").json["parameters"]
    assert (sent["adapter_id"], sent["brand_new"], sent["repetition_penalty"]) == ("x", 1, 1.2)
    ask(teacher, chat(extra=(("brand_new", [1]),)))
    assert server.last("/v1/chat/completions").json["brand_new"] == [1]


@pytest.mark.parametrize("client", CLIENTS)
def test_more_stop_strings_than_the_server_takes_are_cut_at_here(server, client):
    stops = ("A", "B", "C", "D", "E")
    server.routes["/generate"] = generated("one E two", finish="length")
    server.routes["/v1/chat/completions"] = chatted("one A two")
    teacher = TGITeacher(server.url, client=client)
    reply = ask(teacher, generate(stop=stops))
    assert (reply.text, reply.finish_reason) == ("one ", "stop")
    assert server.last("/generate").json["parameters"]["stop"] == ["A", "B", "C", "D"]
    assert ask(teacher, chat(stop=stops)).text == "one "
    assert server.last("/v1/chat/completions").json["stop"] == ["A", "B", "C", "D"]


@pytest.mark.parametrize("client", CLIENTS)
def test_generate_reply(server, client):
    prefill = [{"id": 1, "text": "<s>", "logprob": None}, {"id": 2, "text": "Why", "logprob": -3.5}]
    server.routes["/generate"] = generated(" yes", finish="length", prefill=prefill, top_tokens=[ROWS])
    reply = ask(TGITeacher(server.url, client=client), generate(top_logprobs=2, prefill_logprobs=True))
    assert (reply.text, reply.finish_reason) == (" yes", "length")
    assert reply.prefill == [TopToken("<s>", None, 1), TopToken("Why", -3.5, 2)]
    assert reply.top_tokens == [[TopToken(" yes", -0.1, 5), TopToken(" no", -2.5, 6)]]
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimated) == (2, 3, False)


@pytest.mark.parametrize("client", CLIENTS)
def test_the_root_routes_list_is_read_too(server, client):
    server.routes["/generate"] = Answer([generated("fine").body])
    assert ask(TGITeacher(server.url, client=client), generate()).text == "fine"


@pytest.mark.parametrize("client", CLIENTS)
def test_generate_without_prefill_is_estimated_until_the_tokenizer_was_asked(server, client):
    teacher = TGITeacher(server.url, client=client)
    request = TeacherRequest.generate("four words in here", GenerationParams())

    async def before_and_after(teacher):
        before = await teacher.ask(request)
        assert await teacher.count_tokens(request) == 4
        return before.usage, (await teacher.ask(request)).usage

    before, after = run(before_and_after, teacher)
    assert before.estimated and (before.prompt_tokens, before.completion_tokens) == (0, 3)
    assert after.estimated and (after.prompt_tokens, after.completion_tokens) == (4, 3)


@pytest.mark.parametrize("client", CLIENTS)
def test_chat_reply(server, client):
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "total_tokens": 29,
        "completion_tokens_details": {"reasoning_tokens": 6},
        "prompt_tokens_details": {"cached_tokens": 16},
    }
    logprobs = {"content": [{"token": "yes", "logprob": -0.1, "top_logprobs": [{"token": "yes", "logprob": -0.1}]}]}
    server.routes["/v1/chat/completions"] = chatted(
        "yes", finish="length", usage=usage, logprobs=logprobs, reasoning_content="Let me see."
    )
    reply = ask(TGITeacher(server.url, client=client), chat(top_logprobs=1))
    assert server.last("/v1/chat/completions").json["logprobs"] is True
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("yes", "Let me see.", "length")
    assert reply.top_tokens == [[TopToken("yes", -0.1)]]
    counts = (reply.usage.prompt_tokens, reply.usage.completion_tokens)
    assert counts == (20, 9) and not reply.usage.estimated
    assert (reply.usage.reasoning_tokens, reply.usage.cached_prompt_tokens) == (6, 16)


@pytest.mark.parametrize(
    ("told", "completion", "reasoning"),
    [
        ({"completion_tokens_details": {"reasoning_tokens": 500}}, 509, 500),
        ({"completion_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 34}, 14, 5),
        ({"total_tokens": 534}, 514, 0),
        ({"total_tokens": 3}, 9, 0),
    ],
)
def test_hidden_reasoning_that_a_server_leaves_out_is_counted(server, told, completion, reasoning):
    usage = {"prompt_tokens": 20, "completion_tokens": 9, **told}
    server.routes["/v1/chat/completions"] = chatted("yes", usage=usage)
    got = ask(TGITeacher(server.url), chat()).usage
    assert (got.prompt_tokens, got.completion_tokens, got.reasoning_tokens) == (20, completion, reasoning)


@pytest.mark.parametrize("count", [-3, 2**70, True, 3.5])
def test_figures_that_no_count_can_be_are_left_out(server, count):
    server.routes["/v1/chat/completions"] = chatted("yes", usage={"prompt_tokens": 20, "completion_tokens": count})
    server.routes["/generate"] = generated("yes", generated_tokens=count)
    assert ask(TGITeacher(server.url), chat()).usage.estimated
    usage = ask(TGITeacher(server.url), generate()).usage
    assert usage.estimated and usage.completion_tokens == 0


@pytest.mark.parametrize("client", CLIENTS)
def test_usage_that_is_missing_is_estimated(server, client):
    server.routes["/v1/chat/completions"] = chatted("yes", usage=None)
    assert ask(TGITeacher(server.url, client=client), chat()).usage.estimated


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_fields_and_tags_join(server, client, field):
    server.routes["/v1/chat/completions"] = chatted("<think>b</think>\n\nyes", **{field: "a"})
    reply = ask(TGITeacher(server.url, client=client), chat())
    assert (reply.text, reply.reasoning) == ("yes", "a\nb")


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("request_of", "path"), [(generate, "/generate"), (chat, "/v1/chat/completions")])
def test_the_cap_on_top_tokens_is_learned_from_the_refusal(server, client, request_of, path):
    def capped(seen):
        body = seen.json
        wanted = body.get("parameters", body).get("top_n_tokens", body.get("top_logprobs"))
        if wanted > 5:
            words = f"Input validation error: `top_n_tokens` must be >= 0 and <= 5. Given: {wanted}"
            return refused(422, words, "validation")
        return generated("x", top_tokens=[ROWS]) if path == "/generate" else chatted("x")

    server.routes[path] = capped

    async def twice(teacher):
        await teacher.info()
        await teacher.ask(request_of(top_logprobs=9))
        await teacher.ask(request_of(top_logprobs=8))
        return await teacher.info()

    info = run(twice, TGITeacher(server.url, client=client))
    assert info.max_top_tokens == 5
    assert server.count(path) == 3, "refused once, then asked at the cap"


def test_a_server_that_ignores_logprobs_is_noticed(server, caplog):
    async def twice(teacher):
        await teacher.info()
        for _ in range(2):
            assert (await teacher.ask(chat(top_logprobs=5))).top_tokens is None
        return await teacher.info()

    info = run(twice, TGITeacher(server.url))
    assert info.supports_logprobs is False
    assert "estimated from samples" in describe(info)
    assert [record.message for record in caplog.records if "top_logprobs" in record.message] == [
        f"The teacher at {server.url} ignores `top_logprobs`: label confidence has to be estimated from samples."
    ]


def test_info_and_description(server):
    info = run(lambda t: t.info(), TGITeacher(server.url))
    assert (info.model, info.revision, info.door) == ("teacher/model", TGI_INFO["model_sha"], "tgi")
    assert (info.max_input_tokens, info.max_total_tokens, info.max_concurrency) == (4095, 4096, 128)
    assert info.supports_grammar and info.supports_prefill_logprobs and info.supports_seed
    line = describe(info)
    assert "\n" not in line and "teacher/model@0123456789ab" in line and "4096 tokens" in line


def test_another_backend_behind_tgis_router_leaves_features_unknown(server):
    server.routes["/info"] = Answer({**TGI_INFO, "router": "text-generation-router-llamacpp"})
    info = run(lambda t: t.info(), TGITeacher(server.url))
    assert info.supports_prefill_logprobs is None and info.supports_grammar is None
    assert "unknown until asked: logprobs, grammar" in describe(info)


def test_tokens_of_a_chat_are_counted_once_a_text_with_a_stated_overhead(server):
    turns = [{"role": "user", "content": "one two three"}]

    async def growing(teacher):
        first = await teacher.count_tokens(TeacherRequest.chat(turns, GenerationParams()))
        longer = [*turns, {"role": "assistant", "content": "four"}, {"role": "user", "content": "five six"}]
        second = await teacher.count_tokens(TeacherRequest.chat(longer, GenerationParams()))
        return first, second

    assert run(growing, TGITeacher(server.url)) == (3 + 64 + 16, 6 + 64 + 48)
    assert [seen.json["inputs"] for seen in server.requests] == ["one two three", "four", "five six"]


def test_a_server_without_a_tokenizer_is_asked_once(server):
    server.routes["/tokenize"] = Answer(status=404)

    async def twice(teacher):
        return [await teacher.count_tokens(generate()), await teacher.count_tokens(chat())]

    assert run(twice, TGITeacher(server.url)) == [None, None]
    assert server.count("/tokenize") == 1


@pytest.mark.parametrize("client", CLIENTS)
def test_the_token_is_read_at_every_call(server, client, monkeypatch):
    async def rotating(teacher):
        for token in ("hf_first", "hf_second"):
            monkeypatch.setenv("HF_TOKEN", f" {token}\n")
            await teacher.ask(chat())
            await teacher.ask(generate())

    run(rotating, TGITeacher(server.url, client=client))
    sent = [seen.headers["authorization"] for seen in server.requests]
    assert sent == ["Bearer hf_first"] * 2 + ["Bearer hf_second"] * 2


@pytest.mark.parametrize("client", CLIENTS)
def test_tokens_by_function_and_none_at_all(server, client, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_environment")
    tokens = iter(["hf_one", "hf_two"])
    teacher = TGITeacher(server.url, lambda: next(tokens), client=client)
    ask(teacher, chat())
    ask(teacher, chat())
    ask(TGITeacher(server.url, False, client=client), chat())
    # The stored login belongs to the Hub, not to whoever is named by URL.
    (tmp_path / "token").write_text("hf_stored")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN")
    ask(TGITeacher(server.url, client=client), chat())
    ask(TGITeacher(server.url, client=client), generate())
    sent = [seen.headers.get("authorization") for seen in server.requests]
    assert sent == ["Bearer hf_one", "Bearer hf_two", None, None, None]


@pytest.mark.parametrize("client", CLIENTS)
def test_custom_headers_and_url_credentials(server, client, caplog, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    caplog.set_level("DEBUG")
    url = server.url.replace("//", "//anna:pass%2Fword@")
    teacher = load_teacher("tgi+" + url, client=client, headers={"X-Api-Key": "sesame-open", "User-Agent": "me"})
    ask(teacher, chat())
    ask(teacher, generate())
    for seen in server.requests:
        assert seen.headers["authorization"] == "Basic YW5uYTpwYXNzL3dvcmQ="
        assert (seen.headers["x-api-key"], seen.headers["user-agent"]) == ("sesame-open", "me")
    server.routes["/generate"] = Answer({"error": "sesame-open and YW5uYTpwYXNzL3dvcmQ= refused"}, 401)
    with pytest.raises(TeacherAuthError) as caught:
        ask(teacher, generate())
    shown = str(caught.value) + repr(teacher) + repr(teacher.credentials) + repr(teacher.wire) + caplog.text
    for secret in ("anna", "pass/word", "pass%2Fword", "YW5uYTpwYXNzL3dvcmQ=", "sesame-open"):
        assert secret not in shown


@pytest.mark.parametrize("client", CLIENTS)
def test_401_says_what_to_do_with_and_without_a_token(server, client, monkeypatch):
    server.routes["/generate"] = Answer(status=401)
    cures = []
    for token, environment in ((None, None), (None, "hf_abcdefgh"), ("hf_abcdefgh", None), (False, "hf_abcdefgh")):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if environment:
            monkeypatch.setenv("HF_TOKEN", environment)
        with pytest.raises(TeacherAuthError) as caught:
            ask(TGITeacher(server.url, token, client=client), generate())
        cures.append(str(caught.value).partition("HTTP 401. ")[2])
    assert cures == [
        "No token was sent: set the environment variable HF_TOKEN, or pass `token`.",
        "Check the environment variable HF_TOKEN: it may have expired or belong to another server.",
        "Check the `token` that was passed: it may have expired or belong to another server.",
        "No token was sent (token=False): pass the server's token.",
    ]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_proxy_carries_the_calls(server, client):
    def as_proxy(seen):
        return tgi_routes("through the proxy")[seen.path.removeprefix("http://teacher.invalid")]

    with FaultServer() as proxy:
        proxy.routes = {
            "http://teacher.invalid/generate": as_proxy,
            "http://teacher.invalid/v1/chat/completions": as_proxy,
        }
        teacher = TGITeacher("http://teacher.invalid", client=client, proxy=proxy.url)
        assert ask(teacher, chat()).text == ask(teacher, generate()).text == "through the proxy"


def test_a_proxy_from_the_environment_is_not_used_on_this_machine(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(TGITeacher(server.url), generate()).text == "fine"


def test_a_bundle_that_cannot_be_read_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="PEM"):
        TGITeacher("https://127.0.0.1:1", ca_bundle=str(tmp_path / "missing.pem"))


def test_offline_mode_of_the_hub_does_not_keep_from_a_server(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert ask(TGITeacher(server.url), chat()).text == "fine"
    assert ask(TGITeacher(server.url), generate()).text == "fine"


@pytest.mark.parametrize("client", CLIENTS)
def test_calls_at_the_same_time_keep_their_own_fields(server, client):
    def echo(seen):
        return chatted(json.dumps(seen.json["response_format"]))

    server.routes["/v1/chat/completions"] = echo

    async def many(teacher):
        grammars = [{"type": "regex", "value": f"x{i}"} for i in range(40)]
        replies = await asyncio.gather(*(teacher.ask(chat(grammar=grammar)) for grammar in grammars))
        assert [json.loads(reply.text) for reply in replies] == grammars

    run(many, TGITeacher(server.url, client=client))


def test_connections_are_kept_between_calls(server):
    async def several(teacher):
        for _ in range(5):
            await teacher.ask(chat())
        return server.connections

    assert run(several, TGITeacher(server.url)) == 1


def test_as_many_connections_as_calls_at_once_and_no_more(server):
    async def waves(teacher):
        await teacher.info()
        for count in (6, 3, 6, 2):
            await asyncio.gather(*(teacher.ask(chat()) for _ in range(count)))
        open_now = server.connections
        await teacher.aclose()
        await teacher.ask(chat())
        return open_now, server.connections

    assert run(waves, TGITeacher(server.url)) == (6, 7)
