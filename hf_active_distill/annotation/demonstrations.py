"""Labelled rows that a teacher is shown before the one it shall label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigurationError, DataError
from ..records import PoolRow
from ..tasks.classification import ClassificationTask


CHOICES = ("balanced", "nearest")


class Demonstrations:
    """
    Chooses which labelled rows stand in a prompt.

    Args:
        task ([`~tasks.ClassificationTask`]): Reads rows and references.
        rows (`Sequence`):
            Labelled rows: [`~records.PoolRow`] with a reference, or examples of a data set. The row that is asked
            about is never among those shown.
        count (`int`, *optional*, defaults to `4`): Rows to show.
        choose (`str`, *optional*, defaults to `"balanced"`):
            `"balanced"`: the first rows of each label in turn, the same for every prompt, so that a server can keep
            the beginning of the prompt. `"nearest"`: the rows whose embeddings have the largest cosine with that of
            the row asked about, the nearest last (*What Makes Good In-Context Examples for GPT-3?*, arXiv 2101.06804).
        embeddings (`Mapping[str, ArrayLike]`, *optional*):
            Row id to vector, of the labelled rows and of those asked about: for `"nearest"`.

    Raises:
        [`~errors.ConfigurationError`]: For an unknown choice, or `"nearest"` without embeddings.
        [`~errors.DataError`]: For a row without a label, or without an embedding where one is needed.
    """

    def __init__(
        self,
        task: ClassificationTask,
        rows: Sequence[PoolRow | Mapping[str, Any]],
        *,
        count: int = 4,
        choose: str = "balanced",
        embeddings: Mapping[str, ArrayLike] | None = None,
    ):
        if choose not in CHOICES:
            raise ConfigurationError(f"choose={choose!r} must be one of {', '.join(CHOICES)}.")
        if choose == "nearest" and embeddings is None:
            raise ConfigurationError("choose='nearest' needs `embeddings`: a mapping from row id to vector.")
        if count < 1:
            raise ConfigurationError(f"count={count} must be at least 1; leave the demonstrations out for none.")
        self.count = count
        self._choose = choose
        self._embeddings = embeddings or {}
        self._rows = [self._labelled(task, row) for row in rows]
        if choose == "balanced":
            self._rows = _in_turn(self._rows)
        else:
            self._vectors = [self._vector(row) for row, _ in self._rows]

    @staticmethod
    def _labelled(task: ClassificationTask, row: PoolRow | Mapping[str, Any]) -> tuple[PoolRow, str]:
        row = row if isinstance(row, PoolRow) else task.read_row(row)
        label = None if row.reference is None else task.read_reference(row.reference)
        if label is None:
            raise DataError(f"A demonstration has no label ({str(row.prompt)[:60]!r}): give it a column 'label'.")
        return row, label

    def of(self, row: PoolRow) -> list[tuple[PoolRow, str]]:
        """The labelled rows that the prompt of `row` shows, in the order in which it does."""
        others = [index for index, (other, _) in enumerate(self._rows) if other.row_id != row.row_id]
        if self._choose == "nearest":
            vector = self._vector(row)
            # Ties go to the row that was given first.
            others = sorted(others, key=lambda index: -float(self._vectors[index] @ vector))[: self.count][::-1]
        return [self._rows[index] for index in others[: self.count]]

    def _vector(self, row: PoolRow) -> np.ndarray:
        if row.row_id not in self._embeddings:
            raise DataError(f"`embeddings` has no vector of row {row.row_id}: give one of every row.")
        vector = np.asarray(self._embeddings[row.row_id], dtype=np.float64)
        return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _in_turn(rows: list[tuple[PoolRow, str]]) -> list[tuple[PoolRow, str]]:
    """The first row of every label, then the second of every label, and so on."""
    seen: dict[str, int] = {}
    ranked = []
    for row, label in rows:
        seen[label] = seen.get(label, -1) + 1
        ranked.append((seen[label], row, label))
    return [(row, label) for _, row, label in sorted(ranked, key=lambda item: item[0])]
