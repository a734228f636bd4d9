"""Many rows through one method: what the trainer and `annotate` have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..asking import Dispatcher
from ..errors import BudgetExhaustedError
from ..records import Annotation, Usage
from .base import AnnotationItem, AnnotationMethod


def annotate_rows(
    dispatcher: Dispatcher,
    method: AnnotationMethod,
    items: Sequence[AnnotationItem],
    *,
    progress: bool | None = None,
    on_unfinished: Callable[[AnnotationItem, Usage], None] = lambda item, usage: None,
) -> list[Annotation | None]:
    """
    Asks about all rows at once.

    Args:
        dispatcher ([`~asking.Dispatcher`]): The way to the teacher.
        method ([`AnnotationMethod`]): How to ask.
        items (`Sequence[AnnotationItem]`): Rows, most important first.
        progress (`bool`, *optional*): Whether to show a bar; on a terminal by default.
        on_unfinished (`Callable`, *optional*): Called with a row that the budget did not reach, and what its begun
            dialogue had cost.

    Returns:
        `list[Annotation | None]`: In the order of the items; `None` where the budget did not reach.
    """
    if items and getattr(method, "relies_on_logprobs", False):
        dispatcher.examine_teacher()

    async def annotate(item: AnnotationItem) -> Annotation:
        ask = dispatcher.bind(row_id=item.row.row_id, round=item.round, kind=method.name)
        try:
            annotation = await method.annotate(item, ask)
        except BudgetExhaustedError:
            on_unfinished(item, ask.usage)
            raise
        annotation.usage, annotation.cost = ask.usage, ask.cost
        if ask.info is not None:
            annotation.teacher, annotation.revision = ask.info.model, ask.info.revision
        return annotation

    outcomes = dispatcher.run_all(items, annotate, progress=progress, description=f"asking ({method.name})")
    return [None if isinstance(outcome, BudgetExhaustedError) else outcome for outcome in outcomes]
