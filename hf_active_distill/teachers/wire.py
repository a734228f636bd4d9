"""
One HTTP session for everything that goes to a teacher: own time-outs, proxies and certificates, and refusals that keep
their status, headers and body.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import ConfigurationError, TeacherRequestError
from .address import Address, Credentials
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


def http_library() -> Any:
    """The HTTP library that the installed huggingface_hub stands on (2.x: httpx2), else httpx, which is alike."""
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ConfigurationError("Neither httpx2 nor httpx is installed: run `pip install httpx`.")


def trusted_authorities(ca_bundle: str | None) -> ssl.SSLContext | bool:
    """What the HTTP library verifies certificates with."""
    if ca_bundle is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"`ca_bundle` {ca_bundle!r} cannot be read ({error}): give a PEM file.") from None


def encode_json(body: Any) -> bytes:
    """A body in UTF-8. Letters go out unescaped, as TGI counts bytes; a lone surrogate, which no text has, as `?`."""
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


@dataclass
class _Sessions:
    """Those of one event loop, as many as calls were ever in flight at once."""

    all: list[Any] = field(default_factory=list)
    idle: list[Any] = field(default_factory=list)


class Wire:
    """
    Sends JSON and returns bodies, or raises one of the named teacher errors.

    A session belongs to one event loop; a teacher may outlive it (a dispatcher starts a loop for every round), so
    every loop has its own. A session carries one call at a time, and the one that came back last goes out first: a
    session shared by all calls looks at every connection it has, twice a call, which is most of a call's CPU time
    where many are in flight.

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
        self.address = address
        self.credentials = credentials
        self.timeout = timeout
        self.proxy = proxy
        self.verify = trusted_authorities(ca_bundle)
        self._context: Any = None
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Sessions] = WeakKeyDictionary()
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
        library = http_library()
        sent = {"accept": "application/json", **(headers or {}), **self.credentials.headers()}
        content = None
        if body is not None:
            sent.setdefault("content-type", "application/json")
            content = encode_json(body)
        try:
            response = await self._exchange(library, method, url, content, sent)
        except (library.ConnectError, library.ConnectTimeout, library.PoolTimeout, library.ProxyError) as error:
            raise never_reached(error, where=url, credentials=self.credentials) from None
        except (library.UnsupportedProtocol, library.InvalidURL, library.LocalProtocolError, ValueError) as error:
            # A header or URL that HTTP does not allow: nothing was sent, and it will not get better.
            raise TeacherRequestError(self.credentials.redactor.clean(f"{url} cannot be asked: {error}.")) from None
        except library.DecodingError:
            raise not_the_protocol("its body is damaged", where=url, credentials=self.credentials) from None
        except (library.HTTPError, OSError) as error:
            raise broken_off(error, where=url, credentials=self.credentials) from None
        if response.status_code >= 300:
            refusal = Refusal(response.status_code, dict(response.headers), response.content)
            raise error_from_refusal(refusal, where=url, credentials=self.credentials)
        return self.unwrapped(response.content, url, response.headers.get("content-type", ""))

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

    async def _exchange(self, library: Any, method: str, url: str, content: bytes | None, headers: Any) -> Any:
        sessions = self._sessions.setdefault(asyncio.get_running_loop(), _Sessions())
        session = sessions.idle.pop() if sessions.idle else self._new_session(library, sessions)
        try:
            return await session.request(method, url, content=content, headers=headers)
        finally:
            sessions.idle.append(session)

    def _new_session(self, library: Any, sessions: _Sessions) -> Any:
        trust_env = not self.address.is_loopback
        if self._context is None:  # reading the authorities takes far longer than the rest
            self._context = library.create_ssl_context(trust_env=trust_env) if self.verify is True else self.verify
        connect = CONNECT_SECONDS if self.timeout is None else min(CONNECT_SECONDS, self.timeout)
        session = library.AsyncClient(
            timeout=library.Timeout(self.timeout, connect=connect, pool=None),
            limits=library.Limits(
                max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEPALIVE_SECONDS
            ),
            proxy=self.proxy,
            trust_env=trust_env,
            verify=self._context,
            # A redirected POST may turn into a GET and the token would go to another host.
            follow_redirects=False,
        )
        sessions.all.append(session)
        return session

    async def aclose(self) -> None:
        """Closes the sessions of the running loop; the next call opens a new one."""
        sessions = self._sessions.pop(asyncio.get_running_loop(), None)
        if sessions is not None:
            for session in sessions.all:
                await session.aclose()

    def __repr__(self) -> str:
        return f"Wire({str(self.address)!r})"
