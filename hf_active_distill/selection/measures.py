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


def least_confidence(probabilities: np.ndarray) -> np.ndarray:
    """1 - max_k p_k (Lewis and Gale, SIGIR 1994; Culotta and McCallum, AAAI 2005). Shape `(..., K)` to `(...)`."""
    return 1.0 - probabilities.max(axis=-1)


def margin(probabilities: np.ndarray) -> np.ndarray:
    """
    1 - (p_(1) - p_(2)), with the two largest probabilities: "breaking ties" (Scheffer et al., IDA 2001; Luo et al.,
    JMLR 2005). Shape `(..., K)` to `(...)`.
    """
    classes = probabilities.shape[-1]
    largest = np.partition(probabilities, classes - 2, axis=-1)[..., -2:]
    return 1.0 - (largest[..., 1] - largest[..., 0])


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """- sum_k p_k log p_k, in nats (Shannon 1948; Settles 2009, section 3.1). Shape `(..., K)` to `(...)`."""
    # 0 log 0 is 0: the smallest number stands in for 0 inside of the logarithm.
    logarithms = np.log(np.maximum(probabilities, np.finfo(probabilities.dtype).tiny))
    # Rounding of a certain prediction may give -0.0.
    return np.abs(np.einsum("...k,...k->...", probabilities, logarithms))


def bald(probabilities: np.ndarray) -> np.ndarray:
    """
    H(mean_t p_t) - mean_t H(p_t): what a label would tell about the weights (BALD: Houlsby et al., arXiv 1112.5745;
    with dropout as the samples of the weights: Gal et al., arXiv 1703.02910). Shape `(..., T, K)` to `(...)`.
    """
    gain = entropy(probabilities.mean(axis=-2)) - entropy(probabilities).mean(axis=-1)
    return np.maximum(gain, 0.0)


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
