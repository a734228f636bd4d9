"""What a server says about itself, read into [`TeacherInfo`], and in one line what that means for the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .base import TeacherInfo


def read_tgi_info(payload: Any) -> TeacherInfo | None:
    """
    TGI's `/info`, `None` where it is something else's. It does not tell what the backend can do: what the protocol has
    is taken as given, except where the server names another backend, and is corrected by what replies lack.
    """
    if not isinstance(payload, Mapping) or not isinstance(payload.get("model_id"), str):
        return None
    if "max_total_tokens" not in payload and "max_concurrent_requests" not in payload:
        return None
    version = payload.get("version")
    router = str(payload.get("router") or "text-generation-router")
    # These stand behind the same protocol, but give no prompt log-probabilities or top tokens.
    native = None if any(name in router.lower() for name in ("trt", "llama", "neuron", "gaudi")) else True
    return TeacherInfo(
        model=payload["model_id"],
        revision=_text(payload.get("model_sha")),
        door="tgi",
        max_input_tokens=_count(payload.get("max_input_tokens")) or _count(payload.get("max_input_length")),
        max_total_tokens=_count(payload.get("max_total_tokens")),
        max_concurrency=_count(payload.get("max_concurrent_requests")),
        server=f"{router} {version}" if version else router,
        max_stop_sequences=_count(payload.get("max_stop_sequences")),
        supports_logprobs=native,
        supports_prefill_logprobs=native,
        supports_grammar=native,
        supports_seed=native,
    )


def is_embedding_server(payload: Any) -> bool:
    """Whether `/info` is that of Text Embeddings Inference, which looks much like TGI's."""
    return isinstance(payload, Mapping) and isinstance(payload.get("model_type"), Mapping)


def read_openai_models(payload: Any, wanted: str | None = None) -> tuple[TeacherInfo | None, list[str]]:
    """`/v1/models` as (facts on the wanted or first model, all ids); no facts where it is not such a list."""
    data = payload.get("data") if isinstance(payload, Mapping) else None
    models = (
        [m for m in data if isinstance(m, Mapping) and isinstance(m.get("id"), str)] if isinstance(data, list) else []
    )
    ids = [model["id"] for model in models]
    chosen = next((model for model in models if model["id"] == wanted), None if wanted else next(iter(models), None))
    if chosen is None:
        return None, ids
    owner = _text(chosen.get("owned_by"))
    length = _count(chosen.get("max_model_len")) or _count(chosen.get("context_length"))
    return TeacherInfo(model=chosen["id"], door="openai", max_total_tokens=length, server=owner, **_known(owner)), ids


def _known(owner: str | None) -> dict[str, Any]:
    """What software that names itself in `/v1/models` is known to do."""
    if owner == "vllm":
        able = "logprobs named_logprobs prefill_logprobs grammar seed".split()
        return {f"supports_{what}": True for what in able} | {"max_top_tokens": 20}
    if owner in ("sglang", "llamacpp"):
        return {"supports_logprobs": True, "supports_grammar": True, "supports_seed": True}
    return {}


def telling_page(info: TeacherInfo) -> str | None:
    """The page, if any, whose GET tells more of an OpenAI-compatible server than its model list does."""
    return {"vllm": None, "sglang": None, "llamacpp": "/props"}.get(info.server or "", "/openapi.json")


def read_telling_page(info: TeacherInfo, payload: Any) -> TeacherInfo:
    """The facts with what [`telling_page`] answered; as they were where it says nothing that is known."""
    if not isinstance(payload, Mapping):
        return info
    if info.server == "llamacpp":
        settings = payload.get("default_generation_settings")
        # The model list tells the length the model was trained with, this one what the server was started with.
        length = _count(settings.get("n_ctx")) if isinstance(settings, Mapping) else None
        return replace(info, max_total_tokens=length or info.max_total_tokens)
    paths, about = payload.get("paths"), payload.get("info")
    if isinstance(paths, Mapping) and "/load_model" in paths and "/v1/chat/completions" in paths:
        # It takes these fields, warns in its own log, and answers without them.
        return replace(info, server="transformers serve", supports_logprobs=False, supports_grammar=False)
    if isinstance(about, Mapping) and "llama.cpp" in str(about.get("title")):
        return replace(info, server="llama-cpp-python", supports_logprobs=True)
    return info


def describe(info: TeacherInfo) -> str:
    """One line: what the teacher is, and what it lacks costs the user."""
    revision = f"@{info.revision[:12]}" if info.revision else ""
    parts = [f"{info.model}{revision} through {info.server or info.door}"]
    limits = []
    if info.max_total_tokens:
        limits.append(f"{info.max_total_tokens} tokens a call")
    if info.max_concurrency:
        limits.append(f"{info.max_concurrency} calls at once")
    if limits:
        parts.append(", ".join(limits))
    if info.supports_logprobs is False:
        parts.append("no logprobs: label confidence will be estimated from samples")
    elif info.max_top_tokens and not info.supports_named_logprobs:
        parts.append(f"{info.max_top_tokens} top tokens: larger label sets are asked in parts")
    if info.supports_grammar is False:
        parts.append("no grammar: one-call annotation may come back malformed and be asked again")
    if info.supports_prefill_logprobs is False:
        parts.append("no prompt logprobs: labels of several tokens get letters, or are estimated from samples")
    if info.supports_seed is False:
        parts.append("no seed: sampled answers cannot be repeated")
    unknown = [
        word
        for word, value in (("logprobs", info.supports_logprobs), ("grammar", info.supports_grammar))
        if value is None
    ]
    if unknown:
        parts.append(f"unknown until asked: {', '.join(unknown)}")
    if info.thinks:
        parts.append("thinks aloud: hidden tokens count as completion tokens")
    return "; ".join(parts) + "."


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
