"""Students that answer with a label: models with a classification head, and causal models that write it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
)

from ..annotation import AnnotationMethod, AnnotationSettings, get_annotation
from ..engine import reorder_labels, text_positions
from ..engine.modes import base_model
from ..errors import ConfigurationError, DataError
from ..evaluation import label_metrics
from ..records import Annotation, PoolRow
from ..selection.base import SignalRequest
from ..students import Classifier, Student
from ..students.classifier import match_labels, name_labels, problem_type
from ..tasks import ClassificationTask, Task
from .config import ActiveDistillationConfig
from .kinds import ExplainingKind, StudentKind, TrainingRow
from .row_loss import HeadLoss, RowLoss, WrittenLoss


if TYPE_CHECKING:
    from .runner import RoundRunner

logger = logging.getLogger(__name__)

HEAD = "ForSequenceClassification"
#: Annotation methods after which a causal student writes its reasoning before the label.
EXPLAINING = ("clear", "cot", "one_call")


class LabellingKind(StudentKind):
    """What both kinds share: labels as targets, probabilities as answers."""

    default_annotation = "label"
    default_selection = "entropy"
    task: ClassificationTask
    #: Its values are logits of the labels, up to a constant.
    signal: ClassVar[SignalRequest]

    def __init__(self, args: ActiveDistillationConfig, task: Task):
        if not isinstance(task, ClassificationTask):
            raise ConfigurationError(
                f"A student that answers with labels needs a label set, and the task {task.name!r} has none: use "
                "`task='classification'` with `task_kwargs={'labels': [...]}`."
            )
        super().__init__(args, task)

    def read_seed(self, example: Mapping[str, Any]) -> tuple[PoolRow, Annotation]:
        row = self.task.read_row(example)
        if row.reference is None and isinstance(example.get("completion"), str):
            written = self.task.read_answer(example["completion"])
            given = None if written is None else json.dumps(self.task.split(written))
            row = replace(row, reference=given if self.task.multi_label else written)
        if row.reference is None:
            raise DataError(
                f"A row of `train_dataset` has no label (columns: {', '.join(example)}). Seed rows are labelled; "
                "unlabelled rows belong into `pool_dataset`."
            )
        labels = json.loads(row.reference) if self.task.multi_label else [row.reference]
        answer = self.task.join(labels) if self.task.multi_label else row.reference
        annotation = Annotation(
            row_id=row.row_id,
            kind="seed",
            status="ok",
            prompt=self.task.student_prompt(row),
            answer=answer,
            completion=self.task.render_completion([], answer),
            round=-1,
            seed_row=True,
            label=None if self.task.multi_label else row.reference,
            labels=labels if self.task.multi_label else None,
            confidence=1.0,
        )
        return row, annotation

    def answering_method(self, method: AnnotationMethod, settings: AnnotationSettings) -> AnnotationMethod:
        return get_annotation("label", self.task, settings) if method.needs_explanation else method

    def reference_of(self, annotation: Annotation) -> str | None:
        if self.task.multi_label:
            return None if annotation.labels is None else json.dumps(annotation.labels, ensure_ascii=False)
        return annotation.label or annotation.answer

    def label_of(self, annotation: Annotation) -> str | None:
        """The label that an annotation gives, whichever method made it; `None` where it gives none of the task's."""
        given = annotation.label or annotation.answer
        return None if given is None else self.task.label_set.find(given)

    def weighed_as(self, annotation: Annotation) -> str | None:
        """The label whose factor a row gets: the teacher's, of a distribution that is learnt the one with most."""
        if self.args.soft_labels and annotation.distribution is not None and not self.task.multi_label:
            given = self.distribution_of(annotation)
            return self.task.labels[given.index(max(given))]
        return self.label_of(annotation)

    def index_of(self, annotation: Annotation) -> int:
        """The class index of an annotation's label, which it must have."""
        label = self.label_of(annotation)
        if label is None:
            raise ConfigurationError(f"The annotation of row {annotation.row_id!r} names no label of the task.")
        return self.task.label_index(label)

    def confidence_of(self, annotation: Annotation) -> float:
        """How sure the teacher was, which a gate needs."""
        if annotation.confidence is None:
            raise ConfigurationError(
                f"`gate`, `answer_gate` and `min_confidence` need the teacher's confidence, and row "
                f"{annotation.row_id!r} ({annotation.kind}) has none: use `annotation='label'`, or leave them out."
            )
        return annotation.confidence

    def distribution_of(self, annotation: Annotation) -> list[float]:
        """What the teacher thinks of each label; all on the one that it gave where it gave no distribution."""
        names = self.task.labels
        if annotation.distribution is not None:
            return [float(annotation.distribution.get(name, 0.0)) for name in names]
        return [float(name == self.label_of(annotation)) for name in names]

    def target(self, annotation: Annotation) -> int | list[float] | None:
        """What is learnt from an annotation: a class index, or a number for every label."""
        names = self.task.labels
        if self.args.soft_labels and annotation.distribution is not None:
            return self.distribution_of(annotation)
        if self.task.multi_label:
            labels = annotation.labels
            return None if labels is None else [float(name in labels) for name in names]
        label = self.label_of(annotation)
        if label is None:
            return None
        index = self.task.label_index(label)
        return [float(k == index) for k in range(len(names))] if self.args.soft_labels else index

    def read(
        self, runner: RoundRunner, student: Any, rows: Sequence[PoolRow], round_index: int, doing: str
    ) -> np.ndarray:
        """Logits of rows, shape `(N, K)`, shared over the processes."""
        candidates = runner.score(student, rows, (self.signal,), round_index, doing)
        return np.stack([candidate.signals[self.signal] for candidate in candidates])

    def measure(
        self, runner: RoundRunner, student: Any, rows: Sequence[PoolRow], round_index: int, prefix: str
    ) -> tuple[dict[str, float], tuple[Any, ...]]:
        logits = self.read(runner, student, rows, round_index, "evaluating")
        targets = self.reference_targets(rows)
        metrics = label_metrics(self.task, logits, targets, prefix)
        if not self.task.multi_label and round_index and len(set(logits.argmax(1))) == 1 < len(set(targets)):
            logger.warning(
                "The student answers every evaluation row with %r: it has learnt the labels' shares and nothing of "
                "the texts. Train longer or at another `learning_rate`, or give rare labels a say with "
                "`class_weights='balanced'`.",
                self.task.labels[int(logits[0].argmax())],
            )
        return metrics, (EvalPrediction(predictions=logits, label_ids=targets),)

    def reference_targets(self, rows: Sequence[PoolRow]) -> np.ndarray:
        """References as class indices, shape `(N,)`, or as zeros and ones, shape `(N, K)`."""
        if self.task.multi_label:
            held = [json.loads(row.reference or "[]") for row in rows]
            return np.array([[int(name in labels) for name in self.task.labels] for labels in held])
        return np.array([self.task.label_index(row.reference or "") for row in rows])

    def logits_of(self, student: Any, inputs: Sequence[TrainingRow], rows: Sequence[PoolRow]) -> np.ndarray:
        """Logits of training rows that one process scores as one batch, up to a constant, shape `(N, K)`."""
        raise NotImplementedError

    def probe(
        self, student: Any, rows: Sequence[PoolRow], requests: Sequence[SignalRequest]
    ) -> tuple[list[None], list[dict[str, list[int]]]]:
        student.candidates(rows, requests or (self.signal,))
        return [None] * len(rows), self.probe_inputs(student, rows)

    def probe_inputs(self, student: Any, rows: Sequence[PoolRow]) -> list[dict[str, list[int]]]:
        """Model inputs of rows, for a timing."""
        return student.encode(rows)


class ClassifyingKind(LabellingKind):
    """A model with a classification head: an encoder, or a decoder's backbone."""

    auto_class = AutoModelForSequenceClassification
    needs_end_token = False
    peft_task_type = "SEQ_CLS"
    signal = SignalRequest.of("logits")
    _told_of_cuts = False

    def check(self, model: Any) -> None:
        if not type(base_model(model)).__name__.endswith(HEAD):
            raise ConfigurationError(
                f"{type(base_model(model)).__name__} has no classification head: pass a model that "
                "`AutoModelForSequenceClassification` can load, or its name."
            )

    def check_method(self, method: AnnotationMethod) -> None:
        if method.needs_explanation:
            raise ConfigurationError(
                f"The annotation {method.name!r} revises explanations, and a student with a classification head "
                "writes none: use `annotation='label'`, or a causal student (`student_type='causal_lm'`)."
            )

    def load(self, name: str, **kwargs: Any) -> Any:
        """With a new head for the task's labels, unless the checkpoint has one."""
        config = AutoConfig.from_pretrained(name, trust_remote_code=kwargs.get("trust_remote_code", False))
        has_head = any(architecture.endswith(HEAD) for architecture in config.architectures or [])
        if not has_head or kwargs.get("ignore_mismatched_sizes"):
            kwargs |= {"id2label": self.task.id2label, "label2id": self.task.label2id}
            kwargs["problem_type"] = problem_type(self.task)
        return super().load(name, **kwargs)

    def prepare(self, model: Any, processing_class: PreTrainedTokenizerBase) -> None:
        """The task's label names go into the model's configuration, its own labels into the task's order."""
        model = base_model(model)
        order = match_labels(model, self.task)
        if order is not None:
            logger.warning("The labels of the student's head are put into the order of the task.")
            reorder_labels(model, order)
        name_labels(model.config, self.task)
        model.config.get_text_config().pad_token_id = processing_class.pad_token_id
        # A decoder that is given no positions would count from padding in front of the text.
        processing_class.padding_side = "right"
        # Saved with the student, so that `truncation=True` in a pipeline cuts where the model ends.
        positions = text_positions(model)
        if positions is not None:
            processing_class.model_max_length = min(processing_class.model_max_length, positions)

    def collator(self, processing_class: PreTrainedTokenizerBase) -> Callable:
        return DataCollatorWithPadding(processing_class, pad_to_multiple_of=self.args.pad_to_multiple_of)

    def student(self, model: Any, processing_class: Any) -> Classifier:
        return Classifier(
            model,
            processing_class,
            self.task,
            batch_size=self.args.per_device_scoring_batch_size,
            seed=self.args.seed,
            max_length=self.args.max_length,
        )

    def encode(self, student: Classifier, examples: Sequence[tuple[PoolRow, Annotation]]) -> list[TrainingRow | None]:
        inputs = student.encode([row for row, _ in examples])
        cut = sum(row.row_id in student.truncated for row, _ in examples)
        if cut and not self._told_of_cuts:
            self._told_of_cuts = True
            logger.warning(
                "%d of %d texts are longer than the student can take (%d tokens) and lose their end. This is said "
                "once; raise `max_length` where the model has room.",
                cut,
                len(examples),
                student.max_length,
            )
        rows: list[TrainingRow | None] = []
        for encoded, (_, annotation) in zip(inputs, examples, strict=True):
            target = self.target(annotation)
            rows.append(None if target is None else {**encoded, "labels": target})
        return rows

    def shown(self, row: PoolRow) -> str:
        return "\n".join(self.task.texts(row))

    def row_loss(self) -> RowLoss:
        return HeadLoss(self.task, self.args)

    def logits_of(self, student: Classifier, inputs: Sequence[TrainingRow], rows: Sequence[PoolRow]) -> np.ndarray:
        return student.logits([{k: v for k, v in row.items() if k != "labels"} for row in inputs])


class LabelWritingKind(LabellingKind, ExplainingKind):
    """A causal language model that writes the label; its probabilities are those of the labels it could write."""

    signal = SignalRequest.of("probabilities")

    def __init__(self, args: ActiveDistillationConfig, task: Task):
        super().__init__(args, task)
        if self.task.multi_label:
            raise ConfigurationError(
                "A causal student has no probabilities of label sets: use `student_type='sequence_classification'` "
                "with `multi_label`."
            )
        if args.soft_labels:
            raise ConfigurationError(
                "`soft_labels` is about classification heads, which give a distribution at once: use "
                "`student_type='sequence_classification'`, or leave it out."
            )
        self._weighs_rows = args.gate is not None or bool(args.class_weights)
        if self._weighs_rows and (args.label_smoothing_factor or not args.completion_only_loss):
            raise ConfigurationError(
                "`gate` and `class_weights` weigh the labels that a causal student writes, and those alone: leave "
                "`label_smoothing_factor` and `completion_only_loss=False` out."
            )

    def check_method(self, method: AnnotationMethod) -> None:
        super().check_method(method)
        if self.args.class_weights and method.name in EXPLAINING:
            raise ConfigurationError(
                f"`class_weights` weigh labels, and the annotation {method.name!r} teaches explanations, whose tokens "
                "would outweigh them: use `annotation='label'`, or leave `class_weights` out."
            )

    def read(
        self, runner: RoundRunner, student: Any, rows: Sequence[PoolRow], round_index: int, doing: str
    ) -> np.ndarray:
        return np.log(super().read(runner, student, rows, round_index, doing))

    def encode(self, student: Student, examples: Sequence[tuple[PoolRow, Annotation]]) -> list[TrainingRow | None]:
        rows = super().encode(student, examples)
        if not self.args.class_weights:
            return rows
        # What is learnt are tokens, which do not tell the loss whose factor to take.
        return [
            None if row is None else {**row, "classes": self.index_of(annotation)}
            for row, (_, annotation) in zip(rows, examples, strict=True)
        ]

    def row_loss(self) -> RowLoss | None:
        return WrittenLoss(self.task, self.args) if self._weighs_rows else None

    def logits_of(self, student: Student, inputs: Sequence[TrainingRow], rows: Sequence[PoolRow]) -> np.ndarray:
        return np.stack(student.label_logprobs(rows)).astype(np.float32)

    def probe_inputs(self, student: Student, rows: Sequence[PoolRow]) -> list[dict[str, list[int]]]:
        return [{"input_ids": prompt} for prompt in student.prompts(rows)]
