"""Students that answer with labels: rounds, gates on answers, evaluation, what is saved, and what is refused."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers_models import tiny_classifier, tiny_model, tiny_tokenizer
from label_run import EVAL, LABELS, POOL, TEXTS, RuleAnnotation, build, share_of, teacher
from made_runs import page_data
from transformers import AutoModelForSequenceClassification, pipeline

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.errors import ConfigurationError, DataError, TeacherError
from hf_active_distill.records import Annotation
from hf_active_distill.selection.base import SelectionResult, SelectionStrategy, SignalRequest
from hf_active_distill.tasks import get_task


TASK = get_task("classification", labels=LABELS)
ROUNDS = {"num_rounds": 2, "samples_per_round": 8, "num_train_epochs": 2}


def figures(trainer) -> list[dict]:
    return [json.loads(line) for line in (trainer.args.output_path / "metrics.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------- rounds


@pytest.mark.parametrize("options", [{"model": "roberta"}, {"model": "llama"}, {"causal": True}], ids=str)
def test_rounds_of_a_student_that_answers_with_labels(tmp_path, options):
    args = {**ROUNDS, "selection": "entropy", "candidates_per_round": 24, "random_share": 0.25, "num_train_epochs": 8}
    trainer = build(str(tmp_path), {**options, "args": args})
    trainer.train()
    assert trainer.stop_reason == "rounds"
    assert len(trainer.training_rows) == 16
    before, _, last = figures(trainer)
    assert last["eval_accuracy"] > before["eval_accuracy"]
    assert {f"eval_f1/{label}" for label in LABELS} <= set(last)
    assert sum(last[f"labels/{label}"] for label in LABELS) == 8
    assert last["audit_rows"] == 2 and last["audit_teacher_accuracy"] is None
    # Chosen by uncertainty, apart from the share that is drawn: the scores are entropies of three labels.
    record = trainer.book.records[1]
    assert len(record.scores) == 24
    assert all(0 <= score <= np.log(3) + 1e-6 for score in record.scores.values())
    chosen = [record.scores[row_id] for row_id in record.selected_ids if row_id not in record.random_ids]
    assert min(chosen) >= np.median(list(record.scores.values()))
    table = trainer.annotations_dataset()
    assert set(table["label"]) <= set(LABELS) and len(table) == 16


def test_the_defaults_of_students_with_labels(tmp_path):
    named = ActiveDistillationConfig(output_dir=str(tmp_path), task="classification", report_to="none")
    assert (named.selection, named.annotation) == ("entropy", "label")
    trainer = ActiveDistillationTrainer(
        tiny_classifier("bert"),
        ActiveDistillationConfig(output_dir=str(tmp_path), samples_per_round=4, report_to="none"),
        POOL,
        teacher,
        processing_class=tiny_tokenizer(),
        task=TASK,
    )
    assert (trainer.args.task, trainer.strategy.strategy.name, trainer.method.name) == (
        "classification",
        "entropy",
        "label",
    )


def test_what_the_student_held_before_it_was_told_is_on_record(tmp_path):
    def told(messages, params) -> str:
        question = messages[-1]["content"]
        label = next(label for label, text in TEXTS if text in question)
        return next(line[0] for line in question.splitlines() if line[1:].strip(").: ") == label)

    asking = {"annotation": "label", "annotation_kwargs": {"method": "samples", "samples": 1}}
    args = {**ROUNDS, **asking, "selection": "entropy"}
    trainer = build(str(tmp_path), {"args": args}, annotation=None, teacher=told)
    trainer.train()
    held = [annotation.student for annotation in trainer.book.annotations()]
    assert len(held) == 16 and {student.answer for student in held} <= set(LABELS)
    assert all(student.steps == [] and student.row_id for student in held)


def test_plan_knows_what_a_gate_scores(tmp_path):
    plain = build(str(tmp_path), {"args": ROUNDS}).plan()
    gated = build(str(tmp_path), {"args": {**ROUNDS, "gate": "llkd"}}).plan()
    assert "There are 0 birds and 1 more come." in plain.prompts["student"]
    ratio = [plan.student_hours.high / max(plan.student_hours.low, 1e-9) for plan in (plain, gated)]
    assert ratio[1] > 2 * ratio[0]
    assert plain.teacher.calls.low == 16


def test_strategies_see_the_labelled_rows(tmp_path):
    seen = []
    embedding = SignalRequest.of("embedding")

    class Looks(SelectionStrategy):
        name = "looks"
        needs_labelled = (embedding,)

        def requests(self):
            return (embedding,)

        def score(self, candidate, context):
            return 0.0

        def select(self, context):
            seen.append(([c.row_id for c in context.labelled], dict(context.labels)))
            assert all(c.signals[embedding].shape == (32,) for c in context.labelled)
            ids = [c.row_id for c in context.candidates[: context.n]]
            return SelectionResult(ids, {c.row_id: 0.0 for c in context.candidates}, {})

    seeds = [{"text": "Are there 7 more?", "label": "birds"}]
    args = {**ROUNDS, "random_share": 0.0, "candidates_per_round": -1}
    trainer = build(str(tmp_path), {"args": args}, selection=Looks(), train_dataset=seeds)
    trainer.train()
    assert len(seen[0][0]) == 1 and len(seen[1][0]) == 9
    truth = {trainer.data.pool.rows[row_id].prompt: label for row_id, label in list(seen[1][1].items())[1:]}
    assert truth == {text: label for label, text in TEXTS[:8]}


# ---------------------------------------------------------------- the gate on answers


class Sure(RuleAnnotation):
    """Sure of some labels only."""

    def __init__(self, levels):
        super().__init__(TASK, lambda label, text: levels[label] + 0.1 * share_of(text))


def test_unsure_answers_are_paid_for_and_not_trained_on(tmp_path):
    trainer = build(str(tmp_path), {"args": {**ROUNDS, "min_confidence": 0.75}})
    trainer.train()
    annotations = trainer.book.annotations()
    assert len(annotations) == 16
    for annotation in annotations:
        rejected = annotation.confidence < 0.75
        assert annotation.status == ("failed" if rejected else "ok")
        assert annotation.reason == ("low_confidence" if rejected else None)
        assert annotation.usage.calls == 1
        assert (annotation.label is None) == rejected and annotation.distribution is not None
    rejected = [annotation.row_id for annotation in annotations if annotation.status == "failed"]
    assert rejected and len(trainer.training_rows) == 16 - len(rejected)
    assert not set(rejected) & set(trainer.data.pool.available())
    assert sum(row["rejected"] for row in figures(trainer)[1:]) == len(rejected)
    # All rows were drawn at random here: the audit counts what was rejected, too.
    assert [row["audit_labelled"] for row in figures(trainer)[1:]] == [8, 8]
    assert figures(trainer)[-1]["total_teacher_calls"] == 16


def test_the_moving_threshold_is_a_fold_over_the_rounds(tmp_path):
    """By hand: with momentum 0.5 and answers in batches of eight, tau(k) = g l(k) / max l, moved before it is used."""
    options = {"args": {**ROUNDS, "answer_gate": True, "answer_gate_kwargs": {"momentum": 0.5}}}
    trainer = build(str(tmp_path), options)
    trainer.train()
    g, own = [0.0, 0.0], {label: [0.0, 0.0] for label in LABELS}

    def move(average, new):
        average[0], average[1] = 0.5 * average[0] + 0.5 * new, 0.5 * average[1] + 0.5

    kept = []
    for record in trainer.book.records.values():
        answers = record.annotations
        figures_of_round = trainer.book.store.read_metrics(record.round)
        for label in LABELS:
            given = [a.status == "ok" for a in answers if a.answer == label]
            assert figures_of_round[f"kept_share/{label}"] == (sum(given) / len(given) if given else None)
        move(g, np.mean([a.confidence for a in answers]))
        for label in LABELS:
            mine = [a.confidence for a in answers if a.answer == label]
            if mine:
                move(own[label], np.mean(mine))
        l_k = {label: average[0] / average[1] for label, average in own.items() if average[1]}
        for a in answers:
            kept.append(a.confidence >= g[0] / g[1] * l_k[a.answer] / max(l_k.values()))
    assert kept == [a.status == "ok" for a in trainer.book.annotations()]
    assert 0 < sum(kept) < len(kept)
    # What a resumed run folds out of the rounds on the disk is the same.
    again = build(str(tmp_path), {"args": {**options["args"], "num_rounds": 3}})
    again.train(resume_from_checkpoint=True)
    assert [a.status for a in again.book.annotations()][:16] == [a.status for a in trainer.book.annotations()]


def test_class_collapse_is_told_with_its_cure_and_own_thresholds_prevent_it(tmp_path, caplog):
    levels = {"birds": 0.9, "numbers": 0.6, "answers": 0.6}
    args = {"min_confidence": 0.8}
    with caplog.at_level(logging.WARNING):
        trainer = build(str(tmp_path / "fixed"), {"args": args}, annotation=Sure(levels))
        trainer.train()
    assert {annotation.label for _, annotation in trainer.training_rows.examples} == {"birds"}
    told = [record.getMessage() for record in caplog.records if "sure enough" in record.getMessage()]
    assert len(told) == 1
    assert "numbers, answers" in told[0] and "class_factor" in told[0] and "min_class_share" in told[0]
    caplog.clear()
    args = {"answer_gate": True, "answer_gate_kwargs": {"class_factor": "own"}}
    with caplog.at_level(logging.WARNING):
        trainer = build(str(tmp_path / "own"), {"args": args}, annotation=Sure(levels))
        trainer.train()
    counts = dict.fromkeys(LABELS, 0)
    for _, annotation in trainer.training_rows.examples:
        counts[annotation.label] += 1
    assert min(counts.values()) >= 4
    assert "sure enough" not in caplog.text


def test_a_training_gate_that_starves_a_class_is_told(tmp_path, caplog):
    levels = {"birds": 0.9, "numbers": 0.5, "answers": 0.5}
    args = {"gate": "teacher", "gate_kwargs": {"class_factor": "none"}, "num_train_epochs": 2}
    with caplog.at_level(logging.WARNING):
        trainer = build(str(tmp_path / "none"), {"args": args}, annotation=Sure(levels))
        trainer.train()
    assert trainer.gating.stream.gate.kept[1:] == [0, 0]
    assert "The gate keeps hardly any row: numbers, answers" in caplog.text
    caplog.clear()
    args["gate_kwargs"] = {"class_factor": "none", "min_class_share": 0.5}
    with caplog.at_level(logging.WARNING):
        trainer = build(str(tmp_path / "quota"), {"args": args}, annotation=Sure(levels))
        trainer.train()
    assert min(trainer.gating.stream.gate.kept) > 10
    assert "The gate keeps" not in caplog.text


class Elsewhere(RuleAnnotation):
    """A teacher that would rather say something else than a label, to some rows."""

    def __init__(self, share):
        super().__init__(TASK)
        self.share = share

    async def annotate(self, item, ask):
        found = await super().annotate(item, ask)
        if share_of(str(found.prompt)) < self.share:
            return replace(found, status="failed", reason="outside_labels", label=None, completion=None)
        return found


def test_a_teacher_that_answers_outside_of_the_labels_is_told_about(tmp_path, caplog):
    with pytest.raises(TeacherError, match="none of 48 rows.*descriptions.*demonstrations.*abstain.*min_mass"):
        build(str(tmp_path / "all"), {}, annotation=Elsewhere(2.0)).train()
    with caplog.at_level(logging.WARNING):
        build(str(tmp_path / "half"), {}, annotation=Elsewhere(0.5)).train()
        build(str(tmp_path / "few"), {}, annotation=Elsewhere(0.05)).train()
    told = [record.getMessage() for record in caplog.records if "outside_labels" in record.getMessage()]
    assert len(told) == 1 and "of 48 rows" in told[0] and "descriptions" in told[0]


def test_rows_of_one_label_alone_are_told_about(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        one = [{"text": text} for label, text in TEXTS if label == "birds"] * 2
        other = [{"text": f"There are {i} birds and {i} more come."} for i in range(20)]
        birds = RuleAnnotation(TASK)
        trainer = build(
            str(tmp_path), {}, pool_dataset=one[:16] + other, annotation=birds, teacher=lambda m, p: "birds"
        )
        trainer.train()
    assert "training rows have one label: birds" in caplog.text and "train_dataset" in caplog.text


# ---------------------------------------------------------------- targets and losses


def test_class_weights_and_soft_labels(tmp_path):
    """The first logged loss, by hand, without dropout and with a learning rate too small to matter."""
    args = {"learning_rate": 1e-12, "per_device_train_batch_size": 48, "eval_strategy": "no", "eval_on_start": False}

    def first_loss(name, **extra):
        trainer = build(str(tmp_path / name), {"dropout": 0.0, "args": {**args, **extra}})
        trainer.train()
        return trainer, trainer.state.log_history[0]["loss"]

    trainer, loss = first_loss("plain")
    with torch.no_grad():
        model, tokenizer = trainer.model.eval(), trainer.processing_class
        examples = trainer.training_rows.examples
        logits = torch.stack([model(**tokenizer(row.prompt, return_tensors="pt")).logits[0] for row, _ in examples])
    logp = torch.log_softmax(logits.double(), -1)
    targets = torch.tensor([LABELS.index(annotation.label) for _, annotation in examples])
    own = -logp[torch.arange(48), targets]
    assert loss == pytest.approx(own.mean().item(), rel=1e-4)
    factors = torch.tensor([3.0, 1.0, 0.5])
    _, weighted = first_loss("weighted", class_weights={"Birds": 3.0, "answers": 0.5})
    assert weighted == pytest.approx((factors[targets] * own).mean().item(), rel=1e-4)
    _, balanced = first_loss("balanced", class_weights="balanced")
    assert balanced == pytest.approx(loss, rel=1e-4)  # all labels are as frequent
    soft = torch.tensor([[a.distribution[label] for label in LABELS] for _, a in examples])
    _, found = first_loss("soft", soft_labels=True)
    assert found == pytest.approx(-(soft * logp).sum(-1).mean().item(), rel=1e-4)
    smooth = 0.9 * torch.nn.functional.one_hot(targets, 3) + 0.1 / 3
    _, found = first_loss("smooth", label_smoothing_factor=0.1)
    assert found == pytest.approx(-(smooth * logp).sum(-1).mean().item(), rel=1e-4)


@pytest.mark.parametrize("wish", [{"Birds": 3.0, "answers": 0.5}, "balanced"], ids=str)
@pytest.mark.parametrize("parts", [1, 3])
def test_class_weights_of_a_student_that_writes_its_label(tmp_path, wish, parts):
    """The first logged loss, by hand: of each row the label's own -log p, not the mean of its tokens."""
    pool = [{"text": text} for label, text in TEXTS if label != "birds"] + [{"text": text} for _, text in TEXTS[:12:3]]
    args = {"learning_rate": 1e-12, "samples_per_round": 36, "class_weights": wish}
    args |= {"per_device_train_batch_size": 36 // parts, "gradient_accumulation_steps": parts}
    options = {"causal": True, "dropout": 0.0, "args": {**args, "eval_strategy": "no", "eval_on_start": False}}
    trainer = build(str(tmp_path), options, pool_dataset=pool)
    trainer.train()
    model, examples, total = trainer.model.eval(), trainer.training_rows.examples, 0.0
    counts = Counter(annotation.label for _, annotation in examples)
    assert counts == {"birds": 4, "numbers": 16, "answers": 16}
    factors = {name: 36 / (3 * count) for name, count in counts.items()}
    if wish != "balanced":
        factors = {"birds": 3.0, "numbers": 1.0, "answers": 0.5}
    for row, (_, annotation) in zip(trainer.training_rows.rows, examples, strict=True):
        ids = torch.tensor(row["input_ids"])
        with torch.no_grad():
            logp = torch.log_softmax(model(ids[None]).logits[0].double(), -1)
        written = [t for t, target in enumerate(row["labels"]) if target != -100]
        total -= factors[annotation.label] * sum(logp[t - 1, ids[t]].item() for t in written)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(total / 36, rel=1e-4)


def test_class_weights_and_a_gate_of_a_student_that_writes_its_label(tmp_path):
    """A gate that keeps all rows, each with the weight 1: the loss is that without a gate."""
    args = {"learning_rate": 1e-12, "per_device_train_batch_size": 48, "class_weights": {"birds": 3.0}}
    args |= {"eval_strategy": "no", "eval_on_start": False}
    losses = []
    for gate in ({}, {"gate": "off", "gate_kwargs": {"combine": "one"}}):
        folder = str(tmp_path / f"run{len(losses)}")
        trainer = build(folder, {"causal": True, "dropout": 0.0, "args": {**args, **gate}})
        trainer.train()
        losses.append(trainer.state.log_history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_class_weights_want_the_classes_from_a_collator_of_ones_own(tmp_path):
    def collate(rows):
        width = max(len(row["input_ids"]) for row in rows)
        fills = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        return {
            name: torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])
            for name, fill in fills.items()
        }

    trainer = build(str(tmp_path), {"causal": True, "args": {"class_weights": "balanced"}}, data_collator=collate)
    with pytest.raises(ConfigurationError, match="data_collator.*classes"):
        trainer.train()


class Shouting(RuleAnnotation):
    """Writes a label as it likes."""

    async def annotate(self, item, ask):
        found = await super().annotate(item, ask)
        return replace(found, label=found.label.upper()) if share_of(str(found.prompt)) < 0.5 else found


def test_balanced_weights_count_labels_however_they_are_written(tmp_path):
    task = get_task("classification", labels=LABELS)
    trainer = build(str(tmp_path), {"args": {"class_weights": "balanced"}}, annotation=Shouting(task))
    trainer.train()
    assert trainer.row_loss._class_weights.values.tolist() == [1.0, 1.0, 1.0]


def test_one_tokenizer_serves_students_of_different_lengths(tmp_path):
    tokenizer, lengths = tiny_tokenizer(), []
    before = tokenizer.model_max_length
    for positions in (66, 258):
        trainer = ActiveDistillationTrainer(
            tiny_classifier("roberta", 3, max_position_embeddings=positions),
            ActiveDistillationConfig(output_dir=str(tmp_path / str(positions)), report_to="none", samples_per_round=8),
            POOL,
            teacher,
            task=TASK,
            processing_class=tokenizer,
        )
        lengths.append(trainer.processing_class.model_max_length)
    assert lengths == [63, 255] and tokenizer.model_max_length == before


class ManyLabels:
    name = "many"
    needs_explanation = False

    def __init__(self, task):
        self.task = task

    async def annotate(self, item, ask):
        text = item.row.prompt
        labels = [label for label in LABELS if label[:-1] in text or label == "answers" and "4" in text]
        holds = {label: 0.9 if label in labels else 0.1 for label in LABELS}
        answer = self.task.join(labels)
        return Annotation(
            item.row.row_id, "many", "ok", text, answer=answer, labels=labels, distribution=holds, confidence=0.9
        )

    def plan(self, item):
        return [[], []]


def test_several_labels(tmp_path):
    task = get_task("classification", labels=LABELS, multi_label=True)
    args = ActiveDistillationConfig(
        output_dir=str(tmp_path),
        num_rounds=1,
        samples_per_round=48,
        selection="random",
        num_train_epochs=25,
        per_device_train_batch_size=8,
        learning_rate=1e-2,
        report_to="none",
        disable_tqdm=True,
    )
    evaluated = [
        {"text": "There are 4 birds and 4 more come.", "labels": ["birds", "answers"]},
        {"text": "There are 3 birds and 3 more come.", "labels": ["birds"]},
        {"text": "Is 3 right? Answer yes or no: 3", "labels": []},
        {"text": "Is 4 right? Answer yes or no: 4", "labels": ["answers"]},
    ]
    trainer = ActiveDistillationTrainer(
        tiny_classifier("bert", std=0.1),
        args,
        POOL,
        teacher,
        eval_dataset=evaluated,
        processing_class=tiny_tokenizer(),
        task=task,
        annotation=ManyLabels(task),
    )
    assert trainer.model.config.problem_type == "multi_label_classification"
    trainer.train()
    first, last = figures(trainer)
    assert last["eval_micro_f1"] > first["eval_micro_f1"]
    for row, (_, annotation) in zip(trainer.training_rows.rows, trainer.training_rows.examples, strict=True):
        assert row["labels"] == [float(label in annotation.labels) for label in LABELS]
    with pytest.raises(ConfigurationError, match="one label a row"):
        ActiveDistillationTrainer(
            tiny_classifier("bert"),
            ActiveDistillationConfig(output_dir=str(tmp_path), samples_per_round=4, gate="llkd", report_to="none"),
            POOL,
            teacher,
            processing_class=tiny_tokenizer(),
            task=task,
            annotation=ManyLabels(task),
        )


# ---------------------------------------------------------------- evaluation


def test_two_texts_a_metric_of_ones_own_and_the_best_model_by_macro_f1(tmp_path):
    task = get_task("classification", labels=LABELS, text_columns=("first", "second"))
    pairs = [{"first": text, "second": "pair"} for _, text in TEXTS]
    held = [{"first": row["text"], "second": "pair", "label": LABELS.index(row["label"])} for row in EVAL]

    def own(prediction):
        assert prediction.predictions.shape == (12, 3) and prediction.label_ids.shape == (12,)
        return {"own": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}

    args = ActiveDistillationConfig(
        output_dir=str(tmp_path),
        num_rounds=2,
        samples_per_round=24,
        selection="random",
        per_device_train_batch_size=8,
        learning_rate=5e-3,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        plateau_patience=5,
        report_to="none",
        disable_tqdm=True,
        num_train_epochs=4,
    )
    trainer = ActiveDistillationTrainer(
        tiny_classifier("bert", std=0.1),
        args,
        pairs,
        teacher,
        eval_dataset={"a": held, "b": held},
        processing_class=tiny_tokenizer(),
        task=task,
        annotation=RuleAnnotation(task),
        compute_metrics=own,
    )
    assert trainer.plan().prompts["student"].endswith("\npair")
    trainer.train()
    last = figures(trainer)[-1]
    assert last["eval_a_own"] == last["eval_a_accuracy"] == last["eval_b_accuracy"] == last["eval_accuracy"]
    assert last["eval_macro_f1"] == last["eval_a_macro_f1"]
    assert trainer.state.best_metric == max(row["eval_macro_f1"] for row in figures(trainer)[1:])


def test_teacher_answers_for_the_evaluation(tmp_path):
    held = [{"text": text} for _, text in TEXTS[:6]]
    args = {**ROUNDS, "eval_with_teacher": True}
    trainer = build(str(tmp_path), {"args": args}, eval_dataset=held, pool_dataset=POOL[6:])
    trainer.train()
    assert [row.reference for row in trainer.data.eval_parts[""]] == [label for label, _ in TEXTS[:6]]
    assert json.loads((tmp_path / "eval_confusion.json").read_text())["readers"] == ["teacher", "student"]


def test_references_are_compared_as_the_task_writes_them(tmp_path):
    """A method of a user's own writes the teacher's answers for the evaluation as it likes."""
    held = [{"text": text} for _, text in TEXTS[:12]]
    args = {**ROUNDS, "eval_with_teacher": True}
    options = {"eval_dataset": held, "pool_dataset": POOL[12:], "annotation": Shouting(TASK)}
    build(str(tmp_path), {"args": args}, **options).train()
    counts = json.loads((tmp_path / "eval_confusion.json").read_text())["counts"]
    apart = [json.loads(line) for line in (tmp_path / "eval_disagreements.jsonl").read_text().splitlines()]
    assert len(apart) == np.sum(counts) - np.trace(counts)
    assert all(line["teacher_label"] in LABELS for line in apart)


def test_where_teacher_and_student_disagree(tmp_path):
    trainer = build(str(tmp_path), {})
    trainer.train()
    confusion = json.loads((tmp_path / "confusion.json").read_text())
    assert page_data(tmp_path / "report/index.html")["review"]["rows"] == 48
    assert np.sum(confusion["counts"]) == 48 and confusion["labels"] == LABELS
    assert np.sum(confusion["counts"], axis=1).tolist() == [16, 16, 16]
    lines = [json.loads(line) for line in (tmp_path / "disagreements.jsonl").read_text().splitlines()]
    assert len(lines) == 48 - np.trace(confusion["counts"])
    assert all(line["teacher_label"] != line["student_label"] for line in lines)
    held = json.loads((tmp_path / "eval_confusion.json").read_text())
    assert held["readers"] == ["reference", "student"] and np.sum(held["counts"], axis=1).tolist() == [4, 4, 4]
    assert np.trace(held["counts"]) / 12 == pytest.approx(figures(trainer)[-1]["eval_accuracy"])
    apart = [json.loads(line) for line in (tmp_path / "eval_disagreements.jsonl").read_text().splitlines()]
    references = {row.row_id: row.reference for row in trainer.data.eval_parts[""]}
    assert len(apart) == 12 - np.trace(held["counts"])
    assert all(references[line["row_id"]] == line["teacher_label"] != line["student_label"] for line in apart)


def test_a_student_with_one_answer_is_told(tmp_path, caplog):
    args = {"learning_rate": 1e-9}
    with caplog.at_level(logging.WARNING):
        trainer = build(str(tmp_path), {"args": args})
        with torch.no_grad():
            trainer.model.classifier.out_proj.bias += torch.tensor([9.0, 0.0, 0.0])
        trainer.train()
    assert "answers every evaluation row with 'birds'" in caplog.text and "class_weights='balanced'" in caplog.text


# ---------------------------------------------------------------- what is saved


def test_the_saved_student_is_a_pipeline_with_the_tasks_labels(tmp_path):
    trainer = build(str(tmp_path), {})
    trainer.train()
    trainer.save_model(str(tmp_path / "student"))
    classify = pipeline("text-classification", model=str(tmp_path / "student"), top_k=None)
    texts = [row["text"] for row in EVAL]
    request = SignalRequest.of("probabilities")
    with trainer.open_student() as student:
        rows = [TASK.read_row(row) for row in EVAL]
        expected = [c.signals[request] for c in student.candidates(rows, [request])]
    for found, row in zip(classify(texts), expected, strict=True):
        scores = {entry["label"]: entry["score"] for entry in found}
        np.testing.assert_allclose([scores[label] for label in LABELS], row, atol=1e-5)


def test_calibration_is_folded_into_what_is_saved(tmp_path):
    trainer = build(str(tmp_path), {"args": {"num_train_epochs": 3}})
    trainer.train()
    before = trainer.evaluate()
    logits = trainer.kind.signal

    def read():
        with trainer.open_student() as student:
            rows = [TASK.read_row(row) for row in EVAL]
            return np.stack([c.signals[logits] for c in student.candidates(rows, [logits])])

    raw = read()
    temperature = trainer.calibrate(EVAL)
    np.testing.assert_allclose(read(), raw / temperature, atol=1e-5)
    assert trainer.evaluate()["eval_accuracy"] == before["eval_accuracy"]
    trainer.save_model(str(tmp_path / "student"))
    again = AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "student"))
    assert torch.equal(again.classifier.out_proj.weight, trainer.model.classifier.out_proj.weight)
    with pytest.raises(ConfigurationError, match="classification head"):
        build(str(tmp_path / "causal"), {"causal": True}).calibrate(EVAL)


def load(path, model, **args):
    config = ActiveDistillationConfig(
        output_dir=str(path / "run"),
        task="classification",
        task_kwargs={"labels": LABELS},
        samples_per_round=4,
        report_to="none",
        **args,
    )
    return ActiveDistillationTrainer(model, config, POOL, teacher)


def test_a_student_given_by_name(tmp_path):
    """A bare encoder gets a head; one with these labels in another order keeps its own; one with others is refused."""
    tiny_tokenizer().save_pretrained(tmp_path / "bare")
    tiny_classifier("bert").bert.save_pretrained(tmp_path / "bare")
    trainer = load(tmp_path, str(tmp_path / "bare"))
    assert trainer.model.config.id2label == dict(enumerate(LABELS))
    assert trainer.model.classifier.out_features == 3
    assert trainer.model.config.problem_type == "single_label_classification"

    tiny_tokenizer().save_pretrained(tmp_path / "named")
    named = tiny_classifier("bert")
    named.config.id2label = {0: "answers", 1: "Birds", 2: "numbers"}
    named.config.label2id = {"answers": 0, "Birds": 1, "numbers": 2}
    named.save_pretrained(tmp_path / "named")
    trainer = load(tmp_path, str(tmp_path / "named"))
    assert torch.equal(trainer.model.classifier.weight, named.classifier.weight[[1, 2, 0]])
    assert trainer.model.config.id2label == dict(enumerate(LABELS))

    named.config.id2label = {0: "cats", 1: "Birds", 2: "numbers"}
    named.config.label2id = {"cats": 0, "Birds": 1, "numbers": 2}
    named.save_pretrained(tmp_path / "named")
    with pytest.raises(ConfigurationError, match="cats.*ignore_mismatched_sizes"):
        load(tmp_path, str(tmp_path / "named"))
    fresh = load(tmp_path, str(tmp_path / "named"), model_init_kwargs={"ignore_mismatched_sizes": True})
    assert fresh.model.config.id2label == dict(enumerate(LABELS))


def test_a_decoder_given_by_name_writes_its_label_unless_told_otherwise(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path / "decoder")
    tiny_model("llama").save_pretrained(tmp_path / "decoder")
    assert load(tmp_path, str(tmp_path / "decoder")).model.can_generate()
    headed = load(tmp_path, str(tmp_path / "decoder"), student_type="sequence_classification")
    assert headed.model.score.out_features == 3
    assert headed.model.config.pad_token_id == headed.processing_class.pad_token_id


def test_an_adapter(tmp_path):
    from peft import LoraConfig

    adapter = {"r": 4, "target_modules": ["query", "value"]}
    settings = {"args": {**ROUNDS, "num_train_epochs": 8, "gate": "llkd"}}
    with pytest.raises(ConfigurationError, match="task_type='SEQ_CLS'"):
        load_with(tmp_path / "wrong", LoraConfig(**adapter), settings)
    trainer = load_with(tmp_path / "right", LoraConfig(task_type="SEQ_CLS", **adapter), settings)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert any("classifier" in name for name in moved)
    assert all("lora" in name or "modules_to_save" in name for name in moved)


def load_with(path, peft_config, settings):
    args = ActiveDistillationConfig(
        output_dir=str(path),
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        selection="random",
        per_device_train_batch_size=8,
        **settings["args"],
    )
    return ActiveDistillationTrainer(
        tiny_classifier("roberta"),
        args,
        POOL,
        teacher,
        processing_class=tiny_tokenizer(),
        task=TASK,
        annotation=RuleAnnotation(TASK),
        peft_config=peft_config,
    )


# ---------------------------------------------------------------- what is refused and what is told


def test_labels_left_in_the_pool_are_told_and_unused(tmp_path):
    labelled = [{"text": text, "label": label} for label, text in TEXTS]
    with pytest.warns(UserWarning, match="holds labels in 48 of 48 rows.*not used"):
        trainer = build(str(tmp_path), {}, pool_dataset=labelled)
    assert all(row.reference is None for row in trainer.data.pool.rows.values())


def test_long_texts_are_counted_and_told_once(tmp_path, caplog):
    long = [{"text": f"{text} {'birds ' * (60 if i % 4 == 0 else 0)}"} for i, (_, text) in enumerate(TEXTS)]

    class AnyText(RuleAnnotation):
        async def annotate(self, item, ask):
            label = next(label for label, text in TEXTS if item.row.prompt.startswith(text))
            prompt = self.task.student_prompt(item.row)
            return Annotation(item.row.row_id, "rule", "ok", prompt, answer=label, label=label, confidence=0.9)

    with caplog.at_level(logging.WARNING):
        trainer = build(str(tmp_path), {"args": ROUNDS}, pool_dataset=long, annotation=AnyText(TASK))
        trainer.train()
    told = [record.getMessage() for record in caplog.records if "longer than the student can take" in record.message]
    assert len(told) == 1 and "(64 tokens)" in told[0]
    assert max(len(row["input_ids"]) for row in trainer.training_rows.rows) == 64


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        ({"eval_dataset": [{"text": "x", "label": "cats"}]}, "`eval_dataset`, row 0.*'cats' is no label.*birds"),
        ({"eval_dataset": [{"text": "x"}]}, "no reference answer"),
        ({"train_dataset": [{"text": "x"}]}, "`train_dataset`, row 0.*no label"),
        ({"options": {"args": {"annotation": "clear"}}, "annotation": None}, "annotation='label'"),
        ({"options": {"args": {"class_weights": {"cats": 2.0}}}}, "'cats' is no label"),
        ({"options": {"args": {"class_weights": {"birds": -1}}}}, "below 0"),
        ({"options": {"args": {"soft_labels": True}, "causal": True}}, "sequence_classification"),
        (
            {"options": {"args": {"class_weights": "balanced", "label_smoothing_factor": 0.1}, "causal": True}},
            "label_smoothing_factor",
        ),
        ({"options": {"args": {"class_weights": "balanced"}}, "compute_loss_func": sum}, "leave one"),
        (
            {
                "options": {"args": {"class_weights": "balanced", "annotation": "cot"}, "causal": True},
                "annotation": None,
            },
            "teaches explanations.*annotation='label'",
        ),
        (
            {"options": {"args": {"gate": "llkd", "completion_only_loss": False}, "causal": True}},
            "completion_only_loss",
        ),
        ({"options": {"args": {"remove_unused_columns": True}}}, "leave it out"),
        ({"options": {"args": {"answer_gate": True, "answer_gate_kwargs": {"speed": 1}}}}, "speed"),
        ({"options": {"args": {"min_confidence": 7.0}}}, "between 0 and 1"),
        ({"options": {"args": {"student_type": "tree"}}}, "causal_lm"),
    ],
    ids=str,
)
def test_bad_input(tmp_path, change, cure):
    change = dict(change)
    with pytest.raises((ConfigurationError, DataError), match=cure):
        build(str(tmp_path), change.pop("options", {}), **change)


@pytest.mark.parametrize("setting", [{"class_weights": "balanced"}, {"soft_labels": True}], ids=str)
def test_a_student_that_writes_explanations_has_no_labels_to_weigh(tmp_path, setting):
    with pytest.raises(ConfigurationError, match="about labels.*task='classification'"):
        ActiveDistillationTrainer(
            tiny_model(),
            ActiveDistillationConfig(output_dir=str(tmp_path), report_to="none", **setting),
            [{"question": "What is 1 + 1?"}],
            teacher,
            processing_class=tiny_tokenizer(),
        )


def test_a_label_set_of_one_and_a_task_without_labels(tmp_path):
    with pytest.raises(ConfigurationError, match="at least two labels"):
        get_task("classification", labels=["birds"])
    with pytest.raises(ConfigurationError, match="label set.*task='classification'"):
        ActiveDistillationTrainer(
            tiny_classifier("bert"),
            ActiveDistillationConfig(output_dir=str(tmp_path), report_to="none"),
            POOL,
            teacher,
            processing_class=tiny_tokenizer(),
        )
    with pytest.raises(ConfigurationError, match="`min_confidence`.*task='classification'"):
        ActiveDistillationTrainer(
            tiny_model("llama"),
            ActiveDistillationConfig(
                output_dir=str(tmp_path), samples_per_round=4, min_confidence=0.5, report_to="none"
            ),
            [{"prompt": row["text"]} for row in POOL],
            teacher,
            processing_class=tiny_tokenizer(),
        )


def test_seed_rows_and_prompt_completion_seeds(tmp_path):
    seeds = [
        {"text": "Are there 7 more?", "label": 1},
        {"prompt": "Is it 7?", "completion": "Label: answers"},
    ]
    trainer = build(str(tmp_path), {"args": ROUNDS}, train_dataset=seeds)
    assert [(a.label, a.confidence) for a in trainer.data.seed_annotations] == [("numbers", 1.0), ("answers", 1.0)]
    trainer.train()
    assert [row["labels"] for row in trainer.training_rows.rows[:2]] == [1, 2]
