"""`recipes/llkd.py` as a user starts it, and where its labels come from."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from transformers import pipeline

from hf_active_distill.cli.recipe import ScriptArguments, label_names, on_the_hub
from hf_active_distill.errors import EXIT_CONFIGURATION, ConfigurationError


ROOT = Path(__file__).parents[2]
SMALL = """
    --num_rounds 2 --samples_per_round 8 --pool_size 60 --eval_size 12 --num_train_epochs 1 --disable_tqdm true
""".split()
LABELS = ["billing", "delivery", "account", "returns", "technical fault", "cancellation"]


def run(config: str, output_dir: Path, *words: str, program: tuple[str, ...] = ("recipes/llkd.py",)):
    path = ROOT / "recipes" / "configs" / config
    return subprocess.run(
        [sys.executable, *program, "--config", str(path), "--output_dir", str(output_dir), *SMALL, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_asking_last_leaves_a_student_that_a_pipeline_loads(tmp_path):
    done = run("llkd_quickstart.yaml", tmp_path, "--compare", "random")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(llkd_gate|random) calibrated on 100 rows, temperature \d", done.stdout, re.M) == [
        "llkd_gate",
        "random",
    ]
    for folder in (tmp_path, tmp_path / "compare-random"):
        held = json.loads((folder / "eval_confusion.json").read_text())
        assert sum(map(sum, held["counts"])) == 12 and held["readers"] == ["reference", "student"]
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["round"] for row in rows] == [-1, 0, 1]
        assert 0 <= rows[-1]["eval_macro_f1"] <= 1
        assert rows[-1]["total_teacher_calls"] > rows[1]["total_teacher_calls"] > 0
    assert (tmp_path / "report" / "index.html").is_file()
    [found] = pipeline("text-classification", str(tmp_path), top_k=None)(["Where is my parcel."])
    assert sorted(item["label"] for item in found) == sorted(LABELS)


@pytest.mark.slow
def test_the_order_of_the_paper_labels_the_pool_and_gates_every_step(tmp_path):
    words = "--num_rounds 1 --samples_per_round 60 --num_train_epochs 2 --logging_steps 1".split()
    program = ("-m", "hf_active_distill.cli.main", "llkd")
    done = run("llkd_published.yaml", tmp_path, *words, program=program)
    assert done.returncode == 0, done.stderr
    [checkpoint] = tmp_path.glob("checkpoint-*")
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    shares = [row["gate_kept_share"] for row in history if "gate_kept_share" in row]
    assert shares and 0 < shares[-1] < 1
    [last] = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][-1:]
    assert last["selected"] == 60
    by_label = [value for key, value in last.items() if key.startswith("gate_kept_share/")]
    assert by_label and all(0 <= share <= 1 for share in by_label) and len(set(by_label)) > 1


def test_a_wrong_setting_ends_with_its_code(tmp_path):
    done = run("llkd_quickstart.yaml", tmp_path, "--gate", "sometimes")
    assert done.returncode == EXIT_CONFIGURATION
    assert "gate" in done.stderr


@pytest.mark.parametrize(
    ("recipe", "words", "cure"),
    [
        ("llkd", ["--dataset_test_split", "none"], "set `eval_size`"),
        ("elad", ["--calibration_rows", "10"], "classification head"),
    ],
    ids=str,
)
def test_calibration_without_rows_or_head_is_refused_before_a_call(tmp_path, recipe, words, cure):
    done = run(f"{recipe}_quickstart.yaml", tmp_path, *words, program=(f"recipes/{recipe}.py",))
    assert done.returncode == EXIT_CONFIGURATION and cure in done.stderr
    assert not (tmp_path / "rounds").exists()


def test_labels_come_from_the_evaluation_set():
    arguments = ScriptArguments(dataset_name="somewhere")
    classes = Dataset.from_dict(
        {"text": ["a", "b"], "label": [1, 0]},
        features=Features({"text": Value("string"), "label": ClassLabel(names=["yes", "no"])}),
    )
    assert label_names(arguments, classes) == {"labels": ["yes", "no"]}
    several = Dataset.from_dict(
        {"text": ["a"], "label": [[0, 1]]},
        features=Features({"text": Value("string"), "label": List(ClassLabel(names=["x", "y"]))}),
    )
    assert label_names(arguments, several) == {"labels": ["x", "y"]}
    names = Dataset.from_dict({"text": ["a", "b", "c"], "label": ["south", "north", "south"]})
    assert label_names(arguments, names) == {"labels": ["north", "south"]}


def test_labels_that_are_known_from_nowhere_are_asked_for():
    arguments = ScriptArguments(dataset_name="somewhere")
    with pytest.raises(ConfigurationError, match="task_kwargs"):
        label_names(arguments, Dataset.from_dict({"text": ["a"]}))
    with pytest.raises(ConfigurationError, match="order of their numbers"):
        label_names(arguments, Dataset.from_dict({"text": ["a"], "label": [3]}))


def test_the_built_in_rows_know_their_labels():
    assert label_names(ScriptArguments(dataset_name="synthetic:support_messages"), None)["labels"] == LABELS


def test_cards_name_data_sets_that_others_know_alone(tmp_path):
    assert on_the_hub(ScriptArguments(dataset_name="openai/gsm8k"))
    for name in ("synthetic:arithmetic_skewed", str(tmp_path), f"{tmp_path}/rows.jsonl"):
        assert not on_the_hub(ScriptArguments(dataset_name=name))
