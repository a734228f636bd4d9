"""The arms of `classification.py` that matter, with the whole encoder fine-tuned by `ActiveDistillationTrainer`."""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from classification import Result, World, load_world, read_results
from label_data import encoder_path

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.records import PoolRow
from hf_active_distill.serving.in_process import ScriptedTeacher
from hf_active_distill.serving.scripted import ScriptedBackend
from hf_active_distill.serving.scripted_labels import LabelTeacher


BUDGETS = {"trec": (200, 400), "csabstruct": (425, 850)}
ROUNDS = {"trec": 4, "csabstruct": 2}
#: So many passes give about as many optimiser steps at the larger budget.
PASSES = {"trec": 12, "csabstruct": 6}
WHOLE_PASSES = {"trec": 4, "csabstruct": 3}
#: Settings by arm; those of `WHOLE_POOL` ask about every row, in one round.
ARMS: dict[str, dict[str, Any]] = {
    "random": {"selection": "random"},
    "random_balanced": {"selection": "random", "class_weights": "balanced"},
    "random_soft": {"selection": "random", "soft_labels": True},
    "margin": {"selection": "margin", "random_share": 0.1},
    "llkd_gate": {"selection": "llkd_gate", "random_share": 0.1},
    "ask_last": {"selection": "llkd_gate", "random_share": 0.1, "answer_gate": True},
    "ask_last_balanced": {
        "selection": "llkd_gate",
        "random_share": 0.1,
        "answer_gate": True,
        "class_weights": "balanced",
    },
    "soft_balanced": {
        "selection": "llkd_gate",
        "random_share": 0.1,
        "soft_labels": True,
        "class_weights": "balanced",
    },
    "llkd": {"selection": "random", "gate": "llkd"},
    "full_pool": {"selection": "random"},
    "full_pool_balanced": {"selection": "random", "class_weights": "balanced"},
}
WHOLE_POOL = ("llkd", "full_pool", "full_pool_balanced")


@dataclass
class KnownTexts:
    """The pool as the scripted teacher's world: what the stand-in thinks of each text."""

    name: str
    labels: list[str]
    descriptions: dict[str, str]
    probabilities: dict[str, dict[str, float]]

    @classmethod
    def of(cls, world: World) -> KnownTexts:
        names = [str(name) for name in world.data.label_names]
        rows = zip(world.pool.texts, world.pool.teacher.tolist(), strict=True)
        return cls(world.data.name, names, {}, {text: dict(zip(names, p, strict=True)) for text, p in rows})

    def posterior(self, text: str) -> dict[str, float]:
        return self.probabilities[text]

    def confused(self, label: str) -> str:
        return label

    def problems(self, n: int, seed: int, split: str) -> list[PoolRow]:
        raise NotImplementedError("the pool is given")


def settings(world: World, arm: str, folder: Path, labels: list[str], rows: int) -> dict[str, Any]:
    """
    The configuration of one run: rounds of equal size up to the largest budget, or one round for the whole pool.

    Every round starts from the encoder as it was, so the student at a smaller budget is what a run with that budget
    alone would end with.
    """
    name, whole = world.data.name, arm in WHOLE_POOL
    budgets = BUDGETS[name]
    # Rows at random need no rounds but those that are measured.
    rounds = 1 if whole else len(budgets) if ARMS[arm]["selection"] == "random" else ROUNDS[name]
    return {
        "output_dir": str(folder),
        "seed": world.seed,
        "task": "classification",
        "task_kwargs": {"labels": labels},
        "annotation": "label",
        "annotation_kwargs": {"method": "top_tokens"},
        "num_rounds": rounds,
        "samples_per_round": rows if whole else budgets[-1] // rounds,
        "round_start": "restart",
        "num_train_epochs": (WHOLE_PASSES if whole else PASSES)[name],
        "per_device_train_batch_size": 16,
        "per_device_scoring_batch_size": 64,
        "learning_rate": 1e-4,
        "warmup_steps": 20,
        "max_length": 96,
        "teacher_concurrency": 64,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": True,
        **ARMS[arm],
    }


def run_one(world: World, arm: str, folder: Path) -> list[Result]:
    """Trains students up to the largest budget and measures those at a budget on the test split."""
    shutil.rmtree(folder, ignore_errors=True)
    known = KnownTexts.of(world)
    teacher = ScriptedTeacher(ScriptedBackend(f"stand-in/{known.name}-{world.seed}", LabelTeacher(known)))
    pool = [{"text": text} for text in dict.fromkeys(world.pool.texts)]
    test = world.data.test
    evaluation = [{"text": t, "label": known.labels[int(y)]} for t, y in zip(test.texts, test.labels, strict=True)]
    args = ActiveDistillationConfig(**settings(world, arm, folder, known.labels, len(pool)))
    started = time.perf_counter()
    trainer = ActiveDistillationTrainer(
        model=str(encoder_path()), args=args, pool_dataset=pool, eval_dataset=evaluation, teacher=teacher
    )
    trainer.train()
    seconds = time.perf_counter() - started
    measured = [entry for entry in trainer.state.log_history if "eval_macro_f1" in entry and entry["epoch"] > 0]
    logged = [entry for entry in trainer.state.log_history if "gate_unique_rows" in entry]
    annotations = trainer.book.annotations()
    shutil.rmtree(folder, ignore_errors=True)
    size, found = args.samples_per_round, []
    for number, metrics in enumerate(measured, 1):
        asked = annotations[: number * size]
        if arm in WHOLE_POOL or len(asked) in BUDGETS[known.name]:
            trained = sum(annotation.status == "ok" for annotation in asked)
            trained = min([trained, *(int(entry["gate_unique_rows"]) for entry in logged[-1:])])
            figures = (metrics["eval_accuracy"], metrics["eval_macro_f1"], world.pool.teacher_accuracy)
            found.append(Result("full", known.name, arm, world.seed, len(asked), trained, *figures, seconds))
    return found


def run_full(args: argparse.Namespace) -> None:
    """Runs what is not done yet, a line of OUT/results.jsonl for each budget."""
    path = args.output_dir / "results.jsonl"
    for seed, name in itertools.product(args.seeds or range(3), args.data_sets):
        for arm in args.arms or ARMS:
            rows = read_results(path)
            if any((row.regime, row.data, row.arm, row.seed) == ("full", name, arm, seed) for row in rows):
                continue
            world = load_world(name, args.data_dir, args.output_dir, seed)
            found = run_one(world, arm, args.output_dir / f"run-{name}-{arm}-{seed}")
            with open(path, "a", encoding="utf-8") as file:  # an arm at once: what is there is whole
                file.write("".join(json.dumps(asdict(row)) + "\n" for row in found))
            last = found[-1]
            print(
                f"{name} seed {seed} {arm}: F1 {last.macro_f1:.3f} at {last.calls}, {last.seconds:.0f} s", flush=True
            )
