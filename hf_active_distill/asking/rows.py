"""What stands in a journal: one call, and the JSON form of a reply."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from ..records import Usage
from ..teachers.base import TeacherReply, TeacherRequest, TopToken


#: What tokens of the usual providers look like, and how they stand in headers and addresses.
_SECRETS = re.compile(
    r"\b(hf_|api_org_|sk-|gsk_|xai-|r8_|nvapi-)[A-Za-z0-9_\-]{8,}"
    r"|(?<=bearer )[^\s\"',;]+|(?<=basic )[A-Za-z0-9+/=]{8,}"
    r"|(?<=://)[^/\s]+(?=@)|((?<=api_key=)|(?<=api-key=)|(?<=apikey=)|(?<=token=))[^\s\"'&,;]+",
    re.IGNORECASE,
)
_SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` with everything taken out that is, or looks like, a token: servers like to quote what they refuse."""
    for secret in (*secrets, *(os.environ.get(name, "") for name in _SECRET_VARIABLES)):
        if len(secret) >= 4:
            text = text.replace(secret, "[secret]")
    return _SECRETS.sub("[secret]", text)


@dataclass(frozen=True)
class Call:
    """
    One call as the journal knows it before it is made.

    Args:
        request ([`~teachers.base.TeacherRequest`]): What is asked.
        key (`str`): `request.key(model, revision)`.
        model (`str`), revision (`str` or `None`): The served model.
        run (`str`): Run that pays.
        row_id (`str`), round (`int`), kind (`str`), turn (`int`): What the call is for.
    """

    request: TeacherRequest
    key: str
    model: str
    revision: str | None = None
    run: str = ""
    row_id: str = ""
    round: int = 0
    kind: str = ""
    turn: int = 0


@dataclass(frozen=True)
class JournalRow:
    """
    One row as it is read back. `usage` is what the row counts for: the server's figures, or the bound of a call that
    is still in flight, that broke after it reached the model, or whose figures were left out (`usage.estimated`).

    Args:
        id (`int`): Number of the row, in the order of sending.
        state (`str`): `"sending"`, `"answered"` or `"failed"`.
        content (`str`): The request as canonical JSON; empty for superseded rows of a compacted journal.
        answer (`str` or `None`): The reply as JSON.
        cost (`float` or `None`): Money, where prices were known.
        latency (`float` or `None`): Seconds from sending to the answer or the error.
        clock (`float`): Seconds that the run had spent asking.
        sent_at (`str`), finished_at (`str` or `None`): UTC, for people: nothing is computed from them.
    """

    id: int
    key: str
    run: str
    row_id: str
    round: int
    kind: str
    turn: int
    model: str
    revision: str | None
    sample_index: int
    attempt: int
    state: str
    content: str
    answer: str | None
    error: str | None
    usage: Usage
    bound_prompt_tokens: int
    bound_completion_tokens: int
    cost: float | None
    latency: float | None
    clock: float
    sent_at: str
    finished_at: str | None

    @property
    def reply(self) -> TeacherReply | None:
        """The recorded reply with its original usage."""
        return None if self.answer is None else reply_from_json(self.answer, self.usage)

    def to_dict(self) -> dict[str, Any]:
        """Flat and JSON-able: `usage` falls into its columns."""
        flat = {name: value for name, value in vars(self).items() if name != "usage"}
        return {**flat, **vars(self.usage)}


def reply_to_json(reply: TeacherReply) -> str:
    """All of a reply but its usage, which has columns of its own."""
    body: dict[str, Any] = {"text": reply.text, "finish_reason": reply.finish_reason}
    if reply.reasoning is not None:
        body["reasoning"] = reply.reasoning
    if reply.top_tokens is not None:
        body["top_tokens"] = [[_pack(token) for token in position] for position in reply.top_tokens]
    if reply.prefill is not None:
        body["prefill"] = [_pack(token) for token in reply.prefill]
    # ASCII: a text may hold lone surrogates, which no UTF-8 file takes.
    return json.dumps(body)


def reply_from_json(text: str, usage: Usage) -> TeacherReply:
    """The reverse of [`reply_to_json`]."""
    body = json.loads(text)
    top_tokens, prefill = body.get("top_tokens"), body.get("prefill")
    return TeacherReply(
        text=body["text"],
        finish_reason=body["finish_reason"],
        usage=usage,
        reasoning=body.get("reasoning"),
        top_tokens=None if top_tokens is None else [[TopToken(*token) for token in row] for row in top_tokens],
        prefill=None if prefill is None else [TopToken(*token) for token in prefill],
    )


def _pack(token: TopToken) -> list[Any]:
    return [token.text, token.logprob, token.token_id]


def storable(text: str) -> str:
    """`text` in a form that a UTF-8 file takes: lone surrogates are written as escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text
