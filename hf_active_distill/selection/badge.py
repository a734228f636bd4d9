"""BADGE without gradient embeddings in memory."""

from __future__ import annotations

import numpy as np

from .arrays import Choice
from .distances import squared_lengths


def badge(probabilities: np.ndarray, embeddings: np.ndarray, n: int, generator: np.random.Generator) -> Choice:
    r"""
    BADGE (Ash et al., ICLR 2020, algorithm 1): k-means++ over the gradients of the last layer for the predicted label,

        g_i = a_i h_i^T,   a_i = p_i - e_{argmax p_i}

    so that long (unsure) and differing gradients are drawn. The first row is the one with the longest gradient, as in
    the authors' code; each next one is drawn with a probability in proportion to the squared distance to the nearest
    chosen one.

    The gradients, `K * d` numbers a row, are never made: all that k-means++ needs of them is

        || g_i - g_j ||^2 = |a_i|^2 |h_i|^2 + |a_j|^2 |h_j|^2 - 2 (a_i . a_j) (h_i . h_j)

    so that a pick costs O(N (K + d)) and memory is that of the two inputs.

    Args:
        probabilities (`np.ndarray` of shape `(N, K)`): p.
        embeddings (`np.ndarray` of shape `(N, d)`): h.
        n (`int`): Rows to choose, at most N.
        generator (`np.random.Generator`): One `random()` a pick, after the first.

    Returns:
        [`Choice`]: Scores are the squared distance to the nearest chosen gradient, when the row was drawn or at the
        end; the first row's is the squared length of its gradient.
    """
    residuals = probabilities.copy()
    residuals[np.arange(len(residuals)), probabilities.argmax(axis=1)] -= 1.0
    lengths = (squared_lengths(residuals) * squared_lengths(embeddings)).astype(np.float64)
    nearest = lengths.copy()
    chosen = np.empty(n, dtype=np.int64)
    picked = np.empty(n)
    reasons = {}
    for position in range(n):
        if position == 0:
            pick = int(nearest.argmax())
        elif (cumulated := np.cumsum(nearest))[-1] > 0:
            # Scaled to end at 1, so that a draw below 1 always falls on a row.
            pick = int((cumulated / cumulated[-1]).searchsorted(generator.random(), side="right"))
        else:
            left = np.setdiff1d(np.arange(len(nearest)), chosen[:position])
            pick = int(left[int(generator.random() * len(left))])
            reasons[pick] = "badge: all gradients are chosen, random"
        chosen[position], picked[position] = pick, nearest[pick]
        distance = lengths + lengths[pick] - 2.0 * ((residuals @ residuals[pick]) * (embeddings @ embeddings[pick]))
        # What is left of a difference of equal numbers is rounding, and would be drawn again and again.
        distance[distance <= np.finfo(embeddings.dtype).eps * 8 * (lengths + lengths[pick])] = 0.0
        if position == 0:
            nearest = distance
        else:
            np.minimum(nearest, distance, out=nearest)
        nearest[pick] = 0.0
    nearest[chosen] = picked
    return Choice(chosen, nearest, reasons)
