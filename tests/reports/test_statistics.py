"""Intervals, curves, prices and tests against SciPy's own routines, brute force, and figures worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.errors import DataError
from hf_active_distill.reports.statistics import (
    area_under_curve,
    curve_at,
    first_reached,
    holm,
    mean_curve,
    mean_interval,
    paired_test,
    price_of_target,
)


DIFFERENCES = [0.03, -0.01, 0.05, 0.04, 0.02]
CURVE = ([0.0, 10.0, 30.0], [0.4, 0.6, 0.5])


def test_the_interval_of_a_mean_is_scipys():
    values = [0.61, 0.58, 0.70, 0.66]
    interval = mean_interval(values)
    low, high = scipy.stats.t.interval(0.95, 3, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert (interval.value, interval.n) == (pytest.approx(0.6375), 4)
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))
    # By hand: two values 0 and 2 have mean 1, s = sqrt(2), and t(1) at 97.5% is 12.7062.
    assert mean_interval([0.0, 2.0]).high == pytest.approx(1 + 12.7062, abs=1e-3)
    alone = mean_interval([0.5])
    assert alone.value == 0.5 and math.isnan(alone.low) and math.isnan(alone.high)


def test_a_curve_is_straight_between_points_and_stays_after_the_last():
    assert curve_at(CURVE, [0, 5, 10, 20, 30, 99]).tolist() == pytest.approx([0.4, 0.5, 0.6, 0.55, 0.5, 0.5])
    assert math.isnan(curve_at(([5.0, 6.0], [0.1, 0.2]), [4.0])[0])
    with pytest.raises(DataError, match="order"):
        curve_at(([2.0, 1.0], [0.1, 0.2]), [1.0])


def test_where_a_curve_first_reaches_a_target():
    assert first_reached(CURVE, 0.4) == 0.0
    assert first_reached(CURVE, 0.55) == pytest.approx(7.5)
    assert first_reached(CURVE, 0.6) == 10.0
    assert first_reached(CURVE, 0.61) == math.inf


@given(
    ys=st.lists(st.floats(0, 1), min_size=2, max_size=6),
    target=st.floats(0, 1),
)
def test_the_curve_is_below_the_target_before_it_is_reached(ys, target):
    curve = ([float(i) for i in range(len(ys))], ys)
    at = first_reached(curve, target)
    grid = np.linspace(0, len(ys) - 1, 401)
    before = curve_at(curve, grid[grid < at - 1e-9])
    assert (before < target + 1e-9).all()
    assert math.isinf(at) or curve_at(curve, [at])[0] == pytest.approx(target) or at == 0.0


def test_the_mean_of_curves_with_points_at_different_costs():
    xs, ys = mean_curve([([0, 10], [0.0, 1.0]), ([0, 20], [0.0, 1.0])])
    assert xs == [0, 10, 20] and ys == pytest.approx([0.0, 0.75, 1.0])
    xs, ys = mean_curve([([0, 10], [0.0, 1.0]), ([0, 20], [0.0, 1.0])], limit=16)
    assert xs == [0, 10, 16] and ys == pytest.approx([0.0, 0.75, 0.9])


def test_the_mean_on_the_way():
    # Trapezia: (0.4 + 0.6) / 2 over 10 and (0.6 + 0.5) / 2 over 20.
    assert area_under_curve(CURVE, 30) == pytest.approx((5 + 11) / 30)
    assert area_under_curve(CURVE, 50) == pytest.approx((5 + 11 + 10) / 50)
    assert area_under_curve(CURVE, 5) == pytest.approx(0.45)


def test_the_price_of_a_target_and_its_bootstrap_against_all_resamples():
    """With three seeds there are 27 resamples: their quantiles are what many draws come close to."""
    curves = [([0, 100], [0.0, 1.0]), ([0, 100], [0.0, 0.8]), ([0, 100], [0.0, 0.5])]
    price = price_of_target(curves, 0.6, limit=100)
    assert price.value == pytest.approx(100 * 0.6 / (2.3 / 3))
    ends = [1.0, 0.8, 0.5]
    means = [np.mean([ends[i] for i in index]) for index in itertools.product(range(3), repeat=3)]
    prices = np.array([100 * 0.6 / mean if mean >= 0.6 - 1e-12 else math.inf for mean in means])
    low, high = np.quantile(prices, [0.025, 0.975], method="inverted_cdf")
    many = price_of_target(curves, 0.6, limit=100, resamples=20_000)
    assert (many.low, many.high) == (pytest.approx(low), high)
    assert many.high == math.inf and many.reached == pytest.approx(np.isfinite(prices).mean(), abs=0.01)


def test_a_target_that_goes_with_the_seeds_is_drawn_with_them():
    """Each seed reaches its own goal at half the way: so does every resample, and the interval has no width."""
    curves = [([0, 100], [0.0, 2 * goal]) for goal in (0.2, 0.3, 0.4)]
    price = price_of_target(curves, [0.2, 0.3, 0.4], limit=100)
    assert (price.value, price.low, price.high) == pytest.approx((50, 50, 50))
    assert price.target == pytest.approx(0.3) and price.reached == 1.0
    with pytest.raises(DataError, match="one a seed"):
        price_of_target(curves, [0.2], limit=100)


def test_one_seed_gives_a_price_without_an_interval():
    price = price_of_target([([0, 100], [0.0, 1.0])], 0.25, limit=100)
    assert price.value == 25 and math.isnan(price.low) and math.isnan(price.reached)
    assert price_of_target([([0, 100], [0.0, 1.0])], 2.0, limit=100).value == math.inf


def test_the_paired_t_test_is_scipys_on_the_two_samples():
    base = [0.50, 0.55, 0.47, 0.52, 0.58]
    other = [b + d for b, d in zip(base, DIFFERENCES, strict=True)]
    expected = scipy.stats.ttest_rel(other, base)
    found = paired_test(DIFFERENCES)
    assert found.t_test == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8))
def test_the_sign_flip_test_counts_sign_patterns(whole):
    """Share of all sign patterns whose mean is as far from zero as the one seen, on the side of it, doubled."""
    values = [value / 100 for value in whole]
    seen = np.mean(values)
    means = [
        np.mean([s * v for s, v in zip(signs, values, strict=True)])
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    more = np.mean([mean >= seen - 1e-12 for mean in means])
    less = np.mean([mean <= seen + 1e-12 for mean in means])
    assert paired_test(values).sign_flip == pytest.approx(min(1.0, 2 * min(more, less)))


def test_five_seeds_that_all_gain_cannot_be_surer_than_one_in_sixteen():
    assert paired_test([0.1, 0.2, 0.15, 0.12, 0.3]).sign_flip == pytest.approx(2 / 2**5)


def test_what_cannot_be_tested_is_left_out():
    assert paired_test([0.1]).t_test is None and paired_test([0.1]).sign_flip is None
    same = paired_test([0.1, 0.1, 0.1])
    assert same.t_test is None and same.sign_flip == pytest.approx(0.25)
    assert paired_test([0.0, 0.0]).sign_flip == 1.0


@pytest.mark.parametrize(("differences", "scale"), [([0.55 - 0.5, 0.6 - 0.55], 0.0), ([5e-17, 1.1e-16, 6e-17], 0.6)])
def test_rounding_is_no_spread(differences, scale):
    """Equal but for the last digit: the t test would find p = 7e-16 in the first."""
    assert paired_test(differences, scale=scale).t_test is None


def test_differences_of_rounding_alone_have_no_sign():
    assert paired_test([5e-17] * 8, scale=0.6).sign_flip == 1.0
    assert paired_test([5e-17] * 8).sign_flip == pytest.approx(2 / 2**8)  # nothing says that these are small


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_tested(odd):
    found = paired_test([0.1, odd, 0.2])
    assert (found.t_test, found.sign_flip) == (None, None)


@pytest.mark.parametrize("seeds", [2, 5, 7, 8, 9, 16, 33])
def test_an_arm_reaches_the_level_that_is_its_own(seeds):
    """A sum over eight or more values is rounded otherwise by column than alone: no reason to miss a goal."""
    values = np.random.default_rng(seeds).uniform(0.4, 0.9, (200, seeds))
    for ends in values:
        curves = [([0.0, 100.0], [0.1, float(end)]) for end in ends]
        price = price_of_target(curves, ends.tolist(), limit=100, resamples=20)
        assert (price.value, price.high, price.reached) == (pytest.approx(100), pytest.approx(100), 1.0)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, and none below one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    # 0.01 times 2 and 0.04 times 1; what is no number is not counted.
    assert holm([math.nan, 0.04, 0.01])[1:] == pytest.approx([0.04, 0.02]) and math.isnan(holm([math.nan])[0])
