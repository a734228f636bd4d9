"""
Do rejected solutions train as preferences? What a run has paid for anyway, used once more.

    OMP_NUM_THREADS=1 hf-active-distill compare benchmarks/configs/elad_preferences.yaml --processes 2
    OMP_NUM_THREADS=1 python benchmarks/preferences.py

Takes every finished student of the comparison and trains it on with TRL's `DPOTrainer` on pairs of its own run, the
teacher's solutions against what the student had written (`whole`) or single steps of them (`step`), with the solutions
as targets beside it (`+sft`) or without. `sft` is the control: as many steps on the same solutions alone. Ways that
begin with `anew-` start from the student as it came and have no other training. Settings are chosen with `--seeds 98
99`, other `--learning_rates` and `--betas`. What is done is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "benchmarks" / "configs" / "elad_preferences.yaml"
WAYS = ("none", "sft", "whole", "whole+sft", "step", "step+sft", "anew-sft", "anew-whole", "anew-whole+sft")
# Identify a measurement.
KEYS = ("arm", "seed", "way", "learning_rate", "beta", "epochs")


def measure(args: argparse.Namespace) -> None:
    from hf_active_distill.comparison import read_comparison

    results = Path(args.output)
    results.parent.mkdir(parents=True, exist_ok=True)
    lines = results.read_text("utf-8").splitlines() if results.is_file() else []
    done = [{key: line[key] for key in KEYS} for line in map(json.loads, lines)]
    runs = [run for run in read_comparison(CONFIG).runs() if run.seed in args.seeds and run.arm in args.arms]
    for run, way, rate in itertools.product(runs, args.ways, args.learning_rates):
        for beta in args.betas if losses_of(way) else (None,):
            key = dict(zip(KEYS, (run.arm, run.seed, way, rate, beta, args.epochs), strict=True))
            if key in done:
                continue
            line = {**key, **train_on(run, way, rate, beta, args.epochs)}
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)


def losses_of(way: str) -> list[str]:
    """Losses of `DPOTrainer`, none for what trains on solutions alone."""
    if "whole" not in way and "step" not in way:
        return []
    return ["sigmoid", "sft"] if way.endswith("+sft") else ["sigmoid"]


def train_on(run: Any, way: str, rate: float, beta: float | None, epochs: int) -> dict[str, float]:
    """Trains a student on in one way, and asks it the evaluation's questions."""
    import torch
    from datasets import disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hf_active_distill import export_annotations
    from hf_active_distill.errors import DataError
    from hf_active_distill.synthetic import quickstart_student_path

    disable_progress_bars()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    start = quickstart_student_path() if way.startswith("anew") else run.folder
    student = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    try:
        pairs = export_annotations(run.folder, "step_preference" if "step" in way else "preference")
    except DataError:
        if "step" in way:  # the teacher judges none where it is asked for whole solutions
            return {"pairs": 0}
        raise
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "output_dir": folder,
            "per_device_train_batch_size": run.settings["per_device_train_batch_size"],
            "num_train_epochs": epochs,
            "learning_rate": rate,
            "lr_scheduler_type": "constant",
            "max_length": run.settings["max_length"],
            "seed": run.seed,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "bf16": False,
            "gradient_checkpointing": False,
        }
        if way != "none":
            make_trainer(student, tokenizer, pairs, losses_of(way), beta, options).train()
    return {"pairs": len(pairs), "accuracy": accuracy_of(student, tokenizer, run)}


def make_trainer(
    student: Any, tokenizer: Any, pairs: Any, losses: list[str], beta: float | None, options: dict
) -> Any:
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    if losses:
        args = DPOConfig(**options, beta=beta, loss_type=losses)
        return DPOTrainer(student, args=args, train_dataset=pairs, processing_class=tokenizer)
    rows = pairs.rename_column("chosen", "completion").remove_columns("rejected")
    return SFTTrainer(student, SFTConfig(**options), train_dataset=rows, processing_class=tokenizer)


def accuracy_of(student: Any, tokenizer: Any, run: Any) -> float:
    from hf_active_distill import score
    from hf_active_distill.synthetic import get_world
    from hf_active_distill.tasks import get_task

    world = get_world(run.settings["dataset_name"].removeprefix("synthetic:"))
    rows = world.problems(run.settings["eval_size"], run.seed, run.settings["dataset_test_split"])
    scored = score(
        student.eval(),
        [{"prompt": row.prompt, "reference": row.reference} for row in rows],
        selection="least_confidence",
        processing_class=tokenizer,
        max_new_tokens=run.settings["max_new_tokens"],
        batch_size=64,
    )
    equal = get_task("reasoning").answers_equal
    return sum(equal(row["answer"], row["reference"]) for row in scored) / len(scored)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="out/benchmarks/preferences/results.jsonl")
    parser.add_argument("--arms", nargs="+", default=["egss+cot", "egss+one_call"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["none", "sft", "whole", "whole+sft", "step"])
    parser.add_argument("--learning_rates", type=float, nargs="+", default=[1e-5])
    parser.add_argument("--betas", type=float, nargs="+", default=[0.1])
    parser.add_argument("--epochs", type=int, default=3)
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
