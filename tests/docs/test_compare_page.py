"""The page on comparisons: the file that it shows is the one that ships, and it runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hf_active_distill.cli.main import main
from hf_active_distill.comparison import read_comparison


ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted([*ROOT.glob("recipes/configs/compare_*.yaml"), *ROOT.glob("benchmarks/configs/*.yaml")])


def test_the_page_shows_the_file_that_ships():
    page = (ROOT / "docs/how-to/compare.md").read_text(encoding="utf-8")
    [(name, shown)] = re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", page, re.S)
    assert shown == (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_comparison_that_ships_can_be_read(path):
    config = read_comparison(path)
    assert config.runs() and config.reference in ("random+cot", "random+label", "egss+cot")
    assert config.output_dir.startswith("out/")


def test_the_shown_comparison_runs_on_a_tiny_grid(tmp_path, capsys):
    content = yaml.safe_load((ROOT / "recipes/configs/compare_quickstart.yaml").read_text("utf-8"))
    content |= {"output_dir": str(tmp_path / "out"), "budgets": [800, 1500], "seeds": 2}
    content["per_annotation"] = {"cot": {"samples_per_round": 4}, "one_call": {"samples_per_round": 2}}
    content["base"] |= {"pool_size": 40, "eval_size": 8, "candidates_per_round": 8}
    content["base"] |= {"num_train_epochs": 1, "num_rounds": 2}
    path = tmp_path / "compare.yaml"
    path.write_text(yaml.safe_dump(content))
    assert main(["compare", str(path), "--processes", "2"]) == 0
    printed = capsys.readouterr().out
    assert "8 of 8 runs are finished." in printed and "| egss+one_call | 2 |" in printed
    assert (tmp_path / "out" / "comparison.html").is_file()
