"""
What a teacher's labels buy a classifier: every strategy, LLKD, and asking last, on real text.

    python benchmarks/classification.py linear --data_dir DIR --output_dir OUT [--seeds 0 1] [--arms random margin]
    python benchmarks/classification.py full   --data_dir DIR --output_dir OUT [--seeds 0 1 2]
    python benchmarks/classification.py report --output_dir OUT

`linear` is the wide table: a linear head on frozen embeddings, every arm at every budget. `full` fine-tunes the whole
encoder with `ActiveDistillationTrainer`, for the arms that matter. Both append a line a result to OUT/results.jsonl
and skip what stands there, so either can be stopped and started again. `report` writes OUT/report.md.

The teacher is the stand-in of `label_data.py`, not a language model. The student never sees a true label; accuracy and
macro-F1 are against the true labels of the test split. Two procedures train a linear head: logistic regression for
arms that choose rows (`full_pool` is their reference), and minibatch steps for arms that gate them (`full_pool_steps`
is theirs), with as many candidate rows an arm as the reference has.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from label_data import DataSet, Pool, embed, load_data_set, make_pool
from label_report import write_report
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_sample_weight

from hf_active_distill.losses import LLKDGate, gated_cross_entropy, normalised_entropy
from hf_active_distill.records import PoolRow
from hf_active_distill.selection import RandomShare, SelectionStrategy, as_strategy, choose
from hf_active_distill.selection.base import Candidate, SelectionContext, SignalRequest


DATA_SETS = ("trec", "csabstruct")
BUDGETS = (50, 100, 200, 400, 800, 1600)
STRATEGIES = (
    "random",
    "stratified_random",
    "least_confidence",
    "margin",
    "entropy",
    "bald",
    "badge",
    "expected_gradient_length",
    "k_center",
    "k_means",
    "typicality",
    "probcover",
    "discriminative",
    "contrastive",
    "llkd_gate",
    "uncertainty_then_coverage",
)
#: Strategies that are also run with balanced class weights in the loss, as `class_weights="balanced"` does.
BALANCED = ("random", "stratified_random", "least_confidence", "expected_gradient_length", "llkd_gate", "k_means")
#: Strategies that are also run on the teacher's distributions, as `soft_labels=True` does.
SOFT = ("random", "llkd_gate", "k_means")
ENDINGS = ("+soft", "+soft+balanced")
FULL_POOLS = ("full_pool", "full_pool+balanced", *(f"full_pool{ending}" for ending in ENDINGS))
OPTIONS: dict[str, dict[str, Any]] = {"least_confidence": {"over": "label"}}
GATES = {"full_pool_steps": "off", "teacher_gate": "teacher_only", "student_gate": "student_only", "llkd": "both"}
AUDIT_SHARE = 0.1
DROPOUT, DROPOUT_SAMPLES = 0.2, 10


@dataclass
class Result:
    """One student: `calls` rows were labelled by the teacher, `trained_rows` different ones were trained on."""

    regime: str
    data: str
    arm: str
    seed: int
    calls: int
    trained_rows: int
    accuracy: float
    macro_f1: float
    teacher_accuracy: float
    seconds: float

    @property
    def key(self) -> tuple[Any, ...]:
        return self.regime, self.data, self.arm, self.seed, self.calls


@dataclass
class World:
    """One data set and seed, ready to be learnt from."""

    data: DataSet
    pool: Pool
    rows: np.ndarray
    test_rows: np.ndarray
    seed: int

    @property
    def classes(self) -> int:
        return len(self.data.label_names)

    @property
    def answers(self) -> np.ndarray:
        """The teacher's label of each pool row; an arm may look at those alone that it has asked for."""
        return self.pool.teacher.argmax(1)

    def measure(self, predicted: np.ndarray) -> tuple[float, float]:
        truth = self.data.test.labels
        return float((predicted == truth).mean()), float(f1_score(truth, predicted, average="macro"))


# --- arms that choose rows: logistic regression on what was answered


class Head:
    """A linear head on frozen embeddings, as a student: what strategies ask of it, as arrays over the pool."""

    def __init__(self, world: World, chosen: list[int], weights: np.ndarray | None = None, soft: bool = False):
        self.world = world
        self.only = None
        labels = world.answers[chosen]
        if len(set(labels.tolist())) < 2:
            self.only = int(labels[0]) if len(labels) else 0
            return
        rows = world.rows[chosen]
        if soft:
            # Every class of every row, weighted with what the teacher gives it: the cross-entropy of distributions.
            given = world.pool.teacher[chosen] * (1.0 if weights is None else weights[:, None])
            rows, labels = np.repeat(rows, world.classes, axis=0), np.tile(np.arange(world.classes), len(rows))
            weights = given.ravel()
        self.model = LogisticRegression(C=3.0, max_iter=500)
        self.model.fit(rows, labels, sample_weight=weights)

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """`(rows, classes)`; uniform before there is anything to learn from."""
        found = np.full((len(embeddings), self.world.classes), 1e-6)
        if self.only is not None:
            found[:, :] = 1.0
        else:
            found[:, self.model.classes_] += self.model.predict_proba(embeddings)
        return found / found.sum(1, keepdims=True)

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        if self.only is not None:
            return np.full(len(embeddings), self.only)
        return self.model.predict(embeddings)

    def signal(self, request: SignalRequest, indices: np.ndarray, round_index: int) -> np.ndarray:
        """What `Classifier` computes for a real student: probabilities, embeddings, passes with dropout."""
        embeddings = self.world.rows[indices]
        if request.name == "embedding":
            return embeddings
        if request.name == "probabilities":
            return self.probabilities(embeddings)
        if request.name == "mc_probabilities":
            generator = np.random.default_rng([self.world.seed, round_index, 7])
            samples = dict(request.options).get("samples", DROPOUT_SAMPLES)
            masks = [generator.random(embeddings.shape) >= DROPOUT for _ in range(samples)]
            return np.stack([self.probabilities(embeddings * mask / (1 - DROPOUT)) for mask in masks], axis=1)
        raise SystemExit(f"A linear head has no signal {request.name!r}.")


def candidates(
    world: World, head: Head, indices: np.ndarray, requests: tuple[SignalRequest, ...], round_index: int
) -> list[Candidate]:
    values = {request: head.signal(request, indices, round_index) for request in requests}
    return [
        Candidate(PoolRow(str(index), ""), signals={request: value[place] for request, value in values.items()})
        for place, index in enumerate(indices.tolist())
    ]


def select(world: World, head: Head, strategy: SelectionStrategy, chosen: list[int], n: int, round_index: int):
    """One round of a strategy, as the trainer runs it."""
    left = np.setdiff1d(np.arange(len(world.rows)), chosen)
    known = np.array(chosen, dtype=int)
    needs = strategy.needs_labelled if len(chosen) else ()
    names = world.data.label_names
    context = SelectionContext(
        candidates=candidates(world, head, left, strategy.requests(), round_index),
        n=min(n, len(left)),
        generator=np.random.default_rng([world.seed, round_index, 3]),
        round=round_index,
        labelled_ids=[str(index) for index in chosen],
        labelled=candidates(world, head, known, needs, round_index) if needs else [],
        labels={str(index): names[world.answers[index]] for index in chosen},
    )
    return choose(strategy, context)


def round_sizes(budgets: list[int]) -> Iterator[tuple[int, bool]]:
    """Rows of each round, and whether a budget is reached with it: 50 up to 400 rows, then 100, then 200."""
    spent = 0
    while spent < budgets[-1]:
        step = 50 if spent < 400 else 100 if spent < 800 else 200
        step = min(step, min(b for b in budgets if b > spent) - spent)
        spent += step
        yield step, spent in budgets


def chosen_rows(world: World, arm: str, budgets: list[int]) -> Iterator[Result]:
    """A strategy: rounds of asking, a head learnt anew on all answers after each."""
    base, *endings = arm.split("+")
    strategy, started = as_strategy(base, **OPTIONS.get(base, {})), time.perf_counter()
    chosen: list[int] = []
    head = Head(world, chosen)
    for index, (size, measured) in enumerate(round_sizes(budgets)):
        chosen += [int(row_id) for row_id in select(world, head, strategy, chosen, size, index).ids]
        head = learnt(world, chosen, endings)
        if measured:
            yield result(world, "linear", arm, len(chosen), len(chosen), head.predict(world.test_rows), started)


def learnt(world: World, chosen: list[int], endings: Sequence[str]) -> Head:
    """A head on what was answered; `balanced` makes all classes that were answered weigh the same."""
    weights = compute_sample_weight("balanced", world.answers[chosen]) if "balanced" in endings else None
    return Head(world, chosen, weights, soft="soft" in endings)


def asked_last(world: World, arm: str, budgets: list[int]) -> Iterator[Result]:
    """
    Ask-last: uncertain rows and a share at random are asked about; what the teacher is not sure of, measured by the
    rows drawn at random, is paid for and left out of training.
    """
    base = arm.removeprefix("ask_last").removeprefix("_") or "llkd_gate"
    strategy, started = RandomShare(as_strategy(base), AUDIT_SHARE), time.perf_counter()
    gate = LLKDGate(world.data.label_names, mode="teacher_only", momentum=0.9)
    chosen: list[int] = []
    audited: list[int] = []
    head, kept = Head(world, chosen), np.zeros(0, dtype=int)
    for index, (size, measured) in enumerate(round_sizes(budgets)):
        picked = select(world, head, strategy, chosen, size, index)
        audited += [int(row_id) for row_id in picked.ids if row_id in picked.uniform]
        chosen += [int(row_id) for row_id in picked.ids]
        kept, weights = teacher_gate(world, head, gate, np.array(chosen), np.array(audited))
        head = Head(world, kept.tolist(), weights)
        if measured:
            yield result(world, "linear", arm, len(chosen), len(kept), head.predict(world.test_rows), started)


def teacher_gate(
    world: World, head: Head, gate: LLKDGate, chosen: np.ndarray, audited: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The answers that are trained on, and their weights; thresholds are those of the rows drawn at random."""
    confidence = torch.from_numpy(world.pool.teacher.max(1))
    labels = torch.from_numpy(world.answers)
    uncertainty = normalised_entropy(torch.from_numpy(np.log(head.probabilities(world.rows))))
    gate.update(confidence[audited], uncertainty[audited], labels[audited])
    keep = gate.keep(confidence[chosen], uncertainty[chosen], labels[chosen]).numpy()
    kept = chosen[keep]
    return kept, gate.weights(confidence[kept], uncertainty[kept]).numpy()


# --- arms that gate rows: minibatch steps on what the teacher has labelled


def gated_steps(world: World, arm: str, budgets: list[int]) -> Iterator[Result]:
    """LLKD as published and its ablations: the teacher labels `calls` rows at random, every step gates its own."""
    order = np.random.default_rng([world.seed, 5]).permutation(len(world.rows))
    for calls in (*budgets, len(world.rows)):
        started = time.perf_counter()
        head, used = train_gated(world, order[:calls], GATES[arm])
        predicted = head(torch.from_numpy(world.test_rows)).argmax(1).numpy()
        yield result(world, "linear", arm, calls, used, predicted, started)


def train_gated(
    world: World, rows: np.ndarray, mode: str, passes: int = 30, batch_size: int = 32
) -> tuple[torch.nn.Linear, int]:
    """A linear head by Adam; kept rows are gathered into full batches. Returns it and how many rows it was shown."""
    torch.manual_seed(world.seed)
    head = torch.nn.Linear(world.rows.shape[1], world.classes)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01, weight_decay=0.0)
    gate = LLKDGate(world.data.label_names, mode=mode, combine="one" if mode == "off" else "sum")
    generator = np.random.default_rng([world.seed, 6])
    inputs = torch.from_numpy(world.rows)
    confidence, labels = torch.from_numpy(world.pool.teacher.max(1)), torch.from_numpy(world.answers)
    waiting: list[int] = []
    used: set[int] = set()
    for _ in range(passes):
        shuffled = generator.permutation(rows)
        for start in range(0, len(shuffled), batch_size):
            part = torch.from_numpy(shuffled[start : start + batch_size])
            with torch.no_grad():
                uncertainty = normalised_entropy(head(inputs[part]))
            gate.update(confidence[part], uncertainty, labels[part])
            keep = gate.keep(confidence[part], uncertainty, labels[part])
            waiting += part[keep].tolist()
            if len(waiting) < batch_size:
                continue
            batch, waiting = torch.tensor(waiting[:batch_size]), waiting[batch_size:]
            used.update(batch.tolist())
            logits = head(inputs[batch])
            weights = gate.weights(confidence[batch], normalised_entropy(logits))
            loss = gated_cross_entropy(logits, labels[batch], weights, num_items=batch_size)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head, len(used)


# --- running


def result(
    world: World, regime: str, arm: str, calls: int, trained: int, predicted: np.ndarray, started: float
) -> Result:
    accuracy, macro_f1 = world.measure(predicted)
    seconds = time.perf_counter() - started
    right = world.pool.teacher_accuracy
    return Result(regime, world.data.name, arm, world.seed, calls, trained, accuracy, macro_f1, right, seconds)


def full_pool(world: World, arm: str, budgets: list[int]) -> Iterator[Result]:
    """Every row labelled by the teacher."""
    started = time.perf_counter()
    rows = list(range(len(world.rows)))
    head = learnt(world, rows, arm.split("+")[1:])
    yield result(world, "linear", arm, len(world.rows), len(world.rows), head.predict(world.test_rows), started)


def linear_arms() -> dict[str, Callable[[World, str, list[int]], Iterator[Result]]]:
    arms: dict[str, Callable[[World, str, list[int]], Iterator[Result]]] = dict.fromkeys(FULL_POOLS, full_pool)
    arms |= dict.fromkeys((*STRATEGIES, *(f"{name}+balanced" for name in BALANCED)), chosen_rows)
    arms |= dict.fromkeys((f"{name}{ending}" for name in SOFT for ending in ENDINGS), chosen_rows)
    arms |= {f"ask_last_{name}": asked_last for name in ("llkd_gate", "margin", "random", "uncertainty_then_coverage")}
    return arms | dict.fromkeys(GATES, gated_steps)


def load_world(name: str, data_dir: Path, output_dir: Path, seed: int) -> World:
    data = load_data_set(name, data_dir)
    train = embed(data.train.texts, output_dir)
    pool = make_pool(data, train, seed)
    return World(data, pool, train[pool.rows], embed(data.test.texts, output_dir), seed)


def run_linear(args: argparse.Namespace) -> None:
    path = args.output_dir / "results.jsonl"
    done = {row.key for row in read_results(path)}
    arms = linear_arms()
    for seed in args.seeds:
        for name in args.data_sets:
            world = None
            for arm in args.arms or arms:
                budgets = list(BUDGETS)
                if ("linear", name, arm, seed) in {key[:4] for key in done}:
                    continue
                world = world or load_world(name, args.data_dir, args.output_dir, seed)
                rows = list(arms[arm](world, arm, budgets))
                with open(path, "a", encoding="utf-8") as file:  # an arm at once: what is there is whole
                    file.write("".join(json.dumps(asdict(row)) + "\n" for row in rows))
                last = rows[-1]
                print(f"{name} seed {seed} {arm}: F1 {last.macro_f1:.3f} at {last.calls} calls, {last.seconds:.1f} s")


def read_results(path: Path) -> list[Result]:
    if not path.is_file():
        return []
    return [Result(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("linear", "full", "report"))
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--data_sets", nargs="+", default=list(DATA_SETS), choices=DATA_SETS)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--arms", nargs="+")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if args.command == "report":
        write_report(read_results(args.output_dir / "results.jsonl"), args.output_dir / "report.md")
        return
    if args.data_dir is None:
        sys.exit("Say where the data is: --data_dir DIR.")
    if args.command == "linear":
        args.seeds = args.seeds or list(range(5))
        run_linear(args)
    else:
        from label_fine_tuning import run_full

        run_full(args)


if __name__ == "__main__":
    main()
