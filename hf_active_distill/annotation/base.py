"""What an annotation method is: a coroutine that asks the teacher about one row and returns one record."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..records import Annotation, Explanation, PoolRow
from ..tasks.base import Task
from ..teachers.base import GenerationParams, TeacherReply, TeacherRequest


class Ask(Protocol):
    """
    How a method reaches the teacher: through the dispatcher, bound to one row. Journal, budget, retries and
    concurrency are behind it. Raises `BudgetExhaustedError` (let it pass) or a `TeacherError`.
    """

    def __call__(self, request: TeacherRequest, *, turn: int = 0) -> Awaitable[TeacherReply]: ...


@dataclass
class AnnotationItem:
    """One row to annotate. `explanation` is the student's own, `None` for methods that do not revise."""

    row: PoolRow
    explanation: Explanation | None = None
    round: int = 0
    attempt: int = 0


@dataclass
class AnnotationSettings:
    """
    Args:
        params (`GenerationParams`): How the teacher shall answer.
        keep_thinking (`bool`): Whether the teacher's reasoning goes into the training target.
        verify (`bool`): Whether a teacher answer that contradicts the row's reference fails the row.
        max_unreadable (`int`): Times an unreadable reply is asked again before the row fails.
    """

    params: GenerationParams = field(default_factory=GenerationParams)
    keep_thinking: bool = False
    verify: bool = False
    max_unreadable: int = 1


@runtime_checkable
class AnnotationMethod(Protocol):
    """One way to ask. `needs_explanation` says whether the student must have written one."""

    name: str
    needs_explanation: bool

    async def annotate(self, item: AnnotationItem, ask: Ask) -> Annotation:
        """Asks about one row. Never raises for what the teacher wrote: such a row comes back as failed."""
        ...

    def plan(self, item: AnnotationItem) -> list[list[TeacherRequest]]:
        """
        The calls this row will cost, as [fewest, most]: two lists of requests with placeholder history, for the
        forecast and for `--plan` to print.
        """
        ...


AnnotationFactory = type[AnnotationMethod]
__all__ = [
    "Annotation",
    "AnnotationFactory",
    "AnnotationItem",
    "AnnotationMethod",
    "AnnotationSettings",
    "Ask",
    "Task",
]
