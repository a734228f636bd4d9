"""What the student is worth on rows whose answers are known, or on the teacher's word."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..annotation import AnnotationItem
from ..annotation.run import annotate_rows
from ..engine import fold_temperature
from ..errors import ConfigurationError, DataError
from ..evaluation import fit_temperature, require_references
from ..records import Annotation, PoolRow
from .classifying import ClassifyingKind
from .distributed import on_main_process
from .setup import FormattingFunc, read_rows


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

logger = logging.getLogger(__name__)


class Evaluation:
    """
    Args:
        trainer ([`ActiveDistillationTrainer`]): Whose student is measured.
        extra_metrics (`Callable`, *optional*): A user's own metrics of rows and what the student said of each.
        formatting_func (`Callable`, *optional*): Makes the prompt of an example.
    """

    def __init__(
        self,
        trainer: ActiveDistillationTrainer,
        extra_metrics: Callable[..., dict[str, float]] | None,
        formatting_func: FormattingFunc | None,
    ):
        self._trainer = trainer
        self._extra_metrics = extra_metrics
        self._formatting_func = formatting_func

    def run(self, parts: Mapping[str, Any], prefix: str) -> dict[str, float]:
        """Metrics of every part by name, and an accuracy that is their mean where there is more than a plain one."""
        if not parts:
            raise ConfigurationError("There is nothing to evaluate on: pass `eval_dataset`.")
        metrics: dict[str, float] = {}
        for name, part in parts.items():
            metrics |= self._measure(part, f"{prefix}_{name}" if name else prefix)
        if "" not in parts:  # what plateaus, best models and curves go by
            for measured in ("accuracy", "macro_f1"):
                of_parts = [metrics[key] for name in parts if (key := f"{prefix}_{name}_{measured}") in metrics]
                if of_parts:
                    metrics[f"{prefix}_{measured}"] = sum(of_parts) / len(of_parts)
        return metrics

    def calibrate(self, dataset: Iterable[Mapping[str, Any]]) -> float:
        """Fits a temperature on labelled rows and folds it into the head."""
        trainer, kind = self._trainer, self.require_head()
        rows = read_rows(dataset, "dataset", trainer.task, self._formatting_func)
        require_references(rows)
        with trainer.open_student() as student:
            logits = kind.read(trainer.rounds.runner(), student, rows, trainer.state.global_step, "calibrating")
        temperature = fit_temperature(logits, kind.reference_targets(rows), logits=True)
        fold_temperature(trainer.accelerator.unwrap_model(trainer.model), temperature)
        return temperature

    def require_head(self) -> ClassifyingKind:
        """The kind of student, which must have a head to calibrate."""
        kind = self._trainer.kind
        if not isinstance(kind, ClassifyingKind) or kind.task.multi_label:
            raise ConfigurationError(
                "`calibrate` is for students with a classification head and one label a row: other students have no "
                "head that a temperature could be folded into."
            )
        return kind

    def _measure(self, dataset: Sequence[Any], prefix: str) -> dict[str, float]:
        trainer = self._trainer
        rows = list(dataset)
        if not rows or not isinstance(rows[0], PoolRow):
            rows = read_rows(rows, "eval_dataset", trainer.task, self._formatting_func)
        if trainer.args.eval_with_teacher:
            rows = [row for row in rows if row.reference is not None]
            if not rows:
                raise DataError(
                    "No evaluation row has an answer: `train()` asks the teacher for them at its beginning, and it "
                    "gave none that can be read. Give `eval_dataset` a column with answers, or look at the journal."
                )
        require_references(rows)
        with trainer.open_student() as student:
            metrics, said = trainer.kind.measure(
                trainer.rounds.runner(), student, rows, trainer.state.global_step, prefix
            )
        if self._extra_metrics is not None:
            metrics |= {f"{prefix}_{key}": value for key, value in self._extra_metrics(*said).items()}
        return metrics

    def ask_teacher(self) -> None:
        """`eval_with_teacher`: rows without a reference get the teacher's answer; it is asked for once."""
        trainer = self._trainer
        rows = [row for part in trainer.data.eval_parts.values() for row in part if row.reference is None]
        if not rows:
            return
        method = trainer.kind.answering_method(trainer.method, trainer.annotation_settings)
        items = [AnnotationItem(row) for row in rows]

        def ask() -> list[Annotation | None]:
            return annotate_rows(trainer.session.open_dispatcher, method, items)

        annotations = on_main_process(trainer.accelerator, ask)
        for row, annotation in zip(rows, annotations, strict=True):
            if annotation is not None and annotation.status == "ok":
                row.reference = trainer.kind.reference_of(annotation)
        unanswered = sum(row.reference is None for row in rows)
        logger.warning(
            "The metric is agreement with the teacher: it answered %d evaluation rows; %d that it could not answer "
            "are left out.",
            len(rows) - unanswered,
            unanswered,
        )
