"""Losses that are sums over rows, divided by the rows of the whole optimiser step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigurationError
from ..losses import gated_binary_cross_entropy, gated_cross_entropy
from ..tasks import ClassificationTask
from .config import ActiveDistillationConfig


class RowLoss(Protocol):
    """A loss of one micro-batch."""

    def prepare(self, labels: Iterable[str | None]) -> None:
        """Called with the labels of all training rows when new ones have arrived."""

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        num_items: int | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            logits (`Tensor`): The model's.
            labels (`Tensor`): As the collator made them.
            weights (`Tensor` of shape `(N,)`, *optional*): Of the rows.
            num_items (`int`, *optional*): What the sum is divided by; the rows of the batch by default.
            classes (`Tensor` of shape `(N,)`, *optional*): Class indices, where `labels` are not these themselves.
        """
        ...


class ClassWeights:
    """
    `class_weights` as a tensor.

    Args:
        task ([`~tasks.ClassificationTask`]): The labels.
        wish (`dict[str, float]` or `str`, *optional*): Factors by label name, or `"balanced"`.

    Attributes:
        values (`Tensor` of shape `(K,)`, *optional*): The factors; `None` where all weigh alike.
    """

    def __init__(self, task: ClassificationTask, wish: dict[str, float] | str | None):
        self._labels = task.labels
        self._balanced = wish == "balanced"
        self.values: Tensor | None = None
        if self._balanced and task.multi_label:
            raise ConfigurationError(
                "`class_weights='balanced'` counts one label a row: give factors by name instead."
            )
        if wish and isinstance(wish, dict):
            found = {task.labels[task.label_index(name)]: float(weight) for name, weight in wish.items()}
            if any(weight < 0 for weight in found.values()):
                raise ConfigurationError("`class_weights` must not be below 0.")
            self.values = self._tensor(found)

    def prepare(self, labels: Iterable[str | None]) -> None:
        """`"balanced"`: rows / (labels seen * rows of the label), so that each label weighs as much."""
        if self._balanced:
            counts = Counter(label for label in labels if label is not None)
            share = sum(counts.values()) / max(1, len(counts))
            self.values = self._tensor({name: share / count for name, count in counts.items()})

    def _tensor(self, factors: dict[str, float]) -> Tensor:
        return torch.tensor([factors.get(name, 1.0) for name in self._labels])


class HeadLoss:
    """
    Cross-entropy of a classification head with hard or soft targets, binary where several labels can hold.

    Args:
        task ([`~tasks.ClassificationTask`]): The labels.
        args ([`ActiveDistillationConfig`]): `class_weights` and `label_smoothing_factor`.
    """

    def __init__(self, task: ClassificationTask, args: ActiveDistillationConfig):
        self._multi_label = task.multi_label
        self._smoothing = args.label_smoothing_factor
        self._class_weights = ClassWeights(task, args.class_weights)

    def prepare(self, labels: Iterable[str | None]) -> None:
        self._class_weights.prepare(labels)

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        num_items: int | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        size = logits.shape[-1]
        if self._smoothing and not self._multi_label:
            soft = labels if labels.is_floating_point() else functional.one_hot(labels, size).to(logits.dtype)
            labels = soft * (1 - self._smoothing) + self._smoothing / size
        elif self._smoothing:
            labels = labels * (1 - self._smoothing) + self._smoothing / 2
        loss = gated_binary_cross_entropy if self._multi_label else gated_cross_entropy
        return loss(logits, labels, weights, num_items=num_items, class_weights=self._class_weights.values)


class WrittenLoss:
    """
    The loss of labels that a causal model writes: of each row -log p(label | prompt), the sum over its tokens, so that
    it is the cross-entropy of the label whatever its length.

    Args:
        task ([`~tasks.ClassificationTask`]): The labels.
        args ([`ActiveDistillationConfig`]): `class_weights`.
    """

    def __init__(self, task: ClassificationTask, args: ActiveDistillationConfig):
        self._class_weights = ClassWeights(task, args.class_weights)

    def prepare(self, labels: Iterable[str | None]) -> None:
        self._class_weights.prepare(labels)

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        weights: Tensor | None = None,
        num_items: int | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        learnt = labels[:, 1:] != -100
        rows = len(labels) if num_items is None else num_items
        if self._class_weights.values is not None:
            if classes is None:
                raise ConfigurationError(
                    "`class_weights` need the class index of every row, and the batch has none: let your "
                    "`data_collator` pass `classes` on, a vector of integers."
                )
            factors = self._class_weights.values.to(classes.device)[classes]
            weights = factors if weights is None else weights * factors.to(weights)
        if weights is not None:
            weights = weights[:, None].expand_as(learnt)[learnt]
        return gated_cross_entropy(logits[:, :-1][learnt], labels[:, 1:][learnt], weights, num_items=rows)
