"""
The seam between the trainer and its students: what a student that explains needs and one that classifies does not.

The trainer knows rounds, steps and checkpoints. How a student is loaded, asked, taught and measured is its kind's.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from ..errors import ConfigurationError
from ..evaluation import explanation_metrics
from ..records import Annotation, PoolRow
from ..students import Student
from ..tasks import Task
from .config import ActiveDistillationConfig


if TYPE_CHECKING:
    from .runner import RoundRunner

logger = logging.getLogger(__name__)

#: One tokenised training row.
TrainingRow = dict[str, Any]


class StudentKind(ABC):
    """
    Base of the kinds.

    Args:
        args ([`ActiveDistillationConfig`]): Settings.
        task ([`~tasks.Task`]): The task.
    """

    #: Class with `from_pretrained` for a student given by name.
    auto_class: ClassVar[Any]

    def __init__(self, args: ActiveDistillationConfig, task: Task):
        self.args = args
        self.task = task

    @abstractmethod
    def check(self, model: Any) -> None:
        """Raises a [`~errors.ConfigurationError`] where the model is not of this kind."""

    @abstractmethod
    def collator(self, processing_class: PreTrainedTokenizerBase) -> Callable:
        """Makes batches of training rows."""

    @abstractmethod
    def student(self, model: Any, processing_class: Any) -> Any:
        """The model as something to ask."""

    @abstractmethod
    def encode(self, student: Any, annotations: Sequence[Annotation]) -> list[TrainingRow]:
        """Annotations as training rows; what cannot be learnt from is left out, and said."""

    @abstractmethod
    def measure(
        self, runner: RoundRunner, student: Any, rows: Sequence[PoolRow], round_index: int, prefix: str
    ) -> tuple[dict[str, float], list[Any]]:
        """Metrics on rows with references, and what the student said of each, for metrics of a user's own."""


class ExplainingKind(StudentKind):
    """A causal language model that writes its reasoning."""

    auto_class = AutoModelForCausalLM

    def check(self, model: Any) -> None:
        if getattr(model.config, "is_encoder_decoder", False) or not model.can_generate():
            raise ConfigurationError(
                f"{type(model).__name__} is not a causal language model: pass one that `AutoModelForCausalLM` can "
                "load."
            )

    def collator(self, processing_class: PreTrainedTokenizerBase) -> Callable:
        return DataCollatorForSeq2Seq(
            processing_class, label_pad_token_id=-100, pad_to_multiple_of=self.args.pad_to_multiple_of
        )

    def student(self, model: Any, processing_class: Any) -> Student:
        return Student(
            model,
            processing_class,
            self.task,
            max_new_tokens=self.args.max_new_tokens,
            batch_size=self.args.per_device_scoring_batch_size,
            seed=self.args.seed,
            chat_template_kwargs=self.args.options("chat_template_kwargs"),
            max_length=self.args.max_length,
        )

    def encode(self, student: Student, annotations: Sequence[Annotation]) -> list[TrainingRow]:
        rows: list[TrainingRow] = []
        cut_before = student.truncated_rows
        for annotation in annotations:
            thinking = annotation.thinking if self.args.keep_thinking else None
            encoded = student.encode_training(annotation.prompt, annotation.completion or "", thinking)
            ids = encoded["input_ids"]
            if not any(encoded["completion_mask"]):
                continue  # the prompt of a seed row alone is longer than `max_length`
            labels = [
                token if learnt or not self.args.completion_only_loss else -100
                for token, learnt in zip(ids, encoded["completion_mask"], strict=True)
            ]
            rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
        if student.truncated_rows > cut_before:
            logger.warning(
                "%d of %d new training rows are longer than `max_length` (%d) and lose their end; of %d nothing is "
                "left to learn, and they are skipped. Raise `max_length`, or lower `teacher_max_new_tokens`.",
                student.truncated_rows - cut_before,
                len(annotations),
                self.args.max_length,
                len(annotations) - len(rows),
            )
        return rows

    def measure(
        self, runner: RoundRunner, student: Student, rows: Sequence[PoolRow], round_index: int, prefix: str
    ) -> tuple[dict[str, float], list[Any]]:
        explanations = runner.explain(student, rows, round_index, "evaluating")
        return explanation_metrics(self.task, rows, explanations, prefix), explanations


def student_kind(args: ActiveDistillationConfig, task: Task) -> StudentKind:
    """The kind of a run's student."""
    return ExplainingKind(args, task)
