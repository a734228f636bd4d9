"""The whole explanation in one call, the revision back as JSON."""

from __future__ import annotations

from typing import Any, ClassVar

from ..records import Annotation, StepVerdict
from ..teachers.base import TeacherRequest
from .base import AnnotationItem
from .cot import from_scratch, scratch_request
from .dialogue import Dialogue, Draft, Unreadable
from .prompts import ASK_JSON_AGAIN, ONE_CALL_SCHEMA, one_call_prompt
from .registry import BaseAnnotation, planned_explanation, register_annotation
from .solutions import Revision, read_revision


@register_annotation("one_call")
class OneCallAnnotation(BaseAnnotation):
    """
    Numbered steps in; out comes JSON, by grammar where the server has one: the first wrong step or null, the whole
    solution in the teacher's words, the answer. Far fewer prompt tokens than `"clear"`, whose history is sent again
    with every turn.
    """

    name: ClassVar[str] = "one_call"
    needs_explanation: ClassVar[bool] = True
    grammar: ClassVar[dict[str, Any]] = {"type": "json", "value": ONE_CALL_SCHEMA}

    async def revise(self, draft: Draft, dialogue: Dialogue) -> Annotation:
        student = draft.item.explanation
        assert student is not None  # `needs_explanation`
        if not student.steps:
            return await from_scratch(self.task, draft, dialogue)

        def read(text: str) -> Revision:
            revision = read_revision(self.task, text, len(student.steps))
            if revision is None or (revision.first_wrong or 0) >= len(revision.steps):
                raise Unreadable("unreadable_json")
            return revision

        prompt = one_call_prompt(self.task, draft.item.row, student.steps, student.answer)
        revision = await dialogue.put(prompt, read, again=ASK_JSON_AGAIN, grammar=self.grammar)
        judged = student.steps if revision.first_wrong is None else student.steps[: revision.first_wrong + 1]
        for index, step in enumerate(judged):
            wording = revision.steps[index] if index < len(revision.steps) else None
            reply = dialogue.last_reply if index == 0 else None  # the one reply stands once in the record
            draft.verdicts.append(StepVerdict(index, step, index != revision.first_wrong, wording, reply))
        return draft.done(revision.steps, revision.answer)

    def plan(self, item: AnnotationItem) -> list[list[TeacherRequest]]:
        student = planned_explanation(item)
        if not student.steps:
            call = scratch_request(self, item)
            return [[call], [call]]
        prompt = one_call_prompt(self.task, item.row, student.steps, student.answer)
        most = self.tries(item, [{"role": "user", "content": prompt}], ASK_JSON_AGAIN, self.grammar)
        return [most[:1], most]
