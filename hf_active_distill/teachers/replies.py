"""From the bodies that servers send to [`TeacherReply`]: one reading for every transport."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..records import Usage
from ..thinking import split_thinking
from .base import TeacherReply, TopToken


class UnreadableReply(ValueError):
    """The body is JSON but not what the protocol says; the door turns it into a `TeacherProtocolError`."""


def read_chat(payload: Any, *, max_new_tokens: int, stop: Sequence[str] = ()) -> TeacherReply:
    """
    Reads a chat completion (TGI, OpenAI and everything that copies it).

    Args:
        payload (`Any`): The decoded body.
        max_new_tokens (`int`): What was asked for: tells a cut reply where the server names no reason.
        stop (`Sequence[str]`, *optional*): Strings at which the text is cut, whether or not the server did.
    """
    choice = _first_choice(payload)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise UnreadableReply("its first choice has no message")
    text = _content(message.get("content"))
    given = message.get("reasoning_content") or message.get("reasoning")
    thought, said = split_thinking(text)
    reasoning = given.strip() if isinstance(given, str) and given.strip() else None
    reasoning = "\n".join(part for part in (reasoning, thought) if part) or None
    usage = read_usage(payload.get("usage"))
    said, was_cut = cut_at_stop(said, stop)
    reason = _finish_reason(choice.get("finish_reason"), usage, max_new_tokens)
    return TeacherReply(
        text=said,
        finish_reason="stop" if was_cut else reason,
        usage=usage,
        reasoning=repair(reasoning) if reasoning else None,
        top_tokens=_chat_top_tokens(choice.get("logprobs")),
    )


def read_generate(payload: Any, *, max_new_tokens: int, stop: Sequence[str] = ()) -> TeacherReply:
    """Reads TGI's `/generate`: an object, or a one-element list where the root route was asked."""
    if isinstance(payload, list):
        payload = payload[0] if payload else None
    if not isinstance(payload, Mapping) or not isinstance(payload.get("generated_text"), str):
        raise UnreadableReply("it has no generated_text")
    details = payload.get("details")
    details = details if isinstance(details, Mapping) else {}
    prefill = _tokens(details.get("prefill")) or None
    generated = _count(details.get("generated_tokens"))
    known = generated is not None and prefill is not None
    usage = Usage(
        calls=1,
        prompt_tokens=len(prefill) if prefill else 0,
        completion_tokens=generated or 0,
        estimated=not known,
    )
    thought, said = split_thinking(repair(payload["generated_text"]))
    said, was_cut = cut_at_stop(said, stop)
    reason = _finish_reason(details.get("finish_reason"), usage, max_new_tokens)
    rows = details.get("top_tokens")
    return TeacherReply(
        text=said,
        finish_reason="stop" if was_cut else reason,
        usage=usage,
        reasoning=thought,
        top_tokens=[_tokens(row) for row in rows] if isinstance(rows, list) else None,
        prefill=prefill,
    )


def read_completion(payload: Any, *, max_new_tokens: int, stop: Sequence[str] = ()) -> TeacherReply:
    """Reads `/v1/completions` of OpenAI-compatible servers; prompt log-probabilities as vLLM sends them."""
    choice = _first_choice(payload)
    if not isinstance(choice.get("text"), str):
        raise UnreadableReply("its first choice has no text")
    usage = read_usage(payload.get("usage"))
    thought, said = split_thinking(repair(choice["text"]))
    said, was_cut = cut_at_stop(said, stop)
    logprobs = choice.get("logprobs")
    rows = logprobs.get("top_logprobs") if isinstance(logprobs, Mapping) else None
    top_tokens = None
    if isinstance(rows, list):
        top_tokens = [
            [TopToken(str(text), finite(value)) for text, value in row.items()] if isinstance(row, Mapping) else []
            for row in rows
        ]
    reason = _finish_reason(choice.get("finish_reason"), usage, max_new_tokens)
    return TeacherReply(
        text=said,
        finish_reason="stop" if was_cut else reason,
        usage=usage,
        reasoning=thought,
        top_tokens=top_tokens,
        prefill=_prompt_logprobs(choice.get("prompt_logprobs")),
    )


def read_usage(usage: Any) -> Usage:
    """Token figures of a reply; `estimated` where the server gives none."""
    if not isinstance(usage, Mapping):
        return Usage(calls=1, estimated=True)
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return Usage(calls=1, estimated=True)
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    # Some servers leave hidden reasoning out of `completion_tokens`, and charge for it all the same.
    if reasoning > completion:
        completion += reasoning
    completion = max(completion, (_count(usage.get("total_tokens")) or 0) - prompt)
    return Usage(
        calls=1,
        prompt_tokens=prompt,
        completion_tokens=completion,
        reasoning_tokens=reasoning,
        cached_prompt_tokens=min(prompt, _detail(usage, "prompt_tokens_details", "cached_tokens")),
    )


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first of the stop strings, and whether there was one."""
    places = [place for place in (text.find(string) for string in stop if string) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)


def repair(text: str) -> str:
    """Text without lone surrogates, which JSON can carry and no file or database takes."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def finite(value: Any) -> float | None:
    """A log-probability; `None` for null, NaN and infinities."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _first_choice(payload: Any) -> Mapping[str, Any]:
    choices = payload.get("choices") if isinstance(payload, Mapping) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise UnreadableReply("it has no choices")
    return choices[0]


def _content(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return repair(content)
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        return repair("".join(part["text"] for part in content if isinstance(part.get("text"), str)))
    raise UnreadableReply("its message's content is not text")


def _finish_reason(reason: Any, usage: Usage, max_new_tokens: int) -> str:
    if reason is None:
        return "length" if usage.completion_tokens >= max_new_tokens else "stop"
    return "length" if str(reason).lower() in ("length", "max_tokens") else "stop"


def _chat_top_tokens(logprobs: Any) -> list[list[TopToken]] | None:
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(content, list) or not content:
        return None
    rows = []
    for position in content:
        position = position if isinstance(position, Mapping) else {}
        row = position.get("top_logprobs") or [position]
        rows.append([TopToken(str(t.get("token", "")), finite(t.get("logprob"))) for t in row if _has_token(t)])
    return rows


def _has_token(token: Any) -> bool:
    return isinstance(token, Mapping) and "token" in token


def _tokens(tokens: Any) -> list[TopToken]:
    if not isinstance(tokens, list):
        return []
    return [
        TopToken(str(token.get("text", "")), finite(token.get("logprob")), _token_id(token.get("id")))
        for token in tokens
        if isinstance(token, Mapping)
    ]


def _prompt_logprobs(rows: Any) -> list[TopToken] | None:
    if not isinstance(rows, list):
        return None
    prefill = []
    for row in rows:
        if not isinstance(row, Mapping) or not row:
            prefill.append(TopToken("", None))
            continue
        # The first entry of a position is the prompt's own token; the others are the model's favourites.
        token_id, entry = next(iter(row.items()))
        entry = entry if isinstance(entry, Mapping) else {}
        number = int(token_id) if str(token_id).isdigit() else None
        prefill.append(TopToken(str(entry.get("decoded_token") or ""), finite(entry.get("logprob")), number))
    return prefill


def _token_id(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    """A number of tokens; `None` for what cannot be one, such as numbers that no database takes."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _detail(usage: Mapping[str, Any], group: str, name: str) -> int:
    details = usage.get(group)
    value = details.get(name) if isinstance(details, Mapping) else usage.get(name)
    return _count(value) or 0
