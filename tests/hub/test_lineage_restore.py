"""A run that goes on from any of its rounds, in another folder, ends as the run that was never stopped."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import label_run
import pytest
from helpers_models import tiny_model
from lineage_helpers import Asked, assert_same_rounds, assert_same_run, run
from safetensors import safe_open
from tiny_run import EVAL, build

from hf_active_distill import ActiveDistillationTrainer
from hf_active_distill.errors import CheckpointError, LineageError
from hf_active_distill.trainer.lineage import LineageCallback, configuration_of, secrets_of


SEEDS = [{"prompt": f"How much is {i} and 1?", "completion": f"add them\n#### {i + 1}"} for i in range(200, 203)]

KINDS = {
    "continue": {},
    "restart": {"args": {"round_start": "restart"}},
    "adapter": {"peft": True, "args": {"lr_scheduler_type": "cosine_with_restarts"}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_from_every_round_the_run_ends_the_same(kind, tmp_path):
    options = KINDS[kind]
    lineage, teacher = tmp_path / "lineage", Asked()
    args = {**options.get("args", {}), "lineage_dir": str(lineage)}
    whole = run(tmp_path / "whole", teacher, **{**options, "args": args})
    assert whole.lineage.pusher.error is None
    asked_by_round = [sum(record.usage.calls for record in whole.book.store.records()[: r + 1]) for r in range(3)]
    for round_index in (0, 1):
        going_on = Asked()
        trainer = ActiveDistillationTrainer.from_round(
            lineage,
            f"round-{round_index:03d}",
            output_dir=str(tmp_path / f"from-{round_index}"),
            teacher=going_on,
            eval_dataset=EVAL,
            **({"model": tiny_model("llama", seed=1, attention_dropout=0.1)} if kind == "adapter" else {}),
        )
        assert trainer.args.seed == 7 and trainer.args.round_start == whole.args.round_start
        trainer.train()
        assert_same_run(whole, trainer)
        # What was answered before is not asked again: it stands in the journal.
        assert len(going_on.requests) == asked_by_round[-1] - asked_by_round[round_index]
        assert not Counter(going_on.requests) - Counter(teacher.requests)


def test_a_restored_run_is_pushed_behind_the_round_it_came_from(tmp_path):
    args = {"lineage_dir": str(tmp_path / "lineage")}
    whole = run(tmp_path / "whole", args={**args, "num_rounds": 2})
    trainer = ActiveDistillationTrainer.from_round(
        tmp_path / "lineage",
        "1",
        args=type(whole.args)(
            **{**configuration_of(whole.args), "output_dir": str(tmp_path / "on"), "num_rounds": 3, **args}
        ),
        teacher=Asked(),
        eval_dataset=EVAL,
    )
    trainer.train()
    assert trainer.lineage.pusher.error is None
    assert sorted(path.name for path in (tmp_path / "lineage/student").glob("round-*")) == [
        "round-000",
        "round-001",
        "round-002",
    ]
    assert len(list((tmp_path / "lineage/annotations/round-002/annotations").iterdir())) == 3


def test_a_restored_run_under_another_name_brings_all_rows_along(tmp_path):
    run(tmp_path / "whole", args={"lineage_dir": str(tmp_path / "lineage"), "num_rounds": 2})
    trainer = ActiveDistillationTrainer.from_round(
        tmp_path / "lineage", "0", output_dir=str(tmp_path / "on"), teacher=Asked(), eval_dataset=EVAL
    )
    # As with `args=`: where rounds go is not part of a round.
    trainer.args.lineage_dir = str(tmp_path / "other")
    trainer.lineage = LineageCallback(trainer)
    trainer.add_callback(trainer.lineage)
    trainer.train()
    assert trainer.lineage.pusher.error is None
    assert [path.name for path in (tmp_path / "other/student").glob("round-*")] == ["round-001"]
    tables = tmp_path / "other/annotations/round-001/annotations"
    assert sorted(path.name for path in tables.iterdir()) == ["round-000.parquet", "round-001.parquet"]
    assert (tmp_path / "other/pool/round-001/rows").is_dir()
    again = ActiveDistillationTrainer.from_round(
        tmp_path / "other", "1", output_dir=str(tmp_path / "again"), teacher=Asked(), eval_dataset=EVAL
    )
    again.train()
    assert_same_rounds(trainer, again)


def test_without_the_original_folder_and_without_its_data(tmp_path, monkeypatch):
    """Seed rows, teacher-made references and the pool come along."""
    monkeypatch.setattr("tiny_run.EVAL", [{"prompt": row["prompt"]} for row in EVAL])
    options = {"args": {"lineage_dir": str(tmp_path / "lineage"), "eval_with_teacher": True, "num_rounds": 2}}
    first = Asked()
    trainer = build(str(tmp_path / "first"), first, options, train_dataset=SEEDS)
    trainer.train()
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "first", kept)
    shutil.rmtree(tmp_path / "first")
    second = Asked()
    again = ActiveDistillationTrainer.from_round(
        tmp_path / "lineage",
        "round-000",
        output_dir=str(tmp_path / "second"),
        teacher=second,
        eval_dataset=[{"prompt": row["prompt"]} for row in EVAL],
    )
    again.train()
    assert [row.prompt for row in again.data.seed_rows] == [row["prompt"] for row in SEEDS]
    assert not set(second.requests) & set(first.requests[: len(EVAL)])  # references were asked for once
    for name in ("annotations.jsonl", "scores.jsonl", "metrics.json"):
        path = f"rounds/round-001/{name}"
        assert (tmp_path / "second" / path).read_text() == (kept / path).read_text()


def test_what_travels_is_safe_and_whole(tmp_path):
    run(tmp_path / "run", args={"lineage_dir": str(tmp_path / "lineage"), "num_rounds": 1})
    student = (tmp_path / "lineage/student/round-000").resolve()
    names = {path.relative_to(student).as_posix() for path in student.rglob("*") if path.is_file()}
    assert {"model.safetensors", "training_state/random.safetensors", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
    with safe_open(student / "training_state/optimizer.safetensors", "pt") as tensors:
        assert len(list(tensors.keys())) > 10
    info = json.loads((student / "round.json").read_text())
    assert info["spent"]["calls"] > 0 and info["settings"]["seed"] == 7 and info["teachers"]
    assert set(info["commits"]) == {"pool", "annotations"}


def test_what_cannot_be_restored_says_why(tmp_path):
    args = {"lineage_dir": str(tmp_path / "lineage"), "num_rounds": 1}
    run(tmp_path / "run", args=args)
    with pytest.raises(LineageError, match="has no round `round-007`. It has: round-000"):
        ActiveDistillationTrainer.from_round(tmp_path / "lineage", "7", output_dir=str(tmp_path / "new"))
    with pytest.raises(LineageError, match="is not empty"):
        ActiveDistillationTrainer.from_round(tmp_path / "lineage", "0", output_dir=str(tmp_path / "run"))
    with pytest.raises(LineageError, match="holds no lineage"):
        ActiveDistillationTrainer.from_round(tmp_path / "nowhere", "0", output_dir=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
    trainer = ActiveDistillationTrainer.from_round(
        tmp_path / "lineage", "0", output_dir=str(tmp_path / "new"), teacher=Asked(), selection="random"
    )
    trainer.args.samples_per_round = 5
    with pytest.raises(CheckpointError, match="samples_per_round was 4, is 5"):
        trainer.train()


def test_a_student_that_answers_with_labels_behind_a_gate(tmp_path):
    """Its heads, the rows as its task reads them, and the moving averages of the gate come along."""
    args = {"num_rounds": 3, "samples_per_round": 8, "gate": "teacher", "lineage_dir": str(tmp_path / "lineage")}
    seeds = [{"text": "There are 3 birds.", "label": "birds"}, {"text": "First add 4.", "label": "numbers"}]
    whole = label_run.build(str(tmp_path / "whole"), {"args": args}, train_dataset=seeds)
    whole.train()
    assert whole.lineage.pusher.error is None
    again = ActiveDistillationTrainer.from_round(
        tmp_path / "lineage",
        "round-001",
        output_dir=str(tmp_path / "again"),
        teacher=label_run.teacher,
        eval_dataset=label_run.EVAL,
        annotation=label_run.RuleAnnotation(whole.task),
        task=whole.task,
    )
    again.train()
    assert again.data.seeds == whole.data.seeds
    assert_same_run(whole, again)


def test_a_round_that_could_not_be_pushed_waits_for_the_next_try(tmp_path):
    (tmp_path / "taken").write_text("a file where a folder shall be")
    trainer = run(tmp_path / "run", args={"lineage_dir": str(tmp_path / "taken"), "num_rounds": 2})
    assert trainer.stop_reason == "rounds" and "cannot be written" in str(trainer.lineage.pusher.error)
    assert [frozen.round for frozen in trainer.lineage.folder.waiting()] == [0, 1]
    (tmp_path / "taken").unlink()
    assert trainer.push_to_hub() is None
    assert trainer.lineage.folder.waiting() == []
    assert len(list((tmp_path / "taken/student").glob("round-*"))) == 2


def test_the_teachers_password_is_searched_for(tmp_path):
    args = {"lineage_dir": str(tmp_path / "lineage"), "teacher_token": "token-of-teacher", "hub_token": "token-of-hub"}
    trainer = build(str(tmp_path / "run"), "http://ann:hidden-word@127.0.0.1:1", {"args": args})
    known = secrets_of(trainer)
    assert {"token-of-teacher", "token-of-hub", "hidden-word"} <= set(known.texts)
    assert {str(tmp_path / "run"), str(tmp_path / "lineage")} <= set(known.paths)
