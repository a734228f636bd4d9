"""Gated runs that are killed and resumed, and gated runs of two processes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from forked import ForkedScript, run_together
from safetensors.torch import load_file


SCRIPT = Path(__file__).parents[1] / "label_run.py"
ROUNDS = {"num_rounds": 2, "samples_per_round": 16, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 3}


def run(output_dir: Path, processes: int = 1, **options) -> tuple[int, str]:
    words = [str(output_dir), json.dumps(options)]
    if processes > 1:
        return run_together(processes, SCRIPT, *words)
    return ForkedScript(SCRIPT, *words).finish()


def gate(output_dir: Path) -> tuple[dict, list[dict]]:
    state, history = json.loads((output_dir / "gate.json").read_text())
    return state, [{k: v for k, v in row.items() if "loss" in row and k != "train_runtime"} for row in history]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "kills"),
    [
        ({"gate_kwargs": {"momentum": 0.9}}, (2, 10)),
        ({"round_start": "restart", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}, (10,)),
        ({"gate": "teacher", "gate_max_draws": 1}, (5,)),
    ],
    ids=["plain", "restart", "skipping"],
)
def test_killed_and_resumed_it_is_the_uninterrupted_run_bit_by_bit(tmp_path, extra, kills):
    # Rounds of 4 and 8 steps end at 4 and 12: kills in the middle of both, and after a step that was not saved.
    args = {**ROUNDS, "gate": "llkd", **extra}
    code, output = run(tmp_path / "whole", args=args)
    assert code == 0, output
    for step in kills:
        code, output = run(tmp_path / "killed", args=args, kill={"at": "step", "value": step}, resume=True)
        assert code == -signal.SIGKILL, output
    code, output = run(tmp_path / "killed", args=args, resume=True)
    assert code == 0, output
    expected, found = (load_file(tmp_path / name / "final" / "model.safetensors") for name in ("whole", "killed"))
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    assert gate(tmp_path / "whole")[0] == gate(tmp_path / "killed")[0]
    logs = [[row for row in gate(tmp_path / name)[1] if row][:-1] for name in ("whole", "killed")]
    assert logs[0] == logs[1]
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "killed")]
    assert metrics[0] == metrics[1]
    if "gate_max_draws" in extra:
        assert gate(tmp_path / "whole")[0]["skipped"]


@pytest.mark.slow
def test_two_processes_gate_as_one(tmp_path):
    """The same candidates, decisions and thresholds; weights up to the order in which gradients are added."""
    args = {"gate": "llkd", "optim": "sgd", "learning_rate": 0.1, "per_device_train_batch_size": 8}
    code, output = run(tmp_path / "one", dropout=0.0, args=args)
    assert code == 0, output
    args |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    code, output = run(tmp_path / "two", processes=2, dropout=0.0, args=args)
    assert code == 0, output
    (one, one_log), (two, two_log) = gate(tmp_path / "one"), gate(tmp_path / "two")
    assert {key: one[key] for key in ("draws", "used", "skipped")} == {
        key: two[key] for key in ("draws", "used", "skipped")
    }
    for side in ("teacher", "student"):
        np.testing.assert_allclose(one["gate"][side], two["gate"][side], atol=1e-5)
    losses = [[row["loss"] for row in log if "loss" in row] for log in (one_log, two_log)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    expected, found = (load_file(tmp_path / name / "final" / "model.safetensors") for name in ("one", "two"))
    for name in expected:
        np.testing.assert_allclose(expected[name].numpy(), found[name].numpy(), atol=2e-5)
    # Without a gate, too, each process takes its share of the mean.
    plain = {"optim": "sgd", "learning_rate": 0.1}
    assert run(tmp_path / "plain-one", dropout=0.0, args=plain)[0] == 0
    plain |= {"per_device_train_batch_size": 4}
    code, output = run(tmp_path / "plain-two", processes=2, dropout=0.0, args=plain)
    assert code == 0, output
    expected, found = (load_file(tmp_path / f"plain-{n}" / "final" / "model.safetensors") for n in ("one", "two"))
    for name in expected:
        np.testing.assert_allclose(expected[name].numpy(), found[name].numpy(), atol=2e-5)
