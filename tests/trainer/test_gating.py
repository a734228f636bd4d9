"""Gated training: exact against a loop written from the definition, however its steps are cut, stopped or skipped."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_models import tiny_tokenizer
from label_run import EVAL, LABELS, POOL, RuleAnnotation, build, share_of, teacher
from made_runs import page_data
from transformers import TrainerCallback

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.errors import ConfigurationError
from hf_active_distill.losses import LLKDGate
from hf_active_distill.records import Annotation, PoolRow
from hf_active_distill.tasks import get_task
from hf_active_distill.trainer.classifying import ClassifyingKind
from hf_active_distill.trainer.gating import GatedStream
from hf_active_distill.trainer.row_loss import WrittenLoss
from hf_active_distill.trainer.schedule import TrainingRows, derived_seed


# Where weights are compared: Adam's normalised steps would blow rounding up to the size of the learning rate.
SGD = {"optim": "sgd", "learning_rate": 0.1}
GATED = {"dropout": 0.0, "args": {"gate": "llkd", "eval_strategy": "no", "eval_on_start": False}}


def gated(**args):
    return {**GATED, "args": {**GATED["args"], **args}}


def weights(trainer):
    return {name: tensor.detach().clone() for name, tensor in trainer.model.state_dict().items()}


def close(first, second, atol):
    return all(torch.allclose(first[name], second[name], atol=atol, rtol=0) for name in first)


# ---------------------------------------------------------------- against the definition


def by_hand(trainer, steps, batch=8, learning_rate=0.1, momentum=0.99):
    """LLKD's training with one text at a time and plain Python, from the formulas of `LLKDGate`'s documentation."""
    model, tokenizer = trainer.model, tiny_tokenizer()
    examples = trainer.training_rows.examples
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    averages = {side: {"g": [0.0, 0.0], **{k: [0.0, 0.0] for k in LABELS}} for side in "TS"}

    def move(average, new):
        average[0] = momentum * average[0] + (1 - momentum) * new
        average[1] = momentum * average[1] + (1 - momentum)

    def value(average):
        return average[0] / average[1]

    def logits(row):
        text = row.prompt
        return model(**tokenizer(text, return_tensors="pt")).logits[0]

    waiting, used, draw = [], [], 0
    for step in range(steps):
        while len(waiting) < batch:
            candidates = []
            for position in range(draw * batch, (draw + 1) * batch):
                cycle, place = divmod(position, len(examples))
                generator = torch.Generator().manual_seed(derived_seed(7, "gate", 0, cycle))
                candidates.append(torch.randperm(len(examples), generator=generator)[place].item())
            draw += 1
            rows = []
            for index in candidates:
                row, annotation = examples[index]
                model.eval()
                with torch.no_grad():
                    p = torch.softmax(logits(row), -1)
                u = -(p * p.log()).sum().item() / math.log(3)
                rows.append((index, annotation.confidence, u, annotation.label))
            for side, column in (("T", 1), ("S", 2)):
                move(averages[side]["g"], sum(row[column] for row in rows) / len(rows))
                for label in LABELS:
                    own = [row[column] for row in rows if row[3] == label]
                    if own:
                        move(averages[side][label], sum(own) / len(own))
            for index, c, u, label in rows:
                taus = []
                for side in "TS":
                    seen = [value(averages[side][k]) for k in LABELS if averages[side][k][1] > 0]
                    taus.append(value(averages[side]["g"]) * value(averages[side][label]) / max(seen))
                if c >= taus[0] and u >= taus[1]:
                    waiting.append((index, c + u))
        taken, waiting = waiting[:batch], waiting[batch:]
        used += [index for index, _ in taken]
        model.train()
        loss = 0
        for index, weight in taken:
            row, annotation = examples[index]
            loss = loss - weight * torch.log_softmax(logits(row), -1)[LABELS.index(annotation.label)] / batch
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        optimizer.step()
    return used


class Steps(TrainerCallback):
    """Which rows each step was given, its learning rate, and the weights after it."""

    def __init__(self):
        self.trainer = None
        self.weights, self.rates, self.optimizer_steps, self.skipped = [], [], [], []

    def on_train_begin(self, args, state, control, **kwargs):
        self.before = weights(self.trainer)

    def on_step_end(self, args, state, control, **kwargs):
        trainer = self.trainer
        self.weights.append(weights(trainer))
        self.rates.append(trainer.lr_scheduler.get_last_lr()[0])
        self.optimizer_steps.append(max((s["step"].item() for s in trainer.optimizer.state.values()), default=0))
        self.skipped.append(trainer.gating.stream.skipped.get(0, 0))


def run(path, options, **kwargs):
    steps = Steps()
    trainer = build(str(path), options, callbacks=[steps], **kwargs)
    steps.trainer = trainer
    taken = []
    following = trainer.gating.stream.next_step

    def next_step(round_index):
        found = following(round_index)
        taken.append(found)
        return found

    trainer.gating.stream.next_step = next_step
    trainer.train()
    return trainer, steps, taken


@pytest.mark.parametrize("kind", ["roberta", "llama"])
def test_it_is_the_loop_of_the_definition(tmp_path, kind):
    options = {**gated(**SGD), "model": kind}
    trainer, _, taken = run(tmp_path / "trainer", options)
    reference = build(str(tmp_path / "reference"), options)
    reference.training_rows = trainer.training_rows
    used = by_hand(reference, steps=6)
    assert used == [index for step in taken for index, _ in step]
    assert close(weights(trainer), weights(reference), atol=2e-5)
    assert trainer.gating.stream.used == set(used)


@pytest.mark.parametrize("size", [4, 2])
def test_accumulated_batches_are_one_batch(tmp_path, size):
    whole, _, taken = run(tmp_path / "whole", gated(**SGD))
    options = gated(**SGD, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size)
    parts, _, again = run(tmp_path / "parts", options)
    assert [[index for index, _ in step] for step in taken] == [[index for index, _ in step] for step in again]
    assert close(weights(whole), weights(parts), atol=2e-5)
    np.testing.assert_allclose(
        [row["loss"] for row in whole.state.log_history if "loss" in row],
        [row["loss"] for row in parts.state.log_history if "loss" in row],
        rtol=1e-4,
    )


def test_accumulation_without_a_gate(tmp_path):
    """Models that take the mean of each micro-batch would weigh it by the number of micro-batches."""
    args = {"eval_strategy": "no", "eval_on_start": False, **SGD}
    whole = build(str(tmp_path / "whole"), {"dropout": 0.0, "args": args})
    whole.train()
    args |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    parts = build(str(tmp_path / "parts"), {"dropout": 0.0, "args": args})
    parts.train()
    assert close(weights(whole), weights(parts), atol=2e-5)


def test_the_modes(tmp_path):
    _, _, everything = run(tmp_path / "off", gated(gate="off", gate_kwargs={"combine": "one"}))
    assert sorted(index for step in everything for index, _ in step) == list(range(len(POOL)))
    assert {weight for step in everything for _, weight in step} == {1.0}
    trainer, _, _ = run(tmp_path / "teacher", gated(gate="teacher", num_train_epochs=2))
    sure = {i for i, (_, a) in enumerate(trainer.training_rows.examples) if a.confidence > 0.8}
    assert len(trainer.gating.stream.used & sure) > len(trainer.gating.stream.used - sure)


def test_mixed_precision(tmp_path):
    """In a process of its own: transformers 4 leaves the precision in the environment."""
    args = {"gate": "llkd", "bf16": True, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}
    script = Path(__file__).parents[1] / "label_run.py"
    command = [sys.executable, str(script), str(tmp_path), json.dumps({"dropout": 0.0, "args": args})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    _, history = json.loads((tmp_path / "gate.json").read_text())
    losses = [row["loss"] for row in history if "loss" in row]
    assert len(losses) == 6
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_a_skipped_step_changes_nothing_and_is_counted(tmp_path):
    options = gated(gate_max_draws=1, learning_rate=1e-3, max_grad_norm=1.0, weight_decay=0.1)
    trainer, steps, taken = run(tmp_path, options)
    idle = [i for i, found in enumerate(taken) if found is None]
    made = [i for i, found in enumerate(taken) if found is not None]
    assert idle and made  # one draw of eight fills a step of eight only with what waits
    for i in idle:
        before = steps.weights[i - 1] if i else steps.before
        assert all(torch.equal(before[name], steps.weights[i][name]) for name in before)
        assert steps.optimizer_steps[i] == (steps.optimizer_steps[i - 1] if i else 0)
        assert steps.rates[i] == (steps.rates[i - 1] if i else 1e-3)
    assert steps.optimizer_steps[-1] == len(made)
    assert steps.rates[-1] == pytest.approx(1e-3 * (1 - len(made) / 6))
    assert trainer.gating.skipped() == len(idle) == steps.skipped[-1]
    logged = [row for row in trainer.state.log_history if "gate_skipped_steps" in row]
    assert [row["gate_skipped_steps"] for row in logged] == steps.skipped
    assert [i for i, row in enumerate(logged) if "loss" in row] == made
    assert trainer.state.global_step == 6


def test_skipped_steps_do_not_thin_the_logged_loss(tmp_path):
    """The mean over the steps that were made: what logging every step gives for these."""
    options = {"gate_max_draws": 1, "learning_rate": 1e-3}
    single, _, _ = run(tmp_path / "single", gated(**options))
    losses = [row["loss"] for row in single.state.log_history if "loss" in row]
    whole, _, taken = run(tmp_path / "whole", gated(**options, logging_steps=6))
    assert None in taken and len(losses) == sum(found is not None for found in taken)
    [logged] = [row["loss"] for row in whole.state.log_history if "loss" in row]
    assert logged == pytest.approx(sum(losses) / len(losses), rel=1e-3)


def test_what_is_logged(tmp_path):
    trainer, _, taken = run(tmp_path, GATED)
    last = [row for row in trainer.state.log_history if "loss" in row][-1]
    stream = trainer.gating.stream
    assert last["gate_unique_rows"] == len({index for step in taken for index, _ in step})
    assert last["gate_kept_share"] == sum(stream.gate.kept) / sum(stream.gate.drawn)
    assert last["gate_passes"] == stream.draws * 8 / 48
    for label in LABELS:
        assert 0 < last[f"gate_teacher_threshold/{label}"] < 1
        assert 0 < last[f"gate_student_threshold/{label}"] <= 1
        kept, drawn = (side[LABELS.index(label)] for side in (stream.gate.kept, stream.gate.drawn))
        assert last[f"gate_kept/{label}"] == kept and last[f"gate_kept_share/{label}"] == kept / drawn
    of_round = trainer.book.store.read_metrics(0)
    assert of_round["gate_kept_share/birds"] == last["gate_kept_share/birds"]
    shown = page_data(tmp_path / "report/index.html")["kept_shares"]
    assert shown["what"] == "rows, by the gate" and shown["rounds"] == [0]
    assert {row["label"]: row["shares"][0] for row in shown["labels"]} == {
        label: pytest.approx(last[f"gate_kept_share/{label}"], rel=1e-3) for label in LABELS
    }


def test_a_causal_student_that_writes_its_label(tmp_path):
    trainer, _, taken = run(tmp_path, {**GATED, "causal": True})
    assert all(step is not None for step in taken)
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("factors", [None, {"b": 3.0, "c": 0.5}])
def test_the_loss_of_written_labels(tmp_path, factors):
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 7), torch.tensor([[-100, -100, 3, 4, -100], [-100, 1, 2, 3, 6]])
    row_weights, classes = torch.tensor([0.5, 2.0]), torch.tensor([2, 1])
    expected = 0.0
    for row in range(2):
        factor = 1.0 if factors is None else [0.5, 3.0][row]
        for t in range(1, 5):
            if labels[row, t] != -100:
                logp = torch.log_softmax(logits[row, t - 1], -1)[labels[row, t]]
                expected -= factor * row_weights[row] * logp / 4
    task = get_task("classification", labels=["a", "b", "c"])
    loss = WrittenLoss(task, ActiveDistillationConfig(str(tmp_path), class_weights=factors, report_to="none"))
    assert loss(logits, labels, row_weights, 4, classes).item() == pytest.approx(expected.item(), rel=1e-6)


# ---------------------------------------------------------------- the stream by itself


def stream(confidence, score, batch_size=4, max_draws=3, **options):
    task = get_task("classification", labels=["a", "b"])
    rows = TrainingRows()
    for i, c in enumerate(confidence):
        annotation = Annotation(str(i), "label", "ok", "text", label="ab"[i % 2], confidence=c)
        rows.add_round([{"input_ids": [i], "labels": i % 2}], [(PoolRow(str(i), f"text {i}"), annotation)])
    kind = ClassifyingKind(ActiveDistillationConfig(output_dir="unused", report_to="none"), task)
    return GatedStream(
        lambda: LLKDGate(task.labels, **options),
        kind,
        rows,
        score,
        batch_size=batch_size,
        max_draws=max_draws,
        seed=1,
        fresh_rounds=False,
    )


def unsure(indices):
    return np.zeros((len(indices), 2), dtype=np.float32)


def test_a_pass_shows_every_row_once_and_depends_on_seed_and_round_alone():
    one = stream([0.9] * 10, unsure)
    one.round = 0
    positions = [index for draw in range(5) for index in one.candidates(draw)]
    assert sorted(positions[:10]) == sorted(positions[10:]) == list(range(10))
    assert positions[:10] != positions[10:]
    one.round = 1
    assert [index for draw in range(5) for index in one.candidates(draw)] != positions
    one.round = 0
    assert one.candidates(3) == positions[12:16]


def test_rows_wait_first_in_first_out():
    one = stream([0.5 + 0.5 * share_of(str(i)) for i in range(40)], unsure)
    kept = []
    draw = one._draw

    def recorded():
        before = len(one.waiting)
        draw()
        kept.extend(one.waiting[before:])

    one._draw = recorded
    taken = [entry for _ in range(6) for entry in one.next_step(0)]
    assert taken == kept[: len(taken)]
    assert one.waiting == kept[len(taken) :]


def test_the_state_is_json_and_goes_on_bit_by_bit():
    sure = [0.5 + 0.5 * share_of(str(i)) for i in range(40)]
    one, other = stream(sure, unsure), stream(sure, unsure)
    for _ in range(4):
        one.next_step(0)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for round_index in (0, 0, 1):
        assert one.next_step(round_index) == other.next_step(round_index)
    assert one.state_dict() == other.state_dict()


def test_a_gate_that_keeps_nothing_is_an_error_with_a_cure():
    """The student is unsure exactly where the teacher is, so no row is above both means."""
    confidence = [0.95 if i % 4 < 2 else 0.55 for i in range(40)]

    def score(indices):
        return np.array([[8.0, -8.0] if confidence[i] > 0.9 else [0.0, 0.0] for i in indices], dtype=np.float32)

    one = stream(confidence, score, batch_size=8, class_factor="none")
    with pytest.raises(ConfigurationError, match="none of 4. candidates.*min_class_share"):
        for _ in range(10):
            assert one.next_step(0) is None
    assert one.skipped == {0: 1}


def test_when_nothing_is_left_to_learn_the_round_ends_and_the_next_one_looks_again(caplog):
    """A student that becomes sure of everything the teacher is sure of."""
    confidence = [0.95 if i % 4 < 2 else 0.55 for i in range(40)]
    learnt = [False]
    looked = []

    def score(indices):
        looked.append(indices)
        easy = np.array([learnt[0] and confidence[i] > 0.9 for i in indices])[:, None]
        return np.where(easy, [[8.0, -8.0]], [[0.0, 0.0]]).astype(np.float32)

    one = stream(confidence, score, batch_size=8, max_draws=6, class_factor="none", momentum=0.5)
    assert one.next_step(0) is not None
    learnt[0] = True
    while not one.exhausted:
        one.next_step(0)
    before = len(looked)
    assert [one.next_step(0) for _ in range(3)] == [None] * 3
    assert len(looked) == before  # not another look
    again = stream(confidence, score, batch_size=8, max_draws=6, class_factor="none", momentum=0.5)
    again.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert again.next_step(0) is None and len(looked) == before
    assert "where the teacher is sure, the student is, too" in caplog.text
    learnt[0] = False
    assert one.next_step(1) is not None


def test_rows_of_unknown_confidence(tmp_path):
    one = stream([0.9, None, 0.9, 0.8], unsure)
    with pytest.raises(ConfigurationError, match="annotation='label'"):
        one.next_step(0)


# ---------------------------------------------------------------- what cannot be gated


@pytest.mark.parametrize(
    ("args", "cure"),
    [
        ({"gate_kwargs": {"combine": "sum"}}, "`gate` is not"),
        ({"gate": "llkd", "gate_kwargs": {"speed": 1}}, "gate_kwargs.*speed"),
        ({"gate": "llkd", "gate_kwargs": {"combine": "max"}}, "combine"),
        ({"gate": "soft"}, "llkd"),
        ({"gate": "llkd", "gate_max_draws": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_work(tmp_path, args, cure):
    with pytest.raises(ConfigurationError, match=cure):
        build(str(tmp_path), {"args": args})


def test_a_loss_of_ones_own_and_a_gate(tmp_path):
    with pytest.raises(ConfigurationError, match="compute_loss_func"):
        build(str(tmp_path), GATED, compute_loss_func=lambda outputs, labels, num_items_in_batch=None: 0)


def test_a_gate_without_confidences_ends_before_a_step(tmp_path):
    class Unsure(RuleAnnotation):
        async def annotate(self, item, ask):
            annotation = await super().annotate(item, ask)
            annotation.confidence = None
            return annotation

    task = get_task("classification", labels=LABELS)
    with pytest.raises(ConfigurationError, match="need the teacher's confidence"):
        build(str(tmp_path), GATED, annotation=Unsure(task)).train()


def test_a_gated_run_goes_on_from_a_version_of_a_round(tmp_path):
    """Student, pool, answers and the gate's state come from the lineage: as if the run had never been stopped."""
    rounds = {"num_rounds": 2, "samples_per_round": 16, "num_train_epochs": 2, "gate": "llkd"}
    task = get_task("classification", labels=LABELS)
    whole = build(str(tmp_path / "whole"), {"args": {**rounds, "lineage_dir": str(tmp_path / "lineage")}})
    whole.train()
    again = ActiveDistillationTrainer.from_round(
        str(tmp_path / "lineage"),
        "round-000",
        output_dir=str(tmp_path / "again"),
        teacher=teacher,
        task=task,
        annotation=RuleAnnotation(task),
        eval_dataset=EVAL,
    )
    again.train()
    expected, found = weights(whole), weights(again)
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    assert again.gating.stream.state_dict() == whole.gating.stream.state_dict()
