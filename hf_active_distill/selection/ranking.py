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


def best(
    scores: np.ndarray,
    n: int,
    generator: np.random.Generator,
    *,
    second: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
) -> np.ndarray:
    """
    The rows with the `n` highest scores, best first; ties by `second`, then by the generator. Linear in the rows but
    for those at or above the n-th score, which are sorted.
    """
    refuse(~np.isfinite(scores), "its score is not a finite number", ids)
    noise = generator.random(len(scores))
    rows = np.arange(len(scores))
    if 0 < n < len(scores):
        rows = np.flatnonzero(scores >= np.partition(scores, len(scores) - n)[len(scores) - n])
    keys = [noise[rows], -scores[rows]] if second is None else [noise[rows], -second[rows], -scores[rows]]
    return rows[np.lexsort(keys)][:n]
