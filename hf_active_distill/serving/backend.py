"""
What stands behind the server's routes. No HTTP and no torch here: a backend takes a request that was already
validated and answers it, and the same records that [`~hf_active_distill.teachers.Teacher`] uses carry it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..errors import TeacherRequestError
from ..records import Messages
from ..teachers.base import GenerationParams, TeacherInfo, TeacherReply, TopToken


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


@runtime_checkable
class Backend(Protocol):
    """
    Whoever writes the answers. Raises `TeacherRequestError` for what cannot be served (422), `TemplateError` for
    messages that cannot be rendered (422), `TeacherGenerationError` when writing fails (424).

    `on_token` is called in the event loop's thread as tokens are written. A backend that writes its answer at once
    need not call it: the server then streams the tokens of the reply.
    """

    def info(self) -> ServedModel:
        """What is served."""
        ...

    def tokenize(self, text: str) -> list[TokenSpan]:
        """Tokens of a text, special tokens included as the model is given them."""
        ...

    async def generate(self, prompt: str, params: ServingParams, on_token: TokenListener | None = None) -> ServedReply:
        """Continues a text."""
        ...

    async def chat(
        self, messages: Messages, params: ServingParams, on_token: TokenListener | None = None
    ) -> ServedReply:
        """Answers a conversation."""
        ...

    def close(self) -> None:
        """Stops whatever runs in the background."""
        ...
