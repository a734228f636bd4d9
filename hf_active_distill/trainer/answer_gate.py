"""The teacher's half of the gate on what comes back: answers of which it is not sure are paid for, not trained on."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from ..errors import ConfigurationError
from ..losses import LLKDGate
from ..records import Annotation
from .classifying import LabellingKind
from .config import ActiveDistillationConfig


REASON = "low_confidence"


class AnswerGate:
    """
    Rejects answers below `min_confidence`, or below a threshold by label that moves with the answers
    (`answer_gate`): for rows that were selected before they were asked about, LLKD's condition on the teacher.

    The moving threshold is a fold over the rounds, in the order of their answers, so that a resumed run has the same.

    Args:
        kind ([`LabellingKind`]): Reads labels.
        args ([`ActiveDistillationConfig`]): Settings.
        batch_size (`int`): Answers between two moves of the threshold, the rows of an optimiser step.
    """

    def __init__(self, kind: LabellingKind, args: ActiveDistillationConfig, batch_size: int):
        self._kind = kind
        self._least = args.min_confidence or 0.0
        self._batch_size = batch_size
        self._gate: LLKDGate | None = None
        if args.answer_gate:
            if kind.task.multi_label:
                raise ConfigurationError("`answer_gate` has a threshold for the one label of a row: use it alone.")
            try:
                self._gate = LLKDGate(kind.task.labels, mode="teacher_only", **args.options("answer_gate_kwargs"))
            except TypeError as error:
                raise ConfigurationError(f"`answer_gate_kwargs` holds an unknown option: {error}.") from error
        self._first = copy.deepcopy(self._gate)

    def reset(self) -> None:
        """As before the first round."""
        self._gate = copy.deepcopy(self._first)

    def judge(self, annotations: Sequence[Annotation]) -> None:
        """Fails answers that are too unsure, in place. The threshold stays, until the round is adopted."""
        gate = copy.deepcopy(self._gate)
        for batch, sure in self._moved(gate, annotations):
            for annotation, is_sure in zip(batch, sure, strict=True):
                if not is_sure:
                    annotation.status, annotation.reason = "failed", REASON
                    # What was measured stands; no label that somebody could train on.
                    annotation.label = annotation.labels = annotation.completion = None

    def adopt(self, annotations: Sequence[Annotation]) -> None:
        """Moves the threshold by the answers of a round, those that were rejected included."""
        for _ in self._moved(self._gate, annotations):
            pass

    def _moved(self, gate: LLKDGate | None, annotations: Sequence[Annotation]):
        """Batches of answers in their order, each with whether the teacher is sure, after the threshold has moved."""
        answers = [one for one in annotations if one.status == "ok" or one.reason == REASON]
        for start in range(0, len(answers), self._batch_size):
            batch = answers[start : start + self._batch_size]
            confidence = torch.tensor([self._kind.confidence_of(one) for one in batch])
            sure = confidence >= self._least
            if gate is not None:
                labels = torch.tensor([self._kind.index_of(one) for one in batch])
                nothing = torch.zeros(len(batch))
                gate.update(confidence, nothing, labels, **self._probabilities(gate, batch))
                sure &= gate.keep(confidence, nothing, labels)
            yield batch, sure.tolist()

    def _probabilities(self, gate: LLKDGate, batch: Sequence[Annotation]) -> dict[str, torch.Tensor]:
        if gate.class_statistic != "expectation":
            return {}
        teacher = torch.tensor([self._kind.distribution_of(one) for one in batch])
        # The student has no say here, so what it thinks is as well nothing.
        return {"teacher_probabilities": teacher, "student_probabilities": torch.zeros_like(teacher)}
