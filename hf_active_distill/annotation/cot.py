"""The teacher explains from scratch."""

from __future__ import annotations

from typing import ClassVar

from ..records import Annotation
from ..tasks.base import Task
from ..teachers.base import TeacherRequest
from .base import AnnotationItem
from .dialogue import Dialogue, Draft, build_request
from .prompts import cot_prompt
from .registry import BaseAnnotation, register_annotation
from .solutions import read_solution
from .verdicts import is_remark


@register_annotation("cot")
class CotAnnotation(BaseAnnotation):
    """One call a row: the teacher solves it without seeing what the student wrote."""

    name: ClassVar[str] = "cot"

    async def revise(self, draft: Draft, dialogue: Dialogue) -> Annotation:
        return await from_scratch(self.task, draft, dialogue)

    def plan(self, item: AnnotationItem) -> list[list[TeacherRequest]]:
        call = scratch_request(self, item)
        return [[call], [call]]


async def from_scratch(task: Task, draft: Draft, dialogue: Dialogue) -> Annotation:
    """A whole solution by the teacher: also what a revision falls back to where the student wrote no step."""
    prompt = cot_prompt(task, draft.item.row)
    steps, answer = await dialogue.put(prompt, lambda text: read_solution(task, text))
    return draft.done([step for step in steps if not is_remark(step)], answer)


def scratch_request(method: BaseAnnotation, item: AnnotationItem) -> TeacherRequest:
    """The one call of `from_scratch`."""
    return build_request(method.settings, item, [{"role": "user", "content": cot_prompt(method.task, item.row)}])
