"""What a student's explanations are worth: accuracy by the task's own equality."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError
from ..records import Explanation, PoolRow
from ..tasks.base import Task


def explanation_metrics(
    task: Task, rows: Sequence[PoolRow], explanations: Sequence[Explanation], prefix: str = "eval"
) -> dict[str, float]:
    """
    Scores one explanation a row.

    Args:
        task (`Task`): Reads and compares answers.
        rows (`Sequence[PoolRow]`): Rows with a reference.
        explanations (`Sequence[Explanation]`): In the same order.
        prefix (`str`, *optional*, defaults to `"eval"`): Put before every name.

    Returns:
        `dict[str, float]`: `accuracy` (share of rows answered right), `accuracy_stderr` (its binomial standard error),
        `answered` (share of rows with a readable answer), `cut` (share that reached the length limit) and `steps`
        (mean number of steps).
    """
    count = len(rows)
    right = sum(
        task.verify(row, explanation.answer) is True for row, explanation in zip(rows, explanations, strict=True)
    )
    accuracy = right / count
    return {
        f"{prefix}_accuracy": accuracy,
        f"{prefix}_accuracy_stderr": (accuracy * (1 - accuracy) / count) ** 0.5,
        f"{prefix}_answered": sum(explanation.answer is not None for explanation in explanations) / count,
        f"{prefix}_cut": sum(explanation.finish_reason == "length" for explanation in explanations) / count,
        f"{prefix}_steps": sum(len(explanation.steps) for explanation in explanations) / count,
    }


def require_references(rows: Sequence[PoolRow]) -> None:
    """Raises a `DataError` that names the cure when evaluation rows have no answers."""
    without = [row for row in rows if row.reference is None]
    if without:
        columns = ", ".join(["the prompt", *sorted(without[0].columns)])
        raise DataError(
            f"{len(without)} of {len(rows)} evaluation rows have no reference answer (columns: {columns}). Name the "
            "answer column 'answer' or 'reference', set `eval_with_teacher=True` to compare with the teacher's "
            "answers (paid from the budget), or leave `eval_dataset` out."
        )
