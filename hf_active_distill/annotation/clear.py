"""
CLEAR: the teacher revises the student's explanation in a dialogue, one step a turn (ELAD, arXiv 2402.13098).

The loop follows the published figure; the wording of the prompts, who gives the answer of an accepted explanation and
how replies are read are our own.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from ..errors import ConfigurationError
from ..records import Annotation, Messages, StepVerdict
from ..tasks.base import Task
from ..teachers.base import TeacherRequest
from .base import AnnotationItem, AnnotationSettings
from .cot import from_scratch, scratch_request
from .dialogue import Dialogue, Draft, RowFailed, Unreadable
from .prompts import (
    ASK_ANSWER_AGAIN,
    ASK_VERDICT_AGAIN,
    clear_closing_prompt,
    clear_next_prompt,
    clear_prompt,
)
from .registry import BaseAnnotation, planned_explanation, register_annotation
from .solutions import read_remaining, read_solution, read_wording
from .verdicts import Verdict, is_remark, read_verdict


@register_annotation("clear")
class ClearAnnotation(BaseAnnotation):
    """
    Shows the student's steps one at a time. On yes the teacher's own wording of the step becomes context; on the first
    no the teacher writes all remaining steps and the answer, and the dialogue ends; when all steps stand, a closing
    turn asks for the answer. The target is the teacher's text throughout.

    Args:
        task ([`Task`]): The task.
        settings ([`AnnotationSettings`]): How the teacher shall answer.
        answer_from (`str`, *optional*, defaults to `"teacher"`): Who gives the answer when all steps stand:
            `"teacher"` in a closing turn, or `"student"`, which saves that turn where the student has an answer.
        missing_wording (`str`, *optional*, defaults to `"fail"`): What to do where the teacher accepts a step and
            leaves out its own wording: `"fail"` keeps the verdicts and fails the row (`no_wording`), `"student"`
            takes the student's wording.
    """

    name: ClassVar[str] = "clear"
    needs_explanation: ClassVar[bool] = True

    def __init__(
        self,
        task: Task,
        settings: AnnotationSettings,
        *,
        answer_from: Literal["teacher", "student"] = "teacher",
        missing_wording: Literal["fail", "student"] = "fail",
    ):
        super().__init__(task, settings)
        if answer_from not in ("teacher", "student"):
            raise ConfigurationError(f"answer_from={answer_from!r} must be 'teacher' or 'student'.")
        if missing_wording not in ("fail", "student"):
            raise ConfigurationError(f"missing_wording={missing_wording!r} must be 'fail' or 'student'.")
        self.answer_from = answer_from
        self.missing_wording = missing_wording

    async def revise(self, draft: Draft, dialogue: Dialogue) -> Annotation:
        student = draft.item.explanation
        assert student is not None  # `needs_explanation`
        if not student.steps:
            return await from_scratch(self.task, draft, dialogue)
        for index, step in enumerate(student.steps):
            verdict = await self._judge(draft, dialogue, index, step)
            if not verdict.accepted:
                return self._rejected(draft, verdict)
        if self.answer_from == "student" and student.answer is not None:
            return draft.done(self._wordings(draft), student.answer)
        choices = self.task.answer_choices(draft.item.row) or []
        added, answer = await dialogue.put(
            clear_closing_prompt(self.task), lambda text: self._read_closing(text, choices), again=ASK_ANSWER_AGAIN
        )
        return draft.done(self._wordings(draft) + added, answer)

    async def _judge(self, draft: Draft, dialogue: Dialogue, index: int, step: str) -> Verdict:
        """One turn; the verdict goes into the draft, an unread one as well."""
        question = self.task.question(draft.item.row)

        def read(text: str) -> Verdict:
            verdict = read_verdict(text, question=question)
            if verdict.problem is not None:
                raise Unreadable(verdict.problem)
            return verdict

        row = draft.item.row
        content = clear_prompt(self.task, row, step) if index == 0 else clear_next_prompt(step)
        try:
            verdict = await dialogue.put(content, read, again=ASK_VERDICT_AGAIN)
        except RowFailed:
            draft.verdicts.append(StepVerdict(index, step, None, reply=dialogue.last_reply))
            raise
        wording = read_wording(self.task, verdict.rest) if verdict.accepted else None
        draft.verdicts.append(StepVerdict(index, step, verdict.accepted, wording, dialogue.last_reply))
        return verdict

    def _rejected(self, draft: Draft, verdict: Verdict) -> Annotation:
        remaining, answer = read_remaining(self.task, verdict.rest, verdict.remark)
        if remaining:
            draft.verdicts[-1].teacher_step = remaining[0]
        if answer is None:
            raise RowFailed("no_answer")
        if not remaining:
            raise RowFailed("no_steps")
        return draft.done(self._wordings(draft) + remaining, answer)

    def _wordings(self, draft: Draft) -> list[str]:
        """The target's words for the accepted steps."""
        words = []
        for verdict in draft.verdicts:
            if verdict.accepted:
                if verdict.teacher_step is None and self.missing_wording == "fail":
                    raise RowFailed("no_wording")
                words.append(verdict.teacher_step or verdict.student_step)
        return words

    def _read_closing(self, text: str, choices: list[str]) -> tuple[list[str], str]:
        steps, answer = read_solution(self.task, text)
        if answer is None and len(text.split()) <= 3:
            # A bare answer: "72 clips", "(B)".
            bare = self.task.read_forced_answer(text)
            if bare is not None and (bare in choices or re.search(r"\d", bare)):
                steps, answer = [], bare
        if answer is None:
            raise Unreadable("no_answer")
        return [step for step in steps if not is_remark(step)], answer

    def plan(self, item: AnnotationItem) -> list[list[TeacherRequest]]:
        student = planned_explanation(item)
        if not student.steps:
            call = scratch_request(self, item)
            return [[call], [call]]
        history: Messages = []
        most: list[TeacherRequest] = []
        for index, step in enumerate(student.steps):
            content = clear_prompt(self.task, item.row, step) if index == 0 else clear_next_prompt(step)
            history.append({"role": "user", "content": content})
            most += self.tries(item, history, ASK_VERDICT_AGAIN)
            history.append({"role": "assistant", "content": f"Yes\nStep: {step}"})
        if self.answer_from == "teacher" or student.answer is None:
            closing: dict[str, Any] = {"role": "user", "content": clear_closing_prompt(self.task)}
            most += self.tries(item, [*history, closing], ASK_ANSWER_AGAIN)
        return [most[:1], most]
