"""What a user may write as a teacher, and what is said when it is none."""

import asyncio
import re
import sys

import pytest
from fault_server import TGI_INFO, Answer, FaultServer, openai_routes, tgi_routes
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.errors import (
    ConfigurationError,
    TeacherAuthError,
    TeacherConnectionError,
    TeacherRequestError,
)
from hf_active_distill.teachers import (
    FunctionTeacher,
    GenerationParams,
    HFInferenceTeacher,
    LocalTeacher,
    OpenAITeacher,
    ReplayTeacher,
    Teacher,
    TeacherRequest,
    TGITeacher,
    load_teacher,
)
from hf_active_distill.teachers.address import Redactor, parse_address


REQUEST = TeacherRequest.chat([{"role": "user", "content": "Why?"}], GenerationParams())


def info_of(teacher):
    async def closing():
        try:
            return await teacher.info()
        finally:
            await teacher.aclose()

    return asyncio.run(closing())


def ask(teacher):
    async def closing():
        try:
            return await teacher.ask(REQUEST)
        finally:
            await teacher.aclose()

    return asyncio.run(closing())


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions", "/generate", "/info"])
@pytest.mark.parametrize(("routes", "door"), [(tgi_routes, "tgi"), (openai_routes, "openai")])
def test_what_lives_at_a_url_is_found_out(routes, door, suffix):
    with FaultServer(routes()) as server:
        teacher = load_teacher(f" {server.url}{suffix} ")
        assert isinstance(teacher, Teacher)
        assert info_of(teacher).door == door
        assert ask(teacher).text == "fine"


def test_a_path_in_front_of_the_routes_is_kept():
    routes = {"/teachers/a" + path: route for path, route in tgi_routes().items()}
    with FaultServer(routes) as server:
        assert ask(load_teacher(server.url + "/teachers/a/v1/")).text == "fine"


def test_kinds_of_specs(tmp_path):
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text('{"question": "Why?", "text": "Because."}\n')
    kinds = {
        "tgi+http://127.0.0.1:1": TGITeacher,
        "TGI+HTTPS://example.org": TGITeacher,
        "openai+https://example.org/v1": OpenAITeacher,
        "hf-inference:owner/model": HFInferenceTeacher,
        "hf-inference:together/owner/model": HFInferenceTeacher,
        "local:some/model": LocalTeacher,
        f"replay:{recorded}": ReplayTeacher,
    }
    for spec, kind in kinds.items():
        teacher = load_teacher(spec)
        assert type(teacher) is kind and isinstance(teacher, Teacher)
    assert type(load_teacher(lambda messages: "x")) is FunctionTeacher
    assert type(load_teacher({"Why?": "Because."})) is ReplayTeacher
    teacher = load_teacher(recorded.as_posix().join(["replay:", ""]))
    assert load_teacher(teacher) is teacher


@pytest.mark.parametrize(
    ("spec", "cure"),
    [
        ("ftp://host", "http(s)://host"),
        ("localhost:8080", "Did you mean 'http://localhost:8080'?"),
        ("Qwen/Qwen3-8B", "Did you mean 'local:Qwen/Qwen3-8B'?"),
        ("", "A teacher is"),
        ("local:", "A teacher is"),
        ("hf-inference:model", "hf-inference:provider/owner/model"),
        ("http://", "http://host:port"),
        ("http://host:port", "not a URL"),
        ("http://host/?key=x", "`headers`"),
        (42, "A teacher is"),
        (TGITeacher, "A teacher is"),
    ],
)
def test_a_spec_that_names_nothing_says_what_would(spec, cure):
    with pytest.raises(ConfigurationError, match=re.escape(cure)):
        load_teacher(spec)


def test_options_that_a_door_does_not_take():
    with pytest.raises(ConfigurationError, match="does not take these options.*colour"):
        load_teacher("http://127.0.0.1:1", colour="red")
    with pytest.raises(ConfigurationError, match="takes no options here.*timeout"):
        load_teacher(FunctionTeacher(str), timeout=3)
    with pytest.raises(ConfigurationError, match="Unknown client 'curl'.*'direct', 'hub', 'text_generation'"):
        load_teacher("http://127.0.0.1:1", client="curl")
    with pytest.raises(ConfigurationError, match="token=True"):
        load_teacher("http://127.0.0.1:1", token=True)


def test_tgis_own_client_where_it_is_not_installed(monkeypatch):
    # Its parts too: a part that another test imported would be found without the whole.
    for name in {"text_generation", *(name for name in sys.modules if name.startswith("text_generation."))}:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "hf_active_distill.teachers.text_generation_transport", raising=False)
    with pytest.raises(ConfigurationError, match="extra `tgi`.*client='direct'"):
        load_teacher("tgi+http://127.0.0.1:1", client="text_generation")


def test_nobody_at_the_address():
    with FaultServer() as server:
        url = server.url
    with pytest.raises(TeacherConnectionError, match=f"{url}.*cannot be reached.*server is up"):
        info_of(load_teacher(url))
    with pytest.raises(TeacherConnectionError, match="cannot be reached"):
        ask(load_teacher(url))


def test_a_web_page_at_the_address():
    page = Answer("<html><body><h1>Welcome to nginx!</h1></body></html>", content_type="text/html")
    with FaultServer(dict.fromkeys(["/info", "/v1/models"], page)) as server:
        with pytest.raises(ConfigurationError, match="neither a TGI server nor an OpenAI-compatible.*nginx"):
            info_of(load_teacher(server.url))
        with pytest.raises(TeacherRequestError, match="neither a TGI server"):
            ask(load_teacher(server.url))


def test_the_wrong_prefix_names_the_right_one():
    with FaultServer(openai_routes()) as server, pytest.raises(ConfigurationError, match=r"write openai\+http://"):
        info_of(load_teacher("tgi+" + server.url))
    with FaultServer(tgi_routes()) as server, pytest.raises(ConfigurationError, match=r"write tgi\+http://"):
        info_of(load_teacher("openai+" + server.url))


def test_an_embedding_server_is_no_teacher():
    embedding = {**TGI_INFO, "model_type": {"embedding": {"pooling": "cls"}}}
    with FaultServer({"/info": Answer(embedding)}) as server:
        with pytest.raises(ConfigurationError, match="embedding server"):
            info_of(load_teacher("tgi+" + server.url))
        with pytest.raises(ConfigurationError, match="neither"):
            info_of(load_teacher(server.url))


def test_a_refused_token_is_not_taken_for_another_kind_of_server():
    with FaultServer({"/info": Answer(status=404), "/v1/models": Answer(status=401)}) as server:
        with pytest.raises(TeacherAuthError, match="HTTP 401"):
            info_of(load_teacher(server.url))


def test_a_password_in_a_bad_spec_is_not_shown():
    for spec in (
        "gopher://anna:secretword@host",
        "http://anna:secretword@host:port",
        "http://anna:secretword@h?k=v",
        "gopher://anna:x@secretword@host",
        "http://anna:x@secretword@host:99999",
        "http://anna:secretword/x@host",
        "http://anna:x/secretword@host",
        "tgi+http://anna:x@secretword/y@host",
        "http://anna:secretword#x@host",
    ):
        with pytest.raises(ConfigurationError) as caught:
            load_teacher(spec)
        assert "secretword" not in str(caught.value)


def test_a_password_written_in_full_is_no_other_host():
    address, basic = parse_address("http://anna:p%40ss%2Fword@host/x")
    assert (address.base, basic) == ("http://host/x", "Basic YW5uYTpwQHNzL3dvcmQ=")


@pytest.mark.parametrize("timeout", [0, -1, "5", float("nan")])
def test_a_time_out_that_is_none_is_refused(timeout):
    with pytest.raises(ConfigurationError, match="timeout must be"):
        load_teacher("http://host", timeout=timeout)


hosts = st.sampled_from(["teacher", "127.0.0.1", "[::1]", "a.b.example"])
paths = st.lists(st.sampled_from(["api", "tgi", "x1"]), max_size=3).map(lambda parts: "".join("/" + p for p in parts))


@given(st.sampled_from(["http", "https"]), hosts, st.integers(1, 65535) | st.none(), paths, st.sampled_from(["", "/"]))
def test_addresses_are_tidied_once_and_for_all(scheme, host, port, path, slash):
    origin = f"{scheme}://{host}" + (f":{port}" if port else "") + path
    address, basic = parse_address(origin + "/v1" + slash)
    assert (address.base, address.v1, basic) == (origin, origin + "/v1", None)
    assert parse_address(address.base)[0] == parse_address(address.v1)[0] == address


@given(st.text(min_size=4, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_a_secret_is_cleaned_out_of_any_text(secret, before, after):
    cleaned = Redactor([secret]).clean(before + secret + after)
    assert secret not in cleaned or secret in "***" + after or secret in before + "***" or "*" in secret
