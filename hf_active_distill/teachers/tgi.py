"""The door to Text Generation Inference, native: chat for dialogues, `/generate` for plain prompts."""

from __future__ import annotations

from typing import Any

from ..errors import TeacherProtocolError, TeacherRequestError
from .base import GenerationParams, TeacherInfo, TeacherReply, TeacherRequest
from .grammars import tgi_grammar
from .http_door import HTTPDoor
from .probe import is_embedding_server, read_tgi_info
from .replies import read_chat, read_generate
from .token_counts import TokenCounts
from .transport import chat_url


# What TGI takes by default where `/info` does not tell.
_MAX_STOP_SEQUENCES = 4
# Role names, separators and a system prompt that a chat template may add, as a bound rather than an estimate.
CHAT_TOKENS_PER_MESSAGE = 16
CHAT_TOKENS_PER_CALL = 64


class TGITeacher(HTTPDoor):
    """
    A server that speaks TGI 3's protocol.

    Takes the arguments of [`~teachers.http_door.HTTPDoor`] and:

    Args:
        model (`str`, *optional*, defaults to `"tgi"`):
            Model field of a chat. Any other name than `"tgi"` asks for the LoRA adapter of that name.

    Temperature 0 is greedy decoding on both routes, `top_p` of 1.0 is left out, more stop strings than the server
    takes are cut at here, and a number of top tokens above the server's cap is asked for again at the cap: the
    refusal names it and costs nothing.
    """

    kind = "tgi"

    def __init__(self, url: str, token: Any = None, *, model: str = "tgi", **options: Any):
        super().__init__(url, token, **options)
        self.model = model
        self._counts = TokenCounts(self._tokenize)

    async def info(self) -> TeacherInfo:
        if self._info is None:
            try:
                payload = await self.wire.get_json("/info")
            except (TeacherRequestError, TeacherProtocolError) as error:
                raise self._not_this_kind(
                    "does not answer /info as TGI does. For an OpenAI-compatible server write openai+http://... in "
                    "place of tgi+http://..., or leave the prefix out to have it found out.",
                    error,
                ) from None
            info = read_tgi_info(payload)
            if info is None or is_embedding_server(payload):
                what = "an embedding server" if is_embedding_server(payload) else "another kind of server"
                raise self._not_this_kind(
                    f"answers /info, but is {what}: a teacher needs one that generates text (TGI's /info has model_id "
                    "and max_total_tokens)."
                )
            self._info = info
        return self._info

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        params = request.params
        if request.kind == "chat":
            payload = await self._within_top_cap(params, lambda: self.transport.chat(self.chat_body(request)))
            reply = self._read(read_chat, payload, params, chat_url(self.wire.address))
        else:
            prompt = request.prompt or ""
            payload = await self._within_top_cap(
                params, lambda: self.transport.generate(prompt, self.generate_parameters(params))
            )
            reply = self._read(read_generate, payload, params, self.url + "/generate")
            counted = self._counts.known(prompt) if reply.usage.estimated else None
            if counted is not None:
                # TGI reports no prompt tokens here; its own tokenizer did when the call was planned.
                reply.usage.prompt_tokens = counted
        return self._note(params, reply)

    def chat_body(self, request: TeacherRequest) -> dict[str, Any]:
        """Body of a chat. Penalties stay unset: TGI turns `presence_penalty` into a repetition penalty."""
        params = request.params
        body: dict[str, Any] = {
            "model": self.model,
            "messages": request.message_list(),
            "max_tokens": params.max_new_tokens,
            # 0 is greedy here; `do_sample` does not exist on this route.
            "temperature": params.temperature,
        }
        if params.temperature > 0:
            body.update(_sampling(params))
        if params.stop:
            body["stop"] = self._stop(params)
        if params.grammar is not None:
            body["response_format"] = tgi_grammar(params.grammar)
        top = self._top(params)
        if top:
            body.update(logprobs=True, top_logprobs=top)
        return {**body, **dict(params.extra)}

    def generate_parameters(self, params: GenerationParams) -> dict[str, Any]:
        """Parameters of a `/generate`. `do_sample` and `details` are always said: left out, they mean other things."""
        sampled = params.temperature > 0
        parameters: dict[str, Any] = {
            "do_sample": sampled,
            "max_new_tokens": params.max_new_tokens,
            "details": True,
            "decoder_input_details": params.prefill_logprobs,
        }
        if sampled:
            parameters["temperature"] = params.temperature
            parameters.update(_sampling(params))
        if params.stop:
            parameters["stop"] = self._stop(params)
        if params.grammar is not None:
            parameters["grammar"] = tgi_grammar(params.grammar)
        top = self._top(params)
        if top:
            parameters["top_n_tokens"] = top
        return {**parameters, **dict(params.extra)}

    def _stop(self, params: GenerationParams) -> list[str]:
        most = self._info.max_stop_sequences if self._info else None
        return list(params.stop[: most or _MAX_STOP_SEQUENCES])

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        """
        Prompt tokens by the server's `/tokenize`, `None` where it has none. For a chat: the contents' tokens and an
        overhead of 64, and 16 a message, for what the chat template adds.
        """
        if request.kind == "generate":
            return await self._counts.total([request.prompt or ""])
        messages = request.message_list()
        total = await self._counts.total([message.get("content", "") for message in messages])
        return None if total is None else total + CHAT_TOKENS_PER_CALL + CHAT_TOKENS_PER_MESSAGE * len(messages)

    async def _tokenize(self, text: str) -> int | None:
        tokens = await self.wire.post_json(self.url + "/tokenize", {"inputs": text})
        return len(tokens) if isinstance(tokens, list) else None


def _sampling(params: GenerationParams) -> dict[str, Any]:
    sampling: dict[str, Any] = {}
    if params.top_p is not None and 0 < params.top_p < 1:
        sampling["top_p"] = params.top_p
    if params.seed is not None:
        sampling["seed"] = params.seed
    return sampling
