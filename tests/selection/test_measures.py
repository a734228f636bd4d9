"""Scores from probabilities against loops over their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_active_distill.losses import LLKDGate
from hf_active_distill.selection import measures


def entropy_of(p):
    return -sum(value * math.log(value) for value in p if value > 0)


def margin_of(p):
    first, second = sorted(map(float, p), reverse=True)[:2]
    return 1 - (first - second)


def bald_of(rows):
    return entropy_of(np.mean(rows, axis=0)) - sum(map(entropy_of, rows)) / len(rows)


def expected_gradient_length_of(p, h):
    total = 0.0
    for k, weight in enumerate(p):
        residual = np.array(p, dtype=float)
        residual[k] -= 1
        total += weight * np.linalg.norm(np.outer(residual, h))
    return total


@st.composite
def distributions(draw, axes=1):
    shape = (*(draw(st.integers(1, 5)) for _ in range(axes)), draw(st.integers(2, 6)))
    weights = draw(hnp.arrays(np.float64, shape, elements=st.integers(0, 20).map(float)))
    weights[..., 0] += weights.sum(axis=-1) == 0
    return weights / weights.sum(axis=-1, keepdims=True)


@given(distributions(), st.sampled_from([np.float32, np.float64]))
def test_measures_of_one_distribution_follow_their_formulas(p, dtype):
    p = p.astype(dtype)
    tolerance = 1e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(measures.entropy(p), [entropy_of(row) for row in p], atol=tolerance)
    np.testing.assert_allclose(measures.margin(p), [margin_of(row) for row in p], atol=tolerance)
    np.testing.assert_allclose(measures.least_confidence(p), [1 - max(row) for row in p], atol=tolerance)
    assert measures.entropy(p).dtype == dtype and (measures.entropy(p) >= 0).all()


@given(distributions(axes=2))
def test_bald_is_the_entropy_of_the_mean_less_the_mean_entropy(p):
    np.testing.assert_allclose(measures.bald(p), [max(bald_of(rows), 0) for rows in p], atol=1e-9)


@given(distributions(), st.integers(1, 4), st.integers(0, 99))
def test_expected_gradient_length_is_that_of_the_outer_products(p, size, seed):
    h = np.random.default_rng(seed).normal(size=(len(p), size))
    expected = [expected_gradient_length_of(*pair) for pair in zip(p, h, strict=True)]
    np.testing.assert_allclose(measures.expected_gradient_length(p, h), expected, atol=1e-9)


def test_expected_gradient_length_is_what_autograd_finds():
    torch.manual_seed(0)
    layer, h = torch.nn.Linear(5, 3, bias=False).double(), torch.randn(4, 5, dtype=torch.float64)
    p = layer(h).softmax(-1).detach()
    expected = []
    for row in range(4):
        lengths = []
        for label in range(3):
            loss = torch.nn.functional.cross_entropy(layer(h[row : row + 1]), torch.tensor([label]))
            (gradient,) = torch.autograd.grad(loss, layer.weight)
            lengths.append(p[row, label] * gradient.norm())
        expected.append(float(sum(lengths)))
    np.testing.assert_allclose(measures.expected_gradient_length(p.numpy(), h.numpy()), expected)


def test_worked_by_hand():
    p = np.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    np.testing.assert_allclose(measures.entropy(p), [math.log(2), 0.325082973, 0.0], atol=1e-9)
    np.testing.assert_allclose(measures.margin(p), [1.0, 0.2, 0.0])
    np.testing.assert_allclose(measures.least_confidence(p), [0.5, 0.1, 0.0])
    # Two passes that contradict each other with certainty: the label is worth one bit.
    np.testing.assert_allclose(measures.bald(np.array([[[1.0, 0.0], [0.0, 1.0]]])), [math.log(2)])
    # p = (1/2, 1/2): both residuals have length sqrt(1/2), and h has length 5.
    np.testing.assert_allclose(measures.expected_gradient_length(p[:1], np.array([[3.0, 4.0]])), [5 * math.sqrt(0.5)])


@given(st.lists(st.lists(st.integers(0, 10), min_size=2, max_size=2), min_size=1, max_size=4))
def test_with_several_labels_each_is_a_question_of_its_own(tenths):
    p = np.array(tenths) / 10
    expected = [(entropy_of([a, 1 - a]) + entropy_of([b, 1 - b])) / 2 for a, b in p]
    np.testing.assert_allclose(measures.mean_over_labels(measures.entropy, p), expected, atol=1e-12)
    passes = np.stack([p, np.roll(p, 1, axis=1)], axis=1)
    expected = [sum(bald_of([[q[k], 1 - q[k]] for q in rows]) for k in range(2)) / 2 for rows in passes]
    np.testing.assert_allclose(measures.mean_over_labels(measures.bald, passes), expected, atol=1e-12)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2)), min_size=1, max_size=20),
    st.sampled_from(measures.CLASS_FACTORS),
)
@settings(deadline=None)
def test_thresholds_are_those_of_the_training_gate_after_its_first_update(rows, factor):
    u, labels = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    gate = LLKDGate(["a", "b", "c"], mode="student_only", class_factor=factor)
    gate.update(torch.ones(len(u)), torch.from_numpy(u), torch.from_numpy(labels))
    expected = gate.student.values(factor)
    np.testing.assert_allclose(measures.gate_thresholds(u, labels, 3, factor), expected, atol=1e-6)


def test_thresholds_worked_by_hand():
    u, labels = np.array([0.2, 0.4, 0.9]), np.array([0, 0, 1])
    # g = 0.5, l = (0.3, 0.9)
    np.testing.assert_allclose(measures.gate_thresholds(u, labels, 3), [0.5 * 0.3 / 0.9, 0.5, 0.5])
    np.testing.assert_allclose(measures.gate_thresholds(u, labels, 3, "own"), [0.3, 0.9, 0.5])
    np.testing.assert_allclose(measures.gate_thresholds(np.zeros(2), np.array([0, 1]), 2), [0.0, 0.0])


@pytest.mark.parametrize("measure", [measures.entropy, measures.margin, measures.least_confidence])
def test_the_order_of_the_classes_does_not_matter(measure):
    p = np.random.default_rng(0).dirichlet(np.ones(5), size=50)
    np.testing.assert_allclose(measure(p[:, ::-1]), measure(p), atol=1e-12)
