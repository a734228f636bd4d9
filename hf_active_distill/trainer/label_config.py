"""The part of the configuration that is about students which answer with labels, and about the gates of LLKD."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError


STUDENT_TYPES = ("causal_lm", "sequence_classification")
#: The gate's modes by the names of the configuration.
GATES = {"llkd": "both", "teacher": "teacher_only", "student": "student_only", "off": "off"}


@dataclass
class LabelArguments:
    r"""
    Fields of [`ActiveDistillationConfig`] for students that answer with labels.

    Parameters:
        > Parameters that control students that answer with labels

        student_type (`str`, *optional*):
            `"sequence_classification"` (a model with a classification head) or `"causal_lm"`. By default the model's
            class tells; of a name, the architecture in its configuration: `...ForCausalLM` writes its label, anything
            else gets a head, where the task is `"classification"`.
        soft_labels (`bool`, *optional*, defaults to `False`):
            Whether a classification head learns the teacher's whole distribution instead of its label.
        class_weights (`dict[str, float]` or `str`, *optional*):
            Factors of a row's loss by the name of its label, 1 for those left out; `"balanced"` gives every label the
            same say, whatever its share of the annotated rows. With `multi_label`, factors of each label's term. A
            distribution (`soft_labels`, `label_smoothing_factor`) is weighed as a whole, by the label that has most.
            The loss of a causal student is then the mean over rows of -log p(label), not over tokens.
        min_confidence (`float`, *optional*):
            Answers of which the teacher is less sure than this are recorded as failed (`"low_confidence"`), paid for
            and not trained on.
        answer_gate (`bool`, *optional*, defaults to `False`):
            Whether answers are rejected likewise by a threshold that moves with the answers and differs by label: the
            teacher's half of LLKD's gate, for rows that were selected before they were asked about.
        answer_gate_kwargs (`dict[str, Any]`, *optional*):
            Options of that gate: see [`~losses.LLKDGate`].

        > Parameters that control gated training (LLKD)

        gate (`str`, *optional*):
            Which annotated rows take part in an optimiser step. `"llkd"`: where the teacher is confident and the
            student unsure, by thresholds that move with training and differ by label; `"teacher"` and `"student"` have
            one of the two conditions, `"off"` weighs all rows. `None` trains on all rows alike.
        gate_kwargs (`dict[str, Any]`, *optional*):
            Options of the gate: see [`~losses.LLKDGate`].
        gate_max_draws (`int`, *optional*, defaults to `64`):
            Batches of candidates that are scored at most to fill one optimiser step. What is still missing after them
            skips the step: nothing is learnt in it, and the learning rate stays where it is.
    """

    student_type: str | None = field(
        default=None,
        metadata={
            "help": "Kind of student: 'sequence_classification' or 'causal_lm'; default by the model.",
            "choices": [None, *STUDENT_TYPES],
        },
    )
    soft_labels: bool = field(
        default=False, metadata={"help": "Whether a classification head learns the teacher's distribution."}
    )
    class_weights: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Factors of the loss by label name, or 'balanced'."}
    )
    min_confidence: float | None = field(
        default=None, metadata={"help": "Least confidence with which a teacher's answer is trained on."}
    )
    answer_gate: bool = field(
        default=False, metadata={"help": "Whether answers are rejected by a moving confidence threshold by label."}
    )
    answer_gate_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Options of the gate on the teacher's answers."}
    )
    gate: str | None = field(
        default=None,
        metadata={
            "help": "Which rows take part in a step: 'llkd', 'teacher', 'student', 'off'; default all alike.",
            "choices": [None, *GATES],
        },
    )
    gate_kwargs: dict[str, Any] | str | None = field(default=None, metadata={"help": "Options of the gate."})
    gate_max_draws: int = field(
        default=64, metadata={"help": "Batches of candidates scored at most to fill one optimiser step."}
    )

    def check_label_arguments(self) -> None:
        """Raises a [`~errors.ConfigurationError`] for values that cannot work."""
        if self.student_type is not None and self.student_type not in STUDENT_TYPES:
            raise ConfigurationError(f"`student_type` must be one of {', '.join(STUDENT_TYPES)}.")
        if self.gate is not None and self.gate not in GATES:
            raise ConfigurationError(f"`gate` must be one of {', '.join(GATES)}, got {self.gate!r}.")
        if self.gate_max_draws < 1:
            raise ConfigurationError(f"`gate_max_draws` must be at least 1, got {self.gate_max_draws}.")
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise ConfigurationError(f"`min_confidence` is a share between 0 and 1, got {self.min_confidence}.")
        for options, switch in (("gate_kwargs", self.gate is not None), ("answer_gate_kwargs", self.answer_gate)):
            if getattr(self, options) and not switch:
                name = options.removesuffix("_kwargs")
                raise ConfigurationError(f"`{options}` is set and `{name}` is not: set it, or remove the options.")
