"""Taking the n best rows of an array of scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import SelectionError


def refuse(bad: np.ndarray, problem: str, ids: Sequence[str] | None = None) -> None:
    """Raises a [`~errors.SelectionError`] that names the first row of a mask in which anything is true."""
    if not bad.any():
        return
    rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
    name = rows[0] if ids is None else repr(ids[rows[0]])
    others = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    raise SelectionError(f"Row {name} cannot be ranked: {problem}{others}. Check what the student computed for it.")


def require_finite(values: np.ndarray, problem: str, ids: Sequence[str] | None = None) -> None:
    """[`refuse`] for rows with a NaN or an infinity. One sum tells that there is none, without a mask."""
    if not np.isfinite(values.sum()):
        refuse(~np.isfinite(values), problem, ids)


def best(
    scores: np.ndarray,
    n: int,
    generator: np.random.Generator,
    *,
    second: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
) -> np.ndarray:
    """
    The rows with the `n` highest scores, best first; ties by `second`, then by the generator. Linear in the rows; only
    the `n` are sorted.
    """
    require_finite(scores, "its score is not a finite number", ids)
    noise = generator.random(len(scores))
    if n < 1:
        return np.empty(0, dtype=np.int64)
    if second is not None:
        rows = np.arange(len(scores)) if n >= len(scores) else np.flatnonzero(scores >= _nth_largest(scores, n))
        return rows[np.lexsort([noise[rows], -second[rows], -scores[rows]])][:n]
    if n >= len(scores):
        return np.lexsort([noise, -scores])
    threshold = _nth_largest(scores, n)
    above, equal = np.flatnonzero(scores > threshold), np.flatnonzero(scores == threshold)
    left = n - len(above)
    if left < len(equal):
        equal = equal[np.argpartition(noise[equal], left - 1)[:left]]
    rows = np.concatenate([above, equal])
    return rows[np.lexsort([noise[rows], -scores[rows]])]


def _nth_largest(scores: np.ndarray, n: int) -> np.floating:
    return np.partition(scores, len(scores) - n)[len(scores) - n]
