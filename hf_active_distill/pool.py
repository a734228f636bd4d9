"""The unlabelled rows, and their state as a fold over the finished rounds."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from .errors import EmptyPoolError
from .records import PoolRow, Prompt
from .rounds import RoundRecord


logger = logging.getLogger(__name__)

#: The teacher has answered, and would say the same again: such rows are not asked about twice.
FINAL_REASONS = ("abstained", "low_confidence")


def prompt_key(prompt: Prompt) -> str:
    """What makes two prompts the same row: text without outer or repeated blanks."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, ensure_ascii=False)
    return " ".join(text.split())


def fingerprint_of(rows: Iterable[PoolRow]) -> str:
    """A hash of rows, their order included."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.row_id, row.prompt], sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


class Pool:
    """
    The rows that may still be asked about.

    Args:
        rows (`Sequence[PoolRow]`): All rows, in the order of the data set.
        exclude (`Iterable[PoolRow]`, *optional*): Rows that must not be asked about: those of the evaluation set, and
            the ones that are labelled already.
        max_attempts (`int`, *optional*, defaults to `2`): Times a row may fail before it leaves the pool.

    Attributes:
        duplicates (`int`): Rows dropped because their prompt or id stood in the pool already.
        excluded (`int`): Rows dropped because they stand in `exclude`.
        too_long (`int`): Rows dropped by [`keep`].

    Raises:
        [`~errors.EmptyPoolError`]: When no row is left.
    """

    def __init__(self, rows: Sequence[PoolRow], *, exclude: Iterable[PoolRow] = (), max_attempts: int = 2):
        if not rows:
            raise EmptyPoolError("The pool is empty: `pool_dataset` must hold at least one row.")
        self.max_attempts = max_attempts
        self.rows: dict[str, PoolRow] = {}
        self.annotated: set[str] = set()
        self.failures: Counter[str] = Counter()
        self.duplicates = self.excluded = self.too_long = 0
        seen: set[str] = set()
        barred = {prompt_key(row.prompt) for row in exclude}
        for row in rows:
            key = prompt_key(row.prompt)
            if key in barred:
                self.excluded += 1
            elif key in seen or row.row_id in self.rows:
                self.duplicates += 1
            else:
                seen.add(key)
                self.rows[row.row_id] = row
        if self.duplicates:
            logger.warning("%d of %d pool rows are duplicates and were dropped.", self.duplicates, len(rows))
        if self.excluded:
            logger.warning(
                "%d of %d pool rows stand in the evaluation or seed data and were taken out of the pool.",
                self.excluded,
                len(rows),
            )
        if not self.rows:
            raise EmptyPoolError(
                f"All {len(rows)} pool rows stand in the evaluation or seed data: give the pool other rows."
            )

    def keep(self, fits: Callable[[PoolRow], bool]) -> None:
        """Drops the rows whose prompts are too long for the student: one of them would end a run in some round."""
        long = [row_id for row_id, row in self.rows.items() if not fits(row)]
        if len(long) == len(self.rows):
            raise EmptyPoolError(
                f"The prompts of all {len(long)} pool rows leave no room for an answer: raise `max_length`, use fewer "
                "few-shot examples, or a student with more positions."
            )
        self.too_long = len(long)
        for row_id in long:
            del self.rows[row_id]
        if long:
            logger.warning(
                "%d pool rows have prompts that leave no room for an answer within `max_length` and the student's "
                "positions, and were dropped.",
                len(long),
            )

    def available(self) -> list[str]:
        """Ids that may be asked about, in pool order."""
        return [
            row_id
            for row_id in self.rows
            if row_id not in self.annotated and self.failures[row_id] < self.max_attempts
        ]

    def apply(self, record: RoundRecord) -> None:
        """Folds a finished round in: annotated rows leave, failed ones return until their attempts are used up."""
        for annotation in record.annotations:
            if annotation.status == "ok":
                self.annotated.add(annotation.row_id)
            elif annotation.reason in FINAL_REASONS:
                self.failures[annotation.row_id] = self.max_attempts
            else:
                self.failures[annotation.row_id] += 1

    def fingerprint(self) -> str:
        """A hash of the rows, to notice that a resumed run was given other data."""
        return fingerprint_of(self.rows.values())
