"""The script that makes the shipped student, for a few steps."""

import runpy
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


SCRIPT = Path(__file__).parents[2] / "recipes" / "pretrain_quickstart_student.py"


def test_a_few_steps_leave_a_model_that_loads(tmp_path, monkeypatch, capsys):
    options = {"steps": 30, "batch_size": 8, "hidden_size": 32, "layers": 1, "log_every": 10, "eval_rows": 6}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--output_dir", str(tmp_path), *arguments])
    state = torch.random.get_rng_state()
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        torch.random.set_rng_state(state)
    losses = [float(line.split()[3]) for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert len(losses) == 3 and losses[-1] < losses[0]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id
