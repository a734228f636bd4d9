"""What the routes take: the bodies of TGI's protocol as typed records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..records import Messages
from .fields import Fields, shape_error
from .http_errors import ApiError, invalid


@dataclass(frozen=True)
class Parameters:
    """
    `parameters` of `/generate`, before their values are checked. Left out altogether it is
    `Parameters(do_sample=True)`; present without `do_sample`, false.
    """

    best_of: int | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    max_new_tokens: int | None = None
    return_full_text: bool = False
    stop: tuple[str, ...] = ()
    truncate: int | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    seed: int | None = None
    top_n_tokens: int | None = None
    grammar: dict[str, Any] | None = None


@dataclass(frozen=True)
class GenerateCall:
    """Body of `/generate`, `/generate_stream`, `/` and `/tokenize`."""

    inputs: str
    parameters: Parameters
    stream: bool = False


@dataclass(frozen=True)
class ChatCall:
    """Body of `/v1/chat/completions`."""

    messages: Messages
    parameters: Parameters
    logprobs: bool = False
    stream: bool = False
    include_usage: bool = False


@dataclass(frozen=True)
class CompletionCall:
    """Body of `/v1/completions`."""

    prompts: tuple[str, ...]
    parameters: Parameters
    stream: bool = False


def read_generate(data: Any) -> GenerateCall:
    """Reads the body of `/generate`."""
    body = Fields(data)
    inputs = body.text("inputs")
    if "parameters" not in data:
        parameters = Parameters(do_sample=True)
    else:
        parameters = _read_parameters(Fields(data["parameters"], "parameters"))
    return GenerateCall(inputs, parameters, bool(body.flag("stream")))


def _read_parameters(fields: Fields) -> Parameters:
    return Parameters(
        best_of=fields.integer("best_of", "usize"),
        temperature=fields.number("temperature"),
        repetition_penalty=fields.number("repetition_penalty"),
        frequency_penalty=fields.number("frequency_penalty"),
        top_k=fields.integer("top_k", "i32"),
        top_p=fields.number("top_p"),
        typical_p=fields.number("typical_p"),
        do_sample=bool(fields.flag("do_sample")),
        max_new_tokens=fields.integer("max_new_tokens"),
        return_full_text=bool(fields.flag("return_full_text", nullable=True)),
        stop=fields.strings("stop"),
        truncate=fields.integer("truncate", "usize"),
        watermark=bool(fields.flag("watermark")),
        details=bool(fields.flag("details")),
        decoder_input_details=bool(fields.flag("decoder_input_details")),
        seed=fields.integer("seed", "u64"),
        top_n_tokens=fields.integer("top_n_tokens"),
        grammar=_read_grammar(fields, "grammar"),
    )


def _read_grammar(fields: Fields, name: str) -> dict[str, Any] | None:
    """`{"type": "json" | "regex" | "json_schema", "value": ...}` as `json` or `regex`; OpenAI's spelling too."""
    if not fields.has(name):
        return None
    grammar = Fields(fields.raw(name), fields.at(name))
    kind = grammar.text("type")
    if kind == "text":
        return None
    if kind == "regex":
        return {"type": "regex", "value": grammar.text("value")}
    if kind not in ("json", "json_object", "json_schema"):
        known = "`json`, `json_object`, `json_schema`, `regex`"
        raise shape_error(grammar.at("type"), f"unknown variant `{kind}`, expected one of {known}")
    value = grammar.raw("value" if grammar.raw("value") is not None else "json_schema")
    if kind == "json_schema" and isinstance(value, dict) and "schema" in value:
        value = value["schema"]
    if value is None and kind == "json_object":
        value = {"properties": {}}
    if value is None:
        raise shape_error(fields.at(name), "missing field `value`")
    return {"type": "json", "value": value}


def read_chat(data: Any) -> ChatCall:
    """Reads the body of `/v1/chat/completions`."""
    body = Fields(data)
    messages = [_read_message(message) for message in body.objects("messages")]
    if body.raw("tools") and body.raw("tool_choice") != "none":
        raise ApiError(422, "Tool error: this server has no tools; send the request without `tools`", "tool_error")
    do_sample, temperature = _chat_sampling(body)
    presence = body.number("presence_penalty")
    cap = "max_tokens" if body.has("max_tokens") else "max_completion_tokens"
    parameters = Parameters(
        temperature=temperature,
        do_sample=do_sample,
        # The router's own translation: clients do better to leave presence_penalty unset.
        repetition_penalty=None if presence is None else presence + 2.0,
        frequency_penalty=body.number("frequency_penalty"),
        top_p=body.number("top_p"),
        max_new_tokens=body.integer(cap),
        stop=_read_stop(body),
        details=True,
        seed=body.integer("seed", "u64"),
        top_n_tokens=body.integer("top_logprobs"),
        grammar=_read_grammar(body, "response_format"),
    )
    options = Fields(body.raw("stream_options") or {}, "stream_options")
    return ChatCall(
        messages,
        parameters,
        logprobs=bool(body.flag("logprobs", nullable=True)),
        stream=bool(body.flag("stream")),
        include_usage=bool(options.flag("include_usage")),
    )


def read_completion(data: Any) -> CompletionCall:
    """Reads the body of `/v1/completions`."""
    body = Fields(data)
    if isinstance(body.raw("prompt"), list):
        prompts = body.strings("prompt")
    else:
        prompts = (body.text("prompt"),)
    if body.has("suffix"):
        reason = "Suffix is not supported and can be achieved by preprocessing the prompt."
        raise ApiError(422, reason, "suffix not supported")
    do_sample, temperature = _chat_sampling(body)
    tokens = body.integer("max_tokens")
    parameters = Parameters(
        temperature=temperature,
        do_sample=do_sample,
        repetition_penalty=body.number("repetition_penalty"),
        frequency_penalty=body.number("frequency_penalty"),
        top_p=body.number("top_p"),
        max_new_tokens=100 if tokens is None else tokens,
        stop=_read_stop(body),
        details=True,
        seed=body.integer("seed", "u64"),
    )
    return CompletionCall(prompts, parameters, stream=bool(body.flag("stream")))


def _chat_sampling(body: Fields) -> tuple[bool, float | None]:
    """Greedy only where temperature is 0."""
    temperature = body.number("temperature")
    return (False, None) if temperature == 0.0 else (True, temperature)


def _read_stop(body: Fields) -> tuple[str, ...]:
    stop = body.raw("stop")
    return (stop,) if isinstance(stop, str) else body.strings("stop", nullable=True)


def _read_message(message: Fields) -> dict[str, str]:
    content = message.raw("content")
    if isinstance(content, list):
        parts = []
        for part in message.objects("content"):
            kind = part.text("type")
            if kind != "text":
                raise invalid(f"{kind} modality is not supported")
            parts.append(part.text("text"))
        content = "".join(parts)
    elif content is not None and not isinstance(content, str):
        raise message.wrong("content", "a string")
    return {"role": message.text("role"), "content": content or ""}
