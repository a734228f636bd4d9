"""
What is asked and what is answered, as plain data: shared by the teachers, by those who write answers (the engine, the
server), and by those who pass them on. Standard library only.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import TeacherRequestError
from .records import Messages, Usage


_quoted = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class GenerationParams:
    """
    How a teacher shall answer. Servers differ in what they refuse (TGI: temperature 0, top_p 1.0): each door
    translates.

    Args:
        max_new_tokens (`int`): Cap on generated tokens, hidden reasoning included.
        temperature (`float`): 0 is greedy.
        top_p (`float` or `None`): `None` or 1.0 leaves it out.
        stop (`tuple[str, ...]`): Stop strings (TGI takes at most 4).
        seed (`int` or `None`): Sampling seed, where the server takes one.
        grammar (`dict` or `None`): `{"type": "json", "value": schema}` or `{"type": "regex", "value": pattern}`.
        top_logprobs (`int` or `None`): Wanted top tokens at every position.
        prefill_logprobs (`bool`): Wanted log-probabilities of the prompt's own tokens (`generate` only).
        logprob_tokens (`tuple[str, ...]`):
            Texts of one token whose log-probabilities are wanted at every position, where the server takes names
            (`TeacherInfo.supports_named_logprobs`); they stand among the top tokens then.
        extra (`tuple`): Further server parameters as sorted (key, JSON value) pairs.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    grammar: dict[str, Any] | None = None
    top_logprobs: int | None = None
    prefill_logprobs: bool = False
    logprob_tokens: tuple[str, ...] = ()
    extra: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class TeacherRequest:
    """
    One call: a chat (`messages`) or a plain continuation (`prompt`), never both.

    `sample_index` tells k samples of one prompt apart, `attempt` a second try after an answer that could not be used;
    both are part of the journal's key.
    """

    messages: tuple[tuple[tuple[str, str], ...], ...] | None = None
    prompt: str | None = None
    params: GenerationParams = field(default_factory=GenerationParams)
    sample_index: int = 0
    attempt: int = 0

    @classmethod
    def chat(cls, messages: Messages, params: GenerationParams, *, sample_index: int = 0, attempt: int = 0):
        """A chat request from a list of `{"role", "content"}` messages."""
        frozen = tuple(tuple((key, str(value)) for key, value in message.items()) for message in messages)
        return cls(messages=frozen, params=params, sample_index=sample_index, attempt=attempt)

    @classmethod
    def generate(cls, prompt: str, params: GenerationParams, *, sample_index: int = 0, attempt: int = 0):
        """A plain continuation of `prompt`."""
        return cls(prompt=prompt, params=params, sample_index=sample_index, attempt=attempt)

    @property
    def kind(self) -> str:
        return "generate" if self.messages is None else "chat"

    def message_list(self) -> Messages:
        """The messages as a list of dicts, the form that servers take."""
        return [dict(message) for message in self.messages or ()]

    def content(self) -> str:
        """Canonical JSON of what is asked, without sample index and attempt."""
        return self._content

    @functools.cached_property
    def _content(self) -> str:
        body = {"kind": self.kind, "messages": self.message_list() or None, "prompt": self.prompt}
        params = vars(self.params)
        if not self.params.logprob_tokens:
            # As it was before there were any: answers recorded then are found.
            params = {name: value for name, value in params.items() if name != "logprob_tokens"}
        return json.dumps({**body, "params": params}, sort_keys=True, ensure_ascii=False)

    def key(self, model: str, revision: str | None) -> str:
        """Journal key: served model and revision, content, parameters, sample index, attempt."""
        # `json.dumps([model, revision, content, sample_index, attempt], ensure_ascii=False)`, without its set-up.
        served = f"{_quoted(model)}, {'null' if revision is None else _quoted(revision)}"
        parts = f"[{served}, {_quoted(self._content)}, {self.sample_index}, {self.attempt}]"
        return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class TopToken:
    """One alternative at one position. Log-probability in nats, `None` where the server sent null or NaN."""

    text: str
    logprob: float | None
    token_id: int | None = None


@dataclass
class TeacherReply:
    """
    Args:
        text (`str`): What the teacher wrote, thinking tags removed.
        finish_reason (`str`): `"stop"` or `"length"`.
        usage (`Usage`): As the server reports it; `estimated` where it does not.
        reasoning (`str` or `None`): `reasoning_content`, or what stood inside thinking tags.
        top_tokens (`list[list[TopToken]]` or `None`): Per generated position, where asked for and given.
        prefill (`list[TopToken]` or `None`): The prompt's tokens with their log-probabilities.
    """

    text: str
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=lambda: Usage(calls=1))
    reasoning: str | None = None
    top_tokens: list[list[TopToken]] | None = None
    prefill: list[TopToken] | None = None


@dataclass(frozen=True)
class TeacherInfo:
    """
    What is known of the teacher behind a door. `None` is unknown.

    Args:
        model (`str`): Served model id: part of the journal's key.
        revision (`str` or `None`): Its revision.
        door (`str`): `"tgi"`, `"openai"`, `"hf-inference"`, `"local"`, `"replay"`, `"function"`.
        max_input_tokens (`int` or `None`), max_total_tokens (`int` or `None`): The server's limits.
        max_concurrency (`int` or `None`): Calls the server takes at once.
        thinks (`bool` or `None`): Whether replies carry reasoning.
        server (`str` or `None`): Name and version of the serving software.
        max_stop_sequences (`int` or `None`): Stop strings the server takes; the door cuts at the others itself.
        max_top_tokens (`int` or `None`): Top tokens the server gives at a position.
        supports_logprobs (`bool` or `None`): Whether top tokens come with log-probabilities.
        supports_named_logprobs (`bool` or `None`):
            Whether tokens can be named whose log-probabilities are given, however improbable they are.
        supports_prefill_logprobs (`bool` or `None`): Whether the prompt's own log-probabilities can be had.
        supports_grammar (`bool` or `None`): Whether replies can be bound to a grammar.
        supports_seed (`bool` or `None`): Whether sampling can be repeated.
    """

    model: str
    revision: str | None = None
    door: str = "function"
    max_input_tokens: int | None = None
    max_total_tokens: int | None = None
    max_concurrency: int | None = None
    thinks: bool | None = None
    server: str | None = None
    max_stop_sequences: int | None = None
    max_top_tokens: int | None = None
    supports_logprobs: bool | None = None
    supports_named_logprobs: bool | None = None
    supports_prefill_logprobs: bool | None = None
    supports_grammar: bool | None = None
    supports_seed: bool | None = None


@dataclass(frozen=True)
class ServingParams(GenerationParams):
    """
    [`~teachers.base.GenerationParams`] and what else a TGI client may set. `temperature=0` is greedy; everything else
    is sampling.

    Args:
        top_k (`int` or `None`): Tokens kept for sampling.
        typical_p (`float` or `None`): Mass kept by typical decoding.
        repetition_penalty (`float`): 1.0 leaves it out.
        frequency_penalty (`float`): 0.0 leaves it out.
        truncate (`int` or `None`): Keeps only the last tokens of the prompt.
        fill_context (`bool`): No cap was given: write until the text ends or the context is full, whatever
            `max_new_tokens` says.
        ignore_eos (`bool`): Writes on after the end-of-text token (for benchmarks).
    """

    top_k: int | None = None
    typical_p: float | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    truncate: int | None = None
    fill_context: bool = False
    ignore_eos: bool = False


@dataclass
class ServedToken:
    """One generated token: id, text, log-probability in nats after penalties, grammar and warping, special or not."""

    id: int
    text: str
    logprob: float | None
    special: bool = False


@dataclass(frozen=True)
class TokenSpan:
    """One token of a text: it stands at `text[start:stop]` (characters)."""

    id: int
    text: str
    start: int
    stop: int


@dataclass
class ServedReply(TeacherReply):
    """
    [`~teachers.base.TeacherReply`] with the generated tokens. `usage` must be filled: `prompt_tokens` and
    `completion_tokens`. `top_tokens` is given where `params.top_logprobs` asks for it, `prefill` where
    `params.prefill_logprobs` does (its first log-probability is `None`: nothing stands before it).

    Args:
        tokens (`list[ServedToken]`): Generated tokens in order, the end-of-text token included.
        stopped_by_sequence (`bool`): True where a stop string ended the text (it is part of the text).
        seed (`int` or `None`): Seed that sampling used.
    """

    tokens: list[ServedToken] = field(default_factory=list)
    stopped_by_sequence: bool = False
    seed: int | None = None


@dataclass(frozen=True)
class ServedModel(TeacherInfo):
    """[`~teachers.base.TeacherInfo`] and what `/info` tells beyond it."""

    door: str = "tgi"
    dtype: str | None = None
    device: str = "cpu"


class TemplateError(TeacherRequestError):
    """The model has no chat template, or the template refuses the messages."""


#: Told about each token as it is written: the token and, where asked for, the top tokens at its position.
TokenListener = Callable[[ServedToken, list[TopToken] | None], None]


def fit_length(input_tokens: int, params: ServingParams, model: ServedModel) -> int:
    """
    New tokens that a backend may write after a prompt of `input_tokens` (already cut by `truncate`). Raises
    `TeacherRequestError` in TGI's words where they do not fit.
    """
    total, limit = model.max_total_tokens, model.max_input_tokens
    new_tokens = params.max_new_tokens
    if params.fill_context:
        new_tokens = 1024 if total is None else max(total - input_tokens, 0)
    if total is not None and input_tokens + new_tokens > total:
        raise TeacherRequestError(
            f"`inputs` tokens + `max_new_tokens` must be <= {total}. "
            f"Given: {input_tokens} `inputs` tokens and {new_tokens} `max_new_tokens`",
            status=422,
        )
    if limit is not None and input_tokens > limit:
        raise TeacherRequestError(f"`inputs` must have less than {limit} tokens. Given: {input_tokens}", status=422)
    return new_tokens
