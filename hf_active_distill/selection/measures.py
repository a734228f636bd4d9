"""
Scores from predicted probabilities, as functions of arrays: higher means less sure.

Every function takes the classes on the last axis and keeps the others, in float32 or float64; probabilities are not
checked here (the strategies do). Natural logarithms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np


Measure: TypeAlias = Callable[[np.ndarray], np.ndarray]

#: Rows worked on at once: what they need stays in the processor's cache.
BLOCK_ROWS = 8192


def least_confidence(probabilities: np.ndarray) -> np.ndarray:
    """1 - max_k p_k (Lewis and Gale, SIGIR 1994; Culotta and McCallum, AAAI 2005). Shape `(..., K)` to `(...)`."""
    return 1.0 - _two_largest(probabilities, second=False)[0]


def margin(probabilities: np.ndarray) -> np.ndarray:
    """
    1 - (p_(1) - p_(2)), with the two largest probabilities: "breaking ties" (Scheffer et al., IDA 2001; Luo et al.,
    JMLR 2005). Shape `(..., K)` to `(...)`.
    """
    first, second = _two_largest(probabilities)
    return 1.0 - (first - second)


def _two_largest(probabilities: np.ndarray, *, second: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """
    The largest and the second largest entry of the last axis (zeros in its place where it is not wanted). NumPy's own
    reduction over a short last axis is several times slower than going through the columns.
    """
    classes = probabilities.shape[-1]
    if classes > 64:
        if not second:
            largest = probabilities.max(axis=-1)
            return largest, np.zeros_like(largest)
        both = np.partition(probabilities, classes - 2, axis=-1)
        return both[..., -1], both[..., -2]
    rows = probabilities.reshape(-1, classes)
    first, next_best = np.empty(len(rows), rows.dtype), np.zeros(len(rows), rows.dtype)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        top, below = first[start : start + BLOCK_ROWS], next_best[start : start + BLOCK_ROWS]
        top[:] = block[:, 0]
        for column in block.T[1:]:
            if second:
                np.maximum(below, np.minimum(top, column), out=below)
            np.maximum(top, column, out=top)
    return first.reshape(probabilities.shape[:-1]), next_best.reshape(probabilities.shape[:-1])


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """- sum_k p_k log p_k, in nats (Shannon 1948; Settles 2009, section 3.1). Shape `(..., K)` to `(...)`."""
    classes = probabilities.shape[-1]
    found = _summed_entropies(probabilities.reshape(-1, 1, classes))
    return found.reshape(probabilities.shape[:-1])


def bald(probabilities: np.ndarray) -> np.ndarray:
    """
    H(mean_t p_t) - mean_t H(p_t): what a label would tell about the weights (BALD: Houlsby et al., arXiv 1112.5745;
    with dropout as the samples of the weights: Gal et al., arXiv 1703.02910). Shape `(..., T, K)` to `(...)`.
    """
    passes, classes = probabilities.shape[-2:]
    rows = probabilities.reshape(-1, passes, classes)
    mean = np.einsum("ntk->nk", rows) / passes
    gain = entropy(mean) - _summed_entropies(rows) / passes
    return np.maximum(gain, 0.0).reshape(probabilities.shape[:-2])


def _summed_entropies(rows: np.ndarray) -> np.ndarray:
    """Entropies summed over the passes, shape `(N, T, K)` to `(N,)`, a block at a time."""
    found = np.empty(len(rows), rows.dtype)
    step = max(BLOCK_ROWS // rows.shape[1], 1)
    smallest = np.finfo(rows.dtype).tiny
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        # 0 log 0 is 0: the smallest number stands in for 0 inside of the logarithm.
        logarithms = np.maximum(block, smallest)
        np.log(logarithms, out=logarithms)
        # Rounding of a certain prediction may give -0.0.
        found[start : start + step] = np.abs(np.einsum("ntk,ntk->n", block, logarithms))
    return found


def mean_over_labels(measure: Measure, probabilities: np.ndarray) -> np.ndarray:
    """
    A measure for rows that may have several labels: every label is a question of its own, yes or no, and the measure
    is averaged over the labels (our reading).

    Args:
        measure (`Callable`): One of this module's functions.
        probabilities (`np.ndarray`): Of yes, shape `(N, K)`, or `(N, T, K)` for [`bald`].

    Returns:
        `np.ndarray` of shape `(N,)`.
    """
    by_label = np.moveaxis(probabilities, -1, 1)
    return measure(np.stack([by_label, 1.0 - by_label], axis=-1)).mean(axis=-1)


def expected_gradient_length(probabilities: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    r"""
    Expected length of the gradient that a label would cause in the last layer (Settles, Craven and Ray, NeurIPS 2007):

        sum_k p_k || (p - e_k) h^T ||  =  ||h|| sum_k p_k sqrt(||p||^2 - 2 p_k + 1)

    for logits W h and cross-entropy, e_k the unit vector of class k. A bias is left out, as BADGE does.

    Args:
        probabilities (`np.ndarray` of shape `(N, K)`): p.
        embeddings (`np.ndarray` of shape `(N, d)`): h, what the last layer is given.

    Returns:
        `np.ndarray` of shape `(N,)`.
    """
    squares = np.einsum("nk,nk->n", probabilities, probabilities)[:, None] - 2.0 * probabilities + 1.0
    expected = np.einsum("nk,nk->n", probabilities, np.sqrt(np.maximum(squares, 0.0)))
    return np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings)) * expected


CLASS_FACTORS = ("max_norm", "mean_norm", "own", "none")


def gate_thresholds(
    uncertainty: np.ndarray, classes: np.ndarray, num_classes: int, class_factor: str = "max_norm"
) -> np.ndarray:
    r"""
    The student's thresholds of LLKD (arXiv 2411.08028) over one window of the pool, by the student's own class: there
    is no label yet. The paper's formulas were not available to us; ours follow FreeMatch (arXiv 2205.07246):

        tau_S(k) = g l(k) / max_j l(j),   g = mean(u),   l(k) = mean{u_i : class_i = k}

    These are the thresholds of [`~losses.LLKDGate`] after its first update.

    Args:
        uncertainty (`np.ndarray` of shape `(N,)`): u, for LLKD the entropy over log K.
        classes (`np.ndarray` of shape `(N,)`): Predicted classes.
        num_classes (`int`): K.
        class_factor (`str`, *optional*, defaults to `"max_norm"`): `"max_norm"` as above, `"mean_norm"` divides by the
            mean of the l(j), `"own"` takes l(k), `"none"` takes g.

    Returns:
        `np.ndarray` of shape `(K,)`. A class that nobody predicts has g.
    """
    overall = float(uncertainty.mean(dtype=np.float64))
    counts = np.bincount(classes, minlength=num_classes)
    local = np.bincount(classes, weights=uncertainty, minlength=num_classes) / np.maximum(counts, 1)
    present = counts > 0
    thresholds = np.full(num_classes, overall)
    if class_factor == "own":
        thresholds[present] = local[present]
    elif class_factor != "none":
        norm = local[present].max() if class_factor == "max_norm" else local[present].mean()
        if norm > 0:
            thresholds[present] = overall * local[present] / norm
    return thresholds
