"""Both recipes push their rounds to a Hub, and every round comes back by command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
SMALL = """
    --num_rounds 2 --samples_per_round 6 --pool_size 40 --eval_size 8 --num_train_epochs 1 --disable_tqdm true
""".split()


def command(words: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["elad", "llkd"])
def test_a_recipe_pushes_rounds_that_come_back(recipe, hub, tmp_path):
    # An empty cache each: the second one stands for another machine.
    here, elsewhere = (hub.environment(tmp_path / name) for name in ("here", "elsewhere"))
    config = ROOT / "recipes" / "configs" / f"{recipe}_quickstart.yaml"
    words = ["--config", str(config), "--output_dir", str(tmp_path / "run"), *SMALL]
    words += ["--candidates_per_round", "12", "--push_to_hub", "true", "--hub_model_id", f"me/{recipe}"]
    command([f"recipes/{recipe}.py", *words], here)
    for kind, name in (("models", ""), ("datasets", "-pool"), ("datasets", "-annotations")):
        repo = hub.store.repo(kind, f"me/{recipe}{name}")
        assert repo.private and sorted(hub.store.refs(repo, "tag")) == ["round-000", "round-001"]
        assert not [
            path for path in hub.store.files(kind, f"me/{recipe}{name}", "round-001") if path.endswith((".pt", ".bin"))
        ]
    program = ["-m", "hf_active_distill.cli.main"]
    assert "round-001" in command([*program, "rounds", f"me/{recipe}"], elsewhere)
    for tag in ("round-000", "round-001"):
        folder = tmp_path / "restored" / tag
        command([*program, "restore", f"me/{recipe}", tag, "--output_dir", str(folder)], elsewhere)
        assert (folder / "rounds" / tag / "annotations.jsonl").read_bytes() == (
            tmp_path / "run" / "rounds" / tag / "annotations.jsonl"
        ).read_bytes()
