"""The door to any server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, `transformers serve`, hosted ones."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ..errors import (
    TeacherAuthError,
    TeacherConnectionError,
    TeacherError,
    TeacherProtocolError,
    TeacherRequestError,
)
from .base import GenerationParams, TeacherInfo, TeacherReply, TeacherRequest
from .grammars import openai_grammar
from .http_door import HTTPDoor
from .probe import read_openai_models, read_telling_page, telling_page
from .replies import read_chat, read_completion
from .token_counts import TokenCounts
from .transport import chat_url


logger = logging.getLogger(__name__)

_MAX_STOP_SEQUENCES = 4
# What a page tells that no run needs may not keep one waiting.
_PAGE_SECONDS = 10.0


class OpenAITeacher(HTTPDoor):
    """
    A server that speaks OpenAI's chat protocol. Plain prompts go to `/v1/completions`, which some hosted ones lack.

    Takes the arguments of [`~teachers.http_door.HTTPDoor`] and:

    Args:
        model (`str`, *optional*):
            Served model. `None` takes the first that `/v1/models` lists.

    Nothing that was not asked for is sent, no nulls either. What single servers refuse (`max_tokens`, a temperature, a
    seed) is learned from their refusal, which costs nothing, and left out from then on.
    """

    kind = "openai"

    def __init__(self, url: str, token: Any = None, *, model: str | None = None, **options: Any):
        super().__init__(url, token, **options)
        self.model = model
        self._refused: set[str] = set()
        self._counts = TokenCounts(self._tokenize)
        self._token_ids: dict[str, int | None] = {}

    async def info(self) -> TeacherInfo:
        if self._info is None:
            self._info = await self._ask_models()
        return self._info

    async def _ask_models(self) -> TeacherInfo:
        url = self.wire.address.v1 + "/models"
        try:
            payload = self.wire.decode(await self.wire.send("GET", url), where=url)
        except (TeacherAuthError, TeacherConnectionError):
            raise
        except (TeacherRequestError, TeacherProtocolError) as error:
            if self.model is not None and error.status in (404, 405):
                # Some gateways list nothing; a model that was named can be asked all the same.
                return TeacherInfo(model=self.model, door="openai")
            raise self._not_this_kind(
                "does not answer /v1/models as an OpenAI-compatible server does. For TGI write tgi+http://..., for a "
                "server without that route pass `model`.",
                error,
            ) from None
        info, names = read_openai_models(payload, self.model)
        if info is None and self.model is not None and names:
            raise self._not_this_kind(f"does not serve {self.model!r}. It serves: {', '.join(names[:20])}.")
        if info is None:
            raise self._not_this_kind("answers /v1/models, but lists no model: load one there, or check the URL.")
        return await self._look_closer(info)

    async def _look_closer(self, info: TeacherInfo) -> TeacherInfo:
        """What another GET tells of the server, which costs nothing; most have no such page, which is no error."""
        page = telling_page(info)
        if page is None:
            return info
        try:
            async with asyncio.timeout(_PAGE_SECONDS):
                return read_telling_page(info, await self.wire.get_json(page))
        except (TeacherError, TimeoutError):
            return info

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        try:
            info = await self.info()
        except TeacherError:
            raise
        except ValueError as error:
            raise TeacherRequestError(str(error)) from None
        params = await self._with_token_ids(request.params, info)
        if params is not request.params:
            request = replace(request, params=params)
        if request.kind == "chat":
            payload = await self._adapting(params, lambda: self.transport.chat(self.chat_body(request, info)))
            return self._note(params, self._read(read_chat, payload, params, chat_url(self.wire.address)))
        url = self.wire.address.v1 + "/completions"
        payload = await self._adapting(
            params, lambda: self.wire.post_json(url, self.completion_body(request.prompt or "", params, info))
        )
        return self._note(params, self._read(read_completion, payload, params, url), decisive=False)

    async def _with_token_ids(self, params: GenerationParams, info: TeacherInfo) -> GenerationParams:
        """vLLM is told by their ids whose log-probabilities are wanted, with and without a space before them."""
        if not params.logprob_tokens or not info.supports_named_logprobs:
            return params
        texts = [space + text for text in params.logprob_tokens for space in ("", " ")]
        ids = await asyncio.gather(*(self._token_id(text, info) for text in texts))
        known = [token_id for token_id in ids if token_id is not None]
        if not known:
            return params
        return replace(params, extra=(*params.extra, ("logprob_token_ids", known)))

    async def _token_id(self, text: str, info: TeacherInfo) -> int | None:
        """The token that a text is; `None` where it is several, or the server cannot be asked."""
        if text not in self._token_ids:
            body = {"model": info.model, "prompt": text, "add_special_tokens": False}
            try:
                answer = await self.wire.post_json(self.url + "/tokenize", body)
            except TeacherConnectionError:
                return None  # it may be there the next time
            except TeacherError:
                answer = None
            tokens = answer.get("tokens") if isinstance(answer, dict) else None
            self._token_ids[text] = tokens[0] if isinstance(tokens, list) and len(tokens) == 1 else None
        return self._token_ids[text]

    async def _adapting(self, params: GenerationParams, send: Any) -> Any:
        """Sends; a refusal that names a parameter is learned from and the rest is sent again, each one once."""
        while True:
            try:
                return await self._within_top_cap(params, send)
            except TeacherRequestError as error:
                name = refused_parameter(str(error)) if error.status in (400, 422) else None
                if name is None or name in self._refused:
                    raise
                self._refused.add(name)
                logger.info("The teacher at %s refuses `%s`: it is left out from now on.", self.url, name)
                if name == "seed":
                    self._learn(supports_seed=False)

    def chat_body(self, request: TeacherRequest, info: TeacherInfo) -> dict[str, Any]:
        """Body of a chat."""
        params = request.params
        fields = chat_fields(params, server=info.server, top=self._top(params), refused=self._refused)
        if params.grammar is not None and not openai_grammar(params.grammar, info.server):
            self._warn_once("is not known to take regular expressions as grammars: replies are not bound to them")
        return {"model": info.model, "messages": request.message_list(), **fields}

    def completion_body(self, prompt: str, params: GenerationParams, info: TeacherInfo) -> dict[str, Any]:
        """Body of a plain completion."""
        body: dict[str, Any] = {"model": info.model, "prompt": prompt, "max_tokens": params.max_new_tokens}
        body.update(_sampling(params, self._refused))
        if params.grammar is not None:
            body.update(openai_grammar(params.grammar, info.server))
        top = self._top(params)
        if top:
            body["logprobs"] = top
        if params.prefill_logprobs and info.server == "vllm":
            body["prompt_logprobs"] = 0
        return {**body, **dict(params.extra)}

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        """Prompt tokens by vLLM's `/tokenize`, chat template included; `None` at other servers."""
        try:
            info = await self.info()
        except (TeacherError, ValueError):
            return None
        if info.server != "vllm":
            return None
        asked = {"prompt": request.prompt} if request.kind == "generate" else {"messages": request.message_list()}
        return await self._counts.total([json.dumps({"model": info.model, **asked})])

    async def _tokenize(self, body: str) -> int | None:
        answer = await self.wire.post_json(self.url + "/tokenize", json.loads(body))
        count = answer.get("count") if isinstance(answer, dict) else None
        return count if isinstance(count, int) else None


def chat_fields(
    params: GenerationParams,
    *,
    server: str | None = None,
    top: int | None = None,
    refused: Collection[str] = (),
) -> dict[str, Any]:
    """Fields of an OpenAI chat that say how to answer, without those that the server refuses."""
    length = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
    fields = {length: params.max_new_tokens, **_sampling(params, refused)}
    if params.grammar is not None and "response_format" not in refused:
        fields.update(openai_grammar(params.grammar, server))
    top = params.top_logprobs if top is None else top
    if top and "top_logprobs" not in refused:
        fields.update(logprobs=True, top_logprobs=top)
    return {**fields, **dict(params.extra)}


def _sampling(params: GenerationParams, refused: Collection[str]) -> dict[str, Any]:
    sampling: dict[str, Any] = {"temperature": params.temperature}
    if params.temperature > 0 and params.top_p is not None and params.top_p < 1:
        sampling["top_p"] = params.top_p
    if params.seed is not None:
        sampling["seed"] = params.seed
    if params.stop:
        sampling["stop"] = list(params.stop[:_MAX_STOP_SEQUENCES])
    return {name: value for name, value in sampling.items() if name not in refused}


def refused_parameter(message: str) -> str | None:
    """The parameter of ours that a refusal names as unsupported, `None` where it is about something else."""
    lowered = message.lower()
    if not any(word in lowered for word in ("unsupported", "not support", "unrecognized", "unknown", "extra inputs")):
        return None
    names = ("max_tokens", "temperature", "top_p", "seed", "stop", "top_logprobs", "logprobs", "response_format")
    named = next((name for name in names if any(q + name + q in lowered for q in "'`\"")), None)
    return "top_logprobs" if named == "logprobs" else named
