"""The teacher protocol: one request in, one reply or one named error out. No retries, no budget, no torch here."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..exchange import GenerationParams, TeacherInfo, TeacherReply, TeacherRequest, TopToken


__all__ = ["GenerationParams", "Teacher", "TeacherInfo", "TeacherReply", "TeacherRequest", "TopToken"]


@runtime_checkable
class Teacher(Protocol):
    """
    Whoever can answer. One call is one attempt: retries, budget, journal and concurrency belong to
    [`~hf_active_distill.asking.Dispatcher`].
    """

    async def info(self) -> TeacherInfo:
        """Facts about the server; raises a [`~errors.TeacherError`] that names the cure when it cannot be reached."""
        ...

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        """One attempt. Raises a subclass of [`~errors.TeacherError`] and nothing else."""
        ...

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        """Prompt tokens of a request by the server's own tokenizer, `None` where it cannot be asked."""
        ...

    async def aclose(self) -> None:
        """Releases connections."""
        ...
