"""The callback that keeps `output_dir/report/index.html` up to date."""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerState

from ..reports import write_report
from .callbacks import ActiveDistillationCallback, AnnotationEvent
from .config import ActiveDistillationConfig


logger = logging.getLogger(__name__)


class ReportCallback(ActiveDistillationCallback):
    """
    Writes the report when the teacher has answered and when a round is over. The trainer adds one by default;
    `trainer.remove_callback(ReportCallback)` does without.
    """

    def on_annotation_end(self, args, state, control, event: AnnotationEvent, **kwargs: Any) -> None:
        self.write(args, state)

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        # A round's figures are logged when they are on the disk, which they are not yet at `on_round_end`.
        if logs and "round/round" in logs:
            self.write(args, state)

    @staticmethod
    def write(args: ActiveDistillationConfig, state: TrainerState) -> None:
        """Writes the page as the folder stands; only the main process does."""
        if not state.is_world_process_zero:
            return
        try:
            write_report(args.output_path)
        except Exception as error:  # whatever it is, it is no reason to end a run that has been paid for
            logger.warning("The report was not written (%s: %s).", type(error).__name__, error)
