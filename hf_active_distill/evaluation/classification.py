"""What a student's or a teacher's labels are worth: accuracy, F1, and where the two disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from ..records import Annotation, Prompt
from ..tasks.classification import ClassificationTask
from .calibration import expected_calibration_error
from .libraries import library


def label_metrics(
    task: ClassificationTask, logits: np.ndarray, targets: np.ndarray, prefix: str = "eval"
) -> dict[str, float]:
    """
    Metrics of labels that are read off logits: the largest, or, with `multi_label`, all from 0 on (probability 0.5).

    Args:
        task ([`~tasks.ClassificationTask`]): The label set.
        logits (`np.ndarray` of shape `(N, K)`): Of a classification head, or log-probabilities.
        targets (`np.ndarray` of shape `(N,)` or `(N, K)`): Class indices; with `multi_label` zeros and ones.
        prefix (`str`, *optional*, defaults to `"eval"`): Put before every name.

    Returns:
        `dict[str, float]`: `accuracy` (share of rows that are right; with `multi_label`, in all labels),
        `accuracy_stderr` (its binomial standard error), `macro_f1` (mean over the classes that occur in targets or
        predictions), `f1/LABEL` of every class (0 for one that does not occur), and `ece`
        ([`expected_calibration_error`]) or, with `multi_label`, `micro_f1` and `hamming_loss`.

    Raises:
        [`~errors.DataError`]: For shapes that do not fit, and logits that are not finite.
        [`~errors.ConfigurationError`]: Where scikit-learn is missing (extra `classification`).
    """
    metrics = library("sklearn.metrics")
    logits, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets)
    size = len(task.labels)
    shape = (len(logits), size) if task.multi_label else (len(logits),)
    if logits.ndim != 2 or logits.shape[1] != size or targets.shape != shape or not len(logits):
        raise DataError(
            f"{size} labels need logits of shape (N, {size}), N at least 1, and as many targets; got {logits.shape} "
            f"and {targets.shape}."
        )
    if np.isnan(logits).any():
        raise DataError("Some logits are NaN: the student's training diverged (lower the learning rate).")
    predictions = (logits >= 0).astype(int) if task.multi_label else logits.argmax(1)
    right = (predictions == targets).all(1) if task.multi_label else predictions == targets
    accuracy = float(right.mean())
    found = {"accuracy": accuracy, "accuracy_stderr": (accuracy * (1 - accuracy) / len(logits)) ** 0.5}
    by_class = metrics.f1_score(targets, predictions, labels=range(size), average=None, zero_division=0)
    occurs = (
        (targets.any(0) | predictions.any(0)) if task.multi_label else np.isin(range(size), [targets, predictions])
    )
    found["macro_f1"] = float(by_class[occurs].mean()) if occurs.any() else 0.0
    if task.multi_label:
        found["micro_f1"] = float(metrics.f1_score(targets, predictions, average="micro", zero_division=0))
        found["hamming_loss"] = float(metrics.hamming_loss(targets, predictions))
    else:
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        confidence = (shifted / shifted.sum(1, keepdims=True)).max(1)
        found["ece"] = expected_calibration_error(confidence, right)
    found |= {f"f1/{label}": float(value) for label, value in zip(task.labels, by_class, strict=True)}
    return {f"{prefix}_{name}": value for name, value in found.items()}


@dataclass(frozen=True)
class ConfusionTable:
    """
    How often two readers of the same texts gave each pair of labels.

    Args:
        labels (`list[str]`): Names of rows and columns.
        counts (`np.ndarray` of shape `(K, K)`): Texts; a row is the first reader's label, a column the second's.
        readers (`tuple[str, str]`): Who reads: names of rows and columns.
    """

    labels: list[str]
    counts: np.ndarray
    readers: tuple[str, str] = ("teacher", "student")

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        first: Sequence[str],
        second: Sequence[str],
        readers: tuple[str, str] = ("teacher", "student"),
    ) -> ConfusionTable:
        """Counts two lists of labels in the same order."""
        if len(first) != len(second):
            raise DataError(
                f"{readers[0]} and {readers[1]} must have read the same texts: {len(first)}, {len(second)}."
            )
        index = {label: i for i, label in enumerate(labels)}
        unknown = sorted({*first, *second} - set(index))
        if unknown:
            raise DataError(f"{unknown[0]!r} is no label of the table: {', '.join(labels)}.")
        counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(counts, ([index[label] for label in first], [index[label] for label in second]), 1)
        return cls(list(labels), counts, readers)

    @property
    def agreement(self) -> float:
        """Share of texts with the same label; NaN without texts."""
        return float(np.trace(self.counts) / self.counts.sum()) if self.counts.sum() else float("nan")

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond what two readers with these label shares have by chance."""
        total = self.counts.sum()
        chance = float((self.counts.sum(0) / total) @ (self.counts.sum(1) / total)) if total else float("nan")
        return 1.0 if chance == 1 else (self.agreement - chance) / (1 - chance)

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict a row of the table, for a data frame or a data set."""
        return [
            {self.readers[0]: label, **dict(zip(self.labels, map(int, counts), strict=True))}
            for label, counts in zip(self.labels, self.counts, strict=True)
        ]

    def to_markdown(self) -> str:
        """The table for a card or a report."""
        head = [f"{self.readers[0]} \\ {self.readers[1]}", *self.labels]
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in self.to_rows()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Disagreement:
    """One text to which teacher and student gave different labels, each with its probability."""

    row_id: str
    text: str
    teacher_label: str
    teacher_confidence: float
    student_label: str
    student_confidence: float


def confident_disagreements(
    task: ClassificationTask,
    annotations: Sequence[Annotation],
    probabilities: np.ndarray,
    *,
    texts: Sequence[str] | None = None,
    count: int = 10,
) -> list[Disagreement]:
    """
    The rows on which teacher and student disagree although both are sure: mistakes of either, or of the label set.

    Args:
        task ([`~tasks.ClassificationTask`]): The label set.
        annotations (`Sequence[Annotation]`): Of the teacher; those without a label are left out.
        probabilities (`np.ndarray` of shape `(N, K)`): Of the student, a row an annotation.
        texts (`Sequence[str]`, *optional*): What to show of each; by default the prompts of the annotations.
        count (`int`, *optional*, defaults to `10`): Most rows to give.

    Returns:
        `list[Disagreement]`: By the product of both confidences, the largest first.
    """
    if len(annotations) != len(probabilities):
        raise DataError(
            f"{len(annotations)} annotations need as many rows of probabilities, not {len(probabilities)}."
        )
    found = []
    shown = [_plain(annotation.prompt) for annotation in annotations] if texts is None else texts
    rows = np.asarray(probabilities, dtype=np.float64)
    for annotation, row, text in zip(annotations, rows, shown, strict=True):
        student = task.labels[int(row.argmax())]
        if annotation.label is not None and annotation.label != student:
            sure = 1.0 if annotation.confidence is None else annotation.confidence
            found.append(Disagreement(annotation.row_id, text, annotation.label, sure, student, float(row.max())))
    return sorted(found, key=lambda one: -one.teacher_confidence * one.student_confidence)[:count]


def _plain(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]
