"""Gated losses against sums written out over plain numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import DataError
from hf_active_distill.losses import gated_binary_cross_entropy, gated_cross_entropy


LOGITS = [[1.0, -0.5, 0.25], [0.0, 2.0, -1.0], [0.3, 0.3, 0.3], [-2.0, 1.0, 4.0]]
HARD = [0, 2, 1, 2]
SOFT = [[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
WEIGHTS = [0.5, 1.5, 0.0, 2.0]
KEEP = [True, False, True, True]
CLASSES = [1.0, 3.0, 0.5]


def logp(row):
    total = math.log(sum(math.exp(x) for x in row))
    return [x - total for x in row]


def by_hand(targets, weights, keep, divisor, classes):
    total = 0.0
    for row, target, weight, kept in zip(LOGITS, targets, weights, keep, strict=True):
        target = target if isinstance(target, list) else [float(k == target) for k in range(3)]
        if kept:
            factor = classes[target.index(max(target))]
            total += weight * factor * sum(-t * p for t, p in zip(target, logp(row), strict=True))
    return total / divisor


@pytest.mark.parametrize("targets", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("classes", [None, CLASSES])
@pytest.mark.parametrize(("keep", "items"), [(None, None), (KEEP, None), (KEEP, 7), (KEEP, torch.tensor(7))])
def test_cross_entropy_is_the_sum_over_kept_rows(targets, classes, keep, items):
    loss = gated_cross_entropy(
        torch.tensor(LOGITS),
        torch.tensor(targets),
        torch.tensor(WEIGHTS),
        keep=None if keep is None else torch.tensor(keep),
        num_items=items,
        class_weights=None if classes is None else torch.tensor(classes),
    )
    divisor = 7 if items is not None else 4 if keep is None else 3
    wanted = by_hand(targets, WEIGHTS, keep or [True] * 4, divisor, classes or [1.0] * 3)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


def test_binary_cross_entropy_is_the_mean_over_labels():
    targets = [[1.0, 0.0, 0.5], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.2, 0.8, 0.0]]
    loss = gated_binary_cross_entropy(
        torch.tensor(LOGITS), torch.tensor(targets), torch.tensor(WEIGHTS), keep=torch.tensor(KEEP), num_items=5
    )
    total = 0.0
    for row, target, weight, kept in zip(LOGITS, targets, WEIGHTS, KEEP, strict=True):
        terms = [
            -t * math.log(1 / (1 + math.exp(-x))) - (1 - t) * math.log(1 / (1 + math.exp(x)))
            for x, t in zip(row, target, strict=True)
        ]
        total += kept * weight * sum(terms) / 3
    assert loss.item() == pytest.approx(total / 5, rel=1e-5)


def test_targets_that_are_left_out_weigh_nothing():
    logits, factors = torch.tensor(LOGITS), torch.tensor(CLASSES)
    found = gated_cross_entropy(logits, torch.tensor([0, -100, 1, 2]), num_items=4, class_weights=factors)
    rows = [0, 2, 3]
    part = gated_cross_entropy(logits[rows], torch.tensor([0, 1, 2]), num_items=4, class_weights=factors)
    assert found.item() == pytest.approx(part.item())


def test_class_weights_leave_what_a_row_teaches_as_it_is():
    """With the student where the teacher is, no factor of a class moves it."""
    soft = torch.tensor([[0.6, 0.4], [0.9, 0.1]], dtype=torch.float64)
    logits = soft.log().requires_grad_()
    gated_cross_entropy(logits, soft, class_weights=torch.tensor([1.0, 9.0])).backward()
    assert logits.grad.abs().max() < 1e-12


def test_without_weights_and_gate_it_is_the_usual_loss():
    logits = torch.tensor(LOGITS)
    usual = torch.nn.functional.cross_entropy(logits, torch.tensor(HARD))
    assert gated_cross_entropy(logits, torch.tensor(HARD)).item() == pytest.approx(usual.item())


def test_gradients_reach_the_logits_alone_and_kept_rows_alone():
    logits = torch.tensor(LOGITS, requires_grad=True)
    weights = torch.tensor(WEIGHTS, requires_grad=True)
    gated_cross_entropy(logits, torch.tensor(HARD), weights, keep=torch.tensor(KEEP)).backward()
    assert weights.grad is None
    assert [bool(row.abs().sum() > 0) for row in logits.grad] == [True, False, False, True]


def test_nothing_kept_is_zero_with_a_gradient_of_zero():
    logits = torch.tensor([[math.inf, 0.0, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    loss = gated_cross_entropy(logits[1:], torch.tensor([0]), keep=torch.tensor([False]))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0
    kept_out = gated_cross_entropy(logits.detach(), torch.tensor([1, 0]), keep=torch.tensor([False, True]))
    assert math.isfinite(kept_out.item())


def test_half_precision_logits_are_widened():
    logits = torch.tensor(LOGITS, dtype=torch.bfloat16)
    assert gated_cross_entropy(logits, torch.tensor(HARD)).dtype == torch.float32


@given(st.integers(1, 3))
@settings(deadline=None, max_examples=10)
def test_accumulated_parts_add_up_to_the_whole(cut):
    logits, targets = torch.tensor(LOGITS, dtype=torch.float64), torch.tensor(HARD)
    weights, keep = torch.tensor(WEIGHTS, dtype=torch.float64), torch.tensor(KEEP)
    parts = [
        gated_cross_entropy(logits[part], targets[part], weights[part], keep=keep[part], num_items=3)
        for part in (slice(None, cut), slice(cut, None))
    ]
    whole = gated_cross_entropy(logits, targets, weights, keep=keep)
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-12)


def test_shapes_are_checked():
    with pytest.raises(DataError, match="as many rows"):
        gated_cross_entropy(torch.zeros(2, 3), torch.tensor([0]))
    with pytest.raises(DataError, match="Soft targets"):
        gated_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(DataError, match="Targets"):
        gated_binary_cross_entropy(torch.zeros(2, 3), torch.zeros(2))
