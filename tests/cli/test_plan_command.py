"""`hf-active-distill plan`: before a run, and after it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from counting_teacher import CountingTeacher
from tiny_run import build

from hf_active_distill.asking import Forecast, JournalReader, Range, spending_lines
from hf_active_distill.cli.main import main
from hf_active_distill.errors import DataError


CONFIG = str(Path(__file__).parents[2] / "recipes" / "configs" / "elad_quickstart.yaml")
SMALL = ["--pool_size", "12", "--eval_size", "4", "--candidates_per_round", "6", "--samples_per_round", "3"]


def test_a_plan_of_a_configuration_with_overrides(tmp_path, capsys):
    words = ["plan", "--config", CONFIG, *SMALL, "--num_rounds", "2", "--output_dir", str(tmp_path / "out")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert re.findall(r"(?m)^  (\d): 6 rows scored, 3 asked", out) == ["0", "1"]
    assert re.search(r"calls: 6 to \d+ \(1 to \d+ calls a row, planned on 4 of 6 rows, scaled up", out)
    assert "hours on this machine" in out and "--- student ---" in out
    assert not (tmp_path / "out" / "rounds").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--random_share", "7", "--output_dir", "x"], "between 0 and 1"),
        (["--no_such_option", "7"], "no_such_option"),
        (["--spent", "x", "--num_rounds", "7"], "no other option"),
    ],
)
def test_what_cannot_be_planned_is_told(words, told, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *words]) == 2
    assert told in capsys.readouterr().err


def test_other_subcommands_still_refuse_unknown_options(capsys):
    with pytest.raises(SystemExit) as end:
        main(["revisions", "folder", "--no-such-option"])
    assert end.value.code == 2 and "--no-such-option" in capsys.readouterr().err


def test_forecast_and_spending_of_a_run(tmp_path, capsys):
    prices = {"teacher_input_price": 1.0, "teacher_output_price": 4.0}
    with CountingTeacher() as teacher:
        trainer = build(str(tmp_path), teacher.url, {"args": {"num_rounds": 2, **prices}})
        trainer.train()
        asked = len(teacher.requests)
    capsys.readouterr()
    assert main(["plan", "--spent", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    reader = JournalReader(tmp_path / "journal.sqlite")
    usage, _ = reader.spent("train")
    reader.close()
    made = Forecast.from_dict(json.loads((tmp_path / "forecast.json").read_text())["forecast"])
    assert usage.calls == asked and usage.calls in made.calls and usage.total_tokens in made.tokens
    assert f"; spent {usage.calls:,} (" in lines[0] and lines[0].startswith(f"calls: {made.calls};")
    assert f"; spent {usage.total_tokens:,} (" in lines[3]
    assert lines[4].startswith("cost: ") and "; spent " in lines[4]


def test_a_folder_without_a_forecast_is_told(tmp_path, capsys):
    assert main(["plan", "--spent", str(tmp_path)]) == 2
    assert "forecast.json does not exist" in capsys.readouterr().err
    (tmp_path / "forecast.json").write_text('{"forecast": {}}')
    with pytest.raises(DataError, match="is not a forecast"):
        spending_lines(tmp_path)


def test_a_forecast_survives_json():
    made = Forecast(3, Range(3, 6), Range(30, 60), Range(3, 9), Range(33, 69), Range(0.5, 1.5), {"calls": "why"})
    assert Forecast.from_dict(json.loads(json.dumps(made.to_dict()))) == made
