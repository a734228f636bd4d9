"""The arms of `classification.py` that matter, with the whole encoder fine-tuned by `ActiveDistillationTrainer`."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classification import Result, World, load_world, read_results
from label_data import encoder_path

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.records import PoolRow
from hf_active_distill.serving.in_process import ScriptedTeacher
from hf_active_distill.serving.scripted import ScriptedBackend
from hf_active_distill.serving.scripted_labels import LabelTeacher


BUDGETS = {"trec": (200, 400), "csabstruct": (400, 850)}
ROUNDS = 4
#: Settings by arm, for a budget of so many calls; `None` is the whole pool.
ARMS: dict[str, dict[str, Any]] = {
    "random": {"selection": "random"},
    "margin": {"selection": "margin", "random_share": 0.1},
    "badge": {"selection": "badge", "random_share": 0.1},
    "ask_last": {"selection": "llkd_gate", "random_share": 0.1, "answer_gate": True},
    "llkd": {"selection": "random", "gate": "llkd"},
    "full_pool": {"selection": "random"},
}
WHOLE_POOL = ("llkd", "full_pool")
PASSES, WHOLE_PASSES = 12, 4


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


def settings(arm: str, calls: int | None, seed: int, folder: Path, labels: list[str], rows: int) -> dict[str, Any]:
    """The configuration of one run: rounds of equal size for a budget, one round for the whole pool."""
    rounds = 1 if calls is None or arm == "random" else ROUNDS
    return {
        "output_dir": str(folder),
        "seed": seed,
        "task": "classification",
        "task_kwargs": {"labels": labels},
        "annotation": "label",
        "annotation_kwargs": {"method": "top_tokens"},
        "num_rounds": rounds,
        "samples_per_round": rows if calls is None else calls // rounds,
        "round_start": "restart",
        "num_train_epochs": WHOLE_PASSES if calls is None else PASSES,
        "per_device_train_batch_size": 16,
        "per_device_scoring_batch_size": 64,
        "learning_rate": 1e-4,
        "warmup_steps": 20,
        "max_length": 96,
        "teacher_concurrency": 64,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        **ARMS[arm],
    }


def run_one(world: World, arm: str, calls: int | None, folder: Path) -> Result:
    """Trains one student and measures it on the test split."""
    shutil.rmtree(folder, ignore_errors=True)
    known = KnownTexts.of(world)
    teacher = ScriptedTeacher(ScriptedBackend(f"stand-in/{known.name}-{world.seed}", LabelTeacher(known)))
    pool = [{"text": text} for text in dict.fromkeys(world.pool.texts)]
    test = world.data.test
    evaluation = [{"text": t, "label": known.labels[int(y)]} for t, y in zip(test.texts, test.labels, strict=True)]
    args = ActiveDistillationConfig(**settings(arm, calls, world.seed, folder, known.labels, len(pool)))
    started = time.perf_counter()
    trainer = ActiveDistillationTrainer(
        model=str(encoder_path()), args=args, pool_dataset=pool, eval_dataset=evaluation, teacher=teacher
    )
    trainer.train()
    metrics = trainer.evaluate()
    seconds = time.perf_counter() - started
    annotations = trainer.book.annotations()
    trained = sum(annotation.status == "ok" for annotation in annotations)
    shutil.rmtree(folder, ignore_errors=True)
    accuracy, macro_f1 = metrics["eval_accuracy"], metrics["eval_macro_f1"]
    right = world.pool.teacher_accuracy
    return Result("full", known.name, arm, world.seed, len(annotations), trained, accuracy, macro_f1, right, seconds)


def planned(args: argparse.Namespace) -> Iterator[tuple[int, str, str, int | None]]:
    for seed in args.seeds or range(3):
        for name in args.data_sets:
            for calls in BUDGETS[name]:
                for arm in args.arms or ARMS:
                    if arm not in WHOLE_POOL:
                        yield seed, name, arm, calls
            for arm in WHOLE_POOL:
                if not args.arms or arm in args.arms:
                    yield seed, name, arm, None


def run_full(args: argparse.Namespace) -> None:
    """Runs what is not done yet, one line of OUT/results.jsonl each."""
    path = args.output_dir / "results.jsonl"
    for seed, name, arm, calls in planned(args):
        done = {(row.data, row.arm, row.seed, row.calls) for row in read_results(path) if row.regime == "full"}
        whole = {key[:3] for key in done}
        if (name, arm, seed, calls) in done or (calls is None and (name, arm, seed) in whole):
            continue
        world = load_world(name, args.data_dir, args.output_dir, seed)
        found = run_one(world, arm, calls, args.output_dir / "run")
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(found)) + "\n")
        print(f"{name} seed {seed} {arm} {calls or 'all'}: F1 {found.macro_f1:.3f}, {found.seconds:.0f} s", flush=True)
