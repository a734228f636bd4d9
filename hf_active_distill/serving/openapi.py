"""The server described in OpenAPI, after TGI's published description: what `/openapi.json` answers."""

from __future__ import annotations

from typing import Any

from .. import __version__


Schema = dict[str, Any]

_BOOLEAN: Schema = {"type": "boolean"}
_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_LOGPROB: Schema = {"type": ["number", "null"]}


def openapi_description() -> Schema:
    """
    The description of all routes. Ranges that depend on the server's limits or on other fields are not in it: such
    values are answered with 422.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hf-active-distill teacher server",
            "description": "Text Generation Inference's HTTP protocol, for development.",
            "version": __version__,
        },
        "paths": {**_open_routes(), **_guarded_routes()},
        "components": {
            "schemas": {**_requests(), **_answers()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


# --- routes


def _open_routes() -> Schema:
    """Without a token."""

    def get(summary: str, content: Schema | None) -> Schema:
        answer: Schema = {"description": "The answer"} | ({} if content is None else {"content": content})
        return {"get": {"summary": summary, "responses": {"200": answer}}}

    return {
        "/health": get("Whether the server answers", None),
        "/ping": get("Whether the server answers", None),
        "/info": get("Model and limits", _json(_ref("Info"))),
        "/v1/models": get("The served model", _json(_ref("ModelList"))),
        "/metrics": get("Counters for Prometheus", {"text/plain": {"schema": _TEXT}}),
        "/openapi.json": get("This description", _json({"type": "object", "required": ["openapi", "paths"]})),
    }


def _guarded_routes() -> Schema:
    """Those that want the token, where the server has one."""
    generation = _ref("Generation")
    chat = {"anyOf": [_ref("Chat"), _ref("Completion"), {"type": "array", "items": generation}]}
    return {
        "/": _post("One answer in a list, or a stream", "GenerateCall", {"type": "array", "items": generation}, True),
        "/generate": _post("One answer", "GenerateCall", generation, False),
        "/generate_stream": _post("A stream of tokens", "GenerateCall", None, True),
        "/v1/chat/completions": _post("A turn of a dialogue", "ChatCall", _ref("Chat"), True),
        "/v1/completions": _post("Continuations of prompts", "CompletionCall", _ref("Completion"), True),
        "/invocations": _post("The three routes above by their fields, as SageMaker asks", "Invocation", chat, True),
        "/tokenize": _post("Tokens of a text", "GenerateCall", {"type": "array", "items": _ref("Token")}, False),
    }


def _post(summary: str, body: str, answer: Schema | None, streams: bool) -> Schema:
    content = {} if answer is None else _json(answer)
    if streams:
        # A failure after the first token is an event too, under status 200.
        content["text/event-stream"] = {"schema": _object({"data": _TEXT}, "data")}
    plain = {"text/plain": {"schema": _TEXT}}
    responses = {
        "200": {"description": "The answer", "content": content},
        "400": {"description": "The body is not JSON", "content": plain},
        "401": {"description": "The token is missing or another one"},
        "413": {"description": "The body is too large", "content": plain},
        "415": {"description": "The body is not announced as JSON", "content": plain},
        "422": {
            "description": "A value cannot be used, or is of another type",
            "content": _json(_ref("Error")) | plain,
        },
        "424": {"description": "The model failed", "content": _json(_ref("Error"))},
        "429": {"description": "More requests than are taken at once", "content": _json(_ref("Error"))},
    }
    request = {"required": True, "content": _json(_ref(body))}
    return {
        "post": {"summary": summary, "requestBody": request, "responses": responses, "security": [{}, {"token": []}]}
    }


# --- bodies


def _requests() -> Schema:
    sampling = {
        "temperature": _number(),
        "frequency_penalty": _number(),
        "top_p": _number(),
        "seed": _whole(2**64 - 1),
        "stop": {"anyOf": [_TEXT, _TEXTS, {"type": "null"}]},
        "stream": _BOOLEAN,
        "model": {"type": ["string", "null"]},
    }
    message = _object({"role": _TEXT, "content": {"anyOf": [_TEXT, _items(_ref("TextPart"))]}}, "role")
    chat = {
        **sampling,
        "messages": _items(_ref("Message")),
        "max_tokens": _whole(),
        "presence_penalty": _number(),
        "logprobs": {"type": ["boolean", "null"]},
        "top_logprobs": _whole(),
        "response_format": {"anyOf": [_ref("Grammar"), {"type": "null"}]},
        "stream_options": {"anyOf": [_object({"include_usage": _BOOLEAN}), {"type": "null"}]},
    }
    completion = {**sampling, "prompt": {"anyOf": [_TEXT, _TEXTS]}, "max_tokens": _whole()}
    generate = {"inputs": _TEXT, "parameters": _ref("Parameters"), "stream": _BOOLEAN}
    return {
        "Parameters": _parameters(),
        "Grammar": _grammar(),
        "GenerateCall": _object(generate, "inputs"),
        "TextPart": _object({"type": {"const": "text"}, "text": _TEXT}, "type", "text"),
        "Message": message,
        "ChatCall": _object(chat, "messages"),
        "CompletionCall": _object(completion, "prompt"),
        "Invocation": {"anyOf": [_ref("GenerateCall"), _ref("ChatCall"), _ref("CompletionCall")]},
    }


def _parameters() -> Schema:
    numbers = ("temperature", "repetition_penalty", "frequency_penalty", "top_p", "typical_p")
    wholes = ("best_of", "max_new_tokens", "truncate", "top_n_tokens")
    flags = ("do_sample", "watermark", "details", "decoder_input_details")
    return _object(
        {
            **{name: _number() for name in numbers},
            **{name: _whole() for name in wholes},
            **dict.fromkeys(flags, _BOOLEAN),
            "top_k": {"type": ["integer", "null"], "minimum": -(2**31), "maximum": 2**31 - 1},
            "return_full_text": {"type": ["boolean", "null"]},
            "stop": _TEXTS,
            "seed": _whole(2**64 - 1),
            "grammar": {"anyOf": [_ref("Grammar"), {"type": "null"}]},
        }
    )


def _grammar() -> Schema:
    schema = {"type": "object", "required": ["properties"], "properties": {"properties": {"type": "object"}}}
    return {
        "anyOf": [
            _object({"type": {"const": "regex"}, "value": _TEXT}, "type", "value"),
            _object({"type": {"enum": ["json", "json_schema"]}, "value": schema}, "type", "value"),
            _object({"type": {"const": "text"}}, "type"),
        ]
    }


def _answers() -> Schema:
    token = {"id": {"type": "integer"}, "text": _TEXT, "logprob": _LOGPROB, "special": _BOOLEAN}
    sequence = {
        "finish_reason": {"enum": ["length", "eos_token", "stop_sequence"]},
        "generated_tokens": {"type": "integer", "minimum": 0},
        "seed": {"type": ["integer", "null"]},
        "prefill": _items(_object({name: token[name] for name in ("id", "text", "logprob")}, "text", "logprob")),
        "tokens": _items(_object(token, *token)),
        "top_tokens": _items(_items(_object(token, "text", "logprob"))),
    }
    needed = ("finish_reason", "generated_tokens", "prefill", "tokens")
    details = {**sequence, "best_of_sequences": _items(_object({**sequence, "generated_text": _TEXT}, *needed))}
    counts = {f"{kind}_tokens": {"type": "integer", "minimum": 0} for kind in ("prompt", "completion", "total")}
    model = {"id": _TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": _TEXT}
    return {
        "Error": _object({"error": _TEXT, "error_type": _TEXT}, "error", "error_type"),
        "Generation": _object({"generated_text": _TEXT, "details": _object(details, *needed)}, "generated_text"),
        "Token": _object({**token, "start": {"type": "integer"}, "stop": {"type": "integer"}}, "id", "text", "start"),
        "Usage": _object(counts, *counts),
        "Chat": _openai("chat.completion", {"message": _object({"role": _TEXT, "content": _TEXT}, "role")}),
        "Completion": _openai("text_completion", {"text": _TEXT}),
        "ModelList": _object({"object": {"const": "list"}, "data": _items(_object(model, *model))}, "object", "data"),
        "Info": _info(),
    }


def _openai(kind: str, written: Schema) -> Schema:
    reason = {"enum": ["length", "stop", "stop_sequence"]}
    choice = {
        "index": {"type": "integer"},
        "finish_reason": reason,
        "logprobs": {"type": ["object", "null"]},
        **written,
    }
    body = {
        "object": {"const": kind},
        "id": _TEXT,
        "created": {"type": "integer"},
        "model": _TEXT,
        "system_fingerprint": _TEXT,
        "choices": _items(_object(choice, *choice)),
        "usage": _ref("Usage"),
    }
    return _object(body, *body)


def _info() -> Schema:
    count = {"type": "integer", "minimum": 0}
    limits = ("max_concurrent_requests", "max_best_of", "max_stop_sequences", "max_client_batch_size")
    lengths = {name: {"type": ["integer", "null"]} for name in ("max_input_tokens", "max_total_tokens")}
    known = {"model_id": _TEXT, "version": _TEXT, "router": _TEXT, **dict.fromkeys(limits, count), **lengths}
    return _object({**known, "model_sha": {"type": ["string", "null"]}}, *known)


# --- words of the language


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _items(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties} | ({"required": list(required)} if required else {})


def _number() -> Schema:
    return {"type": ["number", "null"], "minimum": -3.4e38, "maximum": 3.4e38}


def _whole(most: int = 2**32 - 1) -> Schema:
    return {"type": ["integer", "null"], "minimum": 0, "maximum": most}
