"""What all doors over HTTP share: options, transport, and what is learned from a server's refusals."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ConfigurationError, TeacherError, TeacherRequestError
from .address import Credentials, TokenSource, parse_address
from .base import GenerationParams, TeacherInfo, TeacherReply
from .failures import not_the_protocol
from .replies import UnreadableReply
from .transport import DirectTransport, Transport
from .wire import Wire


logger = logging.getLogger(__name__)

CLIENTS = ("direct", "hub", "text_generation")
_TOP_CAPS = (
    re.compile(r"top_n_tokens`? must be >= 0 and <= (\d+)"),
    re.compile(r"top_logprobs\D{0,60}?(?:at most|less than or equal to|<=|maximum(?: allowed)?:?) (\d+)"),
    re.compile(r"greater than max allowed: (\d+)"),
)


def open_transport(client: str, wire: Wire) -> Transport:
    """The transport by name. Client libraries are imported here: TGI's exists only next to huggingface_hub < 1.0."""
    if client == "direct":
        return DirectTransport(wire)
    if client == "hub":
        from .hub_transport import HubTransport

        return HubTransport(wire)
    if client == "text_generation":
        try:
            from .text_generation_transport import TextGenerationTransport
        except ImportError as error:
            raise ConfigurationError(
                f"client='text_generation' needs TGI's own client, which cannot be imported ({error}). Install the "
                "extra `tgi` (it keeps huggingface_hub below 1.0 and transformers below 5), or use client='direct': "
                "both give the same answers."
            ) from None
        return TextGenerationTransport(wire)
    raise ConfigurationError(f"Unknown client {client!r}: it is one of {', '.join(map(repr, CLIENTS))}.")


class HTTPDoor:
    """
    Base of the doors that lead to a URL.

    Args:
        url (`str`):
            The server's address. Trailing slashes, `/v1` and pasted routes are tolerated; `user:password@` becomes
            Basic authorization and is shown nowhere.
        token (`str` or `Callable`, *optional*):
            Bearer token, or a function that returns the present one. `None` reads the environment at every call,
            `False` sends none.
        client (`str`, *optional*, defaults to `"direct"`):
            Who writes requests and reads answers: `"direct"` the door itself, `"hub"`
            `huggingface_hub.AsyncInferenceClient`, `"text_generation"` TGI's own client. All give the same answers.
        headers (`dict[str, str]`, *optional*): Further headers.
        timeout (`float`, *optional*, defaults to `600.0`): Seconds without a sign of life before a call fails.
        proxy (`str`, *optional*): Proxy URL. `None` takes it from the environment, except on this machine.
        ca_bundle (`str`, *optional*): PEM file of certificate authorities to trust.
        token_env (`str`, *optional*, defaults to `"HF_TOKEN"`): Environment variable that holds the token.
    """

    kind = "http"

    def __init__(
        self,
        url: str,
        token: TokenSource = None,
        *,
        client: str = "direct",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = 600.0,
        proxy: str | None = None,
        ca_bundle: str | None = None,
        token_env: str = "HF_TOKEN",
    ):
        address, basic = parse_address(url)
        self.credentials = Credentials(token, token_env=token_env, headers=headers, basic=basic)
        self.wire = Wire(address, self.credentials, timeout=timeout, proxy=proxy, ca_bundle=ca_bundle)
        self.transport = open_transport(client, self.wire)
        self.client = client
        self._info: TeacherInfo | None = None
        self._max_top: int | None = None
        self._warned: set[str] = set()

    @property
    def url(self) -> str:
        """The address without credentials."""
        return self.wire.address.base

    async def aclose(self) -> None:
        """Closes the connections of the running event loop; the door stays usable."""
        await self.transport.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, client={self.client!r})"

    def _read(
        self, reader: Callable[..., TeacherReply], payload: Any, params: GenerationParams, where: str
    ) -> TeacherReply:
        try:
            return reader(payload, max_new_tokens=params.max_new_tokens, stop=params.stop)
        except UnreadableReply as error:
            raise not_the_protocol(str(error), where=where, credentials=self.credentials) from None

    def _top(self, params: GenerationParams) -> int | None:
        """How many top tokens to ask for: what is wanted, no more than the server is known to give."""
        if not params.top_logprobs:
            return None
        return params.top_logprobs if self._max_top is None else min(params.top_logprobs, self._max_top)

    async def _within_top_cap(self, params: GenerationParams, send: Callable[[], Awaitable[Any]]) -> Any:
        """Sends; where the server only refuses the number of top tokens, it says its cap, and gets that many asked."""
        wanted = self._top(params)  # before sending: a call beside this one may learn the cap meanwhile
        try:
            return await send()
        except TeacherRequestError as error:
            cap = top_tokens_cap(str(error))
            if cap is None or wanted is None or wanted <= cap:
                raise
            self._max_top = cap
            self._learn(max_top_tokens=cap)
            return await send()

    def _learn(self, **facts: Any) -> None:
        if self._info is not None:
            self._info = replace(self._info, **facts)

    def _note(self, params: GenerationParams, reply: TeacherReply, *, decisive: bool = True) -> TeacherReply:
        """
        Notices what a reply says about the server: that it thinks aloud, that it ignores what was asked. What a route
        lacks that is not the `decisive` one says nothing of the others.
        """
        if reply.reasoning is not None:
            self._learn(thinks=True)
        if params.top_logprobs and reply.text:
            if decisive:
                self._learn(supports_logprobs=reply.top_tokens is not None)
            if reply.top_tokens is None:
                self._warn_once("ignores `top_logprobs`: label confidence has to be estimated from samples")
        if params.prefill_logprobs and reply.prefill is None:
            self._learn(supports_prefill_logprobs=False)
            self._warn_once("gives no log-probabilities of the prompt")
        return reply

    def _warn_once(self, what: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            logger.warning("The teacher at %s %s.", self.url, what)

    def _not_this_kind(self, what: str, error: TeacherError | None = None) -> ConfigurationError:
        """An address at which something else lives."""
        told = f" ({error})" if error is not None else ""
        return ConfigurationError(self.credentials.redactor.clean(f"{self.url} {what}{told}"))


def top_tokens_cap(message: str) -> int | None:
    """The cap on top tokens that a server names when it refuses a number above it."""
    for pattern in _TOP_CAPS:
        match = pattern.search(message)
        if match is not None:
            return int(match.group(1))
    return None
