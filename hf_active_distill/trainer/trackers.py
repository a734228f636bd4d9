"""Tables of a round's rows for the trackers in `report_to`; its figures get there by `Trainer.log`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transformers import TrainerState
from transformers.integrations import TensorBoardCallback

from ..reports import RoundTable, round_tables
from .callbacks import ActiveDistillationCallback, AnnotationEvent


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

logger = logging.getLogger(__name__)

Tables = dict[str, RoundTable]
#: Beside the figures of the round: `transformers` puts "train/" before what is logged in training.
PREFIX = "train/round"


def _to_wandb(tables: Tables, state: TrainerState, trainer: ActiveDistillationTrainer) -> None:
    import wandb

    if wandb.run is not None:
        made = {
            f"{PREFIX}/{name}_rows": wandb.Table(columns=[*table.columns], data=table.rows)
            for name, table in tables.items()
        }
        wandb.run.log({**made, "train/global_step": state.global_step})


def _to_trackio(tables: Tables, state: TrainerState, trainer: ActiveDistillationTrainer) -> None:
    import trackio

    made = {
        f"{PREFIX}/{name}_rows": trackio.Table(columns=table.columns, data=table.rows)
        for name, table in tables.items()
    }
    trackio.log({**made, "train/global_step": state.global_step})


def _to_tensorboard(tables: Tables, state: TrainerState, trainer: ActiveDistillationTrainer) -> None:
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            for name, table in tables.items():
                callback.tb_writer.add_text(f"{PREFIX}/{name}_rows", table.markdown(), state.global_step)
            callback.tb_writer.flush()


TRACKERS: dict[str, Callable[[Tables, TrainerState, ActiveDistillationTrainer], None]] = {
    "tensorboard": _to_tensorboard,
    "trackio": _to_trackio,
    "wandb": _to_wandb,
}


class TrackerTablesCallback(ActiveDistillationCallback):
    """
    Sends the selected and the revised rows of every round, up to 200 of each, to the trackers named in `report_to`
    that can show them: wandb and trackio as tables, tensorboard as text. The trainer adds one by default;
    `trainer.remove_callback(TrackerTablesCallback)` keeps the texts of rows away from trackers.
    """

    def on_annotation_end(self, args, state, control, event: AnnotationEvent, trainer=None, **kwargs: Any) -> None:
        wanted = [name for name in args.report_to if name in TRACKERS]
        if not wanted or not state.is_world_process_zero:
            return
        tables = {name: table for name, table in round_tables(event.record).items() if table.rows}
        for name in wanted:
            try:
                TRACKERS[name](tables, state, trainer)
            except Exception as error:  # a tracker that is away, say: no reason to end a run that has been paid for
                logger.warning("%s got no tables of the round (%s: %s).", name, type(error).__name__, error)
