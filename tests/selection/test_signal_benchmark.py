"""The benchmark of signals: its two figures, and that the default finds what the shipped student does not know."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hf_active_distill.synthetic import quickstart_student_path


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "selection_signals.py"
    spec = importlib.util.spec_from_file_location("selection_signals", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures(benchmark):
    positive = np.array([True, True, False, False])
    assert benchmark.area_under_curve(np.array([4.0, 3.0, 2.0, 1.0]), positive) == 1.0
    assert benchmark.area_under_curve(np.array([1.0, 1.0, 1.0, 1.0]), positive) == 0.5
    assert benchmark.area_under_curve(np.array([3.0, 1.0, 2.0, 0.0]), positive) == 0.75
    chosen = benchmark.share_among_chosen(np.array([3.0, 1.0, 2.0, 0.0]), positive, 2, np.random.default_rng(0))
    assert chosen == 0.5


def test_the_default_finds_unknown_rows_and_the_plain_reading_does_not(benchmark):
    scores, unknown, wrong = benchmark.score_rows(str(quickstart_student_path()), "arithmetic_skewed", 64, 1)
    assert len(scores) == len(benchmark.STRATEGIES) and 0 < unknown.sum() < 64 and wrong.any()
    assert benchmark.area_under_curve(scores["egss"], unknown) > 0.9
    assert benchmark.area_under_curve(scores["egss measure=answer_shift"], unknown) < 0.8
