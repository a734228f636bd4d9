"""
The seam between the trainer and its students: what a student that explains needs and one that classifies does not.

The trainer knows rounds, steps and checkpoints. How a student is loaded, asked, taught and measured is its kind's.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from ..annotation import AnnotationMethod, AnnotationSettings, get_annotation
from ..errors import ConfigurationError, DataError
from ..evaluation import explanation_metrics
from ..records import Annotation, Explanation, PoolRow, Prompt
from ..selection.base import SignalRequest
from ..students import Student
from ..tasks import Task
from .config import ActiveDistillationConfig


if TYPE_CHECKING:
    from .row_loss import RowLoss
    from .runner import RoundRunner

logger = logging.getLogger(__name__)

#: One tokenised training row: model inputs and `labels`.
TrainingRow = dict[str, Any]
#: What a training row is made of.
Example = tuple[PoolRow, Annotation]


class StudentKind(ABC):
    """
    Base of the kinds.

    Args:
        args ([`ActiveDistillationConfig`]): Settings.
        task ([`~tasks.Task`]): The task.

    Attributes:
        auto_class: Class with `from_pretrained` for a student given by name.
        default_annotation (`str`), default_selection (`str`): What `None` in the configuration stands for.
        needs_end_token (`bool`): Whether the tokenizer must have an end token.
        peft_task_type (`str` or `None`): What an adapter's configuration must say.
    """

    auto_class: ClassVar[Any]
    default_annotation: ClassVar[str]
    default_selection: ClassVar[str]
    needs_end_token: ClassVar[bool] = True
    peft_task_type: ClassVar[str | None] = None

    def __init__(self, args: ActiveDistillationConfig, task: Task):
        self.args = args
        self.task = task

    # The model

    @abstractmethod
    def check(self, model: Any) -> None:
        """Raises a [`~errors.ConfigurationError`] where the model is not of this kind."""

    def load(self, name: str, **kwargs: Any) -> Any:
        """Loads a student by name."""
        return self.auto_class.from_pretrained(name, **kwargs)

    def prepare(self, model: Any, processing_class: PreTrainedTokenizerBase) -> None:  # noqa: B027
        """Last changes to a model and its tokenizer before Trainer gets them."""

    @abstractmethod
    def student(self, model: Any, processing_class: Any) -> Any:
        """The model as something to ask."""

    # Rows

    @abstractmethod
    def read_seed(self, example: Mapping[str, Any]) -> Example:
        """A row of `train_dataset`; a [`~errors.DataError`] where it is not annotated."""

    @abstractmethod
    def encode(self, student: Any, examples: Sequence[Example]) -> list[TrainingRow | None]:
        """Annotated rows as training rows, `None` for what cannot be learnt from; what is cut or left out is said."""

    @abstractmethod
    def collator(self, processing_class: PreTrainedTokenizerBase) -> Callable:
        """Makes batches of training rows."""

    def row_loss(self) -> RowLoss | None:
        """A loss in place of the model's own."""
        return None

    # The teacher

    def check_method(self, method: AnnotationMethod) -> None:  # noqa: B027
        """Raises a [`~errors.ConfigurationError`] where such students cannot learn by a method."""

    @abstractmethod
    def answering_method(self, method: AnnotationMethod, settings: AnnotationSettings) -> AnnotationMethod:
        """How the teacher is asked about an evaluation row, given how it is asked in the rounds."""

    def reference_of(self, annotation: Annotation) -> str | None:
        """An annotation as the reference of its row."""
        return annotation.answer

    def weighed_as(self, annotation: Annotation) -> str | None:
        """The label by which a loss weighs the annotation's row, where it does."""
        return None

    # What it knows

    def shown(self, row: PoolRow) -> Prompt:
        """What the student sees of a row."""
        return self.task.student_prompt(row)

    @abstractmethod
    def measure(
        self, runner: RoundRunner, student: Any, rows: Sequence[PoolRow], round_index: int, prefix: str
    ) -> tuple[dict[str, float], tuple[Any, ...]]:
        """Metrics on rows with references, and the arguments of a user's own metrics."""

    @abstractmethod
    def probe(
        self, student: Any, rows: Sequence[PoolRow], requests: Sequence[SignalRequest]
    ) -> tuple[Sequence[Explanation | None], list[dict[str, list[int]]]]:
        """Scores a few rows for a plan: the explanations, where there are any, and model inputs to time."""


class ExplainingKind(StudentKind):
    """A causal language model that writes its reasoning."""

    auto_class = AutoModelForCausalLM
    default_annotation = "cot"
    default_selection = "egss"

    def check(self, model: Any) -> None:
        if getattr(model.config, "is_encoder_decoder", False) or not model.can_generate():
            raise ConfigurationError(
                f"{type(model).__name__} is not a causal language model: pass one that `AutoModelForCausalLM` can "
                "load."
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

    def read_seed(self, example: Mapping[str, Any]) -> Example:
        """Prompt and completion, standard or conversational, or a whole dialogue in `messages`."""
        row = self.task.read_row(example)
        completion = example.get("completion")
        if completion is None:
            completion = [turn for turn in (example.get("messages") or [])[-1:] if turn.get("role") == "assistant"]
        if isinstance(completion, list):
            completion = completion[-1].get("content") if completion else None
        if not isinstance(completion, str) or not completion:
            raise DataError(
                f"There is no text in 'completion' (columns: {', '.join(example)}). Seed rows are prompt-completion "
                "rows; unlabelled rows belong into `pool_dataset`."
            )
        annotation = Annotation(
            row_id=row.row_id,
            kind="seed",
            status="ok",
            prompt=self.task.student_prompt(row),
            steps=[span.text for span in self.task.split_steps(completion)],
            answer=self.task.read_answer(completion),
            completion=completion,
            round=-1,
            seed_row=True,
        )
        return row, annotation

    def encode(self, student: Student, examples: Sequence[Example]) -> list[TrainingRow | None]:
        rows: list[TrainingRow | None] = []
        cut_before = student.truncated_rows
        for _, annotation in examples:
            thinking = annotation.thinking if self.args.keep_thinking else None
            encoded = student.encode_training(annotation.prompt, annotation.completion or "", thinking)
            ids = encoded["input_ids"]
            labels = [
                token if learnt or not self.args.completion_only_loss else -100
                for token, learnt in zip(ids, encoded["completion_mask"], strict=True)
            ]
            row = {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
            # The prompt of a seed row alone may be longer than `max_length`.
            rows.append(row if any(encoded["completion_mask"]) else None)
        if student.truncated_rows > cut_before:
            logger.warning(
                "%d of %d new training rows are longer than `max_length` (%d) and lose their end; of %d nothing is "
                "left to learn, and they are skipped. Raise `max_length`, or lower `teacher_max_new_tokens`.",
                student.truncated_rows - cut_before,
                len(examples),
                self.args.max_length,
                rows.count(None),
            )
        return rows

    def collator(self, processing_class: PreTrainedTokenizerBase) -> Callable:
        return DataCollatorForSeq2Seq(
            processing_class, label_pad_token_id=-100, pad_to_multiple_of=self.args.pad_to_multiple_of
        )

    def answering_method(self, method: AnnotationMethod, settings: AnnotationSettings) -> AnnotationMethod:
        return get_annotation("cot", self.task, settings)

    def measure(
        self, runner: RoundRunner, student: Student, rows: Sequence[PoolRow], round_index: int, prefix: str
    ) -> tuple[dict[str, float], tuple[Any, ...]]:
        explanations = runner.explain(student, rows, round_index, "evaluating")
        return explanation_metrics(self.task, rows, explanations, prefix), (rows, explanations)

    def probe(
        self, student: Student, rows: Sequence[PoolRow], requests: Sequence[SignalRequest]
    ) -> tuple[Sequence[Explanation | None], list[dict[str, list[int]]]]:
        candidates = student.candidates(rows, requests) if requests else []
        explanations = [candidate.explanation for candidate in candidates if candidate.explanation is not None]
        if len(explanations) < len(rows):
            explanations = student.explain(rows)
        prompts = [self.task.student_prompt(row) for row in rows]
        texts = [explanation.text or "-" for explanation in explanations]
        encoded = [student.encode_training(p, text)["input_ids"] for p, text in zip(prompts, texts, strict=True)]
        return explanations, [{"input_ids": ids} for ids in encoded]
