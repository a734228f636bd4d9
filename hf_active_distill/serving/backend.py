"""
What stands behind the server's routes. No HTTP and no torch here: a backend takes a request that was already
validated and answers it, and the same records that [`~hf_active_distill.teachers.Teacher`] uses carry it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..exchange import ServedModel, ServedReply, ServingParams, TokenListener, TokenSpan
from ..records import Messages


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
