"""The door to Hugging Face Inference Providers."""

from __future__ import annotations

from typing import Any

from huggingface_hub import constants

from ..errors import ConfigurationError, TeacherConnectionError, TeacherError, TeacherRequestError
from .address import Credentials, TokenSource, parse_address
from .base import TeacherInfo, TeacherReply, TeacherRequest
from .failures import not_the_protocol
from .hub_transport import HubTransport
from .openai_compatible import chat_fields
from .replies import UnreadableReply, read_chat
from .wire import Wire


_ROUTER = "https://router.huggingface.co"


class HFInferenceTeacher:
    """
    A model at an inference provider, through `huggingface_hub`. Dialogues only.

    This door shares its requests and its reading of answers with the OpenAI-compatible one, but was never run against
    the live service: only its request building and its error paths are tested.

    Args:
        target (`str`):
            `"provider/owner/model"`, or `"owner/model"`, which lets the Hub choose the provider.
        token (`str` or `Callable`, *optional*):
            Hub token, or a function that returns the present one; `None` reads `HF_TOKEN` at every call, and after
            that the login that `hf auth login` stores.
        headers, timeout, proxy, ca_bundle, token_env: As in [`~teachers.http_door.HTTPDoor`].
    """

    def __init__(
        self,
        target: str,
        token: TokenSource = None,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = 600.0,
        proxy: str | None = None,
        ca_bundle: str | None = None,
        token_env: str = "HF_TOKEN",
    ):
        provider, model = _parse(target)
        self._provider, self._model = provider, model
        self.credentials = Credentials(token, token_env=token_env, headers=headers)
        address, _ = parse_address(_ROUTER)
        wire = Wire(address, self.credentials, timeout=timeout, proxy=proxy, ca_bundle=ca_bundle)
        self.transport = HubTransport(wire, provider=provider, model=model)

    async def info(self) -> TeacherInfo:
        return TeacherInfo(model=self._model, door="hf-inference", server=f"inference provider {self._provider}")

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        if request.kind != "chat":
            raise TeacherRequestError("Inference providers take dialogues only: ask with messages, not with a prompt.")
        body = {"model": self._model, "messages": request.message_list(), **chat_fields(request.params)}
        if constants.HF_HUB_OFFLINE:
            raise self._not_routed("offline mode is set: unset HF_HUB_OFFLINE")
        try:
            payload = await self.transport.chat(body)
        except TeacherError:
            raise
        except Exception as error:  # the client asks the Hub who serves the model, over whatever HTTP library it has
            raise self._not_routed(f"{type(error).__name__}: {error}") from None
        params = request.params
        try:
            return read_chat(payload, max_new_tokens=params.max_new_tokens, stop=params.stop)
        except UnreadableReply as error:
            raise not_the_protocol(str(error), where=self._provider, credentials=self.credentials) from None

    def _not_routed(self, why: str) -> TeacherError:
        message = (
            f"{self._model} at provider {self._provider} cannot be reached ({why}). Check the names and HF_TOKEN."
        )
        return TeacherConnectionError(self.credentials.redactor.clean(message))

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        return None

    async def aclose(self) -> None:
        await self.transport.aclose()

    def __repr__(self) -> str:
        return f"HFInferenceTeacher({self._provider}/{self._model})"


def _parse(target: str) -> tuple[Any, str]:
    parts = target.strip().strip("/").split("/")
    if len(parts) == 3 and all(parts):
        return parts[0], "/".join(parts[1:])
    if len(parts) == 2 and all(parts):
        return "auto", target.strip().strip("/")
    raise ConfigurationError(
        f"'hf-inference:{target}' names no model: write hf-inference:provider/owner/model or hf-inference:owner/model."
    )
