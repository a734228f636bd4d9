"""`huggingface_hub`'s client as a transport: the way to Inference Providers, and on request to any URL."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from huggingface_hub import AsyncInferenceClient

from ..errors import TeacherError, TeacherRequestError
from .failures import error_from_payload, not_the_protocol
from .transport import chat_url
from .wire import Wire


# Fields that shall reach the server exactly as they are: the hub client rewrites `response_format` for any URL (the
# schema of OpenAI's form is lost), drops nulls inside a grammar's schema, and its `text_generation` takes no further
# parameters.
_VERBATIM: ContextVar[Mapping[str, Any] | None] = ContextVar("_VERBATIM", default=None)


class _WiredClient(AsyncInferenceClient):
    """
    The hub's client with its last step, the sending, done by a [`Wire`].

    The client itself would refuse a server on this machine where `HF_HUB_OFFLINE` is set, send the stored login of the
    Hub to any URL, open a connection a call (0.x), and lose the words of plain-text errors (0.x).
    """

    def __init__(self, wire: Wire, **options: Any):
        super().__init__(**options)
        self._wire = wire
        # A provider's helper takes the token to route with; a URL's must not fall back on the stored login.
        self._to_provider = options.get("provider") is not None

    async def _inner_post(self, request_parameters: Any, *, stream: bool = False) -> Any:
        body = request_parameters.json
        verbatim = _VERBATIM.get()
        if verbatim is not None:
            nested = verbatim.get("parameters")
            body = {**body, **verbatim}
            if nested is not None:
                body["parameters"] = {**request_parameters.json.get("parameters", {}), **nested}
        headers = {name.lower(): value for name, value in request_parameters.headers.items()}
        if not self._to_provider:
            headers.pop("authorization", None)
        return without_nan(await self._wire.send("POST", request_parameters.url, body=body, headers=headers))


def without_nan(content: bytes) -> bytes:
    """The body with null for NaN, which is no JSON but which some servers write: the client's types recurse on it."""
    if b"NaN" not in content:
        return content
    try:
        return json.dumps(json.loads(content, parse_constant=lambda _: None)).encode()
    except ValueError:
        return content


_GENERATE_ARGUMENTS = frozenset(inspect.signature(AsyncInferenceClient.text_generation).parameters) - {"grammar"}
_CHAT_ARGUMENTS = frozenset(inspect.signature(AsyncInferenceClient.chat_completion).parameters) - {"response_format"}


class HubTransport:
    """
    `huggingface_hub.AsyncInferenceClient`: its `chat_completion` and `text_generation` make the requests and read the
    answers.

    Args:
        wire (`Wire`): Session and credentials.
        provider (`str`, *optional*): Inference provider, in place of the wire's address.
        model (`str`, *optional*): Model id at that provider.
    """

    def __init__(self, wire: Wire, *, provider: str | None = None, model: str | None = None):
        self.wire = wire
        if provider is None:
            self._client = _WiredClient(wire, model=chat_url(wire.address), timeout=wire.timeout)
        else:
            self._client = _WiredClient(wire, model=model, provider=provider, timeout=wire.timeout)
        self._provider = provider

    async def chat(self, body: Mapping[str, Any]) -> Any:
        known = {key: value for key, value in body.items() if key in _CHAT_ARGUMENTS}
        further = {key: value for key, value in body.items() if key not in known}
        if self._provider is not None:
            # Set and read without a pause in between: calls that run at the same time cannot mix it up.
            self._client.token = self.wire.credentials.token()
            return await self._read(self._client.chat_completion(**known, extra_body=further))
        return await self._verbatim(further or None, self._client.chat_completion(**known))

    async def generate(self, inputs: str, parameters: Mapping[str, Any]) -> Any:
        known = {key: value for key, value in parameters.items() if key in _GENERATE_ARGUMENTS}
        further = {key: value for key, value in parameters.items() if key not in known}
        call = self._client.text_generation(inputs, model=self.wire.address.base + "/generate", **known)
        return await self._verbatim({"parameters": further} if further else None, call)

    async def _verbatim(self, fields: Mapping[str, Any] | None, call: Any) -> Any:
        token = _VERBATIM.set(fields)
        try:
            return await self._read(call)
        finally:
            _VERBATIM.reset(token)

    async def _read(self, call: Any) -> Any:
        try:
            payload = plain(await call)
        except TeacherError:
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            # What the client says when a body does not have the shape of its types.
            raise self._unreadable(error) from None
        failure = error_from_payload(payload, where=self._where, credentials=self.wire.credentials)
        if failure is not None:
            raise failure
        return payload

    @property
    def _where(self) -> str:
        return self._provider or str(self.wire.address)

    def _unreadable(self, error: Exception) -> TeacherError:
        if isinstance(error, UnicodeDecodeError):
            what = "its body is not UTF-8 text"
        elif type(error).__name__ == "JSONDecodeError":
            what = "its body is not JSON"
        elif self._provider is not None:
            # The client looks up the provider before it sends: unknown names and a missing token end up here.
            words = f"{self._provider} cannot be asked ({error}). Check provider, model name and HF_TOKEN."
            return TeacherRequestError(self.wire.credentials.redactor.clean(words))
        else:
            what = f"its body has another shape ({type(error).__name__}: {str(error)[:200]})"
        return not_the_protocol(what, where=self._where, credentials=self.wire.credentials)

    async def aclose(self) -> None:
        await self.wire.aclose()


def plain(value: Any) -> Any:
    """The client's typed answers as dicts, fields that its types do not know included."""
    if isinstance(value, dict):
        fields = vars(value) if hasattr(value, "__dataclass_fields__") else value
        return {key: plain(item) for key, item in fields.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
