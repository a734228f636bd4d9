"""One row's exchange with the teacher, and the record that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import TeacherAuthError, TeacherError, TeacherGoneError, TeacherRequestError
from ..records import Annotation, Messages, StepVerdict, Usage
from ..tasks.base import Task
from ..teachers.base import GenerationParams, TeacherReply, TeacherRequest
from ..thinking import split_thinking
from .base import AnnotationItem, AnnotationSettings, Ask
from .language import other_language


T = TypeVar("T")


class RowFailed(Exception):
    """The row cannot be annotated; `reason` is what the record says."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Unreadable(Exception):
    """This reply cannot be used; asking again may help."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Dialogue:
    """
    The turns of one row. Keeps the history, counts what it cost, asks again what could not be read.

    Args:
        item ([`AnnotationItem`]): The row.
        ask ([`Ask`]): The way to the teacher.
        settings ([`AnnotationSettings`]): How it shall answer.
    """

    def __init__(self, item: AnnotationItem, ask: Ask, settings: AnnotationSettings):
        self.item = item
        self.ask = ask
        self.settings = settings
        self.messages: Messages = []
        self.thoughts: list[str] = []
        self.usage = Usage()
        self.turn = 0
        self.last_reply: str | None = None

    async def put(
        self,
        content: str,
        read: Callable[[str], T],
        *,
        again: str | None = None,
        grammar: dict[str, Any] | None = None,
    ) -> T:
        """
        One turn: sends `content`, gives the visible reply to `read`, and keeps both in the history.

        Where `read` raises [`Unreadable`], the reply is shown back with `again` up to `max_unreadable` times; `None`
        never asks again. Such a second try has its own `attempt`, so no recorded answer stands in for it.
        """
        tries = self.settings.max_unreadable + 1 if again is not None else 1
        messages = [*self.messages, {"role": "user", "content": content}]
        problem = Unreadable("empty")
        for number in range(tries):
            reply = await self._send(messages, number, grammar)
            text = self._visible(reply)
            if reply.finish_reason == "length":
                raise RowFailed("length")
            try:
                if not text:
                    raise Unreadable("empty")
                value = read(text)
            except Unreadable as error:
                problem = error
                messages = retry_messages([*self.messages, {"role": "user", "content": content}], text, again or "")
                continue
            self.messages += [{"role": "user", "content": content}, {"role": "assistant", "content": text}]
            return value
        raise RowFailed(problem.reason)

    async def _send(self, messages: Messages, number: int, grammar: dict[str, Any] | None) -> TeacherReply:
        self.last_reply = None
        request = build_request(self.settings, self.item, messages, number, grammar)
        try:
            reply = await self.ask(request, turn=self.turn)
        except TeacherRequestError as error:
            if grammar is None or "grammar" not in str(error).lower():
                raise
            # A server without grammars refuses before the model, which costs nothing: the prompt says the form, too.
            request = build_request(self.settings, self.item, messages, number)
            reply = await self.ask(request, turn=self.turn)
        self.turn += 1
        self.usage = self.usage + reply.usage
        return reply

    def _visible(self, reply: TeacherReply) -> str:
        thinking, text = split_thinking(reply.text)
        self.thoughts += [part for part in (reply.reasoning, thinking) if part]
        self.last_reply = text.strip()
        return self.last_reply

    @property
    def thinking(self) -> str | None:
        """The teacher's reasoning over all turns, where it shall be kept."""
        return "\n\n".join(self.thoughts) if self.settings.keep_thinking and self.thoughts else None


def retry_messages(asked: Messages, reply: str, again: str) -> Messages:
    """The history of a second try. An empty reply cannot be shown back: servers refuse empty turns."""
    if reply:
        return [*asked, {"role": "assistant", "content": reply}, {"role": "user", "content": again}]
    last = asked[-1]
    return [*asked[:-1], {**last, "content": f"{last['content']}\n\n{again}"}]


def build_request(
    settings: AnnotationSettings,
    item: AnnotationItem,
    messages: Messages,
    number: int = 0,
    grammar: dict[str, Any] | None = None,
) -> TeacherRequest:
    """The request of one try. Tries of the row and of the turn make one `attempt`, so none repeats another's key."""
    params: GenerationParams = replace(settings.params, grammar=grammar) if grammar else settings.params
    return TeacherRequest.chat(messages, params, attempt=item.attempt * (settings.max_unreadable + 1) + number)


class Draft:
    """Collects what becomes the record of one row."""

    def __init__(self, kind: str, task: Task, item: AnnotationItem, dialogue: Dialogue):
        self.kind = kind
        self.task = task
        self.item = item
        self.dialogue = dialogue
        self.verdicts: list[StepVerdict] = []

    @property
    def first_rejected(self) -> int | None:
        """Index of the first rejected student step."""
        return next((verdict.index for verdict in self.verdicts if verdict.accepted is False), None)

    def done(self, steps: Sequence[str], answer: str | None) -> Annotation:
        """The finished record; raises [`RowFailed`] for a solution that cannot be trained on."""
        check_language(self.task, self.item, "\n".join(steps))
        if answer is None:
            raise RowFailed("no_answer")
        if not steps:
            raise RowFailed("no_steps")
        settings = self.dialogue.settings
        if settings.verify and self.task.verify(self.item.row, answer) is False:
            raise RowFailed("wrong_answer")
        record = self.record("ok", list(steps), answer)
        record.completion = self.task.render_completion(list(steps), answer)
        return record

    def record(self, status: str, steps: list[str], answer: str | None, reason: str | None = None) -> Annotation:
        """The record as far as it got."""
        return Annotation(
            row_id=self.item.row.row_id,
            kind=self.kind,
            status=status,
            reason=reason,
            prompt=self.task.student_prompt(self.item.row),
            steps=steps,
            answer=answer,
            thinking=self.dialogue.thinking,
            student=self.item.explanation,
            verdicts=self.verdicts,
            first_rejected=self.first_rejected,
            round=self.item.round,
            attempt=self.item.attempt,
            usage=self.dialogue.usage,
        )


def check_language(task: Task, item: AnnotationItem, text: str) -> None:
    """Fails the row where the teacher left the language of the problem."""
    if other_language(text) and not other_language(task.question(item.row)):
        raise RowFailed("other_language")


def failure_reason(error: Exception) -> str | None:
    """The reason that a record gives for an error, `None` for one that must stop the run."""
    if isinstance(error, RowFailed | Unreadable):
        return error.reason
    if isinstance(error, TeacherRequestError):
        return "teacher_refused"
    if isinstance(error, TeacherError) and not isinstance(error, TeacherAuthError | TeacherGoneError):
        return "teacher_error"
    return None
