"""The most that one call can cost in tokens, known before it is made."""

from __future__ import annotations

import json
import logging

from ..errors import TeacherError
from ..records import Usage
from ..teachers.base import Teacher, TeacherReply, TeacherRequest
from .rows import redact


logger = logging.getLogger(__name__)

#: No tokenizer in use makes more tokens than a text has UTF-8 bytes. What a server adds around the text is allowed
#: for by these: role marks and separators of each message, and begin marks plus a template's own system prompt.
TOKENS_PER_MESSAGE = 16
TOKENS_PER_CHAT = 256
TOKENS_PER_PROMPT = 16


def byte_bound(request: TeacherRequest) -> int:
    """Most prompt tokens that `request` can have: its UTF-8 bytes plus the overhead stated above."""
    size = 0
    if request.messages is None:
        size += _bytes(request.prompt or "") + TOKENS_PER_PROMPT
    else:
        for message in request.messages:
            size += sum(_bytes(value) for _, value in message) + TOKENS_PER_MESSAGE
        size += TOKENS_PER_CHAT
    # Some servers put a schema or tool descriptions into the prompt.
    if request.params.grammar is not None:
        size += _bytes(json.dumps(request.params.grammar, ensure_ascii=False))
    if request.params.extra:
        size += _bytes(json.dumps(request.params.extra, ensure_ascii=False, default=str))
    return size


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class TokenBounds:
    """
    Bounds of calls to one teacher, and what a reply is booked at.

    The byte bound costs nothing and is tried first. Where it does not fit what is left of the budget, or the server
    reports no usage, the server's own tokenizer is asked (`Teacher.count_tokens`); once it cannot be asked for a kind
    of request, it is left alone.

    Args:
        teacher ([`~teachers.base.Teacher`]): Whose tokenizer may be asked.
    """

    def __init__(self, teacher: Teacher):
        self._teacher = teacher
        self._uncountable: set[str] = set()
        self._excess = 0

    def of(self, request: TeacherRequest) -> Usage:
        """The bound by bytes."""
        return self._bound(request, byte_bound(request) + self._excess)

    async def tightened(self, request: TeacherRequest, bound: Usage) -> Usage:
        """The bound by the server's tokenizer where it can be asked and is lower, else `bound`."""
        if request.kind in self._uncountable:
            return bound
        try:
            count = await self._teacher.count_tokens(request)
        except TeacherError as error:
            logger.warning("The teacher could not count tokens (%s): bounds are taken from bytes.", redact(str(error)))
            count = None
        if count is None:
            self._uncountable.add(request.kind)
            return bound
        return self._bound(request, min(count + self._excess, bound.prompt_tokens))

    def booked(self, request: TeacherRequest, reply: TeacherReply, bound: Usage) -> Usage:
        """What the reply counts for: the server's figures, and the bound for each figure that it left out."""
        usage = reply.usage
        if usage.estimated:
            return bound
        prompt = usage.prompt_tokens or bound.prompt_tokens
        completion = max(usage.completion_tokens, usage.reasoning_tokens)
        # A model can end at once without a token; a text that cost nothing is a figure that was left out.
        missing_completion = completion == 0 and bool(reply.text or reply.reasoning)
        completion = bound.completion_tokens if missing_completion else completion
        missing = missing_completion or usage.prompt_tokens == 0
        self._notice_excess(bound, prompt, completion)
        return Usage(1, prompt, completion, usage.reasoning_tokens, usage.cached_prompt_tokens, missing)

    def lacks_usage(self, reply: TeacherReply) -> bool:
        """Whether the prompt's size has to be bounded because the server did not report it."""
        return reply.usage.estimated or reply.usage.prompt_tokens == 0

    def _notice_excess(self, bound: Usage, prompt: int, completion: int) -> None:
        if completion > bound.completion_tokens:
            logger.warning(
                "The teacher wrote %d tokens although max_new_tokens was %d: it does not keep to the cap, so neither "
                "can the budget.",
                completion,
                bound.completion_tokens,
            )
        if prompt > bound.prompt_tokens:
            self._excess += prompt - bound.prompt_tokens
            logger.warning(
                "The teacher counted %d prompt tokens where at most %d were expected (a long system prompt of its "
                "own?). Later bounds are raised by %d.",
                prompt,
                bound.prompt_tokens,
                self._excess,
            )

    def _bound(self, request: TeacherRequest, prompt_tokens: int) -> Usage:
        return Usage(1, prompt_tokens, request.params.max_new_tokens, estimated=True)
