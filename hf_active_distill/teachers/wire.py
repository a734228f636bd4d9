"""
One HTTP session for everything that goes to a teacher: own time-outs, proxies and certificates, and refusals that keep
their status, headers and body.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from ..errors import ConfigurationError, TeacherConnectionError, TeacherRequestError
from .address import Address, Credentials, without_password
from .failures import (
    Refusal,
    broken_off,
    error_from_payload,
    error_from_refusal,
    never_reached,
    not_the_protocol,
)


# Shorter than the five seconds after which uvicorn and others close an idle connection: a request sent into a closing
# connection could not be told from one that reached the model.
_KEEPALIVE_SECONDS = 3.0
CONNECT_SECONDS = 15.0
# Servers behind several proxies add long headers.
_MAX_HEADER_BYTES = 65_536
# An answer has some kilobytes; a compressed body can unpack to more than the memory.
MOST_BODY_BYTES = 2**26

_NEVER_REACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
# A header or URL that HTTP does not allow: nothing was sent, and it will not get better.
_NOT_SENT = (aiohttp.InvalidURL, ValueError)


def trusted_authorities(ca_bundle: str | None) -> ssl.SSLContext | None:
    """What certificates are verified with; `None` for the usual authorities, see [`usual_authorities`]."""
    if ca_bundle is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"`ca_bundle` {ca_bundle!r} cannot be read ({error}): give a PEM file.") from None


def usual_authorities() -> ssl.SSLContext:
    """The system's authorities (`SSL_CERT_FILE`, `SSL_CERT_DIR`), and certifi's where those are not set."""
    context = ssl.create_default_context()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


def environment_proxy(url: str) -> str | None:
    """The proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name for a URL."""
    parts = urlsplit(url)
    host, proxies = parts.hostname, getproxies()
    if host is None or proxy_bypass(host) or proxy_bypass(f"{host}:{parts.port}"):
        return None
    if _in_networks(host, proxies.get("no", "")):
        return None
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return usable_proxy(proxy) if proxy else None


def usable_proxy(proxy: str) -> str:
    """A proxy's URL, tidied. Raises a [`~errors.ConfigurationError`] for other kinds than HTTP proxies."""
    scheme, separator, _ = proxy.partition("://")
    if not separator:
        return "http://" + proxy
    if scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"The proxy {without_password(proxy)!r} is no HTTP proxy: give one as http://host:port, in `proxy` or the "
            "environment, or name the teacher's host in NO_PROXY."
        )
    return proxy


def _in_networks(host: str, networks: str) -> bool:
    """Whether an address lies in one of `networks`, such as 10.0.0.0/8, which the standard library does not read."""
    for network in networks.split(","):
        try:
            if "/" in network and ipaddress.ip_address(host) in ipaddress.ip_network(network.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def encode_json(body: Any) -> bytes:
    """A body in UTF-8. Letters go out unescaped, as TGI counts bytes; a lone surrogate, which no text has, as `?`."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


class Wire:
    """
    Sends JSON and returns bodies, or raises one of the named teacher errors.

    It stands on aiohttp: a call takes a fifth of the CPU time that it takes in the libraries under huggingface_hub's
    client, with the same features (`benchmarks/dispatcher.py` compares). A session belongs to one event loop; a
    teacher may outlive it (a dispatcher starts a loop for every round), so every loop has its own.

    Args:
        address (`Address`): The server.
        credentials (`Credentials`): Read at every call.
        timeout (`float`, *optional*, defaults to `600.0`): Seconds without a sign of life after which a call fails.
        proxy (`str`, *optional*):
            Proxy URL. `None` takes the usual environment variables, except for addresses on this machine.
        ca_bundle (`str`, *optional*): File of certificate authorities to trust instead of the usual ones.
    """

    def __init__(
        self,
        address: Address,
        credentials: Credentials,
        *,
        timeout: float | None = 600.0,
        proxy: str | None = None,
        ca_bundle: str | None = None,
    ):
        if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
            raise ConfigurationError(f"timeout must be a number of seconds above 0, or None, got {timeout!r}.")
        self.address = address
        self.credentials = credentials
        self.timeout = timeout
        self.proxy = usable_proxy(proxy) if proxy else None
        self._authorities = trusted_authorities(ca_bundle)
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}
        self._proxies: dict[str, str | None] = {}
        self._in_flight = 0
        if proxy and "@" in proxy:
            credentials.redactor.add(proxy.split("://")[-1].rpartition("@")[0])
            credentials.redactor.add(proxy.rpartition("@")[0].rpartition(":")[2])

    async def get_json(self, path: str) -> Any:
        """Body of a GET, decoded."""
        url = self.address.base + path
        return self.decode(await self.send("GET", url), where=url)

    async def post_json(self, url: str, body: Any, *, headers: Mapping[str, str] | None = None) -> Any:
        """Body of a POST, decoded."""
        return self.decode(await self.send("POST", url, body=body, headers=headers), where=url)

    async def send(
        self, method: str, url: str, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """One request. Returns the body of a 2xx, raises what anything else means."""
        sent = {"accept": "application/json", **(headers or {}), **self._credentials(url)}
        content = None
        if body is not None:
            sent.setdefault("content-type", "application/json")
            content = encode_json(body)
        session, proxy = self._session(), self._proxy(url)
        if not self._in_flight:
            # The loop may have stood still: two turns of it, and connections that ended meanwhile are known to have.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self._in_flight += 1
        try:
            # A redirected POST may turn into a GET and the token would go to another host.
            async with session.request(
                method, url, data=content, headers=sent, proxy=proxy, allow_redirects=False
            ) as response:
                answer = await self._body(response, url)
        except _NEVER_REACHED as error:
            raise never_reached(error, where=url, credentials=self.credentials) from None
        except _NOT_SENT as error:
            raise TeacherRequestError(self.credentials.redactor.clean(f"{url} cannot be asked: {error}.")) from None
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error.__cause__, ContentEncodingError):
                raise not_the_protocol("its body is damaged", where=url, credentials=self.credentials) from None
            raise broken_off(error, where=url, credentials=self.credentials) from None
        finally:
            self._in_flight -= 1
        if response.status >= 300:
            told = {name.lower(): value for name, value in response.headers.items()}
            raise error_from_refusal(Refusal(response.status, told, answer), where=url, credentials=self.credentials)
        return self.unwrapped(answer, url, response.content_type)

    async def _body(self, response: aiohttp.ClientResponse, where: str) -> bytes:
        parts, size = [], 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > MOST_BODY_BYTES:
                most = f"its body has more than {MOST_BODY_BYTES // 2**20} MiB once unpacked"
                raise not_the_protocol(most, where=where, credentials=self.credentials)
        return b"".join(parts)

    def unwrapped(self, content: bytes, where: str, content_type: str) -> bytes:
        """The body, unless it is a stream of events: there, TGI and proxies put errors under status 200."""
        if not content_type.startswith("text/event-stream") and not content.lstrip()[:5] == b"data:":
            return content
        for line in content.decode("utf-8", "replace").splitlines():
            if not line.startswith("data:"):
                continue
            try:
                payload = json.loads(line[len("data:") :])
            except ValueError:
                continue
            error = error_from_payload(payload, where=where, credentials=self.credentials)
            if error is not None:
                raise error
        raise not_the_protocol("with a stream of events", where=where, credentials=self.credentials)

    def decode(self, content: bytes, *, where: str) -> Any:
        """JSON of a body, or the error it carries."""
        try:
            payload = json.loads(content)
        except UnicodeDecodeError:
            raise not_the_protocol("its body is not UTF-8 text", where=where, credentials=self.credentials) from None
        except (ValueError, RecursionError):
            start = content[:80].decode("utf-8", "replace")
            raise not_the_protocol(
                f"its body is not JSON (it starts with {start!r})", where=where, credentials=self.credentials
            ) from None
        error = error_from_payload(payload, where=where, credentials=self.credentials)
        if error is not None:
            raise error
        return payload

    def _credentials(self, where: str) -> dict[str, str]:
        try:
            return self.credentials.headers()
        except OSError as error:
            # A token's file or service that is away for a moment, as it is renewed.
            words = f"{where} was not asked: the function given as `token` failed ({type(error).__name__}: {error})."
            raise TeacherConnectionError(self.credentials.redactor.clean(words)) from error

    def _proxy(self, url: str) -> str | None:
        if self.proxy is not None or self.address.is_loopback:
            return self.proxy
        host = urlsplit(url).netloc
        if host not in self._proxies:
            self._proxies[host] = environment_proxy(url)
        return self._proxies[host]

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            self._forget_closed_loops()
            session = self._sessions[loop] = self._new_session()
        return session

    def _new_session(self) -> aiohttp.ClientSession:
        if self._authorities is None:
            self._authorities = usual_authorities()
        connect = CONNECT_SECONDS if self.timeout is None else min(CONNECT_SECONDS, self.timeout)
        return aiohttp.ClientSession(
            # How many calls are in flight is the dispatcher's to say.
            connector=aiohttp.TCPConnector(limit=0, ssl=self._authorities, keepalive_timeout=_KEEPALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect, sock_read=self.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )

    def _forget_closed_loops(self) -> None:
        """A session whose loop is no more cannot be closed: its connections ended with the loop."""
        for loop in [loop for loop in self._sessions if loop.is_closed()]:
            self._sessions.pop(loop).detach()

    async def aclose(self) -> None:
        """Closes the session of the running loop; the next call opens a new one."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def __repr__(self) -> str:
        return f"Wire({str(self.address)!r})"
