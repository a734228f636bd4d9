"""Choices against what is labelled already, as functions of arrays."""

from __future__ import annotations

import numpy as np

from .arrays import Choice
from .distances import nearest, require_scikit_learn
from .measures import entropy
from .ranking import best


def contrastive(
    probabilities: np.ndarray,
    embeddings: np.ndarray,
    labelled_probabilities: np.ndarray,
    labelled_embeddings: np.ndarray,
    *,
    neighbours: int = 10,
    index: str = "exact",
) -> np.ndarray:
    r"""
    Contrastive active learning (CAL: Margatina et al., EMNLP 2021, algorithm 1): rows that lie close to labelled ones
    and are predicted differently,

        U(x) = 1/k sum_{l in k nearest labelled of x} KL( p(.|x_l) || p(.|x) )
             = - mean_l H(p_l) - (mean_l p_l) . log p(.|x)

    The second line is what is computed.

    Args:
        probabilities (`np.ndarray` of shape `(N, K)`): Of the candidates.
        embeddings (`np.ndarray` of shape `(N, d)`): Of the candidates.
        labelled_probabilities (`np.ndarray` of shape `(M, K)`): Of the labelled rows, by the same student.
        labelled_embeddings (`np.ndarray` of shape `(M, d)`): Of the labelled rows.
        neighbours (`int`, *optional*, defaults to `10`): k; all labelled rows where there are fewer.
        index (`str`, *optional*, defaults to `"exact"`): See [`~selection.distances.nearest`].

    Returns:
        `np.ndarray` of shape `(N,)`.
    """
    k = min(neighbours, len(labelled_embeddings))
    _, rows = nearest(labelled_embeddings, embeddings, k, index=index)
    known = _away_from_zero(labelled_probabilities)
    entropies = entropy(known)
    scores = np.empty(len(probabilities))
    for start in range(0, len(scores), 8192):
        part = slice(start, start + 8192)
        mean = known[rows[part]].mean(axis=1)
        cross = np.einsum("nk,nk->n", mean, np.log(_away_from_zero(probabilities[part])))
        scores[part] = -entropies[rows[part]].mean(axis=1) - cross
    return np.maximum(scores, 0.0)


def _away_from_zero(probabilities: np.ndarray) -> np.ndarray:
    """At least 1e-7 each, so that a divergence stays finite; rows sum to 1."""
    clipped = np.clip(probabilities, 1e-7, 1.0)
    return clipped / clipped.sum(axis=-1, keepdims=True)


def discriminative(
    embeddings: np.ndarray,
    n: int,
    generator: np.random.Generator,
    *,
    labelled: np.ndarray | None = None,
    batches: int = 10,
    most: int | None = 10,
) -> Choice:
    r"""
    Discriminative active learning (DAL: Gissin and Shalev-Shwartz, arXiv 1907.06347): a classifier learns to tell
    labelled rows from others, and the rows that are most clearly not labelled are taken,

        argmax_x p(unlabelled | x)

    in several batches, after each of which what was taken counts as labelled. The classifier is logistic regression
    (scikit-learn) on standardised embeddings, with both sides weighted alike (the paper trains a small network).

    Args:
        embeddings (`np.ndarray` of shape `(N, d)`): Of the candidates.
        n (`int`): Rows to choose, at most N.
        generator (`np.random.Generator`): Ties, draws, and the first batch where nothing is labelled.
        labelled (`np.ndarray` of shape `(M, d)`, *optional*): Embeddings of labelled rows.
        batches (`int`, *optional*, defaults to `10`): In how many parts the rows are taken.
        most (`int`, *optional*, defaults to `10`): Not labelled rows to train on for each labelled one, drawn anew for
            every batch; `None` takes all.

    Returns:
        [`Choice`]: Scores are the log-odds of being unlabelled, when the row was taken or at the end.
    """
    require_scikit_learn("the discriminative choice")
    mean = embeddings.mean(axis=0)
    spread = embeddings.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    points = embeddings - mean
    points /= spread
    known = points[:0] if labelled is None else (labelled.astype(points.dtype, copy=False) - mean) / spread
    is_open = np.ones(len(points), dtype=bool)
    scores = np.zeros(len(points))
    chosen = np.empty(0, dtype=np.int64)
    reasons: dict[int, str] = {}
    for size in _parts(n, batches):
        rows = np.flatnonzero(is_open)
        if len(known) + len(chosen) == 0:
            taken = np.sort(generator.choice(rows, size=size, replace=False))
            reasons = {int(i): "discriminative: random start" for i in taken}
        else:
            scores[rows] = _log_odds(points, rows, np.concatenate([known, points[chosen]]), most, generator)
            taken = rows[best(scores[rows], size, generator)]
        is_open[taken] = False
        chosen = np.concatenate([chosen, taken])
    return Choice(chosen, scores, reasons)


def _parts(n: int, batches: int) -> list[int]:
    """`n` in at most `batches` parts, as even as can be."""
    parts = min(batches, n)
    return [n // parts + (i < n % parts) for i in range(parts)]


def _log_odds(
    points: np.ndarray, rows: np.ndarray, known: np.ndarray, most: int | None, generator: np.random.Generator
) -> np.ndarray:
    """Log-odds of the open `rows` to be unlabelled."""
    from sklearn.linear_model import LogisticRegression

    drawn = rows
    if most is not None and most * len(known) < len(rows):
        drawn = generator.choice(rows, size=most * len(known), replace=False)
    features = np.concatenate([known, points[drawn]])
    targets = np.repeat([0, 1], [len(known), len(drawn)])
    model = LogisticRegression(class_weight="balanced", max_iter=200).fit(features, targets)
    return model.decision_function(points)[rows]  # a copy of the open rows would take longer
