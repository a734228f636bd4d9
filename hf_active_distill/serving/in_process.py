"""A scripted teacher without a server: the same answers and the same token counts, in this process."""

from __future__ import annotations

from dataclasses import replace

from ..exchange import ServingParams
from ..records import Usage
from ..teachers.base import TeacherInfo, TeacherReply, TeacherRequest
from .scripted import ScriptedBackend, scripted_backend


class ScriptedTeacher:
    """
    A [`~teachers.Teacher`] that asks a scripted backend directly. For measurements with very many runs: no socket, no
    server process, and every figure that a budget needs.

    Args:
        backend ([`~serving.scripted.ScriptedBackend`]): Who answers.
    """

    def __init__(self, backend: ScriptedBackend):
        self._backend = backend

    @classmethod
    def of_world(cls, world: str, *, error_rate: float = 0.0, seed: int = 0) -> ScriptedTeacher:
        """The teacher of a built-in world: see [`~serving.scripted.scripted_backend`]."""
        return cls(scripted_backend(world, error_rate=error_rate, seed=seed))

    async def info(self) -> TeacherInfo:
        served = self._backend.info()
        return TeacherInfo(model=served.model, door="function", max_total_tokens=served.max_total_tokens)

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        fields = {name: value for name, value in vars(request.params).items() if name != "extra"}
        params = ServingParams(**{key: value for key, value in fields.items() if not key.startswith("_")})
        if request.kind == "generate":
            served = await self._backend.generate(request.prompt or "", params)
        else:
            served = await self._backend.chat(request.message_list(), params)
        return TeacherReply(
            text=served.text,
            finish_reason=served.finish_reason,
            usage=replace(served.usage) if served.usage else Usage(calls=1, estimated=True),
            top_tokens=served.top_tokens,
        )

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        texts = [request.prompt or ""] if request.messages is None else [m["content"] for m in request.message_list()]
        return sum(len(self._backend.tokenize(text)) for text in texts)

    async def aclose(self) -> None:
        """Nothing is open."""

    def __repr__(self) -> str:
        return f"ScriptedTeacher({self._backend.info().model!r})"
