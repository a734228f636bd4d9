"""
The events of a round, the callback that selects between epochs, and the ones that stop a run.

The order of events in a round is: `on_epoch_begin` (select, ask, record: `on_selection_begin`, `on_annotation_end`),
training, `on_epoch_end`, evaluation, `on_round_end`, checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from ..errors import CheckpointError, ConfigurationError
from ..records import Annotation
from ..rounds import RoundRecord
from ..selection.base import SelectionContext, SelectionResult, SignalRequest
from .config import ActiveDistillationConfig


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer


@dataclass
class SelectionEvent:
    """
    Before the pool is scored.

    Args:
        round (`int`): 0-based round.
        available_ids (`list[str]`): Rows that may be chosen. A callback may remove ids from the list: they are left
            alone in this round.
    """

    round: int
    available_ids: list[str]


@dataclass
class AnnotationEvent:
    """
    After the teacher has answered, before the rows enter training.

    Args:
        record (`RoundRecord`): The round: what was chosen and why, and every annotation, failed ones included.
    """

    record: RoundRecord

    @property
    def annotations(self) -> list[Annotation]:
        return self.record.annotations


@dataclass
class RoundEndEvent:
    """
    A round is trained and evaluated.

    Args:
        record (`RoundRecord`): The round.
        figures (`dict[str, Any]`): Its numbers: those of `RoundRecord.figures`, running totals, and what the
            evaluation measured.
        history (`list[dict[str, Any]]`): The figures of what came before, in order; the first has `round` -1 where the
            run was evaluated at its start.
        stop_reason (`str` or `None`): Why the run ends here, `None` if it goes on. A callback may set it to its own
            word to stop the run.
    """

    record: RoundRecord
    figures: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str | None = None


class ActiveDistillationCallback(TrainerCallback):
    """A `TrainerCallback` with the events of a round. Override what is wanted; every event gets `**kwargs`."""

    def on_selection_begin(
        self,
        args: ActiveDistillationConfig,
        state: TrainerState,
        control: TrainerControl,
        event: SelectionEvent,
        **kwargs: Any,
    ) -> None:
        """Before the pool is scored."""

    def on_annotation_end(
        self,
        args: ActiveDistillationConfig,
        state: TrainerState,
        control: TrainerControl,
        event: AnnotationEvent,
        **kwargs: Any,
    ) -> None:
        """After the teacher has answered, before the rows enter training. The round is on disk already."""

    def on_round_end(
        self,
        args: ActiveDistillationConfig,
        state: TrainerState,
        control: TrainerControl,
        event: RoundEndEvent,
        **kwargs: Any,
    ) -> None:
        """When a round is trained and evaluated, before its checkpoint."""

    def on_round_finished(
        self,
        args: ActiveDistillationConfig,
        state: TrainerState,
        control: TrainerControl,
        event: RoundEndEvent,
        **kwargs: Any,
    ) -> None:
        """After `on_round_end` of all callbacks: the figures are on the disk, and the round is over for good."""


class SelectionCallback(ActiveDistillationCallback):
    """
    Runs a round's selection between two epochs. The trainer adds one by default; pass a subclass in `callbacks` to
    replace it, for example with another `select`.
    """

    def __init__(self) -> None:
        self._trainer: ActiveDistillationTrainer | None = None
        self._held_back: tuple[bool, bool] = (False, False)
        self._ending_round: int | None = None
        self._at_start = False

    @property
    def trainer(self) -> ActiveDistillationTrainer:
        if self._trainer is None:
            raise RuntimeError("A SelectionCallback works only inside an ActiveDistillationTrainer.")
        return self._trainer

    def bind(self, trainer: ActiveDistillationTrainer) -> None:
        """Called once by the trainer."""
        self._trainer = trainer

    @property
    def name(self) -> str:
        """Stands in the reasons of chosen rows that have none."""
        return self.trainer.strategy.name

    def requests(self) -> tuple[SignalRequest, ...]:
        """Signals to compute for every candidate."""
        return self.trainer.strategy.requests()

    @property
    def needs_labelled(self) -> tuple[SignalRequest, ...]:
        """Signals to compute for the rows that are annotated already."""
        return self.trainer.strategy.needs_labelled

    def select(self, context: SelectionContext) -> SelectionResult:
        """Chooses rows. With several processes this runs on the main one."""
        return self.trainer.strategy.select(context)

    def on_train_begin(self, args, state, control, **kwargs):
        self._at_start = state.global_step == 0

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._at_start = False
        trainer = self.trainer
        round_index, steps_done = trainer.schedule.position(state.global_step)
        trainer.rounds.restore(before=round_index)
        if round_index in trainer.book.records:
            return
        if steps_done and not trainer.book.stored(round_index):
            raise CheckpointError(
                f"The checkpoint at step {state.global_step} lies inside round {round_index}, but "
                f"{trainer.book.store.path(round_index)} does not exist. Resume from one at the end of a round."
            )
        trainer.rounds.begin(round_index, self)
        if steps_done == 0:
            trainer.rounds.prepare_weights(round_index)

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.session.agreed_to_terminate():
            control.should_save = control.should_training_stop = True
        if self.trainer.schedule.position(state.global_step)[1] == 0:
            # A round's last step: what is due now happens at the end of the epoch, when the round is really over.
            # A checkpoint written here would resume after the round's evaluation had been lost.
            self._held_back = (control.should_evaluate, control.should_save)
            control.should_evaluate = control.should_save = False

    def on_epoch_end(self, args, state, control, **kwargs):
        evaluate, save = self._held_back
        self._held_back = (False, False)
        round_index, steps_done = self.trainer.schedule.position(state.global_step)
        if steps_done:
            # The middle of a round: "epoch" strategies mean rounds.
            control.should_evaluate = False
            control.should_save = False
            return
        control.should_evaluate = control.should_evaluate or evaluate
        control.should_save = control.should_save or save
        self._ending_round = round_index - 1
        if not control.should_evaluate:
            self._finish(control, {})

    def evaluated(self, control: TrainerControl, metrics: dict[str, float]) -> None:
        """Called by the trainer when all callbacks have seen an evaluation."""
        if self._at_start:
            self.trainer.book.write_baseline(metrics)
        elif self._ending_round is not None:
            self._finish(control, metrics)

    def _finish(self, control: TrainerControl, metrics: dict[str, float]) -> None:
        round_index, self._ending_round = self._ending_round, None
        if round_index is not None and self.trainer.rounds.finish(round_index, metrics):
            control.should_training_stop = True


class StoppingCallback(ActiveDistillationCallback):
    """
    Ends the run after a round: when the budget is spent, the accuracy has stopped rising (`plateau_patience`), or the
    teacher accepts enough of the student's steps on rows drawn at random (`transfer_threshold`, over the latest rounds
    with `transfer_min_steps` of them).
    """

    def on_round_end(self, args, state, control, event, **kwargs):
        event.stop_reason = event.stop_reason or event.record.stop_reason or self._reason(args, event)

    def _reason(self, args: ActiveDistillationConfig, event: RoundEndEvent) -> str | None:
        figures = [*event.history, event.figures]
        accept_rate = probe_accept_rate(figures, args.transfer_min_steps)
        if args.transfer_threshold is not None and accept_rate is not None and accept_rate >= args.transfer_threshold:
            return "transfer"
        name = f"eval_{(args.metric_for_best_model or 'accuracy').removeprefix('eval_')}"
        sign = -1 if args.greater_is_better is False else 1
        accuracies = [sign * row[name] for row in figures if row.get(name) is not None]
        patience = args.plateau_patience
        if patience is not None and len(accuracies) > patience:
            best_before = max(accuracies[:-patience])
            if max(accuracies[-patience:]) <= best_before + args.plateau_threshold:
                return "plateau"
        return None


def probe_accept_rate(figures: Sequence[Mapping[str, Any]], least: int) -> float | None:
    """
    Share of the student's steps that the teacher accepted on rows drawn at random, over the latest rounds that have
    `least` of them together; `None` where all rounds have fewer. A few rows of one round would often be all right by
    chance. Earlier rounds tell of a weaker student, so the share is rather too low.
    """
    judged, accepted = 0, 0.0
    for row in reversed(figures):
        steps = row.get("probe_judged_steps") or 0
        if steps:
            judged, accepted = judged + steps, accepted + steps * row["probe_accept_rate"]
        if judged >= least:
            return accepted / judged
    return None


def arrange_callbacks(
    trainer: ActiveDistillationTrainer, callbacks: list[TrainerCallback] | None
) -> tuple[SelectionCallback, list[TrainerCallback]]:
    """
    The callback that runs the rounds, a user's own where one is among `callbacks`, and all of them in their order:
    ours first, those that tell of a round after the user's.

    Raises:
        [`~errors.ConfigurationError`]: When there is more than one [`SelectionCallback`].
    """
    from .reporting import ReportCallback  # these two are callbacks themselves
    from .trackers import TrackerTablesCallback

    given = list(callbacks or [])
    selectors = [callback for callback in given if isinstance(callback, SelectionCallback)]
    if len(selectors) > 1:
        raise ConfigurationError("More than one `SelectionCallback` was passed: a round is selected once.")
    selector = selectors[0] if selectors else SelectionCallback()
    selector.bind(trainer)
    others = [callback for callback in given if callback is not selector]
    telling = [
        made() for made in (ReportCallback, TrackerTablesCallback) if not any(isinstance(c, made) for c in given)
    ]
    return selector, [StoppingCallback(), selector, *others, *telling]
