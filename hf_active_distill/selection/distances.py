"""Squared Euclidean distances a block at a time, and nearest neighbours by a library."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

from ..errors import ConfigurationError


#: Entries of one block of distances: 16 MiB of float32.
BLOCK_ENTRIES = 1 << 22

SCIKIT_LEARN = "It needs scikit-learn: pip install hf-active-distill[classification]."


def normalized(points: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths = np.sqrt(squared_lengths(points))[:, None]
    return points / np.where(lengths > 0, lengths, 1)


def squared_lengths(points: np.ndarray) -> np.ndarray:
    """Shape `(N, d)` to `(N,)`."""
    return np.einsum("nd,nd->n", points, points)


def distance_blocks(rows: np.ndarray, columns: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """
    Squared distances of all `rows` to all `columns`, a block of rows at a time and never the whole matrix. Rounding of
    |x|^2 + |y|^2 - 2 xy is cut off at 0.

    Args:
        rows (`np.ndarray` of shape `(N, d)`): Points.
        columns (`np.ndarray` of shape `(M, d)`): Points.

    Yields:
        `(slice, np.ndarray)`: Which rows, and their distances of shape `(block, M)`.
    """
    row_squares, column_squares = squared_lengths(rows), squared_lengths(columns)
    size = max(BLOCK_ENTRIES // max(len(columns), 1), 1)
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        block = rows[part] @ columns.T
        block *= -2.0
        block += row_squares[part, None]
        block += column_squares
        np.maximum(block, 0.0, out=block)
        yield part, block


def nearest_squared(points: np.ndarray, others: np.ndarray | None) -> np.ndarray:
    """Squared distance of each point to the nearest of `others`; infinity where there are none."""
    found = np.full(len(points), np.inf, dtype=points.dtype)
    if others is not None and len(others):
        for part, block in distance_blocks(points, others.astype(points.dtype, copy=False)):
            found[part] = block.min(axis=1)
    return found


def nearest(points: np.ndarray, queries: np.ndarray, k: int, *, index: str = "exact") -> tuple[np.ndarray, np.ndarray]:
    """
    The `k` nearest points of each query.

    Args:
        points (`np.ndarray` of shape `(N, d)`): Searched.
        queries (`np.ndarray` of shape `(M, d)`): Searched for.
        k (`int`): Neighbours, at most N.
        index (`str`, *optional*, defaults to `"exact"`): `"exact"` by scikit-learn, `"faiss"` exact too, by faiss, the
            faster the more points there are.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Distances (not squared) and row numbers, each `(M, k)`, nearest first.
    """
    if index == "faiss":
        return _nearest_faiss(points, queries, k)
    require_scikit_learn("nearest neighbours")
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points)
    distances, rows = found.kneighbors(queries)
    return distances, rows


def _nearest_faiss(points: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    if find_spec("faiss") is None:
        raise ConfigurationError("`index='faiss'` needs faiss: pip install hf-active-distill[faiss].")
    import faiss

    index = faiss.IndexFlatL2(points.shape[1])
    index.add(np.ascontiguousarray(points, dtype=np.float32))
    squared, rows = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    return np.sqrt(np.maximum(squared, 0.0)), rows


def require_scikit_learn(what: str) -> None:
    """Raises a [`~errors.ConfigurationError`] that names the extra."""
    if find_spec("sklearn") is None:
        raise ConfigurationError(f"{what[:1].upper()}{what[1:]} cannot be computed. {SCIKIT_LEARN}")
