"""What labels look like in a run: shares, audits, classes that go missing, and where teacher and student disagree."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..annotation.label import OUTSIDE, WRONG
from ..evaluation import ConfusionTable, audit_teacher, confident_disagreements, fit_temperature
from ..losses import starved_classes
from ..records import Annotation, PoolRow
from ..reports.labels import CONFUSION_FILE, DISAGREEMENTS_FILE, EVAL_CONFUSION_FILE, EVAL_DISAGREEMENTS_FILE
from ..rounds import RoundRecord
from .answer_gate import REASON
from .classifying import LabellingKind
from .distributed import on_main_process
from .kinds import Example


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

logger = logging.getLogger(__name__)

OUTSIDE_CURE = (
    "Say what the labels mean (`task_kwargs={'descriptions': {...}}`), show it labelled rows "
    "(`annotation_kwargs={'demonstrations': [...]}`), give it a choice for what fits none (`task_kwargs={'abstain': "
    "...}`), or take less sure answers (`annotation_kwargs={'min_mass': ...}`)."
)
#: What fewer answers show may be chance.
_ENOUGH = 20
#: Share of answers outside of the label set that is told.
_MANY_OUTSIDE = 0.2


class LabelReview:
    """
    Args:
        trainer ([`ActiveDistillationTrainer`]): Whose labels are looked at.
        kind ([`LabellingKind`]): Its students.
    """

    def __init__(self, trainer: ActiveDistillationTrainer, kind: LabellingKind):
        self._trainer = trainer
        self._kind = kind
        self._told: set[str] = set()

    def figures(self, record: RoundRecord) -> dict[str, Any]:
        """A round's labels in numbers, and what its rows drawn at random say of the teacher."""
        sure = [one.confidence for one in record.annotations if one.confidence is not None]
        counts = self._counts(one for one in record.succeeded)
        drawn = set(record.random_ids)
        rows = self._trainer.data.pool.rows
        audit = audit_teacher(
            self._kind.task,
            [_as_given(one) for one in record.annotations if one.row_id in drawn],
            {row_id: rows[row_id].reference for row_id in drawn if row_id in rows},
        )
        return {
            "rejected": sum(one.reason == REASON for one in record.annotations),
            "mean_confidence": float(np.mean(sure)) if sure else None,
            **{f"labels/{name}": counts[name] for name in self._kind.task.labels},
            **self._kept_shares(record, counts),
            **audit.figures(),
            "audit_teacher_temperature": self._temperature(),
        }

    def warn_of_collapse(self) -> None:
        """Names the classes that a gate all but shuts out, once each, with the cure."""
        trainer = self._trainer
        cure = "`{}={{'class_factor': 'own'}}` measures each class against itself, `'min_class_share'` is a quota"
        if trainer.gating is not None:
            starved = trainer.gating.stream.gate.starved()
            self._tell("gate", starved, "The gate keeps hardly any row", cure.format("gate_kwargs"))
        answers = [one for record in trainer.book.records.values() for one in record.annotations]
        outside = sum(one.reason == OUTSIDE for one in answers)
        if len(answers) >= _ENOUGH and outside > _MANY_OUTSIDE * len(answers) and "outside" not in self._told:
            self._told.add("outside")
            logger.warning(
                "The teacher would rather say something else than a label to %d of %d rows (`outside_labels`), which "
                "are paid for and not trained on. %s",
                outside,
                len(answers),
                OUTSIDE_CURE,
            )
        judged = [one for one in answers if one.status == "ok" or one.reason == REASON]
        if not self._kind.task.multi_label and len(judged) >= _ENOUGH:
            asked, kept = self._counts(judged), self._counts(one for one in judged if one.status == "ok")
            starved = starved_classes(asked, kept, min_drawn=_ENOUGH // 2)
            cure = f"{cure.format('answer_gate_kwargs')}; a fixed `min_confidence` is the same for all"
            self._tell("answers", starved, "The teacher is hardly ever sure enough", cure)
            learnt = self._counts(one for _, one in trainer.training_rows.examples)
            if sum(learnt.values()) >= _ENOUGH and len(+learnt) == 1:
                self._tell(
                    "one",
                    dict.fromkeys(+learnt, 1.0),
                    f"All {sum(learnt.values())} training rows have one label",
                    "look at the teacher's prompt and at the pool, or pass labelled rows of other classes as "
                    "`train_dataset`",
                )

    def write_tables(self) -> None:
        """
        After training: how often teacher and student gave each pair of labels (`confusion.json`), and the rows on
        which both are sure and disagree (`disagreements.jsonl`), of the rows that the student learnt from. The same of
        the evaluation rows (`eval_...`) is against their references: with `eval_with_teacher`, the teacher's answers.
        """
        trainer = self._trainer
        if self._kind.task.multi_label:
            return
        learnt = [example for example in trainer.training_rows.examples if not example[1].seed_row]
        self._review(learnt, "teacher", CONFUSION_FILE, DISAGREEMENTS_FILE)
        held = [row for part in trainer.data.eval_parts.values() for row in part if row.reference is not None]
        judge = "teacher" if trainer.args.eval_with_teacher else "reference"
        self._review([(row, self._known(row)) for row in held], judge, EVAL_CONFUSION_FILE, EVAL_DISAGREEMENTS_FILE)

    def _known(self, row: PoolRow) -> Annotation:
        task = self._kind.task
        label = task.labels[task.label_index(row.reference or "")]  # as the task writes it, to be compared with
        return Annotation(row.row_id, "reference", "ok", task.student_prompt(row), answer=label, label=label)

    def _review(self, examples: list[Example], judge: str, confusion: str, disagreements: str) -> None:
        trainer, kind = self._trainer, self._kind
        if not examples:
            return
        with trainer.open_student() as student:
            rows = [row for row, _ in examples]
            logits = kind.read(trainer.rounds.runner(), student, rows, trainer.state.global_step, "reviewing")
        folder = trainer.args.output_path
        on_main_process(
            trainer.accelerator,
            lambda: self._write(examples, logits, judge, folder / confusion, folder / disagreements),
        )

    def _write(
        self, examples: list[Example], logits: np.ndarray, judge: str, confusion: Path, disagreements: Path
    ) -> None:
        task = self._kind.task
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        probabilities = shifted / shifted.sum(1, keepdims=True)
        annotations = [annotation for _, annotation in examples]
        teacher = [self._kind.label_of(annotation) or "" for annotation in annotations]
        student = [task.labels[index] for index in probabilities.argmax(1)]
        table = ConfusionTable.of(task.labels, teacher, student, (judge, "student"))
        confusion.write_text(
            json.dumps(
                {
                    "readers": list(table.readers),
                    "labels": table.labels,
                    "counts": table.counts.tolist(),
                    "agreement": table.agreement,
                    "kappa": table.kappa,
                },
                indent=2,
                ensure_ascii=False,
            ),
            encoding="utf-8",
        )
        found = confident_disagreements(task, annotations, probabilities, count=100)
        lines = [json.dumps(dataclasses.asdict(one), ensure_ascii=False) for one in found]
        disagreements.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogatepass")

    def _temperature(self) -> float | None:
        """
        The temperature that makes the teacher's probabilities hold, by all rows drawn so far whose label is known.
        `None` where they are too few, or several labels can hold.
        """
        kind, rows = self._kind, self._trainer.data.pool.rows
        if kind.task.multi_label:
            return None
        given, right = [], []
        for record in self._trainer.book.records.values():
            drawn = set(record.random_ids)
            for one in (_as_given(one) for one in record.annotations if one.row_id in drawn):
                reference = rows[one.row_id].reference if one.row_id in rows else None
                if reference is not None and one.status == "ok" and one.distribution is not None:
                    given.append(kind.distribution_of(one))
                    right.append(kind.task.label_index(reference))
        return fit_temperature(given, right) if len(given) >= _ENOUGH else None

    def _kept_shares(self, record: RoundRecord, kept: Counter[str]) -> dict[str, float | None]:
        """Of each label, the share of the round's answers that is trained on, and with a gate of the rows it saw."""
        given = self._counts(_as_given(one) for one in record.annotations)
        shares = {name: kept[name] / given[name] if given[name] else None for name in self._kind.task.labels}
        gating = self._trainer.gating
        by_gate = {} if gating is None else gating.stream.gate.kept_shares()
        return {f"kept_share/{name}": share for name, share in shares.items()} | by_gate

    def _counts(self, annotations: Any) -> Counter[str]:
        counts: Counter[str] = Counter()
        for annotation in annotations:
            if self._kind.task.multi_label:
                counts.update(annotation.labels or [])
            elif (label := self._kind.label_of(annotation)) is not None:
                counts[label] += 1
        return counts

    def _tell(self, place: str, classes: dict[str, float], what: str, cure: str) -> None:
        new = [name for name in classes if f"{place} {name}" not in self._told]
        if new:
            self._told |= {f"{place} {name}" for name in new}
            logger.warning(
                "%s: %s. A student that is shown no row of a class never answers with it. Cure: %s.",
                what,
                ", ".join(new),
                cure,
            )


def _as_given(annotation: Annotation) -> Annotation:
    """As the teacher gave it: an audit of those alone that passed a gate or a check would flatter it."""
    return dataclasses.replace(annotation, status="ok") if annotation.reason in (REASON, WRONG) else annotation
