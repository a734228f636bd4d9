"""`recipes/elad.py` against servers of two protocols: nothing but the address differs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from serving_helpers import call, serve

from hf_active_distill.asking import JournalReader
from hf_active_distill.rounds import RoundStore
from hf_active_distill.serving.scripted import scripted_backend


ROOT = Path(__file__).parents[2]
SMALL = """
    --num_rounds 1 --samples_per_round 6 --candidates_per_round 12 --pool_size 60 --eval_size 6
    --num_train_epochs 1 --per_device_scoring_batch_size 12 --selection least_confidence
""".split()


def run(address: str, output_dir: Path) -> str:
    config = ROOT / "recipes" / "configs" / "elad_quickstart.yaml"
    words = ["--config", str(config), "--output_dir", str(output_dir), *SMALL, "--teacher", address]
    done = subprocess.run(
        [sys.executable, "recipes/elad.py", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def teaching(annotation) -> tuple:
    return annotation.row_id, annotation.steps, annotation.answer, annotation.verdicts, annotation.usage.calls


@pytest.mark.slow
def test_the_recipe_runs_on_either_protocol_by_changing_the_url_alone(tmp_path):
    with serve(scripted_backend("arithmetic_skewed")) as url:
        run(url, tmp_path / "tgi")
    with serve(scripted_backend("arithmetic_skewed"), only="/v1/") as url:
        assert call(f"{url}/info")[0] == 404 and call(f"{url}/generate", {"inputs": "What"})[0] == 404
        out = run(url, tmp_path / "openai")
    assert "foreseen and spent:" in out and "spent" in out.split("foreseen and spent:")[1]
    [tgi], [openai] = (RoundStore(tmp_path / name).records() for name in ("tgi", "openai"))
    assert [teaching(one) for one in tgi.annotations] == [teaching(one) for one in openai.annotations]
    assert len(openai.succeeded) == 6
    reader = JournalReader(tmp_path / "openai" / "journal.sqlite")
    assert reader.states("train") == {"answered": openai.usage.calls}
    reader.close()
