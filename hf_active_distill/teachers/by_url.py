"""The door of a bare `http(s)://` URL: finds out what lives there, once, and is then that door."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigurationError, TeacherAuthError, TeacherError, TeacherRequestError
from .base import TeacherInfo, TeacherReply, TeacherRequest
from .http_door import HTTPDoor
from .openai_compatible import OpenAITeacher
from .tgi import TGITeacher


class URLTeacher:
    """
    Whatever answers at a URL: TGI where `/info` says so, an OpenAI-compatible server where `/v1/models` does.

    Args:
        url (`str`): The server's address.
        options: Passed to the door that fits; see [`~teachers.http_door.HTTPDoor`].
    """

    def __init__(self, url: str, token: Any = None, *, model: str | None = None, **options: Any):
        self._tgi = TGITeacher(url, token, **options, **({"model": model} if model else {}))
        if options.get("client") == "text_generation":
            options["client"] = "direct"  # TGI's own client speaks to TGI alone
        self._openai = OpenAITeacher(url, token, model=model, **options)
        self._door: HTTPDoor | None = None

    @property
    def url(self) -> str:
        """The address without credentials."""
        return self._tgi.url

    async def info(self) -> TeacherInfo:
        return await (await self._found()).info()  # type: ignore[attr-defined]

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        try:
            door = await self._found()
        except ConfigurationError as error:
            raise TeacherRequestError(str(error)) from None
        return await door.ask(request)  # type: ignore[attr-defined]

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        try:
            door = await self._found()
        except (ConfigurationError, TeacherError):
            return None
        return await door.count_tokens(request)  # type: ignore[attr-defined]

    async def _found(self) -> HTTPDoor:
        if self._door is None:
            self._door = await self._find()
        return self._door

    async def _find(self) -> HTTPDoor:
        refusals: list[str] = []
        for door in (self._tgi, self._openai):
            try:
                await door.info()
                return door
            except TeacherAuthError:
                raise
            except ConfigurationError as error:
                refusals.append(str(error))
        raise ConfigurationError(
            f"{self.url} is neither a TGI server nor an OpenAI-compatible one. Check host, port and path; a teacher "
            f"has /info or /v1/models there. What answered: {_seen(refusals)}"
        )

    async def aclose(self) -> None:
        """Closes the connections of the running event loop; the teacher stays usable."""
        await self._tgi.aclose()
        await self._openai.aclose()

    def __repr__(self) -> str:
        return f"URLTeacher({self.url!r})" if self._door is None else repr(self._door)


def _seen(refusals: list[str]) -> str:
    return " / ".join(text.partition("(")[2].rstrip(")") or text for text in refusals)
