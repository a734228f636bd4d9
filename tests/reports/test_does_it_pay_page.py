"""The script that writes the page "Does it pay?" from points."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from hf_active_distill.comparison import write_points


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("write_does_it_pay", ROOT / "benchmarks" / "write_does_it_pay.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def points(arm: str, gain: float, price: int) -> list[dict]:
    selection, annotation = arm.split("+")
    return [
        {
            "arm": arm,
            "seed": seed,
            "round": index - 1,
            "selection": selection,
            "annotation": annotation,
            "teacher_tokens": price * 50 * index,
            "teacher_calls": 50 * index,
            "samples": 50 * index,
            "student_hours": 0.01 * index,
            "eval_accuracy": 0.4 + gain * index + 0.01 * (seed - 101),
        }
        for seed in (100, 101, 102)
        for index in range(6)
    ]


def test_blocks_are_filled_from_points_and_left_open_without(script, tmp_path):
    write_points([*points("random+cot", 0.02, 100), *points("egss+cot", 0.06, 100)], tmp_path / "skewed.parquet")
    page = (ROOT / "docs" / "does_it_pay.md").read_text(encoding="utf-8")
    filled = script.fill(page, tmp_path)
    # random+cot gains 0.1 on its way to 25,000 tokens; egss is there after a third of them.
    assert "| egss+cot | 8,333 (8,333 to 8,333) | 0.32 |" in filled
    assert "| skewed | 0.500 ± 0.025 | 0.96 | 0.32 |" in filled
    assert "| skewed | random | 3 | 0.500 ± 0.025 |  |  | 25,000 (25,000 to 25,000) | 0.96 |" in filled
    assert "| skewed | egss | 3 | 0.700 ± 0.025 | +0.200 ± 0.000 |" in filled
    assert "| skewed | egss+cot | 100.0 | 1.0 | 0.700 ± 0.025 | 0.700 ± 0.025 (250 rows) |" in filled
    assert "+0.200 ± 0.000" in filled and (tmp_path / "does_it_pay_skewed.png").is_file()
    assert script.NOT_MEASURED in filled  # the other pools
    assert script.fill(filled, tmp_path) == filled


def test_every_block_of_the_page_has_a_comparison(script):
    page = (ROOT / "docs" / "does_it_pay.md").read_text(encoding="utf-8")
    names = {match[2] for match in script._BLOCK.finditer(page)}
    configs = {path.stem.removeprefix("elad_") for path in (ROOT / "benchmarks" / "configs").glob("elad_*.yaml")}
    assert names == configs | {"overview", "selections", "crossed", "annotations"}
    assert set(script.POOLS) | {"fresh_balanced", "fresh_skewed", "preferences", "settings"} == configs


def test_gains_are_over_random_rows_with_the_same_annotation_and_seeds(script, tmp_path):
    found = [*points("random+cot", 0.02, 100), *points("random+clear", 0.01, 100), *points("egss+clear", 0.03, 100)]
    # A seed more of the reference, far off: it has no part in a gain.
    found += [
        {**point, "seed": 103, "eval_accuracy": 0.9}
        for point in points("random+clear", 0.0, 100)
        if point["seed"] == 100
    ]
    write_points(found, tmp_path / "skewed.parquet")
    table = script.write_crossed()
    assert "| skewed | random | 0.500 ± 0.025 |  |  |  | 0.562 ± 0.358 |  |" in table
    assert "| skewed | egss |  |  |  |  | 0.550 ± 0.025 | +0.100 ± 0.000 |" in table


def test_preferences_are_compared_at_one_rate_and_by_seed(script, tmp_path):
    def line(way, rate, beta, seed, accuracy, **more):
        keys = ("arm", "way", "learning_rate", "beta", "seed", "accuracy", "pairs")
        return {**dict(zip(keys, ("egss+cot", way, rate, beta, seed, accuracy, 90), strict=True)), **more}

    lines = [line("sft", 1e-5, None, seed, 0.6 + 0.01 * seed) for seed in (0, 1, 2)]
    lines += [line("sft", 3e-5, None, seed, 0.9) for seed in (0, 1, 2)]
    lines += [line("whole", 1e-5, 0.1, seed, 0.55 + 0.01 * seed) for seed in (0, 1)]
    lines += [{"arm": "egss+cot", "way": "step", "learning_rate": 1e-5, "beta": 0.1, "seed": 0, "pairs": 0}]
    path = tmp_path / "preferences.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    table = script.write_preferences()
    assert "| egss+cot | 90 | `whole` | 1e-05 | 0.1 | 2 | 0.555 ± 0.064 | -0.050 ± 0.000 |" in table
    assert "| egss+cot | 90 | `sft` | 3e-05 |  | 3 | 0.900 ± 0.000 |  |" in table and "step" not in table
    path.write_text("".join(json.dumps(one) + "\n" for one in [*lines, lines[0]]))
    with pytest.raises(ValueError, match="seed 0 twice"):
        script.write_preferences()
