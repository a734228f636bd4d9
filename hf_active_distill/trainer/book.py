"""The rounds of a run in memory and on disk; every process sees the same, the main one writes."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator

from ..pool import Pool
from ..records import Annotation
from ..rounds import RoundRecord, RoundStore
from .distributed import on_main_process, raised_everywhere


class RoundBook:
    """
    Args:
        store ([`~rounds.RoundStore`]): The disk.
        pool ([`~pool.Pool`]): Follows the rounds.
        accelerator (`Accelerator`): The processes.
    """

    def __init__(self, store: RoundStore, pool: Pool, accelerator: Accelerator):
        self.store = store
        self.pool = pool
        self.accelerator = accelerator
        self.records: dict[int, RoundRecord] = {}

    def claim(self, settings: dict[str, Any], *, resuming: bool, overwrite: bool) -> None:
        """Begins or goes on with a run in the folder: see [`~rounds.RoundStore.begin`]."""

        def begin() -> None:
            if self.accelerator.is_main_process:
                self.store.begin(settings, resuming=resuming, overwrite=overwrite)

        raised_everywhere(self.accelerator, begin)
        self.records.clear()
        self.pool.annotated.clear()
        self.pool.failures.clear()

    def stored(self, index: int) -> bool:
        """Whether the round was selected and asked, in this process or an earlier one."""
        return on_main_process(self.accelerator, lambda: self.store.has(index))

    def read(self, index: int) -> RoundRecord:
        return on_main_process(self.accelerator, lambda: self.store.read(index))

    def write(self, record: RoundRecord) -> None:
        on_main_process(self.accelerator, lambda: self.store.write(record))

    def adopt(self, record: RoundRecord) -> None:
        """Takes a round into the pool's state."""
        self.pool.apply(record)
        self.records[record.round] = record

    def history(self, before: int) -> list[dict[str, Any]]:
        return on_main_process(self.accelerator, lambda: self.store.history(before))

    def write_metrics(self, index: int, figures: dict[str, Any]) -> None:
        on_main_process(self.accelerator, lambda: self.store.write_metrics(index, figures))

    def write_baseline(self, metrics: dict[str, Any]) -> None:
        """What the student could do before the first round."""
        baseline = {"round": -1, "step": 0, "total_teacher_tokens": 0, **metrics}
        on_main_process(self.accelerator, lambda: self.store.write_baseline(baseline))

    def totals(self) -> dict[str, int]:
        """Figures over all rounds so far."""
        usages = [record.usage for record in self.records.values()]
        return {
            "total_teacher_tokens": sum(usage.total_tokens for usage in usages),
            "total_teacher_calls": sum(usage.calls for usage in usages),
            "total_annotated": len(self.pool.annotated),
        }

    def annotations(self) -> list[Annotation]:
        """All annotations in the order in which they were made."""
        return [annotation for index in sorted(self.records) for annotation in self.records[index].annotations]
