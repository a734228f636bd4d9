"""What a server can do and no page of it tells: asked once, with one token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..errors import BudgetExhaustedError, TeacherRequestError
from ..teachers.base import GenerationParams, TeacherReply, TeacherRequest


#: Doors behind which a server may ignore what it is asked for.
SERVER_DOORS = ("tgi", "openai", "hf-inference")
QUESTION = TeacherRequest.chat(
    [{"role": "user", "content": "Answer with the letter A."}],
    GenerationParams(max_new_tokens=1, top_logprobs=2),
)


async def logprobs_given(ask: Callable[[TeacherRequest], Awaitable[TeacherReply]]) -> bool | None:
    """Whether the server gives log-probabilities when asked for them; `None` where the budget leaves it open."""
    try:
        reply = await ask(QUESTION)
    except BudgetExhaustedError:
        return None
    except TeacherRequestError:
        return False
    return reply.top_tokens is not None
