"""What lies between a door and its server: proxies, certificates, compression, event loops that end."""

import asyncio
import gzip
import ssl

import pytest
import trustme
from fault_server import Answer, FaultServer, generated, tgi_routes

from hf_active_distill.errors import (
    ConfigurationError,
    TeacherConnectionError,
    TeacherInterruptedError,
    TeacherProtocolError,
)
from hf_active_distill.teachers import GenerationParams, TeacherRequest, load_teacher
from hf_active_distill.teachers.wire import MOST_BODY_BYTES, environment_proxy


REQUEST = TeacherRequest.generate("Why?", GenerationParams(max_new_tokens=5))


def ask(teacher):
    async def once():
        try:
            return (await teacher.ask(REQUEST)).text
        finally:
            await teacher.aclose()

    return asyncio.run(once())


# --- certificates


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secure(authority):
    """A server whose certificate only this authority vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with FaultServer(tgi_routes(), tls=context) as server:
        yield server


def test_a_bundle_makes_a_certificate_trusted(secure, authority, tmp_path):
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    assert ask(load_teacher("tgi+" + secure.url, ca_bundle=str(bundle))) == "fine"


def test_a_certificate_that_nobody_vouches_for_names_the_cure(secure, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(TeacherConnectionError, match="certificate is not trusted.*ca_bundle") as caught:
        ask(load_teacher("tgi+" + secure.url))
    assert not caught.value.retryable and not caught.value.reached_model


def test_the_environment_names_authorities_too(secure, authority, tmp_path, monkeypatch):
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    assert ask(load_teacher("tgi+" + secure.url)) == "fine"


def test_a_server_that_does_not_speak_tls_was_never_asked():
    with FaultServer(tgi_routes()) as server:
        with pytest.raises(TeacherConnectionError, match="cannot be reached") as caught:
            ask(load_teacher("tgi+https" + server.url.removeprefix("http"), timeout=0.3))
    assert not caught.value.reached_model and server.requests == []


# --- proxies


def test_the_environment_names_a_proxy_but_not_for_everyone(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert environment_proxy("http://teacher.example/generate") is None
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inner.example,.local")
    assert environment_proxy("http://teacher.example/generate") == "http://proxy.example:3128"
    assert environment_proxy("https://teacher.example/generate") is None
    assert environment_proxy("http://inner.example/generate") is None
    assert environment_proxy("http://gpu.local/generate") is None
    monkeypatch.setenv("all_proxy", "http://other.example:3128")
    assert environment_proxy("https://teacher.example/generate") == "http://other.example:3128"


def test_ports_networks_and_bare_hosts_in_the_variables_of_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inner.example:8080, 10.0.0.0/8,fd00::/8")
    assert environment_proxy("http://inner.example:9090/generate") == "http://proxy.example:3128"
    assert environment_proxy("http://11.0.0.1/generate") == "http://proxy.example:3128"
    for inner in ("inner.example:8080", "10.1.2.3:8080", "[fd00::1]:8080"):
        assert environment_proxy(f"http://{inner}/generate") is None


def test_a_proxy_of_another_kind_is_refused_without_its_password(monkeypatch):
    socks = "socks5://anna:x@secretword@proxy.example:1080"
    with pytest.raises(ConfigurationError, match="is no HTTP proxy") as caught:
        load_teacher("http://teacher.invalid", proxy=socks)
    monkeypatch.setenv("http_proxy", socks)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ConfigurationError, match="is no HTTP proxy") as from_environment:
        ask(load_teacher("tgi+http://teacher.invalid"))
    assert "secretword" not in str(caught.value) + str(from_environment.value)


def test_calls_go_through_the_proxy_of_the_environment(monkeypatch):
    with FaultServer({"http://teacher.invalid/generate": generated("through the proxy")}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert ask(load_teacher("tgi+http://teacher.invalid")) == "through the proxy"


def test_a_proxy_that_refuses_has_not_reached_the_model_and_keeps_its_password():
    with FaultServer({"teacher.invalid:443": Answer(status=407)}) as proxy:
        url = proxy.url.replace("http://", "http://user:verysecretword@")
        with pytest.raises(TeacherConnectionError, match="cannot be reached.*407") as caught:
            ask(load_teacher("tgi+https://teacher.invalid", proxy=url))
    assert not caught.value.reached_model
    assert "verysecretword" not in str(caught.value) + repr(caught.value.__cause__)


# --- bodies


def test_compressed_bodies_are_read_and_damaged_ones_named():
    packed = gzip.compress(generated("small").payload())
    headers = {"content-encoding": "gzip"}
    whole = Answer(packed, headers=headers, content_type="application/json")
    damaged = Answer(b"no gzip at all", headers=headers, content_type="application/json")
    with FaultServer(tgi_routes() | {"/generate": [whole, damaged]}) as server:
        assert ask(load_teacher("tgi+" + server.url)) == "small"
        with pytest.raises(TeacherProtocolError, match="body is damaged"):
            ask(load_teacher("tgi+" + server.url))


def test_a_body_that_unpacks_without_end_is_not_read_to_its_end():
    bomb = gzip.compress(bytes(MOST_BODY_BYTES + 2**20))
    assert len(bomb) < 2**18
    answer = Answer(bomb, headers={"content-encoding": "gzip"}, content_type="application/json")
    with FaultServer(tgi_routes() | {"/generate": [answer]}) as server:
        with pytest.raises(TeacherProtocolError, match="64 MiB"):
            ask(load_teacher("tgi+" + server.url))


def test_what_is_no_http_broke_the_connection():
    class Nonsense(FaultServer):
        async def _send(self, answer, writer):
            writer.write(b"220 smtp.example ESMTP\r\n\r\n")
            return False

    with Nonsense(tgi_routes()) as server:
        with pytest.raises(TeacherInterruptedError, match="broke the connection"):
            ask(load_teacher("tgi+" + server.url))


# --- connections


def test_a_token_that_is_being_renewed_may_be_asked_for_again():
    answers = iter([FileNotFoundError("/run/secrets/token"), "a-token-of-now"])

    def token():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with FaultServer(tgi_routes()) as server:
        teacher = load_teacher("tgi+" + server.url, token=token)
        with pytest.raises(TeacherConnectionError, match="function given as `token` failed") as caught:
            ask(teacher)
        assert caught.value.retryable and not caught.value.reached_model and server.requests == []
        assert ask(teacher) == "fine"
        assert server.last("/generate").headers["authorization"] == "Bearer a-token-of-now"


def test_loops_that_ended_without_a_word_are_forgotten():
    with FaultServer(tgi_routes()) as server:
        teacher = load_teacher("tgi+" + server.url)
        for _ in range(3):
            assert asyncio.run(teacher.ask(REQUEST)).text == "fine"
        assert len(teacher.wire._sessions) == 1
