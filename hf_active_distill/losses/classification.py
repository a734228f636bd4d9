"""Weighted losses of classification heads, with hard labels or the teacher's distribution as the target."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import DataError


def gated_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    keep: Tensor | None = None,
    num_items: int | Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """
    The loss of LLKD (arXiv 2411.08028; our reading): `sum_i keep_i w_i CE(p_S(x_i), y_i) / sum_i keep_i`.

    Args:
        logits (`Tensor` of shape `(N, K)`): The student's.
        targets (`Tensor` of shape `(N,)` or `(N, K)`):
            Class indices (hard labels), or the teacher's distribution (soft ones).
        weights (`Tensor` of shape `(N,)`, *optional*):
            Of the rows; no gradient goes into them. All 1 by default.
        keep (`Tensor` of shape `(N,)`, *optional*): Rows that take part. All by default.
        num_items (`int` or `Tensor`, *optional*):
            What the sum is divided by: the kept rows of the whole optimiser step, over all processes and accumulated
            batches. By default those of this batch.
        class_weights (`Tensor` of shape `(K,)`, *optional*):
            Factors of rows by their class, with soft targets the one that has most. (Factors of each class's term, as
            in torch, would teach another distribution than the target.) The divisor stays the number of rows.

    Returns:
        `Tensor`: A scalar in float32 (float64 for such logits); 0, with a gradient of 0, where no row is kept.
    """
    values = _wide(logits)
    if values.dim() != 2 or len(values) != len(targets):
        raise DataError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} must have as many rows.")
    if targets.is_floating_point():
        targets = targets.to(values.dtype)
        if targets.shape != values.shape:
            raise DataError(f"Soft targets must have the logits' shape {tuple(logits.shape)}, not {targets.shape}.")
    rows = functional.cross_entropy(values, targets, reduction="none")
    if class_weights is not None:
        classes = targets.argmax(-1) if targets.is_floating_point() else targets.clamp(min=0)  # -100 is left out
        rows = rows * class_weights.to(values)[classes]
    return _mean_of_kept(rows, weights, keep, num_items)


def gated_binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    keep: Tensor | None = None,
    num_items: int | Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """
    [`gated_cross_entropy`] where several labels can hold: the mean over the labels of the binary cross-entropy. Each
    target, of shape `(N, K)`, is 0 or 1, or the teacher's probability that the label holds.
    """
    values = _wide(logits)
    if targets.shape != values.shape:
        raise DataError(f"Targets must have the logits' shape {tuple(logits.shape)}, not {tuple(targets.shape)}.")
    terms = functional.binary_cross_entropy_with_logits(
        values,
        targets.to(values.dtype),
        weight=None if class_weights is None else class_weights.to(values),
        reduction="none",
    )
    return _mean_of_kept(terms.mean(-1), weights, keep, num_items)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _mean_of_kept(rows: Tensor, weights: Tensor | None, keep: Tensor | None, num_items: int | Tensor | None) -> Tensor:
    if weights is not None:
        rows = rows * weights.detach().to(rows)
    if keep is not None:
        # Not a product: a row that is left out may be infinite.
        rows = rows.where(keep.to(rows.device), torch.zeros_like(rows))
    if num_items is None:
        num_items = len(rows) if keep is None else int(keep.sum())
    if isinstance(num_items, Tensor):
        return rows.sum() / num_items.to(rows).clamp(min=1)
    return rows.sum() / max(1, num_items)
