"""Every fault that a door can see, over real sockets: which named error, whether to try again, what the user reads."""

import asyncio
import importlib.util
import json
import logging
import time
import traceback

import pytest
from fault_server import FAULTS, Answer, FaultServer, chatted, generated, openai_routes, refused, tgi_routes

from hf_active_distill.errors import (
    TeacherAuthError,
    TeacherConnectionError,
    TeacherError,
    TeacherGenerationError,
    TeacherInterruptedError,
    TeacherOverloadedError,
    TeacherProtocolError,
    TeacherRequestError,
)
from hf_active_distill.teachers import GenerationParams, TeacherRequest, load_teacher


TOKEN = "hf_verysecrettokenvalue"
CLIENTS = ["direct", "hub"] + ["text_generation"] * (importlib.util.find_spec("text_generation") is not None)
DOORS = [("tgi+", client, kind) for client in CLIENTS for kind in ("chat", "generate")]
DOORS += [("openai+", client, kind) for client in ("direct", "hub") for kind in ("chat", "generate")]
PATHS = {("tgi+", "generate"): "/generate", ("openai+", "generate"): "/v1/completions"}

# fault: class, status, words that the message must hold
EXPECTED = {
    "unauthorized": (TeacherAuthError, 401, ["401", "token"]),
    "forbidden": (TeacherAuthError, 403, ["403", "no access", "token"]),
    "not_found": (TeacherRequestError, 404, ["404", "Check the URL"]),
    "too_large": (TeacherRequestError, 413, ["413", "length limit exceeded", "shorten"]),
    "invalid": (TeacherRequestError, 422, ["422", "must be <= 4096", "info()"]),
    "invalid_plain": (TeacherRequestError, 422, ["422", "Failed to deserialize", "info()"]),
    "template": (TeacherRequestError, 422, ["422", "unknown role"]),
    "generation": (TeacherGenerationError, 424, ["424", "CUDA out of memory", "log"]),
    "overloaded": (TeacherOverloadedError, 429, ["429", "Model is overloaded", "max_concurrency"]),
    "incomplete": (TeacherGenerationError, 500, ["500", "Incomplete generation", "log"]),
    "internal": (TeacherGenerationError, 500, ["500", "Internal Server Error", "log"]),
    "unhealthy": (TeacherOverloadedError, 503, ["503", "not healthy", "restarting"]),
    "gateway": (TeacherGenerationError, 502, ["502", "Bad Gateway", "proxy"]),
    "reset_before": (TeacherInterruptedError, None, ["broke the connection", "restarting"]),
    "reset_mid_body": (TeacherInterruptedError, None, ["broke the connection", "restarting"]),
    "invalid_json": (TeacherProtocolError, 200, ["200", "JSON"]),
    "wrong_shape": (TeacherProtocolError, 200, ["200"]),
    "wrong_type": (TeacherProtocolError, 200, ["200"]),
    "not_utf8": (TeacherProtocolError, 200, ["200", "UTF-8"]),
    "stream_error": (TeacherGenerationError, 200, ["200", "oom"]),
    "error_in_200": (TeacherOverloadedError, 200, ["200", "overloaded"]),
}
RETRYABLE = (TeacherOverloadedError, TeacherGenerationError, TeacherConnectionError, TeacherProtocolError)
REACHED = (TeacherGenerationError, TeacherInterruptedError, TeacherProtocolError)


def request_of(kind, **params):
    params = GenerationParams(max_new_tokens=5, **params)
    if kind == "generate":
        return TeacherRequest.generate("Why?", params)
    return TeacherRequest.chat([{"role": "user", "content": "Why?"}], params)


def routes_of(scheme):
    return tgi_routes() if scheme == "tgi+" else openai_routes()


def ask(teacher, request):
    async def once():
        try:
            return await teacher.ask(request)
        finally:
            await teacher.aclose()

    return asyncio.run(once())


def everything_shown(error):
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


@pytest.mark.parametrize("fault", EXPECTED)
@pytest.mark.parametrize(("scheme", "client", "kind"), DOORS)
def test_a_fault_is_one_named_error_that_says_the_cure_and_no_secret(scheme, client, kind, fault, caplog, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    caplog.set_level(logging.DEBUG)
    path = PATHS.get((scheme, kind), "/v1/chat/completions")
    with FaultServer(routes_of(scheme) | {path: FAULTS[fault]}) as server:
        teacher = load_teacher(scheme + server.url, token=TOKEN, client=client)
        with pytest.raises(TeacherError) as caught:
            ask(teacher, request_of(kind))
    kind_of_error, status, words = EXPECTED[fault]
    error = caught.value
    assert type(error) is kind_of_error
    assert error.status == status
    assert error.retryable is isinstance(error, RETRYABLE)
    assert error.reached_model is isinstance(error, REACHED)
    assert error.retry_after is None
    for word in [*words, server.url]:
        assert word in str(error)
    assert server.count(path) == 1, "a door never retries what may have cost something"
    assert server.last(path).headers["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in everything_shown(error) + repr(teacher) + caplog.text


@pytest.mark.parametrize("client", CLIENTS)
def test_both_clients_say_the_same_of_every_refusal(client):
    def message(client, fault, kind):
        path = PATHS.get(("tgi+", kind), "/v1/chat/completions")
        with FaultServer(tgi_routes() | {path: FAULTS[fault]}) as server:
            teacher = load_teacher("tgi+" + server.url, token=TOKEN, client=client)
            with pytest.raises(TeacherError) as caught:
                ask(teacher, request_of(kind))
            return str(caught.value).replace(server.url, "URL")

    for fault in ("unauthorized", "invalid_plain", "generation", "overloaded", "internal"):
        for kind in ("chat", "generate"):
            assert message(client, fault, kind) == message("direct", fault, kind)


@pytest.mark.parametrize(("scheme", "client", "kind"), DOORS)
def test_retry_after_is_read_in_both_forms(scheme, client, kind):
    dated = refused(429, "later", "overloaded", retry_after="Wed, 21 Oct 2065 07:28:30 GMT")
    # The wait is counted on the server's own clock: ours may have jumped.
    dated.headers["date"] = "Wed, 21 Oct 2065 07:28:00 GMT"
    nonsense = refused(429, "later", "overloaded", retry_after="soon")
    path = PATHS.get((scheme, kind), "/v1/chat/completions")
    with FaultServer(routes_of(scheme) | {path: [FAULTS["overloaded_wait"], dated, nonsense]}) as server:
        teacher = load_teacher(scheme + server.url, client=client)
        waits = []
        for _ in range(3):
            with pytest.raises(TeacherOverloadedError) as caught:
                ask(teacher, request_of(kind))
            waits.append(caught.value.retry_after)
    assert waits == [7.0, 30.0, None]


@pytest.mark.parametrize(("scheme", "client", "kind"), DOORS)
def test_a_stalled_body_ends_at_the_time_out(scheme, client, kind):
    path = PATHS.get((scheme, kind), "/v1/chat/completions")
    with FaultServer(routes_of(scheme) | {path: FAULTS["stalled"]}) as server:
        teacher = load_teacher(scheme + server.url, client=client, timeout=0.3)
        with pytest.raises(TeacherInterruptedError, match="did not answer in time.*time-out") as caught:
            ask(teacher, request_of(kind))
    assert caught.value.retryable and caught.value.reached_model


@pytest.mark.parametrize(("scheme", "client", "kind"), DOORS)
def test_a_slow_server_within_the_time_out_is_no_fault(scheme, client, kind):
    path = PATHS.get((scheme, kind), "/v1/chat/completions")
    routes = routes_of(scheme)
    routes[path].delay = 0.2
    with FaultServer(routes) as server:
        assert ask(load_teacher(scheme + server.url, client=client, timeout=10), request_of(kind)).text == "fine"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("kind", ["chat", "generate"])
def test_a_refused_connection_has_not_reached_the_model_and_heals(client, kind):
    with FaultServer(tgi_routes()) as server:
        teacher = load_teacher("tgi+" + server.url, client=client)

        async def over_a_restart():
            assert (await teacher.ask(request_of(kind))).text == "fine"
            server.stop()
            with pytest.raises(TeacherConnectionError, match="cannot be reached.*server is up") as caught:
                await teacher.ask(request_of(kind))
            assert type(caught.value) is TeacherConnectionError
            assert caught.value.retryable and not caught.value.reached_model
            server.start()
            assert (await teacher.ask(request_of(kind))).text == "fine"
            await teacher.aclose()

        asyncio.run(over_a_restart())


@pytest.mark.parametrize("client", CLIENTS)
def test_ten_megabytes_of_text_arrive_whole(client):
    text = "zwölf Boxkämpfer " * 600_000
    with FaultServer(tgi_routes() | {"/v1/chat/completions": chatted(text), "/generate": generated(text)}) as server:
        teacher = load_teacher("tgi+" + server.url, client=client)
        assert ask(teacher, request_of("chat")).text == text
        assert ask(teacher, request_of("generate")).text == text


@pytest.mark.parametrize("client", CLIENTS)
def test_empty_and_null_text_is_an_empty_reply(client):
    with FaultServer(tgi_routes() | {"/v1/chat/completions": chatted(None), "/generate": generated("")}) as server:
        teacher = load_teacher("tgi+" + server.url, client=client)
        assert ask(teacher, request_of("chat")).text == ""
        assert ask(teacher, request_of("generate")).text == ""


@pytest.mark.parametrize("client", CLIENTS)
def test_null_and_nan_logprobs_are_none(client):
    tokens = '[{"id": 1, "text": "a", "logprob": null}, {"id": 2, "text": "b", "logprob": NaN}]'
    details = f'{{"finish_reason": "length", "generated_tokens": 1, "prefill": {tokens}, "top_tokens": [{tokens}]}}'
    body = f'{{"generated_text": "a", "details": {details}}}'
    with FaultServer(tgi_routes() | {"/generate": Answer(body, content_type="application/json")}) as server:
        teacher = load_teacher("tgi+" + server.url, client=client)
        reply = ask(teacher, request_of("generate", top_logprobs=2, prefill_logprobs=True))
    assert [token.logprob for token in reply.prefill] == [None, None]
    assert [token.token_id for token in reply.top_tokens[0]] == [1, 2]
    assert [token.logprob for token in reply.top_tokens[0]] == [None, None]


@pytest.mark.parametrize("client", CLIENTS)
def test_lone_surrogates_are_repaired_in_both_directions(client):
    body = '{"generated_text": "a\\ud800b \\ud83d\\ude00", "details": {"finish_reason": "eos_token"}}'
    with FaultServer(tgi_routes() | {"/generate": Answer(body, content_type="application/json")}) as server:
        teacher = load_teacher("tgi+" + server.url, client=client)
        reply = ask(teacher, TeacherRequest.generate("x\ud800y", GenerationParams()))
        assert server.last("/generate").json["inputs"] == "x?y"
    assert reply.text == "a\ufffdb \U0001f600"


@pytest.mark.parametrize(("scheme", "client", "kind"), DOORS)
def test_a_redirect_is_not_followed_with_the_token(scheme, client, kind):
    path = PATHS.get((scheme, kind), "/v1/chat/completions")
    with FaultServer() as elsewhere:
        moved = Answer(status=307, headers={"location": elsewhere.url + path})
        with FaultServer(routes_of(scheme) | {path: moved}) as server:
            with pytest.raises(TeacherRequestError, match="redirects to .*use that address"):
                ask(load_teacher(scheme + server.url, token=TOKEN, client=client), request_of(kind))
        assert elsewhere.requests == []


def test_a_quota_that_is_used_up_is_not_tried_again():
    spent = Answer({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, 429)
    with FaultServer(openai_routes() | {"/v1/chat/completions": spent}) as server:
        with pytest.raises(TeacherAuthError, match="exceeded your current quota.*top it up") as caught:
            ask(load_teacher("openai+" + server.url), request_of("chat"))
    assert not caught.value.retryable


def test_a_server_that_repeats_the_token_in_its_error_does_not_get_it_into_ours():
    def echo(seen):
        return Answer({"error": f"bad header {seen.headers['authorization']}", "error_type": "validation"}, 422)

    with FaultServer(tgi_routes() | {"/generate": echo}) as server:
        with pytest.raises(TeacherRequestError, match=r"bad header \w+ \*\*\*") as caught:
            ask(load_teacher("tgi+" + server.url, token=TOKEN), request_of("generate"))
    assert TOKEN not in everything_shown(caught.value)


def test_a_clock_that_is_off_here_does_not_stretch_a_wait(monkeypatch):
    dated = refused(503, "later", "healthcheck", retry_after="Thu, 20 Nov 2025 12:00:05 GMT")
    dated.headers["date"] = "Thu, 20 Nov 2025 12:00:00 GMT"
    with FaultServer(tgi_routes() | {"/generate": dated}) as server:
        monkeypatch.setattr(time, "time", lambda: 0.0)
        with pytest.raises(TeacherOverloadedError) as caught:
            ask(load_teacher("tgi+" + server.url), request_of("generate"))
    assert caught.value.retry_after == 5.0


def test_cancelling_a_call_leaves_the_teacher_usable():
    async def cancel_one():
        with FaultServer(tgi_routes() | {"/generate": [FAULTS["stalled"], generated("fine")]}) as server:
            teacher = load_teacher("tgi+" + server.url)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(teacher.ask(request_of("generate")), 0.3)
            assert (await teacher.ask(request_of("generate"))).text == "fine"
            await teacher.aclose()

    asyncio.run(cancel_one())


def test_a_teacher_outlives_the_event_loop_it_was_first_asked_in():
    with FaultServer(tgi_routes()) as server:
        teacher = load_teacher(server.url)

        async def without_closing():
            return (await teacher.ask(request_of("generate"))).text

        assert [asyncio.run(without_closing()) for _ in range(3)] == ["fine"] * 3
        assert json.loads(server.last("/generate").body)["inputs"] == "Why?"
