"""One round up to training: score the pool, select, ask, record. Knows nothing of `Trainer`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from accelerate import Accelerator
from tqdm.auto import tqdm

from ..annotation.base import AnnotationItem, AnnotationMethod
from ..annotation.run import annotate_rows
from ..asking import Dispatcher
from ..pool import Pool
from ..records import Annotation, Explanation, PoolRow, Usage
from ..rounds import RoundRecord
from ..selection import choose, draw_candidates
from ..selection.base import Candidate, SelectionContext, SelectionResult, SignalRequest
from ..students import Student
from .config import ActiveDistillationConfig
from .distributed import map_chunks, on_main_process
from .schedule import derived_seed


if TYPE_CHECKING:
    from .callbacks import SelectionCallback

R = TypeVar("R")


class RoundRunner:
    """
    Args:
        args (`ActiveDistillationConfig`): Settings.
        accelerator (`Accelerator`): Shares the scoring; the main process asks.
        pool (`Pool`): What may be asked about.
        method (`AnnotationMethod`): How to ask.
        open_student (`Callable`): Gives a context in which the student can be asked.
        dispatcher (`Dispatcher` or `None`): The main process's way to the teacher, `None` on the others.
        before_chunk (`Callable`): Called before every chunk of rows; what it raises ends the round on all processes.
        before_asking (`Callable`): Called on the main process with the rows that the teacher is about to be asked.
        judge (`Callable`): Called with the answers; it may fail some of them.
        labelled (`Callable`): Gives the annotated rows so far, each with its label or answer.
    """

    def __init__(
        self,
        args: ActiveDistillationConfig,
        accelerator: Accelerator,
        pool: Pool,
        method: AnnotationMethod,
        open_student: Callable[[], AbstractContextManager[Any]],
        dispatcher: Dispatcher | None,
        before_chunk: Callable[[], None],
        before_asking: Callable[[Sequence[AnnotationItem]], None],
        judge: Callable[[Sequence[Annotation]], None] = lambda annotations: None,
        labelled: Callable[[], list[tuple[PoolRow, str | None]]] = list,
    ):
        self.args = args
        self.accelerator = accelerator
        self.pool = pool
        self.method = method
        self.open_student = open_student
        self.dispatcher = dispatcher
        self.before_chunk = before_chunk
        self.before_asking = before_asking
        self.judge = judge
        self.labelled = labelled

    def run(
        self, round_index: int, global_step: int, available: list[str], selector: SelectionCallback
    ) -> RoundRecord:
        """Selects and asks for one round. The same on every process."""
        record = RoundRecord(round=round_index, global_step=global_step, available=len(available))
        started = time.monotonic()
        with self.open_student() as student:
            result, explanations = self._choose(round_index, available, selector, student)
        record.selected_ids = result.ids
        record.scores = result.scores
        record.reasons = result.reasons
        record.random_ids = [row_id for row_id in result.ids if row_id in result.uniform]
        record.seconds["scoring"] = time.monotonic() - started
        started = time.monotonic()
        items = [
            AnnotationItem(self.pool.rows[row_id], explanations.get(row_id), round_index, self.pool.failures[row_id])
            for row_id in result.ids
        ]
        outcomes, record.unfinished_usage = on_main_process(self.accelerator, lambda: self.ask(items))
        record.seconds["asking"] = time.monotonic() - started
        record.annotations = [outcome for outcome in outcomes if outcome is not None]
        self.judge(record.annotations)
        record.unfinished_ids = [
            item.row.row_id for item, outcome in zip(items, outcomes, strict=True) if outcome is None
        ]
        if record.unfinished_ids:
            record.stop_reason = "budget"
        return record

    def explain(self, student: Student, rows: Sequence[PoolRow], round_index: int, label: str) -> list[Explanation]:
        """Greedy explanations of rows, shared over the processes."""
        return self._map(label, rows, lambda chunk: student.explain(chunk, round=round_index))

    def ask(self, items: Sequence[AnnotationItem]) -> tuple[list[Annotation | None], Usage]:
        """
        Asks the teacher about rows, all dialogues at once. `None` stands where the budget did not reach; what those
        dialogues had cost comes second.
        """
        dispatcher = self.dispatcher
        if dispatcher is None:
            raise RuntimeError("Only the main process talks to the teacher.")
        self.before_asking(items)
        progress = False if self.args.disable_tqdm else None
        lost: list[Usage] = []
        annotations = annotate_rows(
            dispatcher, self.method, items, progress=progress, on_unfinished=lambda item, usage: lost.append(usage)
        )
        return annotations, sum(lost, Usage())

    def _choose(
        self, round_index: int, available: list[str], selector: SelectionCallback, student: Any
    ) -> tuple[SelectionResult, dict[str, Explanation]]:
        generator = np.random.default_rng(derived_seed(self.args.seed, "candidates", round_index))
        wanted = self.args.resolved_candidates_per_round
        ids = available if wanted is None else draw_candidates(available, wanted, generator)
        rows = [self.pool.rows[row_id] for row_id in ids]
        candidates = self.score(student, rows, selector.requests(), round_index)
        known = self.labelled() if selector.needs_labelled else []
        labelled = self.score(student, [row for row, _ in known], selector.needs_labelled, round_index)
        context = SelectionContext(
            candidates=candidates,
            n=min(self.args.samples_per_round, len(candidates)),
            generator=np.random.default_rng(derived_seed(self.args.seed, "selection", round_index)),
            round=round_index,
            answers_equal=student.task.answers_equal,
            labelled_ids=sorted(self.pool.annotated),
            labelled=labelled,
            labels={row.row_id: label for row, label in known if label is not None} if labelled else {},
        )
        result = on_main_process(self.accelerator, lambda: choose(selector, context))
        explanations = {c.row_id: c.explanation for c in candidates if c.explanation is not None}
        unexplained = [self.pool.rows[row_id] for row_id in result.ids if row_id not in explanations]
        if self.method.needs_explanation and unexplained:
            written = self.explain(student, unexplained, round_index, "explaining")
            explanations |= {explanation.row_id: explanation for explanation in written}
        return result, {row_id: explanations[row_id] for row_id in result.ids if row_id in explanations}

    def score(
        self,
        student: Any,
        rows: Sequence[PoolRow],
        requests: Sequence[SignalRequest],
        round_index: int,
        doing: str = "scoring",
    ) -> list[Candidate]:
        """Rows with their signals, shared over the processes, in the order of the rows."""
        if not requests:
            return [Candidate(row=row) for row in rows]
        order = student.order(rows)
        arranged = [rows[index] for index in order]
        found = self._map(doing, arranged, lambda chunk: student.candidates(chunk, requests, round=round_index))
        candidates: list[Candidate] = [Candidate(row) for row in rows]
        for index, candidate in zip(order, found, strict=True):
            candidates[index] = candidate
        return candidates

    def _map(self, label: str, rows: Sequence[PoolRow], work: Callable[[Sequence[PoolRow]], list[R]]) -> list[R]:
        def checked(chunk: Sequence[PoolRow]) -> list[R]:
            self.before_chunk()
            return work(chunk)

        hidden = self.args.disable_tqdm or not self.accelerator.is_main_process
        with tqdm(total=len(rows), desc=label, disable=hidden, leave=False, unit="row") as bar:
            return map_chunks(self.accelerator, rows, self.args.per_device_scoring_batch_size, checked, bar.update)
