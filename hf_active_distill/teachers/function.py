"""The door to a Python function."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError, TeacherError, TeacherGenerationError, TeacherProtocolError
from ..records import Usage
from ..thinking import split_thinking
from .base import TeacherInfo, TeacherReply, TeacherRequest
from .replies import cut_at_stop


class FunctionTeacher:
    """
    Asks a Python function.

    Args:
        function (`Callable`):
            Called with the messages of a chat (a list of dicts) or the prompt (a string), and, where it takes a second
            argument, the [`GenerationParams`]. Returns a string or a [`TeacherReply`], or an awaitable of one. A plain
            function runs in a thread, several calls at a time.
        model (`str`, *optional*):
            Name under which answers are recorded; the function's own name otherwise. Change it, or `revision`, when
            the function changes, or recorded answers of the old one are used again.
        revision (`str`, *optional*): Revision under which answers are recorded.
        max_concurrency (`int`, *optional*): Calls that the function takes at once.

    What the function raises says what becomes of the call: a [`~errors.TeacherError`] is taken at its word, an
    `OSError` (`TimeoutError`, `ConnectionError`) is tried again. Anything else is a mistake in the function, which
    another try cannot mend: it ends the run at once, as it was raised.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        model: str | None = None,
        revision: str | None = None,
        max_concurrency: int | None = None,
    ):
        if not callable(function):
            raise ConfigurationError(f"A function teacher needs something that can be called, not {function!r}.")
        self._function = function
        self._name: str = model or str(getattr(function, "__qualname__", type(function).__name__))
        self._revision = revision
        self._takes_params = _positional_arguments(function) >= 2
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004
        )
        self._max_concurrency = max_concurrency

    async def info(self) -> TeacherInfo:
        return TeacherInfo(
            model=self._name, revision=self._revision, door="function", max_concurrency=self._max_concurrency
        )

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        content = request.prompt if request.kind == "generate" else request.message_list()
        arguments = (content, request.params) if self._takes_params else (content,)
        try:
            if self._is_async:
                result = await self._function(*arguments)
            else:
                result = await asyncio.to_thread(functools.partial(self._function, *arguments))
                if inspect.isawaitable(result):
                    result = await result
        except TeacherError:
            raise
        except OSError as error:  # TimeoutError and ConnectionError are of that kind
            raise TeacherGenerationError(
                f"The function {self._name} raised {type(error).__name__}: {error}. Another try may succeed."
            ) from error
        return self._as_reply(result, request)

    def _as_reply(self, result: Any, request: TeacherRequest) -> TeacherReply:
        if isinstance(result, TeacherReply):
            return result
        if not isinstance(result, str):
            failure = TeacherProtocolError(
                f"The function {self._name} returned {type(result).__name__}: it must return a str or a TeacherReply."
            )
            failure.retryable = False
            raise failure
        thought, said = split_thinking(result)
        said, _ = cut_at_stop(said, request.params.stop)
        return TeacherReply(text=said, reasoning=thought, usage=Usage(calls=1, estimated=True))

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        return None

    async def aclose(self) -> None:
        return None

    def __repr__(self) -> str:
        return f"FunctionTeacher({self._name})"


def _positional_arguments(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 2
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
