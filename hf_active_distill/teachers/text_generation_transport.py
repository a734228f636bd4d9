"""
TGI's own client as a transport. Importable only where it is installed (extra `tgi`, huggingface_hub below 1.0); the
door imports this module when asked for it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    InvalidURL,
)
from pydantic import ValidationError as SchemaError
from text_generation import AsyncClient
from text_generation.errors import ValidationError
from text_generation.types import ChatRequest, Parameters, Request

from ..errors import TeacherRequestError
from .failures import Refusal, broken_off, error_from_refusal, never_reached
from .transport import chat_url
from .wire import CONNECT_SECONDS, Wire, encode_json


class _KeepingClient(AsyncClient):
    """
    The client with its requests' types and checks, and a sending of its own.

    `generate` and `chat` as they are lose the status, the headers and every body that is not JSON, send explicit
    nulls, drop the fields of a chat that TGI gained later (`stop`, `response_format`) and the reasoning in
    its answers.
    """

    def __init__(self, wire: Wire):
        super().__init__(wire.address.base)
        self.wire = wire
        limit = wire.timeout
        connect = CONNECT_SECONDS if limit is None else min(CONNECT_SECONDS, limit)
        # The client's own limit counts ten seconds from the start; ours counts silence.
        self.timeout = ClientTimeout(total=None, sock_connect=connect, sock_read=limit)

    async def send(self, url: str, body: Any) -> bytes:
        """POST of a body; returns the body of a 2xx, raises what anything else means."""
        wire = self.wire
        self.headers = {"accept": "application/json", "content-type": "application/json", **wire.credentials.headers()}
        verify = wire.verify if isinstance(wire.verify, ssl.SSLContext) else True
        try:
            async with (
                ClientSession(
                    headers=self.headers,
                    cookies=self.cookies,
                    timeout=self.timeout,
                    trust_env=not wire.address.is_loopback,
                ) as session,
                session.post(
                    url, data=encode_json(body), proxy=wire.proxy, ssl=verify, allow_redirects=False
                ) as response,
            ):
                content = await response.read()
                headers = {name.lower(): value for name, value in response.headers.items()}
                status = response.status
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise never_reached(error, where=url, credentials=wire.credentials) from None
        except (InvalidURL, ValueError) as error:
            raise TeacherRequestError(wire.credentials.redactor.clean(f"{url} cannot be asked: {error}.")) from None
        except (ClientConnectionError, ClientError, TimeoutError, OSError) as error:
            raise broken_off(error, where=url, credentials=wire.credentials) from None
        if status >= 300:
            refusal = Refusal(status, headers, content)
            raise error_from_refusal(refusal, where=url, credentials=wire.credentials)
        return wire.unwrapped(content, url, headers.get("content-type", ""))


class TextGenerationTransport:
    """
    `text_generation.AsyncClient`: its types check the requests, its HTTP library carries them.

    Args:
        wire (`Wire`): Address and credentials; it also serves the routes that this client does not know.
    """

    def __init__(self, wire: Wire):
        self.wire = wire
        self._client = _KeepingClient(wire)

    async def chat(self, body: Mapping[str, Any]) -> Any:
        known = {key: value for key, value in body.items() if key in ChatRequest.model_fields}
        further = {key: value for key, value in body.items() if key not in known}
        request = self._checked(ChatRequest, known)
        return await self._post(chat_url(self.wire.address), {**request, **further})

    async def generate(self, inputs: str, parameters: Mapping[str, Any]) -> Any:
        # The grammar's type knows no nulls inside a schema: it goes as it is, like what the client does not know.
        known = {
            key: value for key, value in parameters.items() if key in Parameters.model_fields and key != "grammar"
        }
        further = {key: value for key, value in parameters.items() if key not in known}
        request = self._checked(Request, {"inputs": inputs, "parameters": known})
        request["parameters"].update(further)
        return await self._post(self.wire.address.base + "/generate", request)

    def _checked(self, kind: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return kind(**fields).model_dump(mode="json", exclude_none=True)
        except (ValidationError, SchemaError) as error:
            # What the server would answer with 422, found out before sending.
            raise TeacherRequestError(f"The request is invalid: {error}", status=422) from None

    async def _post(self, url: str, body: Any) -> Any:
        return self.wire.decode(await self._client.send(url, body), where=url)

    async def aclose(self) -> None:
        await self.wire.aclose()
