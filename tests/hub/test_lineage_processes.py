"""Two processes freeze a round together, and go on from it as if nothing had happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from counting_teacher import CountingTeacher
from forked import run_together
from safetensors.torch import load_file

from hf_active_distill.cli.main import main


SCRIPT = Path(__file__).parents[1] / "tiny_run.py"


def run(output_dir: Path, url: str, **options) -> None:
    options["args"] = {"per_device_train_batch_size": 1, "num_rounds": 2, **options["args"]}
    code, output = run_together(2, SCRIPT, str(output_dir), url, json.dumps(options))
    assert code == 0, output


@pytest.mark.slow
def test_two_processes_go_on_from_a_round(tmp_path):
    with CountingTeacher() as teacher:
        run(tmp_path / "whole", teacher.url, args={"lineage_dir": str(tmp_path / "lineage")})
        asked = len(teacher.requests)
        assert main(["restore", str(tmp_path / "lineage"), "0", "--output_dir", str(tmp_path / "again")]) == 0
        names = sorted(path.name for path in (tmp_path / "again").glob("checkpoint-*/rng_state*"))
        assert names == ["rng_state_0.pth", "rng_state_1.pth"]
        first = json.loads((tmp_path / "lineage/student/round-000/round.json").read_text())["spent"]["calls"]
        run(tmp_path / "again", teacher.url, resume=True, args={"lineage_dir": str(tmp_path / "other")})
        assert len(teacher.requests) - asked == asked - first
    assert [path.name for path in (tmp_path / "other/student").glob("round-*")] == ["round-001"]
    expected, found = (load_file(tmp_path / name / "final/model.safetensors") for name in ("whole", "again"))
    assert [name for name in expected if not expected[name].equal(found[name])] == []
