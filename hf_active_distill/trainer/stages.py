"""A round of a run, stage by stage: restore, begin (score, select, ask, record), finish."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..annotation import AnnotationItem
from ..annotation.label import ABSTAINED, OUTSIDE
from ..asking import write_forecast
from ..errors import BudgetExhaustedError, ConfigurationError, DataError, TeacherError
from ..records import Annotation, PoolRow
from ..rounds import RoundRecord
from .answer_gate import REASON, AnswerGate
from .callbacks import AnnotationEvent, RoundEndEvent, SelectionCallback, SelectionEvent
from .classifying import LabellingKind
from .desk import journal_and_run
from .distributed import raised_everywhere
from .plan import teacher_forecast
from .reporting import ReportCallback
from .review import OUTSIDE_CURE, LabelReview
from .runner import RoundRunner
from .weights import FirstWeights


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

logger = logging.getLogger(__name__)


class RoundStages:
    """
    What [`SelectionCallback`] calls between two of Trainer's epochs.

    Args:
        trainer ([`ActiveDistillationTrainer`]): Whose rounds they are.
    """

    def __init__(self, trainer: ActiveDistillationTrainer):
        self._trainer = trainer
        self.first_weights = FirstWeights(trainer.args.output_path / "first_weights.safetensors")
        args, kind = trainer.args, trainer.kind
        labels = kind if isinstance(kind, LabellingKind) else None
        self.review = LabelReview(trainer, labels) if labels is not None else None
        self.answer_gate: AnswerGate | None = None
        if args.answer_gate or args.min_confidence is not None:
            if labels is None:
                raise ConfigurationError(
                    "`min_confidence` and `answer_gate` are about labels: use `task='classification'`, or leave them "
                    "out."
                )
            self.answer_gate = AnswerGate(labels, args, trainer.schedule.batch_size)

    def capture_first_weights(self, *, from_disk: bool) -> None:
        """`round_start="restart"`: keeps the weights that every round begins with."""
        trainer = self._trainer
        if trainer.args.round_start == "restart":
            model = trainer.accelerator.unwrap_model(trainer.model)
            self.first_weights.capture(model, from_disk=from_disk, write=trainer.accelerator.is_main_process)

    def reset(self) -> None:
        """As before the first round."""
        if self.answer_gate is not None:
            self.answer_gate.reset()

    def review_labels(self) -> None:
        """After training, where students answer with labels: tables of where they and the teacher disagree."""
        if self.review is not None and not self._trainer.session.termination.requested:
            self.review.write_tables()
            for callback in self._trainer.callback_handler.callbacks:
                if isinstance(callback, ReportCallback):
                    callback.write(self._trainer.args, self._trainer.state)

    def restore(self, before: int) -> None:
        """Takes over the rounds that an earlier process finished."""
        book = self._trainer.book
        for index in range(before):
            if index not in book.records:
                self._adopt(book.read(index))

    def begin(self, round_index: int, selector: SelectionCallback) -> None:
        """Score, select, ask, record; a round that stands on the disk already is taken as it is."""
        trainer = self._trainer
        if trainer.book.stored(round_index):
            record = trainer.book.read(round_index)
        else:
            record = self._select_and_ask(round_index, selector)
            trainer.book.write(record)
        self._adopt(record)
        self._fire("on_annotation_end", AnnotationEvent(record))
        self._require_rows(record)
        trainer.reseed_loader(round_index)

    def prepare_weights(self, round_index: int) -> None:
        """`round_start="restart"`: first weights and a fresh optimiser for every round after the first."""
        trainer = self._trainer
        if trainer.args.round_start == "restart" and round_index:
            self.first_weights.restore(trainer.accelerator.unwrap_model(trainer.model))
            if trainer.optimizer is not None:
                trainer.optimizer.state.clear()

    def finish(self, round_index: int, metrics: dict[str, float]) -> bool:
        """Sums a round up when it is trained and evaluated. Returns whether the run ends here."""
        trainer = self._trainer
        record = trainer.book.records[round_index]
        place = {"step": trainer.state.global_step, "train_rows": len(trainer.training_rows)}
        seen = self.review.figures(record) if self.review is not None else {}
        figures = {**record.figures(), **seen, **place, **trainer.book.totals(), **metrics}
        if self.review is not None:
            self.review.warn_of_collapse()
        event = RoundEndEvent(record, figures, trainer.book.history(round_index))
        self._fire("on_round_end", event)
        last = round_index == trainer.schedule.num_rounds - 1
        trainer.stop_reason = event.stop_reason or ("rounds" if last else None)
        figures["stop_reason"] = trainer.stop_reason
        trainer.book.write_metrics(round_index, figures)
        numbers = {key: value for key, value in figures.items() if isinstance(value, int | float)}
        trainer.log({f"round/{key}": float(value) for key, value in numbers.items() if key not in metrics})
        self._fire("on_round_finished", event)
        return trainer.stop_reason is not None

    def runner(self) -> RoundRunner:
        """Scores, chooses and asks for one round."""
        trainer = self._trainer
        return RoundRunner(
            trainer.args,
            trainer.accelerator,
            trainer.data.pool,
            trainer.method,
            trainer.open_student,
            trainer.session.dispatcher,
            trainer.session.termination.check,
            self._foresee,
            self._judge,
            self._labelled,
        )

    def _select_and_ask(self, round_index: int, selector: SelectionCallback) -> RoundRecord:
        trainer = self._trainer
        raised_everywhere(trainer.accelerator, self._require_finite_weights)
        event = SelectionEvent(round_index, trainer.data.pool.available())
        self._fire("on_selection_begin", event)
        step = trainer.state.global_step
        if not event.available_ids:
            logger.warning("Round %d: no row is left in the pool; training goes on with those there are.", round_index)
            return RoundRecord(round=round_index, global_step=step)
        return self.runner().run(round_index, step, event.available_ids, selector)

    def _judge(self, annotations: Sequence[Annotation]) -> None:
        if self.answer_gate is not None:
            self.answer_gate.judge(annotations)

    def _labelled(self) -> list[tuple[PoolRow, str | None]]:
        trainer = self._trainer
        return [(row, trainer.kind.reference_of(annotation)) for row, annotation in trainer.training_rows.examples]

    def _foresee(self, items: Sequence[AnnotationItem]) -> None:
        """Keeps the forecast of the run, made on the rows of its first round, to compare it with what was spent."""
        if not items or items[0].round > 0:
            return
        trainer = self._trainer
        journal, run = journal_and_run(trainer.args)
        try:
            write_forecast(trainer.args.output_path, teacher_forecast(trainer, items), journal=journal, run=run)
        except Exception as error:  # of a method that plans nothing, say: no reason to end a run
            logger.warning("There is no forecast of what the teacher will be asked: %r", error)

    def _adopt(self, record: RoundRecord) -> None:
        self._trainer.book.adopt(record)
        if self.answer_gate is not None:
            self.answer_gate.adopt(record.annotations)
        self._trainer.add_training_rows(self._trainer.data.examples(record.succeeded))

    def _require_finite_weights(self) -> None:
        """A student that is broken asks about nothing of worth, and every row of it would still be paid for."""
        trainer = self._trainer
        broken = [name for name, weights in trainer.model.named_parameters() if not torch.isfinite(weights).all()]
        if broken:
            raise ConfigurationError(
                f"The student's weights are no numbers any more ({broken[0]} and {len(broken) - 1} others, at step "
                f"{trainer.state.global_step}): lower `learning_rate`, set `max_grad_norm`, or train in bfloat16 or "
                "float32. Start anew with `overwrite_rounds=True`: answers in the journal are not paid for again."
            )

    def _require_rows(self, record: RoundRecord) -> None:
        """The first round may not begin with nothing to train on."""
        if len(self._trainer.training_rows):
            return
        if record.unfinished_ids:
            raise BudgetExhaustedError(
                "The budget does not reach for a single row: raise `max_teacher_tokens` (or calls, or cost), or lower "
                "`teacher_max_new_tokens`, which every call must be able to pay for. `trainer.plan()` shows figures."
            )
        if not record.annotations:
            raise DataError(
                "The first round has no row to ask about: a callback took all out of `available_ids`. Leave some, or "
                "pass annotated rows as `train_dataset`."
            )
        reasons = sorted({annotation.reason or "unknown" for annotation in record.annotations})
        if reasons == [REASON]:
            raise TeacherError(
                f"The teacher is too unsure of all {len(record.annotations)} answers (`low_confidence`): lower "
                "`min_confidence`, or use `answer_gate`, whose threshold follows the answers. A teacher that is less "
                "sure than it is right can be calibrated: `annotation_kwargs={'calibration_temperature': ...}`."
            )
        if set(reasons) <= {OUTSIDE, ABSTAINED}:
            raise TeacherError(
                f"The teacher gave a label to none of {len(record.annotations)} rows ({', '.join(reasons)}). "
                + OUTSIDE_CURE
            )
        raise TeacherError(
            f"None of {len(record.annotations)} annotated rows can be trained on ({', '.join(reasons)}). Look at "
            f"{self._trainer.book.store.path(record.round) / 'annotations.jsonl'}: can the teacher follow the "
            "prompts, and is `teacher_max_new_tokens` large enough?"
        )

    def _fire(self, name: str, event: Any) -> None:
        trainer = self._trainer
        for callback in trainer.callback_handler.callbacks:
            handler = getattr(callback, name, None)
            if handler is not None:
                handler(
                    trainer.args, trainer.state, trainer.control, event=event, model=trainer.model, trainer=trainer
                )
