"""Metrics of labels against counts made by hand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError, DataError
from hf_active_distill.evaluation import ConfusionTable, confident_disagreements, label_metrics
from hf_active_distill.evaluation.libraries import library
from hf_active_distill.records import Annotation
from hf_active_distill.tasks import get_task


NAMES = ["a", "b", "c", "d"]
TASK = get_task("classification", labels=NAMES)
MANY = get_task("classification", labels=["x", "y", "z"], multi_label=True)


def f1(right, predicted, wanted):
    return 2 * right / (predicted + wanted) if predicted + wanted else 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
@settings(deadline=None, max_examples=40)
def test_accuracy_and_f1_are_what_counting_gives(pairs):
    targets, predictions = (list(column) for column in zip(*pairs, strict=True))
    found = label_metrics(TASK, np.eye(4)[predictions] * 3, np.array(targets), "dev")
    accuracy = sum(t == p for t, p in pairs) / len(pairs)
    assert found["dev_accuracy"] == pytest.approx(accuracy)
    assert found["dev_accuracy_stderr"] == pytest.approx((accuracy * (1 - accuracy) / len(pairs)) ** 0.5)
    by_class = [
        f1(sum(t == p == k for t, p in pairs), predictions.count(k), targets.count(k)) for k in range(len(NAMES))
    ]
    assert [found[f"dev_f1/{name}"] for name in NAMES] == pytest.approx(by_class)
    occurring = [value for k, value in enumerate(by_class) if k in targets or k in predictions]
    assert found["dev_macro_f1"] == pytest.approx(sum(occurring) / len(occurring))
    confidence = np.exp(3) / (np.exp(3) + 3)
    assert found["dev_ece"] == pytest.approx(abs(confidence - accuracy))


def test_a_row_of_minus_infinity_is_a_class_out_of_the_question():
    found = label_metrics(TASK, np.array([[0.0, -np.inf, -np.inf, -np.inf]]), np.array([0]))
    assert found["eval_accuracy"] == 1 and found["eval_ece"] == 0


def test_several_labels_by_hand():
    logits = np.array([[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0], [0.0, 3.0, -2.0]])
    targets = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 0]])
    found = label_metrics(MANY, logits, targets)
    # Predicted: x z | none | x y. Right: x twice, z once; y predicted once and wanted once, never together.
    assert found["eval_accuracy"] == pytest.approx(1 / 3)
    assert [found[f"eval_f1/{name}"] for name in "xyz"] == pytest.approx([1, 0, 1])
    assert found["eval_macro_f1"] == pytest.approx(2 / 3)
    assert found["eval_micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert found["eval_hamming_loss"] == pytest.approx(2 / 9)


@pytest.mark.parametrize(
    ("logits", "targets", "words"),
    [
        (np.zeros((2, 3)), np.zeros(2, int), "4 labels need logits"),
        (np.zeros((2, 4)), np.zeros(3, int), "as many targets"),
        (np.zeros((0, 4)), np.zeros(0, int), "at least 1"),
        (np.full((1, 4), np.nan), np.zeros(1, int), "diverged"),
    ],
)
def test_odd_input_is_refused(logits, targets, words):
    with pytest.raises(DataError, match=words):
        label_metrics(TASK, logits, targets)


def test_a_missing_library_is_named_with_its_extra():
    with pytest.raises(ConfigurationError, match=r"no_such_library.*\[classification\]"):
        library("no_such_library.metrics")


def test_the_libraries_are_loaded_when_they_are_used():
    code = "import sys, hf_active_distill.evaluation; print({'sklearn', 'scipy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


def test_confusion_by_hand():
    teacher, student = list("aaabbc"), list("aabbbd")
    table = ConfusionTable.of(NAMES, teacher, student)
    assert table.counts.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert table.agreement == pytest.approx(4 / 6)
    chance = (3 * 2 + 2 * 3) / 36
    assert table.kappa == pytest.approx((4 / 6 - chance) / (1 - chance))
    assert table.kappa == pytest.approx(library("sklearn.metrics").cohen_kappa_score(teacher, student))
    assert table.to_rows()[0] == {"teacher": "a", "a": 2, "b": 1, "c": 0, "d": 0}
    assert table.to_markdown().splitlines()[:3] == [
        "| teacher \\ student | a | b | c | d |",
        "|---|---|---|---|---|",
        "| a | 2 | 1 | 0 | 0 |",
    ]
    assert ConfusionTable.of(NAMES, ["a"], ["a"]).kappa == 1
    assert np.isnan(ConfusionTable.of(NAMES, [], []).agreement) and np.isnan(ConfusionTable.of(NAMES, [], []).kappa)
    with pytest.raises(DataError, match="same texts"):
        ConfusionTable.of(NAMES, ["a"], [])
    with pytest.raises(DataError, match="'q' is no label"):
        ConfusionTable.of(NAMES, ["q"], ["a"])


def labelled(row_id, label, confidence):
    return Annotation(row_id, "label", "ok", f"text {row_id}", answer=label, label=label, confidence=confidence)


def test_disagreements_on_which_both_are_sure_stand_first():
    annotations = [
        labelled("r1", "a", 0.9),
        labelled("r2", "b", 0.6),
        labelled("r3", "a", 0.99),
        labelled("r4", "c", 0.7),
    ]
    failed = Annotation("r5", "label", "failed", "text", reason="abstained")
    probabilities = np.array(
        [[0.1, 0.8, 0.1, 0], [0.9, 0.1, 0, 0], [0.9, 0.1, 0, 0], [0.5, 0.2, 0.3, 0], [1, 0, 0, 0]]
    )
    found = confident_disagreements(TASK, [*annotations, failed], probabilities)
    assert [(one.row_id, one.teacher_label, one.student_label) for one in found] == [
        ("r1", "a", "b"),
        ("r2", "b", "a"),
        ("r4", "c", "a"),
    ]
    assert (found[0].text, found[0].teacher_confidence, found[0].student_confidence) == ("text r1", 0.9, 0.8)
    assert confident_disagreements(TASK, annotations, probabilities[:4], count=1) == found[:1]
    assert confident_disagreements(TASK, annotations[:1], probabilities[:1], texts=["own"])[0].text == "own"
    with pytest.raises(DataError, match="as many rows"):
        confident_disagreements(TASK, annotations, probabilities)
