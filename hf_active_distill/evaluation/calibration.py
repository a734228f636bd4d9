"""Whether probabilities mean what they say, and one number that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import DataError
from .libraries import library


#: Temperatures are looked for between 1/20 and 20.
_LARGEST = 20.0


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions with a confidence from `low` to `high`: how many, how sure on average, how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> list[ReliabilityBin]:
    """
    A reliability diagram as rows; bins without predictions are left out.

    Args:
        confidence (`ArrayLike` of shape `(N,)`): Probability of each label that was given.
        correct (`ArrayLike` of shape `(N,)`): Whether it is right.
        bins (`int`, *optional*, defaults to `10`): Bins of equal width over 0 to 1; the upper end belongs to a bin.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if sure.shape != right.shape or sure.ndim != 1:
        raise DataError(f"Confidences and outcomes must be vectors of one length, not {sure.shape} and {right.shape}.")
    if len(sure) and not (0 <= sure.min() and sure.max() <= 1 + 1e-9):
        raise DataError("Confidences must lie between 0 and 1.")
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        here = place == index
        if here.any():
            means = float(sure[here].mean()), float(right[here].mean())
            found.append(ReliabilityBin(index / bins, (index + 1) / bins, int(here.sum()), *means))
    return found


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> float:
    """
    The mean over all predictions of |accuracy - confidence| of their bin (arXiv 1706.04599, section 2); NaN without
    predictions. Arguments as in [`reliability`]. With few predictions it is larger than 0 by chance alone.
    """
    rows = reliability(confidence, correct, bins=bins)
    total = sum(row.count for row in rows)
    if not total:
        return float("nan")
    return sum(row.count * abs(row.accuracy - row.confidence) for row in rows) / total


def apply_temperature(probabilities: ArrayLike, temperature: float) -> np.ndarray:
    """
    Probabilities of shape `(N, K)` to the power 1 / T, normalised: more even for T above 1. The most probable label
    stays the same.
    """
    logp = _log(probabilities) / temperature
    powers = np.exp(logp - logp.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def fit_temperature(
    probabilities: ArrayLike,
    targets: Sequence[int] | np.ndarray,
    *,
    prior_scale: float | None = 1.0,
    logits: bool = False,
) -> float:
    """
    The temperature at which labelled rows are most probable (*On Calibration of Modern Neural Networks*, arXiv
    1706.04599, section 4.2).

    Args:
        probabilities (`ArrayLike` of shape `(N, K)`): Of a teacher or a student.
        targets (`Sequence[int]` of length `N`): Right class indices.
        prior_scale (`float` or `None`, *optional*, defaults to `1.0`):
            Standard deviation of a normal prior on log T around 0, for few rows: where all of ten are right, the most
            probable temperature alone would be 0. Hundreds of rows outweigh it. `None` leaves it out. Ours, not the
            paper's.
        logits (`bool`, *optional*, defaults to `False`):
            Whether the first argument holds logits: of a student that is far too sure, probabilities round to 0.

    Returns:
        `float`: T, between 0.05 and 20; above 1 where the probabilities were too sure.
    """
    logp = np.asarray(probabilities, dtype=np.float64) if logits else _log(probabilities)
    right = np.asarray(targets)
    if logp.ndim != 2 or right.shape != (len(logp),) or not len(right):
        raise DataError(f"Probabilities {logp.shape} and targets {right.shape} must have as many rows, at least one.")
    if not np.issubdtype(right.dtype, np.integer) or right.min() < 0 or right.max() >= logp.shape[1]:
        raise DataError(f"Targets are class indices from 0 to {logp.shape[1] - 1}.")
    special = library("scipy.special")

    def loss(log_temperature: float) -> float:
        scaled = logp / np.exp(log_temperature)
        nll = -(scaled[np.arange(len(right)), right] - special.logsumexp(scaled, axis=1)).sum()
        return nll + (0.0 if prior_scale is None else 0.5 * (log_temperature / prior_scale) ** 2)

    largest = float(np.log(_LARGEST))
    # With the prior there may be more than one minimum: the best point of a grid, and from there on downhill.
    grid = np.linspace(-largest, largest, 61)
    best = int(np.argmin([loss(value) for value in grid]))
    around = (grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)])
    found = library("scipy.optimize").minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def _log(probabilities: ArrayLike) -> np.ndarray:
    values = np.asarray(probabilities, dtype=np.float64)
    if (values < 0).any() or not np.isfinite(values).all():
        raise DataError("Probabilities must be finite and at least 0.")
    return np.log(np.maximum(values, 1e-12))
