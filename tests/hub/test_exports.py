"""Annotations in the formats of TRL: row by row, from every source, and one step of every trainer on them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from card_facts import failed, label, revision
from datasets import Dataset, load_dataset
from helpers_models import tiny_model, tiny_tokenizer
from hub_server import Fault
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, LlamaConfig

from hf_active_distill import export_annotations
from hf_active_distill.annotation import preference_rows, step_preference_rows, unpaired_preference_rows
from hf_active_distill.cli.export import FORMATS as COMMAND_FORMATS
from hf_active_distill.cli.main import main
from hf_active_distill.errors import EXIT_CONFIGURATION, ConfigurationError, DataError
from hf_active_distill.hub import open_store
from hf_active_distill.hub.exports import FORMATS, read_annotations, write_export
from hf_active_distill.hub.layout import ANNOTATIONS, STUDENT, Changes
from hf_active_distill.records import Explanation, StepVerdict
from hf_active_distill.rounds import RoundRecord, RoundStore
from hf_active_distill.tables import annotations_to_dataset
from hf_active_distill.tasks import get_task


QUESTION = "How much is (2 + 3) * 2?"
TURNS = [{"role": "system", "content": "Be short."}, {"role": "user", "content": QUESTION}]
RECORDS = [revision("a", 0), failed("b", 0), revision("c", 1, first_rejected=None, verdicts=[])]
TARGET = "2 + 3 = 5.\n5 * 2 = 10.\nThe answer is 10"
WRITTEN = "2 + 3 = 5.\n5 * 2 = 11."
PREFERRED, REJECTED = "2 + 3 = 5.\n5 * 2 = 10.", "2 + 3 = 5.\n5 * 2 = 11."


def rows(source, format, **options):
    return export_annotations(source, format, **options).to_list()


def test_every_format_row_by_row():
    assert rows(RECORDS, "prompt_completion") == [{"prompt": QUESTION, "completion": TARGET}] * 2
    assert rows(RECORDS, "preference") == [{"prompt": QUESTION, "chosen": TARGET, "rejected": WRITTEN}] * 2
    assert rows(RECORDS, "step_preference") == [{"prompt": QUESTION, "chosen": PREFERRED, "rejected": REJECTED}]
    assert rows(RECORDS, "unpaired_preference") == [
        {"prompt": QUESTION, "completion": TARGET, "label": True},
        {"prompt": QUESTION, "completion": TARGET, "label": True},
        {"prompt": QUESTION, "completion": WRITTEN, "label": False},
        {"prompt": QUESTION, "completion": WRITTEN, "label": False},
    ]
    assert rows(RECORDS, "stepwise") == [
        {"prompt": QUESTION, "completions": ["2 + 3 = 5.", "5 * 2 = 11."], "labels": [True, False]}
    ]


def test_conversations_stay_conversations_and_one_makes_all_of_them():
    mixed = [revision("a", 0, prompt=TURNS), revision("b", 0)]
    (first, second) = rows(mixed, "prompt_completion")
    assert first["prompt"] == TURNS and second["prompt"] == [TURNS[1]]
    assert first["completion"] == second["completion"] == [{"role": "assistant", "content": TARGET}]
    (pair, _) = rows(mixed, "preference")
    assert pair["rejected"] == [{"role": "assistant", "content": WRITTEN}]
    assert rows(mixed, "step_preference")[0]["rejected"] == [{"role": "assistant", "content": REJECTED}]
    assert rows(mixed, "stepwise")[0]["prompt"] == f"Be short.\n\n{QUESTION}"


def test_steps_end_where_the_verdicts_can_no_longer_be_read():
    verdicts = [StepVerdict(1, "two", None), StepVerdict(0, "one", True), StepVerdict(2, "three", True)]
    assert rows([revision("a", 0, verdicts=verdicts)], "stepwise")[0]["completions"] == ["one"]


def test_classes_have_the_order_of_the_label_set():
    exported = export_annotations([label("a", 0, "bad"), label("b", 0, "good"), failed("c", 0)], "classification")
    assert exported.features["label"].names == ["good", "bad"]
    assert exported.to_list() == [{"text": "The battery died.", "label": 1}, {"text": "The battery died.", "label": 0}]


def test_classes_of_pairs_and_of_several_labels():
    several = [replace(label("a", 0, "bad"), labels=["bad", "good"]), replace(label("b", 0, "bad"), labels=[])]
    texts = {"a": ("one", "two"), "b": ("three", "four")}
    exported = export_annotations(several, "classification", texts=texts)
    assert exported.to_list() == [
        {"text": "one", "text_pair": "two", "labels": [1, 0]},
        {"text": "three", "text_pair": "four", "labels": []},
    ]


def test_nothing_to_export_is_said():
    with pytest.raises(DataError, match="rejected no step"):
        export_annotations([revision("a", 0, first_rejected=None)], "step_preference")
    with pytest.raises(DataError, match="no solution of a student was rejected"):
        export_annotations([revision("a", 0, student=None)], "preference")
    with pytest.raises(DataError, match="holds a label"):
        export_annotations(RECORDS, "classification")
    with pytest.raises(DataError, match="judged no step"):
        export_annotations([label("a", 0, "bad")], "stepwise")
    with pytest.raises(DataError, match="no annotations"):
        export_annotations([], "preference")
    with pytest.raises(ConfigurationError, match="'dpo'.*preference"):
        export_annotations(RECORDS, "dpo")


def test_the_command_knows_every_format():
    assert COMMAND_FORMATS == FORMATS


def test_every_source_gives_the_same(tmp_path):
    store = RoundStore(tmp_path / "run")
    store.write(RoundRecord(0, annotations=RECORDS[:2]))
    store.write(RoundRecord(1, annotations=RECORDS[2:]))
    table = annotations_to_dataset(RECORDS)
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    table.select([0, 1]).to_parquet(str(tmp_path / "data" / "annotations" / "round-000.parquet"))
    table.select([2]).to_parquet(str(tmp_path / "data" / "annotations" / "round-001.parquet"))
    table.to_parquet(str(tmp_path / "data.parquet"))
    for source in (table, tmp_path / "run", str(tmp_path / "data"), tmp_path / "data.parquet"):
        assert read_annotations(source) == RECORDS
    with pytest.raises(DataError, match="output_dir"):
        read_annotations(tmp_path)
    with pytest.raises(DataError, match="no column"):
        read_annotations(Dataset.from_list([{"prompt": "x"}]))


def test_a_lineage_in_a_folder_is_read_at_its_last_round_or_a_tag(tmp_path):
    store = open_store(tmp_path / "lineage", create=True)
    for number, records in enumerate((RECORDS[:2], RECORDS[2:])):
        shard = tmp_path / f"{number}.parquet"
        annotations_to_dataset(records).to_parquet(str(shard))
        for part, name in ((ANNOTATIONS, f"annotations/round-00{number}.parquet"), (STUDENT, f"{number}.parquet")):
            head = store.head(part)
            commit = store.commit(part, Changes({name: shard}), parent=head, message=f"round {number}")
            store.tag(part, f"round-00{number}", commit)
    assert read_annotations(tmp_path / "lineage") == RECORDS
    assert read_annotations(tmp_path / "lineage", revision="round-000") == RECORDS[:2]
    with pytest.raises(DataError, match="round-007"):
        read_annotations(tmp_path / "lineage", revision="round-007")


def test_conversations_and_labels_come_back_from_a_table():
    records = [revision("a", 0, prompt=TURNS), label("b", 0, "bad")]
    alike = [records[0], replace(records[1], prompt=[{"role": "user", "content": records[1].prompt}])]
    assert read_annotations(annotations_to_dataset(records)) == alike


@given(
    st.lists(st.tuples(st.text(), st.text(), st.sampled_from([True, False, None])), min_size=1, max_size=4),
    st.text(),
    st.sampled_from(["10", "11", None]),
    st.sampled_from(["stop", "length"]),
)
def test_pairs_and_unwanted_rows_belong_together(steps, text, answer, finish_reason):
    at = next((index for index, step in enumerate(steps) if step[2] is False), None)
    verdicts = [StepVerdict(index, mine, accepted, theirs) for index, (mine, theirs, accepted) in enumerate(steps)]
    student = Explanation("a", text, [mine for mine, _, _ in steps], answer, finish_reason)
    changes = {"steps": [theirs for _, theirs, _ in steps], "verdicts": verdicts, "first_rejected": at}
    record = revision("a", 0, student=student, **changes)
    wanted, *unwanted = unpaired_preference_rows([record])
    assert wanted == {"prompt": QUESTION, "completion": TARGET, "label": True}
    is_pair = finish_reason == "stop" and text.strip() and (at is not None or answer != "10")
    assert preference_rows([record]) == [{"prompt": QUESTION, "chosen": TARGET, "rejected": text}] * bool(is_pair)
    assert unwanted == [{"prompt": QUESTION, "completion": text, "label": False}] * bool(is_pair)
    (pair,) = step_preference_rows([record]) or (None,)
    if pair is not None:
        assert at is not None and pair["chosen"].split("\n")[:at] == pair["rejected"].split("\n")[:at]


def test_the_task_of_a_run_says_which_answers_are_equal(tmp_path):
    record = revision("a", 0, first_rejected=None, verdicts=[], answer="17")
    record.student.answer = "17.0"
    labels = {"labels": ["17", "17.0"]}
    runs = {"numbers": {"task": "reasoning"}, "labels": {"task": "classification", "task_kwargs": labels}}
    for name, settings in runs.items():
        store = RoundStore(tmp_path / name)
        store.begin(settings, resuming=False, overwrite=False)
        store.write(RoundRecord(0, annotations=[record]))
    with pytest.raises(DataError, match="no solution of a student was rejected"):
        export_annotations(tmp_path / "numbers", "preference")
    assert len(export_annotations(tmp_path / "labels", "preference")) == 1
    assert len(export_annotations([record], "preference", task=get_task("classification", **labels))) == 1


@pytest.mark.parametrize("name", ["out.parquet", "deep/out.jsonl", "out.csv", "folder"])
def test_the_command_writes_what_load_dataset_reads(name, tmp_path, capsys):
    annotations_to_dataset(RECORDS).to_parquet(str(tmp_path / "annotations.parquet"))
    target = tmp_path / "target" / name
    words = ["export", str(tmp_path), "--format", "preference", "--output", str(target)]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("2 rows written to ")
    kind = {".jsonl": "json", ".csv": "csv"}.get(target.suffix, "parquet")
    files = str(target / "*.parquet") if name == "folder" else str(target)
    read = load_dataset(kind, data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert read.to_list() == rows(RECORDS, "preference")


def test_the_command_refuses_what_it_cannot_write(tmp_path, capsys):
    annotations_to_dataset(RECORDS).to_parquet(str(tmp_path / "annotations.parquet"))
    words = ["export", str(tmp_path), "--format", "stepwise", "--output", str(tmp_path / "out.csv")]
    assert main(words) == EXIT_CONFIGURATION
    assert "lists have no place in CSV" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="ends with"):
        write_export(export_annotations(RECORDS, "stepwise"), tmp_path / "out.xlsx")


def push_annotations(table, repo):
    from huggingface_hub import HfApi

    made = table.push_to_hub(repo, "annotations", split="train")
    HfApi().create_tag(repo, tag="round-000", revision=made.oid, repo_type="dataset")


def push_elsewhere(table, repo):
    table.push_to_hub(repo)


def export_of(name, **options):
    return rows(name, "preference", **options)


def test_annotations_on_the_hub_by_the_name_of_the_student_and_a_tag(hub, hub_client):
    hub_client(push_annotations, annotations_to_dataset(RECORDS[:1]), "me/student-annotations")
    assert hub_client(export_of, "me/student", revision="round-000") == rows(RECORDS[:1], "preference")
    assert hub_client(export_of, "me/student-annotations") == rows(RECORDS[:1], "preference")
    hub_client(push_elsewhere, annotations_to_dataset(RECORDS[:1]), "me/mine")
    assert hub_client(export_of, "me/mine") == rows(RECORDS[:1], "preference")
    nobody = hub_client(export_of, "me/nobody")
    assert "DataError" in nobody.kinds and "me/nobody-annotations" in nobody.text and "hf auth login" in nobody.text
    unknown = hub_client(export_of, "me/student", revision="round-009")
    assert "DataError" in unknown.kinds and "no revision 'round-009'. Its rounds: round-000" in unknown.text
    hub.faults.append(Fault("/tree/", status=503, times=None))
    away = hub_client(export_of, "me/student")
    assert "LineageUnreachableError" in away.kinds and "503" in away.text


def tiny_reward_model(vocab_size):
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        num_labels=1,
        pad_token_id=2,
    )
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("prompt", [QUESTION, TURNS])
@pytest.mark.parametrize("kind", ["SFT", "DPO", "KTO", "Reward"])
def test_a_trainer_takes_a_step_on_its_format(kind, prompt, tmp_path):
    import trl

    records = [revision(name, 0, prompt=prompt) for name in "abcd"]
    format = {"SFT": "prompt_completion", "KTO": "unpaired_preference"}.get(kind, "preference")
    tokenizer = tiny_tokenizer(chat=True)
    make = tiny_reward_model if kind == "Reward" else lambda size: tiny_model(vocab_size=size)
    # What DPO and KTO compare with would be loaded by the model's name, and these have none.
    reference = {"ref_model": make(len(tokenizer))} if kind in ("DPO", "KTO") else {}
    args = getattr(trl, f"{kind}Config")(
        str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
    )
    trainer = getattr(trl, f"{kind}Trainer")(
        make(len(tokenizer)),
        args=args,
        train_dataset=export_annotations(records, format),
        processing_class=tokenizer,
        **reference,
    )
    trainer.train()
    assert trainer.state.global_step == 1 and trainer.state.log_history[0]["loss"] > 0


def test_exports_are_json(tmp_path):
    path = write_export(export_annotations(RECORDS, "stepwise"), tmp_path / "steps.jsonl")
    assert json.loads(path.read_text()) == {
        "prompt": QUESTION,
        "completions": ["2 + 3 = 5.", "5 * 2 = 11."],
        "labels": [True, False],
    }
