"""The statistics of comparisons over seeds: intervals, curves, the price of a target, paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigurationError, DataError


#: (costs, values) of one run, costs in rising order.
Curve = tuple[Sequence[float], Sequence[float]]
CONFIDENCE = 0.95
#: Share of a magnitude below which a difference is one of rounding.
ROUNDING = 1e-9


def _scipy() -> Any:
    try:
        import scipy.integrate
        import scipy.stats
    except ImportError as error:
        raise ConfigurationError(
            "Intervals and tests need SciPy: `pip install 'hf-active-distill[compare]'`."
        ) from error
    return scipy


@dataclass(frozen=True)
class Interval:
    """
    A figure and where it lies with a confidence of 95%.

    Args:
        value (`float`): The figure; infinite where a target was not reached.
        low (`float`), high (`float`): Its bounds; not a number where one value alone tells nothing of them.
        n (`int`): Values behind it.
    """

    value: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """
    Mean and interval by Student's t: `mean ± t(n-1) · s / sqrt(n)`, with `s` the sample standard deviation.

    Args:
        values (`Sequence[float]`): One a seed.
        confidence (`float`, *optional*, defaults to `0.95`): Of the interval.
    """
    array = np.asarray(values, dtype=float)
    n, mean = len(array), float(array.mean())
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    reach = float(_scipy().stats.t.ppf(0.5 + confidence / 2, n - 1) * array.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - reach, mean + reach, n)


def curve_at(curve: Curve, costs: Sequence[float] | np.ndarray) -> np.ndarray:
    """
    A run's metric at given costs: straight lines between its points; after the last point its value stays, since
    money that is not spent brings nothing; before the first there is none.
    """
    xs, ys = (np.asarray(side, dtype=float) for side in curve)
    if len(xs) == 0 or np.any(np.diff(xs) < 0):
        raise DataError("A curve needs points in the order of their costs.")
    return np.interp(costs, xs, ys, left=math.nan)


def first_reached(curve: Curve, target: float) -> float:
    """The lowest cost at which the curve is at `target` or above, infinite where it never is."""
    xs, ys = (np.asarray(side, dtype=float) for side in curve)
    above = np.nonzero(ys >= target)[0]
    if len(above) == 0:
        return math.inf
    at = int(above[0])
    if at == 0:
        return float(xs[0])
    share = (target - ys[at - 1]) / (ys[at] - ys[at - 1])
    return float(xs[at - 1] + share * (xs[at] - xs[at - 1]))


def mean_curve(curves: Sequence[Curve], limit: float = math.inf) -> Curve:
    """The mean of several runs' curves, at every cost up to `limit` at which one of them has a point."""
    knots = np.unique(np.concatenate([np.asarray(xs, dtype=float) for xs, _ in curves]))
    begin = max(float(np.min(xs)) for xs, _ in curves)
    knots = knots[(knots >= begin) & (knots <= limit)]
    if math.isfinite(limit) and (len(knots) == 0 or knots[-1] < limit):
        knots = np.append(knots, limit)
    return knots.tolist(), np.mean([curve_at(curve, knots) for curve in curves], axis=0).tolist()


@dataclass(frozen=True)
class Price(Interval):
    """
    What a target costs.

    Args:
        reached (`float`): Share of the resamples in which it was reached.
        target (`float`): The target itself.
    """

    reached: float = math.nan
    target: float = math.nan


def price_of_target(
    curves: Sequence[Curve],
    target: float | Sequence[float],
    *,
    limit: float,
    resamples: int = 2000,
    seed: int = 0,
) -> Price:
    """
    The cost at which the mean curve over seeds first reaches a target, with a bootstrap interval over seeds
    (percentiles; seeds drawn with replacement).

    Args:
        curves (`Sequence[Curve]`): One a seed.
        target (`float` or `Sequence[float]`): A metric; or one value a seed (in the order of `curves`), whose mean is
            the target: it is then drawn anew with the same seeds.
        limit (`float`): Largest cost that is looked at.
        resamples (`int`, *optional*, defaults to `2000`): Draws.
        seed (`int`, *optional*, defaults to `0`): Of the draws.
    """
    goals = np.full(len(curves), target, dtype=float) if np.isscalar(target) else np.asarray(target, dtype=float)
    if len(goals) != len(curves):
        raise DataError(f"There are {len(goals)} targets for {len(curves)} seeds: give one number, or one a seed.")
    knots, _ = mean_curve(curves, limit)
    # The goals are one more column: a mean taken in another order differs in its last digit, and an arm would miss the
    # level that is its own.
    table = np.column_stack([np.stack([curve_at(curve, knots) for curve in curves]), goals])

    def price(index: np.ndarray) -> float:
        *means, goal = table[index].mean(axis=0).tolist()
        return first_reached((knots, means), goal)

    everyone = np.arange(len(curves))
    if len(curves) < 2:
        return Price(price(everyone), math.nan, math.nan, len(curves), target=float(goals.mean()))
    generator = np.random.default_rng(seed)
    drawn = np.array([price(generator.integers(0, len(curves), len(curves))) for _ in range(resamples)])
    # Not interpolated: between a cost and "not reached" there is nothing.
    low, high = np.quantile(drawn, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2], method="inverted_cdf")
    reached = float(np.isfinite(drawn).mean())
    return Price(price(everyone), float(low), float(high), len(curves), reached, float(goals.mean()))


@dataclass(frozen=True)
class PairedTest:
    """
    One arm against another, seed by seed.

    Args:
        difference ([`Interval`]): Mean difference, with its interval by Student's t.
        t_test (`float` or `None`): p of the paired t test, two-sided. `None` for fewer than two seeds, where all
            differences are the same, and where one is no number.
        sign_flip (`float` or `None`): p of the sign-flip permutation test of the mean, two-sided; exact for few seeds,
            where it cannot be below `2 / 2**n`. `None` for fewer than two seeds, and where a difference is no number.
    """

    difference: Interval
    t_test: float | None
    sign_flip: float | None


def paired_test(
    differences: Sequence[float], *, scale: float = 0.0, resamples: int = 20_000, seed: int = 0
) -> PairedTest:
    """
    Tests whether differences over seeds have mean zero.

    Args:
        differences (`Sequence[float]`): One a seed.
        scale (`float`, *optional*, defaults to `0.0`): Magnitude of what was subtracted. What is smaller than a
            billionth of it, or of the largest difference, is taken for rounding.
        resamples (`int`, *optional*, defaults to `20000`): Most sign patterns that are drawn; all are used where there
            are no more.
        seed (`int`, *optional*, defaults to `0`): Of the draws.
    """
    values = np.asarray(differences, dtype=float)
    interval = mean_interval(values.tolist())
    if len(values) < 2 or not np.isfinite(values).all():
        return PairedTest(interval, None, None)
    stats = _scipy().stats
    noise = ROUNDING * max(scale, float(np.abs(values).max()))
    values = np.where(np.abs(values) <= noise, 0.0, values)
    flipped = stats.permutation_test(
        (values,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    same = np.ptp(values) <= noise
    t_test = None if same else float(stats.ttest_1samp(values, 0.0).pvalue)
    return PairedTest(interval, t_test, float(flipped.pvalue))


def _mean(sample: np.ndarray, axis: int) -> Any:
    return np.mean(sample, axis=axis)


def holm(p_values: Sequence[float]) -> list[float]:
    """
    p values adjusted for their number by Holm's step-down method (1979): the smallest is multiplied by their number,
    the next by one less, and so on; none is below one before it. What is not a number stays so and counts for none.
    """
    adjusted, least = list(p_values), 0.0
    known = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    for rank, (p, index) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[index] = least
    return adjusted


def area_under_curve(curve: Curve, limit: float) -> float:
    """The mean of a run's metric from its first point to `limit`: what it had on the way, not at the end alone."""
    xs, _ = curve
    begin = float(xs[0])
    if limit <= begin:
        return float(curve_at(curve, [begin])[0])
    knots = np.unique([x for x in (*xs, limit) if x <= limit])
    return float(_scipy().integrate.trapezoid(curve_at(curve, knots), knots) / (limit - begin))
