"""What a push uploads, against the small Hub of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hub_server.server import TOKEN

from hf_active_distill import ActiveDistillationConfig
from hf_active_distill.errors import ConfigurationError
from hf_active_distill.trainer.pushing import travelling_files


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from counting_teacher import rule
from tiny_run import build

args = {{"num_rounds": 1, "push_to_hub": True, "hub_model_id": "me/student", "hub_token": {token!r}}}
trainer = build({folder!r}, lambda messages, params: rule(messages), {{"args": args}})
trainer.train()
trainer.push_to_hub()
"""


@pytest.mark.slow
def test_a_push_uploads_the_student_and_nothing_private(hub, tmp_path):
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path / "run"), token=TOKEN)
    env = hub.environment(tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    student = hub.store.repo("models", "me/student")
    assert len(hub.store.history(student, "main")) == 2  # the repository's own first commit, and the push
    files = hub.store.files("models", "me/student")
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "metrics.jsonl"} <= set(files)
    names = set(files) - {".gitattributes"}
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pth", ".sqlite")) or "/" in name}
    assert "first_weights.safetensors" not in names


def test_only_files_with_a_reason_travel(tmp_path):
    for name in ("model.safetensors", "first_weights.safetensors", "training_args.bin", "journal.sqlite", "notes.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "rounds").mkdir()
    assert travelling_files(tmp_path) == ["model.safetensors"]


def test_pushing_in_the_middle_of_a_run_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="journal"):
        ActiveDistillationConfig(output_dir=str(tmp_path), push_to_hub=True, hub_strategy="every_save")
