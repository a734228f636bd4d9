"""What the routes answer: replies of a backend as the bodies of TGI's protocol."""

from __future__ import annotations

import math
import time
from typing import Any

from .. import __version__
from ..exchange import ServedModel, ServedReply, ServedToken
from ..teachers.base import TopToken
from .validation import ServerOptions


FINGERPRINT = f"{__version__}-native"


def generation_body(replies: list[ServedReply], *, details: bool, prompt: str = "") -> dict[str, Any]:
    """
    Body of `/generate`. The first reply is the answer, the others stand in `best_of_sequences`; `prompt` is put before
    every text (`return_full_text`).
    """
    body: dict[str, Any] = {"generated_text": prompt + replies[0].text}
    if details:
        body["details"] = _details(replies[0])
        if len(replies) > 1:
            body["details"]["best_of_sequences"] = [
                {"generated_text": prompt + reply.text, **_details(reply)} for reply in replies[1:]
            ]
    return body


def _details(reply: ServedReply) -> dict[str, Any]:
    details: dict[str, Any] = {
        "finish_reason": finish_reason(reply),
        "generated_tokens": reply.usage.completion_tokens,
        "seed": reply.seed,
        "prefill": [
            {"id": token.token_id, "text": token.text, "logprob": _logprob(token.logprob)}
            for token in reply.prefill or []
        ],
        "tokens": [_token(token) for token in reply.tokens],
    }
    if reply.top_tokens:
        details["top_tokens"] = [[_top_token(token) for token in row] for row in reply.top_tokens]
    return details


def stream_event(
    index: int,
    token: ServedToken,
    top: list[TopToken] | None,
    reply: ServedReply | None,
    *,
    details: bool,
    prompt: str,
) -> dict[str, Any]:
    """One event of `/generate_stream`; `reply` is given with the last token."""
    event: dict[str, Any] = {"index": index, "token": _token(token), "generated_text": None, "details": None}
    if top:
        event["top_tokens"] = [_top_token(alternative) for alternative in top]
    if reply is not None:
        event["generated_text"] = prompt + reply.text
        if details:
            event["details"] = {
                "finish_reason": finish_reason(reply),
                "generated_tokens": reply.usage.completion_tokens,
                "seed": reply.seed,
                "input_length": reply.usage.prompt_tokens,
            }
    return event


def chat_body(reply: ServedReply, model: ServedModel, *, logprobs: bool) -> dict[str, Any]:
    """Body of `/v1/chat/completions`."""
    message = {"role": "assistant", "content": reply.text}
    if reply.reasoning is not None:
        message["reasoning_content"] = reply.reasoning
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _chat_logprobs(reply.tokens, reply.top_tokens) if logprobs else None,
        "finish_reason": finish_reason(reply, openai=True),
    }
    return _openai_body("chat.completion", model, [choice], usage_body([reply]))


def chat_chunk(
    token: ServedToken,
    top: list[TopToken] | None,
    reply: ServedReply | None,
    model: ServedModel,
    *,
    logprobs: bool,
) -> dict[str, Any]:
    """One event of a streamed chat; `reply` is given with the last token."""
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": "" if token.special else token.text},
        "logprobs": _chat_logprobs([token], [top or []]) if logprobs else None,
        "finish_reason": None if reply is None else finish_reason(reply, openai=True),
    }
    return _openai_body("chat.completion.chunk", model, [choice], None)


def chat_usage_chunk(reply: ServedReply, model: ServedModel) -> dict[str, Any]:
    """The event after the last one, where `stream_options.include_usage` asks for it."""
    return _openai_body("chat.completion.chunk", model, [], usage_body([reply]))


def completion_body(replies: list[ServedReply], model: ServedModel) -> dict[str, Any]:
    """Body of `/v1/completions`, one choice a prompt."""
    choices = [
        {"index": index, "text": reply.text, "logprobs": None, "finish_reason": finish_reason(reply, openai=True)}
        for index, reply in enumerate(replies)
    ]
    return _openai_body("text_completion", model, choices, usage_body(replies))


def completion_chunk(index: int, token: ServedToken, reply: ServedReply | None, model: ServedModel) -> dict[str, Any]:
    """One event of a streamed completion; `reply` is given with the last token."""
    choice = {
        "index": index,
        "text": "" if token.special else token.text,
        "logprobs": None,
        "finish_reason": "" if reply is None else finish_reason(reply, openai=True),
    }
    return _openai_body("text_completion", model, [choice], None if reply is None else usage_body([reply]))


def info_body(model: ServedModel, options: ServerOptions) -> dict[str, Any]:
    """Body of `/info`. Like TGI it does not tell `max_top_n_tokens`."""
    return {
        "model_id": model.model,
        "model_sha": model.revision,
        "model_dtype": model.dtype,
        "model_device_type": model.device,
        "model_pipeline_tag": None,
        "max_concurrent_requests": options.max_concurrent_requests,
        "max_best_of": options.max_best_of,
        "max_stop_sequences": options.max_stop_sequences,
        "max_input_tokens": model.max_input_tokens,
        "max_total_tokens": model.max_total_tokens,
        "validation_workers": 1,
        "max_client_batch_size": options.max_client_batch_size,
        "router": "hf-active-distill",
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


def models_body(model: ServedModel) -> dict[str, Any]:
    """Body of `/v1/models`."""
    entry = {"id": model.model, "object": "model", "created": 0, "owned_by": model.model}
    return {"object": "list", "data": [entry]}


def finish_reason(reply: ServedReply, *, openai: bool = False) -> str:
    """`length`, `stop_sequence`, or `eos_token`, which the OpenAI routes call `stop`."""
    if reply.finish_reason == "length":
        return "length"
    if reply.stopped_by_sequence:
        return "stop_sequence"
    return "stop" if openai else "eos_token"


def usage_body(replies: list[ServedReply]) -> dict[str, int]:
    """`usage` of the OpenAI routes."""
    prompt = sum(reply.usage.prompt_tokens for reply in replies)
    completion = sum(reply.usage.completion_tokens for reply in replies)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _openai_body(
    kind: str, model: ServedModel, choices: list[dict[str, Any]], usage: dict[str, int] | None
) -> dict[str, Any]:
    return {
        "object": kind,
        "id": "",
        "created": int(time.time()),
        "model": model.model,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
        "usage": usage,
    }


def _chat_logprobs(tokens: list[ServedToken], top_tokens: list[list[TopToken]] | None) -> dict[str, Any]:
    tops = top_tokens or []
    return {
        "content": [
            {
                "token": token.text,
                "logprob": _logprob(token.logprob),
                "top_logprobs": [
                    {"token": top.text, "logprob": _logprob(top.logprob)}
                    for top in (tops[position] if position < len(tops) else [])
                ],
            }
            for position, token in enumerate(tokens)
        ]
    }


def _token(token: ServedToken) -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": _logprob(token.logprob), "special": token.special}


def _top_token(token: TopToken) -> dict[str, Any]:
    # The protocol has `special` on top tokens as well; the record does not carry it, and no client reads it.
    return {"id": token.token_id, "text": token.text, "logprob": _logprob(token.logprob), "special": False}


def _logprob(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: both become null, as TGI's serialiser does."""
    return value if value is not None and math.isfinite(value) else None
