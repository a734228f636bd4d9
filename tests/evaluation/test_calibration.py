"""Calibration and audits: known temperatures are found again, intervals are the textbook's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from hf_active_distill.errors import DataError
from hf_active_distill.evaluation import (
    apply_temperature,
    audit_teacher,
    expected_calibration_error,
    fit_temperature,
    reliability,
    wilson_interval,
)
from hf_active_distill.records import Annotation
from hf_active_distill.serving.scripted_labels import LabelTeacher
from hf_active_distill.synthetic import get_world
from hf_active_distill.tasks import get_task


TASK = get_task("classification", labels=["a", "b"])


def test_reliability_by_hand():
    sure, right = [0.95, 0.9, 0.55, 0.6, 1.0, 0.0], [1, 0, 1, 1, 1, 0]
    rows = reliability(sure, right, bins=10)
    assert [(row.low, row.high, row.count) for row in rows] == [
        (0.0, 0.1, 1),
        (0.5, 0.6, 2),
        (0.8, 0.9, 1),
        (0.9, 1.0, 2),
    ]
    assert [row.confidence for row in rows] == pytest.approx([0.0, 0.575, 0.9, 0.975])
    assert [row.accuracy for row in rows] == [0, 1, 0, 1]
    by_hand = (1 * 0 + 2 * 0.425 + 1 * 0.9 + 2 * 0.025) / 6
    assert expected_calibration_error(sure, right) == pytest.approx(by_hand)
    assert math.isnan(expected_calibration_error([], []))
    with pytest.raises(DataError, match="one length"):
        reliability([0.5], [])
    with pytest.raises(DataError, match="between 0 and 1"):
        reliability([1.5], [1])


def drawn(seed, rows, truth_temperature):
    """Calibrated probabilities and outcomes, and the same probabilities raised to a power."""
    generator = np.random.default_rng(seed)
    calibrated = generator.dirichlet([0.6] * 4, rows)
    targets = np.array([generator.choice(4, p=row) for row in calibrated])
    return apply_temperature(calibrated, truth_temperature), targets


@pytest.mark.parametrize("power", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_again(power):
    given_, targets = drawn(1, 4000, power)
    # Raised by 1 / T before, undone by the temperature 1 / T.
    found = fit_temperature(given_, targets)
    assert found == pytest.approx(1 / power, rel=0.06)
    right = apply_temperature(given_, found)
    assert expected_calibration_error(right.max(1), right.argmax(1) == targets) < 0.03


@given(st.integers(0, 500), st.sampled_from([None, 0.3, 1.0]), st.integers(1, 30))
@settings(deadline=None, max_examples=25)
def test_the_temperature_is_the_minimum_of_what_it_minimises(seed, prior, rows):
    probabilities, targets = drawn(seed, rows, 1.3)

    def loss(temperature):
        total = 0.0
        for row, target in zip(probabilities, targets, strict=True):
            powers = [p ** (1 / temperature) for p in row]
            total -= math.log(max(powers[target], 1e-300) / sum(powers))
        return total + (0 if prior is None else (math.log(temperature) / prior) ** 2 / 2)

    found = fit_temperature(probabilities, targets, prior_scale=prior)
    assert (
        loss(found)
        <= min(loss(found * step) for step in (0.5, 0.9, 0.99, 1.01, 1.1, 2) if 0.05 <= found * step <= 20) + 1e-6
    )


def test_few_rows_that_are_all_right_make_no_extreme_temperature():
    sure = np.tile([0.8, 0.2], (10, 1))
    assert 0.3 < fit_temperature(sure, [0] * 10) < 1
    assert fit_temperature(sure, [0] * 10, prior_scale=None) < 0.06


def test_a_temperature_keeps_the_order_and_the_sum():
    row = apply_temperature([[0.7, 0.2, 0.1]], 3.0)[0]
    assert row.sum() == pytest.approx(1) and row[0] > row[1] > row[2] and row[0] < 0.7
    assert apply_temperature([[1.0, 0.0]], 2.0)[0, 0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("probabilities", "targets"),
    [([[0.5, 0.5]], [2]), ([[0.5, 0.5]], [0, 1]), ([[-1.0, 2.0]], [0]), ([[0.5, 0.5]], [0.5])],
)
def test_odd_input_is_refused(probabilities, targets):
    with pytest.raises(DataError):
        fit_temperature(probabilities, targets)


@given(st.integers(1, 200), st.data())
@settings(deadline=None, max_examples=30)
def test_the_interval_is_wilsons(trials, data):
    hits = data.draw(st.integers(0, trials))
    level = data.draw(st.sampled_from([0.8, 0.95, 0.99]))
    found = binomtest(hits, trials).proportion_ci(level, method="wilson")
    low, high = wilson_interval(hits, trials, level=level)
    assert (low, high) == (pytest.approx(found.low, abs=1e-12), pytest.approx(found.high, abs=1e-12))
    assert 0 <= low <= hits / trials + 1e-12 and hits / trials <= high + 1e-12 <= 1 + 1e-9


def annotation(row_id, label, confidence, status="ok"):
    distribution = {"a": confidence, "b": 1 - confidence} if label == "a" else {"a": 1 - confidence, "b": confidence}
    return Annotation(
        row_id, "label", status, "t", answer=label, label=label, confidence=confidence, distribution=distribution
    )


def test_an_audit_with_references():
    rows = [annotation("r1", "a", 0.9), annotation("r2", "b", 0.8), annotation("r3", "a", 0.7)]
    rows.append(Annotation("r4", "label", "failed", "t", reason="abstained"))
    audit = audit_teacher(TASK, rows, {"r1": "A", "r2": "a", "r4": "b"})
    assert (audit.rows, audit.labelled, audit.checked, audit.basis, audit.accuracy) == (4, 3, 2, "references", 0.5)
    assert (audit.low, audit.high) == wilson_interval(1, 2)
    assert audit.confidence == pytest.approx(0.8) and audit.ece == pytest.approx((0.1 + 0.8) / 2)
    assert audit.figures()["audit_teacher_accuracy"] == 0.5 and "0.500 of 2 labels" in str(audit)


def test_an_audit_without_references_says_that_nothing_was_checked():
    rows = [annotation("r1", "a", 0.9), annotation("r2", "b", 0.7)]
    audit = audit_teacher(TASK, rows)
    assert (audit.basis, audit.low, audit.high, audit.ece) == ("confidence", None, None, None)
    assert audit.accuracy == audit.confidence == pytest.approx(0.8)
    assert audit.figures()["audit_teacher_accuracy"] is None and "no reference" in str(audit)
    calibrated = audit_teacher(TASK, rows, temperature=2.0)
    by_hand = [math.sqrt(p) / (math.sqrt(p) + math.sqrt(1 - p)) for p in (0.9, 0.7)]
    assert calibrated.confidence == pytest.approx(sum(by_hand) / 2)


def test_an_audit_of_nothing_and_of_labels_without_confidence():
    empty = audit_teacher(TASK, [])
    assert math.isnan(empty.accuracy) and str(empty) == "audit: no label in 0 rows"
    assert empty.figures()["audit_teacher_confidence"] is None
    plain = Annotation("r1", "cot", "ok", "t", answer="a")
    audit = audit_teacher(TASK, [plain], {"r1": "a"})
    assert audit.accuracy == 1 and math.isnan(audit.confidence) and audit.ece is None
    with pytest.raises(DataError, match="no distribution"):
        audit_teacher(TASK, [plain], temperature=2.0)


def test_uniform_rows_estimate_the_scripted_teachers_accuracy():
    world = get_world("support_messages")
    teacher, task = LabelTeacher(world, error_rate=0.15), get_task("classification", labels=world.labels)
    rows = world.problems(1500, 9, "train")
    annotations = []
    for row in rows:
        distribution = teacher.distribution(row.prompt)
        label = max(distribution, key=distribution.get)
        annotations.append(
            Annotation(
                row.row_id, "label", "ok", row.prompt, answer=label, label=label, confidence=distribution[label]
            )
        )
    audit = audit_teacher(task, annotations, {row.row_id: row.reference for row in rows})
    assert audit.low < audit.confidence < audit.high and audit.ece < 0.05
