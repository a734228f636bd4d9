"""EGSS against a slow reference written from its definition, for every combination of its options."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.records import Explanation, PoolRow
from hf_active_distill.selection import (
    EGSS,
    BoundarySignal,
    Candidate,
    ResampleSignal,
    SelectionContext,
    StepEntropy,
    StepResampling,
    TokenSignal,
)
from hf_active_distill.selection.egss import jensen_shannon, total_variation


def equal(first, second):
    return first is not None and second is not None and float(first) == float(second)


def plain(**options):
    """The plain reading: how far the answer moves."""
    return EGSS(measure="answer_shift", **options)


def candidate_of(strategy, signal, samples=(), row_id="a"):
    explanations = [Explanation(row_id, "t", [], answer) for answer in samples]
    signals = {strategy.step_request(): signal, strategy.sample_request(): explanations}
    return Candidate(PoolRow(row_id, "q"), signals=signals)


def context_of(candidates, n=1, seed=0):
    return SelectionContext(candidates, n, np.random.default_rng(seed), answers_equal=equal)


def score(strategy, signal, samples=()):
    candidate = candidate_of(strategy, signal, samples)
    return strategy.score(candidate, context_of([candidate]))


def reference(signal, removal, distance, aggregate, discount):
    """U_intra by loops over the definition."""
    n = len(signal.final_logprobs) - 1
    moved = []
    for step in range(1, n + 1):
        before = step - 1
        after = step if removal == "prefix" else n
        if distance == "hard":
            d = 0.0 if equal(signal.answers[before], signal.answers[after]) else 1.0
        elif distance == "soft":
            d = abs(signal.final_logprobs[after] - signal.final_logprobs[before])
        else:
            p, q = list(signal.distributions[before]), list(signal.distributions[after])
            if distance == "tv":
                d = max(sum(p[i] - q[i] for i in s) for s in subsets(len(p)))
            else:
                m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
                d = (entropy(m) - (entropy(p) + entropy(q)) / 2) if p != q else 0.0
        moved.append((discount ** (n - step), d))
    if not moved:
        return 0.0
    if aggregate == "max":
        return max(w * d for w, d in moved)
    total = sum(w * d for w, d in moved)
    return total / sum(w for w, _ in moved) if aggregate == "mean" else total


def subsets(n):
    """Total variation is the largest difference that any event can have."""
    return [s for size in range(n + 1) for s in itertools.combinations(range(n), size)]


def entropy(p):
    return -sum(a * math.log(a) for a in p if a > 0)


@st.composite
def boundary_signals(draw):
    positions = draw(st.integers(1, 7))
    logprobs = draw(st.lists(st.floats(-30, 0), min_size=positions, max_size=positions))
    answer = st.sampled_from(["1", "1.0", "2", "3", None])
    answers = draw(st.lists(answer, min_size=positions, max_size=positions))
    weights = st.lists(st.integers(0, 9), min_size=3, max_size=3).filter(any)
    distributions = [np.array(draw(weights), dtype=float) for _ in range(positions)]
    return BoundarySignal(np.array(logprobs), answers, np.array([w / w.sum() for w in distributions]))


@given(
    boundary_signals(),
    st.sampled_from(["prefix", "leave_one_out"]),
    st.sampled_from(["hard", "soft", "tv", "js"]),
    st.sampled_from(["mean", "max", "sum"]),
    st.sampled_from([1.0, 0.7, 0.2]),
)
@settings(max_examples=300)
def test_egss_follows_its_formula(signal, removal, distance, aggregate, discount):
    strategy = plain(removal=removal, distance=distance, aggregate=aggregate, early_discount=discount)
    expected = reference(signal, removal, distance, aggregate, discount)
    assert score(strategy, signal) == pytest.approx(expected, abs=1e-9)


def test_the_first_positions_are_the_bare_question_and_all_but_the_first_step():
    signal = BoundarySignal(np.array([-5.0, -1.0, -1.0]), ["1", "2", "2"])
    assert score(plain(distance="soft", aggregate="sum"), signal) == 4.0
    assert score(plain(distance="soft", aggregate="sum", removal="leave_one_out"), signal) == 4.0
    later = BoundarySignal(np.array([-1.0, -5.0, -1.0]), ["2", "1", "2"])
    assert score(plain(distance="soft", aggregate="sum"), later) == 8.0
    assert score(plain(distance="soft", aggregate="sum", removal="leave_one_out"), later) == 4.0


def test_early_discount_makes_the_last_step_count_most():
    first, last = (BoundarySignal(np.zeros(3), answers) for answers in (["1", "2", "2"], ["1", "1", "2"]))
    even, weighted = plain(), plain(early_discount=0.5)
    assert score(even, first) == score(even, last) == 0.5
    assert score(weighted, first) == pytest.approx(0.5 / 1.5)
    assert score(weighted, last) == pytest.approx(1 / 1.5)


def test_the_term_between_explanations_is_optional():
    signal = BoundarySignal(np.zeros(2), ["1", "2"])
    assert len(plain().requests()) == 1
    strategy = plain(inter_weight=0.5)
    assert len(strategy.requests()) == 2
    assert score(strategy, signal, ["1", "1.0", "2", "2"]) == pytest.approx(1 + 0.5 * math.log(2))
    assert score(strategy, signal, []) == 1.0


def test_only_what_the_distance_needs_is_requested():
    options = {d: dict(plain(distance=d).step_request().options) for d in ("hard", "soft", "tv", "js")}
    assert [options[d]["answers"] for d in ("hard", "soft", "tv", "js")] == [True, False, False, False]
    assert [options[d]["distribution"] for d in ("hard", "soft", "tv", "js")] == [False, False, True, True]
    assert dict(plain(removal="leave_one_out").step_request().options)["removal"] == "leave_one_out"


def test_hard_ties_are_broken_by_the_soft_score():
    strategy = plain()
    soft = [0.5, 3.0, 1.0]
    rows = [
        candidate_of(strategy, BoundarySignal(np.array([-gap, 0.0]), ["1", "2"]), row_id=f"r{i}")
        for i, gap in enumerate(soft)
    ]
    result = strategy.select(context_of(rows, n=3))
    assert set(result.scores.values()) == {1.0}
    assert result.ids == ["r1", "r2", "r0"]


def test_a_row_without_steps_scores_zero():
    assert score(plain(), BoundarySignal(np.array([-1.0]), ["1"])) == 0.0


def test_impossible_and_unreadable_values_stay_finite():
    worst = BoundarySignal(np.array([-math.inf, math.nan, -1.0, -math.inf]), [None, None, "1", "1"])
    for removal, distance in itertools.product(["prefix", "leave_one_out"], ["hard", "soft", "tv", "js"]):
        assert math.isfinite(score(plain(removal=removal, distance=distance), worst))
    broken = BoundarySignal(np.zeros(3), None, np.array([[0.5, 0.5], [math.nan, 0.5], [1.0, 0.0]]))
    assert score(plain(distance="tv"), broken) == 0.0


@given(st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any), st.integers(1, 5))
def test_distances_are_metric_like(weights, scale):
    p = np.array(weights) / sum(weights)
    q = np.roll(p, scale)
    for distance, largest in ((total_variation, 1.0), (jensen_shannon, math.log(2))):
        assert distance(p, p) == pytest.approx(0.0, abs=1e-12)
        assert 0.0 <= distance(p, q) <= largest + 1e-12
        assert distance(p, q) == pytest.approx(distance(q, p))


def test_the_default_is_the_entropy_inside_of_the_steps():
    strategy = EGSS()
    assert strategy.requests() == StepEntropy().requests()
    entropies, step_of = np.array([9.0, 1.0, 3.0, 8.0, 4.0, 9.0]), np.array([-1, 0, 0, -1, 1, -1])
    signal = TokenSignal(np.zeros(6), entropies, step_of)
    assert score(strategy, signal) == (2.0 + 4.0) / 2
    assert score(EGSS(aggregate="max"), signal) == 4.0
    assert score(EGSS(early_discount=0.5), signal) == pytest.approx((0.5 * 2 + 4) / 1.5)
    assert score(EGSS(inter_weight=2.0), signal, ["1", "2"]) == pytest.approx(3 + 2 * math.log(2))


def test_step_resampling_as_its_measure():
    strategy = EGSS(measure="step_resampling", samples=2, early_discount=0.5)
    assert strategy.requests() == StepResampling(samples=2).requests()
    signal = ResampleSignal(["s", "t"], [["s", "x"], ["t", "t"]])
    assert score(strategy, signal) == pytest.approx(0.5 * 0.5 / 1.5)
